//! `explain_end`: writes into the metadata of a session why it is about to end.
//!
//! Auth0 replaces the metadata of a session as a whole, so what an Action has stored is read first and stays. Both requests are
//! for information: they use no reserve of the budget and no connection of checks, are not sent twice, and say nothing to the
//! circuit breaker.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::call::{CallContext, Operation};
use super::client::TenantClient;
use super::error::{Error, is_of_api, object};
use super::path;
use crate::policy::{EXPLAIN_SCOPE, Failure};

/// The key in the metadata of a session that this service ends.
const REASON_KEY: &str = "session_checker_reason";
/// The most entries of a session's metadata (Auth0's OpenAPI document).
const MAX_ENTRIES: usize = 25;

/// Why this service ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A login was over a limit, and the strategy chose the session.
    Evicted,
    /// The user chose the session on the page for choosing sessions.
    Chosen,
}

impl EndReason {
    /// The value in the metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Chosen => "chosen",
        }
    }
}

impl TenantClient {
    /// Writes why a session ends into its metadata, before the deadline of the call. A session that is gone stays so.
    ///
    /// # Errors
    /// The reason was not written. The metadata is as before.
    pub async fn explain_end(&self, sid: &str, reason: EndReason, context: &CallContext) -> Result<(), Error> {
        let target = path::session(sid)?;
        if !self.may_have_scope(EXPLAIN_SCOPE, context.deadline).await? {
            return Err(Error::new(Failure::InsufficientScope, "the token lacks update:sessions"));
        }
        let reply = self.call_aside(Operation::Read, &target, None, context).await?;
        let entry = match reply.status {
            status if status.is_success() => object(&reply.body),
            StatusCode::NOT_FOUND if is_of_api(reply.status, &reply.body) => return Ok(()),
            status => return Err(Error::from_api(status, &reply.body)),
        };
        let mut metadata = match entry.map(|mut entry| entry.remove("session_metadata")) {
            Some(Some(Value::Object(metadata))) => metadata,
            Some(None | Some(Value::Null)) => Map::new(),
            _ => return Err(Error::new(Failure::UpstreamError, "the answer is no session")),
        };
        metadata.insert(REASON_KEY.to_owned(), reason.as_str().into());
        if metadata.len() > MAX_ENTRIES {
            let detail = "the metadata of the session has no room: Auth0 keeps 25 entries";
            return Err(Error::new(Failure::UpstreamError, detail));
        }
        let body = json!({ "session_metadata": metadata });
        let reply = self.call_aside(Operation::Annotate, &target, Some(&body), context).await?;
        match reply.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if is_of_api(reply.status, &reply.body) => Ok(()),
            status => Err(Error::from_api(status, &reply.body)),
        }
    }
}
