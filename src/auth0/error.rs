//! Why a call to a tenant failed, and what each answer of Auth0 means.

use std::borrow::Cow;

use reqwest::StatusCode;
use serde_json::{Map, Value};

use crate::policy::Failure;

/// A call to a tenant that gave no result.
///
/// `failure` is the word that a check answers with. `detail` is for this service's own log: it never holds a token, a
/// secret, a user id, a session id, or anything that a tenant wrote freely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}: {detail}")]
pub struct Error {
    /// The closed word.
    pub failure: Failure,
    /// What happened, for people who run the service.
    pub detail: Cow<'static, str>,
}

impl Error {
    pub(super) fn new(failure: Failure, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { failure, detail: detail.into() }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Failure::UpstreamTimeout, "the deadline passed")
    }

    /// A task that asks ended before it had an answer, which only the end of the process can do.
    pub(crate) fn ended() -> Self {
        Self::new(Failure::UpstreamError, "the task that asks the tenant ended early")
    }

    pub(super) fn unexpected(status: StatusCode) -> Self {
        Self::new(Failure::UpstreamError, format!("answered {}", status.as_u16()))
    }

    /// What an answer of the Management API means that is neither a success nor one that the call has its own rule for.
    pub(super) fn of_api(status: StatusCode, body: &[u8]) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::new(Failure::CredentialsRejected, "the API refused a new token too"),
            StatusCode::FORBIDDEN if says_insufficient_scope(body) => {
                Self::new(Failure::InsufficientScope, "the API says that the token lacks a scope")
            }
            StatusCode::FORBIDDEN => Self::new(Failure::NotEntitled, "the API refuses this call to the tenant"),
            other => Self::unexpected(other),
        }
    }

    /// What an answer of the token endpoint means that is not a success.
    pub(super) fn of_token_endpoint(status: StatusCode, body: &[u8]) -> Self {
        let detail = format!("the token endpoint answered {}{}", status.as_u16(), oauth_error(body));
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Self::new(Failure::CredentialsRejected, detail)
            }
            _ => Self::new(Failure::UpstreamError, detail),
        }
    }
}

/// The members of a JSON object, or nothing when the body is anything else.
pub(super) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// Auth0 says it in `errorCode`, older parts only in the words of `message`.
fn says_insufficient_scope(body: &[u8]) -> bool {
    let Some(object) = object(body) else { return false };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    text("errorCode") == "insufficient_scope" || text("message").to_ascii_lowercase().contains("insufficient scope")
}

/// The OAuth error word, when it is one that is known: anything else stays out of the log.
fn oauth_error(body: &[u8]) -> String {
    const KNOWN: [&str; 8] = [
        "access_denied",
        "invalid_client",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "too_many_requests",
        "unauthorized_client",
        "unsupported_grant_type",
    ];
    let word = object(body).and_then(|object| {
        let said = object.get("error")?.as_str()?;
        KNOWN.into_iter().find(|known| *known == said)
    });
    word.map(|word| format!(" ({word})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, body: &str) -> Failure {
        Error::of_api(StatusCode::from_u16(status).unwrap(), body.as_bytes()).failure
    }

    fn token(status: u16, body: &str) -> Error {
        Error::of_token_endpoint(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn a_403_is_a_missing_scope_only_when_it_says_so() {
        assert_eq!(api(403, r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope);
        let said = r#"{"message":"Insufficient scope, expected any of: read:sessions"}"#;
        assert_eq!(api(403, said), Failure::InsufficientScope);
        for other in ["", "no", "[]", "{}", r#"{"message":"feature not enabled"}"#, r#"{"errorCode":5}"#] {
            assert_eq!(api(403, other), Failure::NotEntitled, "{other}");
        }
    }

    #[test]
    fn every_other_status_of_the_api_has_its_word() {
        assert_eq!(api(401, "{}"), Failure::CredentialsRejected);
        for other in [400, 402, 404, 409, 418] {
            assert_eq!(api(other, "{}"), Failure::UpstreamError, "{other}");
        }
    }

    #[test]
    fn the_token_endpoint_rejects_with_400_401_and_403_only() {
        for status in [400, 401, 403] {
            assert_eq!(token(status, "{}").failure, Failure::CredentialsRejected, "{status}");
        }
        for status in [402, 404, 405, 422] {
            assert_eq!(token(status, "{}").failure, Failure::UpstreamError, "{status}");
        }
    }

    #[test]
    fn the_detail_names_known_oauth_errors_and_repeats_nothing_else() {
        let known = token(401, r#"{"error":"invalid_client","error_description":"secret s3cr3t is wrong"}"#);
        assert_eq!(known.detail, "the token endpoint answered 401 (invalid_client)");
        assert_eq!(token(401, r#"{"error":"s3cr3t"}"#).detail, "the token endpoint answered 401");
    }
}
