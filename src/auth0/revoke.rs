//! `revoke_session`: ends a session together with its refresh tokens.

use hyper::StatusCode;

use super::call::{CallContext, Operation, Priority};
use super::client::TenantClient;
use super::error::{Error, is_of_api};
use super::path;

/// How a session ended that was to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The tenant accepted the revocation. It lists the session for a moment more.
    Done,
    /// The tenant has no such session any more.
    AlreadyGone,
}

impl TenantClient {
    /// Revokes a session and its refresh tokens before the deadline of the call. A second revocation does no harm.
    ///
    /// # Errors
    /// The tenant did not accept the revocation in time. The session may have ended all the same.
    pub async fn revoke_session(&self, sid: &str, context: &CallContext) -> Result<Revoked, Error> {
        let target = path::revoke(sid)?;
        let reply = self.call(Operation::Revoke, Priority::Revocation, &target, context).await?;
        match reply.status {
            status if status.is_success() => Ok(Revoked::Done),
            StatusCode::NOT_FOUND if is_of_api(reply.status, &reply.body) => Ok(Revoked::AlreadyGone),
            status => Err(Error::from_api(status, &reply.body)),
        }
    }
}
