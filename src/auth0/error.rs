//! Why a call to a tenant failed, and which failure each answer of Auth0 means.

use std::borrow::Cow;

use hyper::StatusCode;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::policy::Failure;

/// A call to a tenant that failed.
///
/// `detail` is for this service's own log. It never holds a token, a secret, a user id, a session id, or free text of a
/// tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}: {detail}")]
pub struct Error {
    /// The reason that a check answers with.
    pub failure: Failure,
    /// What happened, for the people who run the service.
    pub detail: Cow<'static, str>,
    /// When the same call may succeed, where that is known.
    pub(super) retry_at: Option<Instant>,
    /// Whether `detail` says what the owner of the policy has to change.
    has_remedy: bool,
}

impl Error {
    pub(super) fn new(failure: Failure, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { failure, detail: detail.into(), retry_at: None, has_remedy: false }
    }

    /// An error whose detail says what the owner of the policy has to change.
    pub(super) fn with_remedy(failure: Failure, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { has_remedy: true, ..Self::new(failure, detail) }
    }

    /// What the owner of the policy has to change, where that is known.
    pub fn remedy(&self) -> Option<&str> {
        self.has_remedy.then_some(&self.detail)
    }

    /// The token endpoint takes no request before `retry_at`.
    pub(super) fn no_token_before(retry_at: Instant) -> Self {
        let error = Self::new(Failure::RateLimited, "the rate limit of the token endpoint is used up");
        Self { retry_at: Some(retry_at), ..error }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(Failure::UpstreamTimeout, "there was no answer before the deadline")
    }

    /// The task of a shared request ended without a result: it panicked, or the process ends.
    pub(crate) fn ended() -> Self {
        Self::new(Failure::InternalError, "the task that calls the tenant ended without a result")
    }

    pub(super) fn unexpected(status: StatusCode) -> Self {
        Self::new(Failure::UpstreamError, format!("the tenant answered {}", status.as_u16()))
    }

    /// An answer that is not the API's: it lacks the JSON object in which the API describes an error.
    fn in_between(status: StatusCode) -> Self {
        Self::new(
            Failure::UpstreamError,
            format!(
                "something between this service and Auth0 answered {}: a proxy, a gateway or a filter",
                status.as_u16()
            ),
        )
    }

    /// An answer of the Management API that is no success and that the call has no rule for.
    pub(super) fn from_api(status: StatusCode, body: &[u8]) -> Self {
        match status {
            other if other.is_client_error() && !is_of_api(other, body) => Self::in_between(other),
            StatusCode::UNAUTHORIZED => {
                Self::new(Failure::CredentialsRejected, "the Management API answered 401 to a new token too")
            }
            StatusCode::FORBIDDEN if says_insufficient_scope(body) => {
                Self::new(Failure::InsufficientScope, "the Management API answered 403: the token lacks a scope")
            }
            StatusCode::FORBIDDEN => {
                Self::new(Failure::NotEntitled, "the Management API answered 403: the tenant may not use this endpoint")
            }
            other => Self::unexpected(other),
        }
    }

    /// An answer of the token endpoint that is no success.
    pub(super) fn from_token_endpoint(status: StatusCode, body: &[u8]) -> Self {
        let detail = format!("the token endpoint answered {}{}", status.as_u16(), oauth_error(body));
        match status {
            other if other.is_client_error() && !is_oauth_error(body) => Self::in_between(other),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Self::new(Failure::CredentialsRejected, detail)
            }
            _ => Self::new(Failure::UpstreamError, detail),
        }
    }
}

/// An error and its causes in one line.
pub(super) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// The members of a JSON object. `None` when the body is anything else.
pub(super) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// Whether the body is the object in which the Management API describes this error: `statusCode`, `error`, `message` and mostly
/// `errorCode` (`ForbiddenSchema` and similar schemas of Auth0's OpenAPI document). Proxies and gateways answer with a page, or
/// with an object of their own such as `{"message": "Forbidden"}`.
pub(super) fn is_of_api(status: StatusCode, body: &[u8]) -> bool {
    let Some(object) = object(body) else { return false };
    let is_text = |key: &str| object.get(key).is_some_and(Value::is_string);
    object.get("statusCode").and_then(Value::as_u64) == Some(u64::from(status.as_u16()))
        || is_text("errorCode")
        || (is_text("error") && is_text("message"))
        || says_insufficient_scope(body)
}

/// Whether the body is an error of the token endpoint (RFC 6749, section 5.2).
fn is_oauth_error(body: &[u8]) -> bool {
    object(body).is_some_and(|object| object.get("error").is_some_and(Value::is_string))
}

/// Auth0 says so in `errorCode`, older parts of it only in `message`.
fn says_insufficient_scope(body: &[u8]) -> bool {
    let Some(object) = object(body) else { return false };
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    text("errorCode") == "insufficient_scope" || text("message").to_ascii_lowercase().contains("insufficient scope")
}

/// The OAuth error code, when it is a known one. Anything else stays out of the log.
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
    let code = object(body).and_then(|object| {
        let code = object.get("error")?.as_str()?;
        KNOWN.into_iter().find(|known| *known == code)
    });
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, body: &str) -> Failure {
        Error::from_api(StatusCode::from_u16(status).unwrap(), body.as_bytes()).failure
    }

    fn token(status: u16, body: &str) -> Error {
        Error::from_token_endpoint(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn status_403_is_a_missing_scope_only_when_it_says_so() {
        assert_eq!(api(403, r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope);
        let by_message = r#"{"message":"Insufficient scope, expected any of: read:sessions"}"#;
        assert_eq!(api(403, by_message), Failure::InsufficientScope);
        for other in [
            r#"{"statusCode":403,"error":"Forbidden","message":"feature not enabled"}"#,
            r#"{"statusCode":403}"#,
            r#"{"errorCode":"feature_not_enabled"}"#,
        ] {
            assert_eq!(api(403, other), Failure::NotEntitled, "{other}");
        }
    }

    #[test]
    fn answer_of_something_in_between_says_nothing_about_the_tenant() {
        let bodies =
            ["", "no", "[]", "{}", "<html>Access denied</html>", r#"{"message":"Forbidden"}"#, r#"{"errorCode":5}"#];
        for status in [400, 401, 402, 403, 404, 407, 451] {
            for body in bodies {
                let status = StatusCode::from_u16(status).unwrap();
                for error in
                    [Error::from_api(status, body.as_bytes()), Error::from_token_endpoint(status, body.as_bytes())]
                {
                    assert_eq!(error.failure, Failure::UpstreamError, "{status} {body}");
                    assert!(error.detail.contains("something between"), "{error}");
                }
            }
        }
        // A status of another object is not this one's.
        assert_eq!(api(403, r#"{"statusCode":404}"#), Failure::UpstreamError);
    }

    #[test]
    fn other_statuses_of_the_api_have_their_failure() {
        assert_eq!(api(401, r#"{"statusCode":401}"#), Failure::CredentialsRejected);
        for other in [400, 402, 404, 409, 418] {
            assert_eq!(api(other, "{}"), Failure::UpstreamError, "{other}");
        }
    }

    #[test]
    fn token_endpoint_rejects_with_400_401_and_403_only() {
        for status in [400, 401, 403] {
            let rejected = token(status, r#"{"error":"access_denied"}"#);
            assert_eq!(rejected.failure, Failure::CredentialsRejected, "{status}");
        }
        for status in [402, 404, 405, 422] {
            assert_eq!(token(status, r#"{"error":"x"}"#).failure, Failure::UpstreamError, "{status}");
        }
    }

    #[test]
    fn detail_repeats_known_oauth_errors_only() {
        let known = token(401, r#"{"error":"invalid_client","error_description":"secret s3cr3t is wrong"}"#);
        assert_eq!(known.detail, "the token endpoint answered 401 (invalid_client)");
        assert_eq!(token(401, r#"{"error":"s3cr3t"}"#).detail, "the token endpoint answered 401");
    }
}
