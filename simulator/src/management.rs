//! The Management API's operations on sessions.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::answer::{management_answer, management_error};
use super::requests::form;
use super::tenant::Tenant;
use super::tokens::Unauthorized;
use super::users::{Page, parse_cursor};

/// The longest session id that `revoke` accepts, in characters (Auth0's OpenAPI document).
const MAX_SESSION_ID: usize = 50;
/// The most entries of a session's metadata, and the longest value, in characters (the same document).
const MAX_METADATA: usize = 25;
const MAX_METADATA_CHARS: usize = 255;

/// Lists a user's sessions.
pub(super) fn list(tenant: &Tenant, user_id: &str, query: Option<&str>) -> Response {
    match page(tenant, user_id, query) {
        Ok(Some(page)) => management_answer(StatusCode::OK, page.to_json()),
        Ok(None) => no_such_user(),
        Err(error) => error.into_response(),
    }
}

/// Ends all sessions of a user.
pub(super) fn delete_all(tenant: &Tenant, user_id: &str) -> Response {
    let known = tenant.users.end_sessions(user_id, tenant.now(), tenant.visibility_delay());
    if known { accepted() } else { no_such_user() }
}

/// Shows a session.
pub(super) fn read(tenant: &Tenant, session_id: &str) -> Response {
    let entry = tenant.users.entry(session_id, tenant.now());
    entry.map_or_else(no_such_session, |entry| management_answer(StatusCode::OK, entry))
}

/// Replaces the metadata of a session.
pub(super) fn update(tenant: &Tenant, session_id: &str, body: &[u8]) -> Response {
    let Some(metadata) = metadata(body) else {
        return BadRequest("Payload validation error: session_metadata is not as documented.", "invalid_body")
            .into_response();
    };
    let entry = tenant.users.set_metadata(session_id, metadata, tenant.now());
    entry.map_or_else(no_such_session, |entry| management_answer(StatusCode::OK, entry))
}

/// The metadata in the body of a change: an object of texts. `null` is an empty one. `None` when it is anything else, or larger
/// than Auth0 takes.
fn metadata(body: &[u8]) -> Option<Value> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let metadata = body.remove("session_metadata").filter(|_| body.is_empty())?;
    let is_text = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() <= MAX_METADATA_CHARS);
    match metadata {
        Value::Null => Some(Value::Object(Map::new())),
        Value::Object(fields) if fields.len() <= MAX_METADATA && fields.values().all(is_text) => {
            Some(Value::Object(fields))
        }
        _ => None,
    }
}

/// Ends a session. Auth0 documents no 404 here: a session that does not exist counts as deleted.
pub(super) fn delete(tenant: &Tenant, session_id: &str) -> Response {
    tenant.users.end_session(session_id, tenant.now(), tenant.visibility_delay());
    accepted()
}

/// Ends a session, or answers 404 when there is none.
pub(super) fn revoke(tenant: &Tenant, session_id: &str) -> Response {
    if session_id.chars().count() > MAX_SESSION_ID {
        return BadRequest("Object didn't pass validation for format session-id", "invalid_uri").into_response();
    }
    let known = tenant.users.end_session(session_id, tenant.now(), tenant.visibility_delay());
    if known { accepted() } else { no_such_session() }
}

/// A parameter is not as documented. The message and the `errorCode`.
pub(super) struct BadRequest(&'static str, &'static str);

/// The page of a user's sessions that a query names. `None` when the user is unknown.
pub(super) fn page(tenant: &Tenant, user_id: &str, query: Option<&str>) -> Result<Option<Page>, BadRequest> {
    let query = form(query.unwrap_or_default());
    let take = match query.get("take").map(|take| take.parse::<usize>()) {
        None => 50,
        Some(Ok(take @ 1..=100)) => take,
        Some(_) => {
            return Err(BadRequest("Query validation error: take must be from 1 to 100.", "invalid_query_string"));
        }
    };
    let from = match query.get("from").map(|from| parse_cursor(from)) {
        None => None,
        Some(Some(number)) => Some(number),
        Some(None) => {
            return Err(BadRequest("The checkpoint in from is invalid or has expired.", "invalid_query_string"));
        }
    };
    let page = tenant.users.page(user_id, from, take.min(tenant.page_size_cap()), tenant.now());
    Ok(page.or_else(|| tenant.knows_every_user().then(Page::default)))
}

fn accepted() -> Response {
    management_answer(StatusCode::ACCEPTED, "{}")
}

fn no_such_user() -> Response {
    management_error(StatusCode::NOT_FOUND, "The user does not exist.", Some("inexistent_user"))
}

fn no_such_session() -> Response {
    management_error(StatusCode::NOT_FOUND, "The session does not exist.", Some("inexistent_session"))
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        management_error(StatusCode::BAD_REQUEST, self.0, Some(self.1))
    }
}

impl IntoResponse for Unauthorized {
    fn into_response(self) -> Response {
        let unauthorized = |message, code| management_error(StatusCode::UNAUTHORIZED, message, code);
        match self {
            Self::Missing => unauthorized("Missing authentication", None),
            Self::Unknown => unauthorized("Invalid token", Some("invalid_token")),
            Self::Expired => {
                unauthorized("Expired token received for JSON Web Token validation", Some("invalid_token"))
            }
            Self::Scope(missing) => management_error(
                StatusCode::FORBIDDEN,
                &format!("Insufficient scope, expected any of: {}", missing.join(",")),
                Some("insufficient_scope"),
            ),
        }
    }
}
