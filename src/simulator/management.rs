//! The Management API's operations on sessions.

use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};

use super::answer::{management, management_error};
use super::operation::{Operation, Target};
use super::requests::form;
use super::state::{Page, parse_cursor};
use super::tenant::Tenant;
use super::token::Unauthorized;

/// The longest session id that `revoke` takes, in characters (Auth0's OpenAPI document).
const MAX_SESSION_ID: usize = 50;

/// Answers an operation of the Management API.
pub(super) fn answer(tenant: &Tenant, target: &Target, parts: &Parts) -> Response {
    if let Err(why) = tenant.tokens.authorize(parts, target.operation.scopes(), tenant.now()) {
        return why.into_response();
    }
    let id = target.subject.as_str();
    let (now, delay) = (tenant.now(), tenant.visibility_delay());
    match target.operation {
        Operation::Token => unreachable!("the token endpoint is not part of the Management API"),
        Operation::List => match page(tenant, id, parts.uri.query()) {
            Ok(page) => page.map_or_else(no_such_user, |page| management(StatusCode::OK, page.to_json())),
            Err(refused) => refused.into_response(),
        },
        Operation::DeleteAll => {
            if tenant.users.end_sessions(id, now, delay) {
                accepted()
            } else {
                no_such_user()
            }
        }
        Operation::Read => match tenant.users.entry(id, now) {
            Some(entry) => management(StatusCode::OK, entry),
            None => no_such_session(),
        },
        Operation::Delete => {
            // Auth0 documents no 404 here: a session that is gone is as good as deleted.
            tenant.users.end_session(id, now, delay);
            accepted()
        }
        Operation::Revoke if id.chars().count() > MAX_SESSION_ID => {
            BadQuery("Object didn't pass validation for format session-id", "invalid_uri").into_response()
        }
        Operation::Revoke => {
            if tenant.users.end_session(id, now, delay) {
                accepted()
            } else {
                no_such_session()
            }
        }
    }
}

/// A query that does not fit the documented parameters: what is wrong, and the `errorCode`.
pub(super) struct BadQuery(&'static str, &'static str);

/// The page of a user's sessions that a query asks for; `None` when the user is unknown.
pub(super) fn page(tenant: &Tenant, user_id: &str, query: Option<&str>) -> Result<Option<Page>, BadQuery> {
    let query = form(query.unwrap_or_default());
    let take = match query.get("take").map(|take| take.parse::<usize>()) {
        None => 50,
        Some(Ok(take @ 1..=100)) => take,
        Some(_) => return Err(BadQuery("Query validation error: take must be from 1 to 100.", "invalid_query_string")),
    };
    let from = match query.get("from").map(|from| parse_cursor(from)) {
        None => None,
        Some(Some(number)) => Some(number),
        Some(None) => {
            return Err(BadQuery("The checkpoint in from is invalid or has expired.", "invalid_query_string"));
        }
    };
    Ok(tenant.users.page(user_id, from, take.min(tenant.page_size_cap()), tenant.now()))
}

fn accepted() -> Response {
    management(StatusCode::ACCEPTED, "{}")
}

fn no_such_user() -> Response {
    management_error(StatusCode::NOT_FOUND, "The user does not exist.", Some("inexistent_user"))
}

fn no_such_session() -> Response {
    management_error(StatusCode::NOT_FOUND, "The session does not exist.", Some("inexistent_session"))
}

impl IntoResponse for BadQuery {
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
