//! Ending a session together with its refresh tokens.

use reqwest::StatusCode;

use super::error::Error;
use super::limiter::{CallContext, Priority};
use super::observer::Operation;
use super::{TenantClient, path};

/// How a session that should end came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The tenant took the order. It lists the session for a moment more.
    Done,
    /// The tenant does not have the session any more.
    AlreadyGone,
}

impl TenantClient {
    /// Revokes a session and its refresh tokens, by the errand's deadline. Doing it twice does no harm.
    ///
    /// # Errors
    /// The tenant could not be asked in time or did not take the order; the session may have ended all the same.
    pub async fn revoke_session(&self, sid: &str, context: &CallContext) -> Result<Revoked, Error> {
        let url = self.url(&path::revoke(sid)?);
        let answer = self.call(Operation::Revoke, Priority::Revocation, &url, context).await?;
        match answer.status {
            status if status.is_success() => Ok(Revoked::Done),
            StatusCode::NOT_FOUND => Ok(Revoked::AlreadyGone),
            status => Err(Error::of_api(status, &answer.body)),
        }
    }
}
