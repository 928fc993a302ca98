//! `POST /check`: from a request to a decision.

use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Json, Response};
use axum::{BoxError, Extension};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::abandoned::WaitingCaller;
use super::app::App;
use super::body;
use super::error::{ApiError, ErrorKind};
use super::peer::Peer;
use super::request::{self, BodyError};
use super::request_id::RequestId;
use crate::continued::Continued;
use crate::policy::{Answer, ObjectName, Reason};

/// The maximum size of a body in bytes. A check takes a few hundred; one with 128 roles of 100 characters fits.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long a check waits for the policies if it arrives before they are loaded. After a crash, Kubernetes starts the container
/// again at once, and sends checks to it until it notices that the Pod was not ready.
/// The Action waits a second longer than the policy's timeout, which begins after this.
const MAX_WAIT_FOR_POLICIES: Duration = Duration::from_millis(500);

/// The JSON of an answer.
#[derive(Serialize)]
pub(super) struct AnswerBody<'a> {
    block: bool,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    revoke_session: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_sessions: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    active_sessions_at_least: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_sessions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audited_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    choose: Option<ChooseBody<'a>>,
    request_id: &'a str,
}

/// The page on which the person chooses which sessions to end.
#[derive(Serialize)]
struct ChooseBody<'a> {
    url: &'a str,
}

impl<'a> AnswerBody<'a> {
    pub(super) fn new(answer: &'a Answer, request_id: &'a RequestId) -> Self {
        Self {
            block: answer.block,
            reason: answer.reason.as_str(),
            message: answer.message.as_deref(),
            revoke_session: answer.revoke_session,
            policy: answer.policy.as_ref().map(ObjectName::as_str),
            limit: answer.count.map(|count| count.limit),
            limit_scope: answer.count.map(|count| count.limit_scope.as_str()),
            active_sessions: answer.count.map(|count| count.active),
            active_sessions_at_least: answer.count.is_some_and(|count| count.at_least),
            revoked_sessions: answer.revoked_sessions,
            audited_reason: answer.audited_reason.map(Reason::as_str),
            choose: answer.choose_url.as_deref().map(|url| ChooseBody { url }),
            request_id: request_id.as_str(),
        }
    }
}

/// Answers a check. The policy's timeout starts when the policies are loaded.
pub(super) async fn check<B>(
    app: &Arc<App>,
    request_id: &RequestId,
    peer: Option<Peer>,
    request: Request<B>,
) -> Result<Response, ApiError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    if !policies_are_loaded(app).await {
        let message = "The policies are not loaded yet. Try again in a few seconds.";
        return Err(ErrorKind::NotReady.with_message(message, request_id));
    }
    let arrived = Instant::now();
    let (Parts { headers, .. }, body) = request.into_parts();
    let snapshot = app.checker.snapshot();
    let view = bearer(&headers)
        .and_then(|token| {
            let unknown = match token {
                // A Secret that this replica has not read since its start may have it. On 503 the caller tries again, and
                // may reach another replica; on 401 its failure mode decides.
                Some(_) if snapshot.policy_set.lacks_callers() && !app.readiness.is_ready() => ErrorKind::NotReady,
                _ => ErrorKind::Unauthorized,
            };
            snapshot.policy_set.view(token).map(Arc::clone).ok_or(unknown)
        })
        .map_err(|kind| unauthorized(app, &headers, peer, kind, request_id))?;
    if !body::has_type(&headers, "application/json") {
        let message = "The request is not JSON. Send Content-Type: application/json.";
        return Err(ErrorKind::UnsupportedMediaType.with_message(message, request_id));
    }
    if let Some(encoding) = unsupported_encoding(&headers) {
        let message = format!("The body is encoded as {encoding}. Send UTF-8 without compression.");
        return Err(ErrorKind::UnsupportedMediaType.with_message(message, request_id));
    }
    // A slow body holds no headers.
    drop(headers);
    let body = body::read(body, MAX_BODY_BYTES, request_id).await?;
    let login = request::parse(&body).map_err(|error| match error {
        BodyError::Encoding(message) => ErrorKind::UnsupportedMediaType.with_message(message, request_id),
        BodyError::Json(message) => ErrorKind::InvalidJson.with_message(message, request_id),
        BodyError::Shape(message) => ErrorKind::InvalidRequest.with_message(message, request_id),
    })?;
    // It shares the connection's read buffer, of which the connection would need another one while the check runs.
    drop(body);
    // When the caller disconnects, the check continues: an eviction must not stop halfway, and the check is still counted.
    let check = {
        let (app, running) = (Arc::clone(app), app.checks.token());
        let request_id = request_id.clone();
        async move {
            let answer = app.checker.check(&snapshot, &view, &login, request_id.as_str(), arrived).await;
            drop(running);
            answer
        }
    };
    let caller = WaitingCaller::new(app);
    let answer = Continued::new(Box::pin(check)).await;
    caller.answered();
    Ok(Json(AnswerBody::new(&answer, request_id)).into_response())
}

/// Whether the policies are loaded, now or after a wait. Few checks wait at once: nobody knows yet who sent them.
async fn policies_are_loaded(app: &App) -> bool {
    if app.readiness.is_serving() {
        return true;
    }
    let Ok(_permit) = app.early_checks.try_acquire() else { return false };
    timeout(MAX_WAIT_FOR_POLICIES, app.readiness.serving()).await.is_ok()
}

/// The bearer token; `None` without an `Authorization` header.
///
/// # Errors
/// [`ErrorKind::Unauthorized`] for several headers or another scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ErrorKind> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(AUTHORIZATION) { Err(ErrorKind::Unauthorized) } else { Ok(None) };
    };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(ErrorKind::Unauthorized)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(ErrorKind::Unauthorized) }
}

/// The error for a caller that is unknown or not known yet, or for a source that sent too many unknown tokens.
fn unauthorized(
    app: &App,
    headers: &HeaderMap,
    peer: Option<Peer>,
    kind: ErrorKind,
    request_id: &RequestId,
) -> ApiError {
    if is_over_limit(app, headers, peer) {
        let message = "Too many requests with an unknown caller token came from this source. Try again in a second.";
        return ErrorKind::TooManyRequests.with_message(message, request_id);
    }
    let message = match kind {
        ErrorKind::NotReady => {
            "The caller token is not known yet: a Secret with caller tokens was not read. Try again in a few seconds."
        }
        _ => "The caller token is missing or unknown. Send it as Authorization: Bearer TOKEN.",
    };
    kind.with_message(message, request_id)
}

/// Whether the source of a request with an unknown token sent too many of them. Counts the request.
pub(super) fn is_over_limit(app: &App, headers: &HeaderMap, peer: Option<Peer>) -> bool {
    let source = peer.map(|Peer(address)| address.ip().into());
    headers.contains_key(AUTHORIZATION) && source.is_some_and(|source| app.rejections.is_over_limit(source))
}

/// The name of a compression or of a character set that is not UTF-8.
fn unsupported_encoding(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let compression = text(CONTENT_ENCODING).map(str::trim).filter(|name| !name.eq_ignore_ascii_case("identity"));
    let charset = text(CONTENT_TYPE).into_iter().flat_map(|text| text.split(';').skip(1)).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    let is_utf8 = |name: &&str| ["utf-8", "utf8", "us-ascii"].iter().any(|known| name.eq_ignore_ascii_case(known));
    compression.or_else(|| charset.filter(|name| !is_utf8(name))).map(str::to_owned)
}

/// Answers requests for other paths.
pub(super) async fn not_found(Extension(request_id): Extension<RequestId>) -> ApiError {
    ErrorKind::NotFound.with_message("This path does not exist. Send checks to POST /check.", &request_id)
}

/// Answers requests for `/check` with other methods.
pub(super) async fn only_post(request_id: Extension<RequestId>) -> impl IntoResponse {
    ([(ALLOW, "POST")], method_not_allowed(request_id).await)
}

/// Answers requests with other methods.
pub(super) async fn method_not_allowed(Extension(request_id): Extension<RequestId>) -> ApiError {
    ErrorKind::MethodNotAllowed.with_message("/check supports only POST, and /healthz only GET.", &request_id)
}
