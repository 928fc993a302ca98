//! `POST /logs`: batches of a tenant's log stream, for the audit.
//!
//! Auth0 sends a batch again when it is not taken, so an overloaded service answers 503 and keeps nothing. The answer says
//! nothing of the entries: they only audit.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use tokio::task::spawn_blocking;

use super::app::App;
use super::body;
use super::check::is_over_limit;
use super::error::{ApiError, ErrorKind};
use super::request_id::RequestId;
use crate::coverage::{BUSY, BatchError, LogEntries, ReportedLogin, TOO_LARGE, parse};
use crate::policy::{Login, LoginContext, ObjectName, PolicySet};

/// The maximum size of a batch in bytes. An event has a few kilobytes, and Auth0 batches fewer than a hundred.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Takes a batch.
pub(super) async fn receive(
    State(app): State<Arc<App>>,
    Extension(request_id): Extension<RequestId>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (head, body) = request.into_parts();
    let reject = |kind: ErrorKind, message: &str| kind.with_message(message, &request_id);
    // A replica that ends may not see the checks of its logins any more: the next one gets the batch.
    if !app.readiness.is_serving() || app.shutdown.begun.is_cancelled() {
        return Err(reject(ErrorKind::Unavailable, "The service is starting or ending. Send the batch again."));
    }
    let snapshot = app.checker.snapshot();
    let Some(tenant) = token(&head.headers).and_then(|token| snapshot.policy_set.log_stream(token)).cloned() else {
        if is_over_limit(&app, &head.headers, head.extensions.get().copied()) {
            let message = "Too many requests with an unknown token came from this source. Try again in a second.";
            return Err(reject(ErrorKind::TooManyRequests, message));
        }
        let message = "The log stream's token is missing or unknown. Set it as the stream's Authorization Token.";
        return Err(reject(ErrorKind::Unauthorized, message));
    };
    if head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(reject(ErrorKind::UnsupportedMediaType, "The body is compressed. Send it without compression."));
    }
    let Ok(_permit) = app.log_batches.try_acquire() else {
        app.coverage.metrics().rejected(BUSY);
        return Err(reject(ErrorKind::Unavailable, "Too many batches are being read. Send the batch again."));
    };
    drop(head);
    let body = body::read(body, MAX_BODY_BYTES, &request_id).await.inspect_err(|error| {
        if error.kind() == ErrorKind::BodyTooLarge {
            app.coverage.metrics().rejected(TOO_LARGE);
        }
    })?;
    // A batch takes milliseconds to parse, which checks on the same worker would wait for.
    let received = spawn_blocking({
        let app = Arc::clone(&app);
        move || {
            let batch = parse(&body)?;
            Ok(take(&app, &snapshot.policy_set, &tenant, batch))
        }
    });
    match received.await {
        Ok(Ok(true)) => Ok(StatusCode::NO_CONTENT),
        Ok(Ok(false)) => {
            Err(reject(ErrorKind::Unavailable, "Too many logins wait to be audited. Send the batch again."))
        }
        Ok(Err(error @ BatchError::TooMany)) => {
            app.coverage.metrics().rejected(TOO_LARGE);
            Err(reject(ErrorKind::BodyTooLarge, &error.to_string()))
        }
        Ok(Err(error @ BatchError::NoEntry)) => Err(reject(ErrorKind::InvalidJson, &error.to_string())),
        Err(_) => Err(reject(ErrorKind::Internal, "The batch could not be read.")),
    }
}

/// Gives a batch to the audit, with the policies that select its logins. Returns whether it was taken.
fn take(app: &App, policy_set: &PolicySet, tenant: &Arc<str>, batch: LogEntries) -> bool {
    let policies_of = |reported: &ReportedLogin| -> Vec<ObjectName> {
        let context = LoginContext {
            organization_id: reported.organization_id.clone(),
            connection: reported.connection.clone(),
            tenant: Some(tenant.to_string()),
            ..LoginContext::default()
        };
        // No policy selects by the user, so any will do.
        let client_id = reported.client_id.clone().unwrap_or_else(|| "-".to_owned());
        Login::new("-".to_owned(), client_id, None, context)
            .map_or_else(|_| Vec::new(), |login| policy_set.selecting(&login))
    };
    app.coverage.receive(tenant, batch, policies_of).is_ok()
}

/// The token of a stream. Auth0 sends what the stream's *Authorization Token* is, with or without `Bearer`.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let text = value.to_str().ok()?.trim();
    Some(match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => text,
    })
}

/// Answers requests for other paths.
pub(super) async fn not_found(Extension(request_id): Extension<RequestId>) -> ApiError {
    ErrorKind::NotFound.with_message("This path does not exist. Send log streams to POST /logs.", &request_id)
}

/// Answers requests with other methods.
pub(super) async fn method_not_allowed(Extension(request_id): Extension<RequestId>) -> ApiError {
    ErrorKind::MethodNotAllowed.with_message("/logs supports only POST, and /healthz only GET.", &request_id)
}
