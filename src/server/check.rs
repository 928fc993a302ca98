//! `POST /check`: from a request to a decision, and everything that can be wrong with one on the way.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::App;
use super::error::{ApiError, Kind};
use super::request::{self, BodyError};
use super::request_id::RequestId;
use crate::policy::{Answer, Reason};

/// The largest body of a check, in bytes.
const BODY: usize = 16 * 1024;
/// How long a body may take to arrive: as long as the longest check may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The answer as it goes over the wire.
#[derive(Serialize)]
struct AnswerBody<'a> {
    block: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    revoke_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_sessions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_sessions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audited_reason: Option<&'static str>,
    request_id: &'a str,
}

impl<'a> AnswerBody<'a> {
    fn new(answer: &'a Answer, request_id: &'a RequestId) -> Self {
        Self {
            block: answer.block,
            reason: answer.reason.as_str(),
            message: answer.message.as_deref(),
            revoke_session: answer.revoke_session,
            policy: answer.policy.as_ref().map(ToString::to_string),
            limit: answer.count.map(|count| count.limit),
            limit_scope: answer.count.map(|count| count.limit_scope.as_str()),
            active_sessions: answer.count.map(|count| count.active),
            revoked_sessions: answer.revoked_sessions,
            audited_reason: answer.audited_reason.map(Reason::as_str),
            request_id: request_id.as_str(),
        }
    }
}

/// Answers a check. The deadline of the policy runs from here.
pub(super) async fn check(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<Response, ApiError> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    if !app.readiness.is_serving() {
        let message = "The policies have not been read yet. Try again in a moment.";
        return Err(Kind::NotReady.because(message, &request_id));
    }
    let snapshot = app.checker.snapshot();
    let view = bearer(&head.headers)
        .and_then(|token| snapshot.policy_set.view(token).map(Arc::clone).ok_or(Unauthorized))
        .map_err(|_| {
            let message = "Send a bearer token that the service knows: Authorization: Bearer TOKEN.";
            Kind::Unauthorized.because(message, &request_id)
        })?;
    if !is_json(&head.headers) {
        let message = "Send the check as JSON, with Content-Type: application/json.";
        return Err(Kind::UnsupportedMediaType.because(message, &request_id));
    }
    let body = read(body, &request_id).await?;
    let login = request::parse(&body).map_err(|error| match error {
        BodyError::Json(message) => Kind::InvalidJson.because(message, &request_id),
        BodyError::Shape(message) => Kind::InvalidRequest.because(message, &request_id),
    })?;
    // A task of its own: a caller that hangs up must not leave an eviction half done, and the check is still counted.
    let check = {
        let app = Arc::clone(&app);
        async move { app.checker.check(&snapshot, &view, &login, arrived).await }
    };
    let answer = match app.checks.spawn(check.in_current_span()).await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => return Err(Kind::Internal.because("The check was ended with the service.", &request_id)),
    };
    Ok(Json(AnswerBody::new(&answer, &request_id)).into_response())
}

/// A caller that did not say who it is in a way that can be understood.
struct Unauthorized;

/// The bearer token; `None` when there is no `Authorization` at all. Any other scheme is a caller that is not known.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unauthorized> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) { Err(Unauthorized) } else { Ok(None) };
    };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Unauthorized)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(Unauthorized) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence =
        headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

async fn read(body: Body, request_id: &RequestId) -> Result<Bytes, ApiError> {
    match timeout(BODY_TIMEOUT, Limited::new(body, BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Kind::BodyTooLarge.because(format!("The body is larger than {BODY} bytes."), request_id))
        }
        Ok(Err(_)) => Err(Kind::InvalidJson.because("The body ended before it was complete.", request_id)),
        Err(_) => Err(Kind::RequestTimeout.because("The body did not arrive in time.", request_id)),
    }
}

/// Nothing is at this path.
pub(super) async fn not_found(Extension(request_id): Extension<RequestId>) -> ApiError {
    Kind::NotFound.because("There is nothing at this path. Send checks to POST /check.", &request_id)
}

/// The path takes another method.
pub(super) async fn method_not_allowed(Extension(request_id): Extension<RequestId>) -> ApiError {
    Kind::MethodNotAllowed.because("/check takes POST.", &request_id)
}
