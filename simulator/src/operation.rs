//! The operation of a request and its subject, read from the method and the undecoded path.

use axum::http::header::ALLOW;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;

use super::answer::management_error;

/// The operations of the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /oauth/token`.
    Token,
    /// `GET /api/v2/users/{user_id}/sessions`.
    List,
    /// `DELETE /api/v2/users/{user_id}/sessions`.
    DeleteAll,
    /// `GET /api/v2/sessions/{id}`.
    Read,
    /// `PATCH /api/v2/sessions/{id}`.
    Update,
    /// `DELETE /api/v2/sessions/{id}`.
    Delete,
    /// `POST /api/v2/sessions/{id}/revoke`.
    Revoke,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] =
        [Self::Token, Self::List, Self::DeleteAll, Self::Read, Self::Update, Self::Delete, Self::Revoke];

    /// The scopes that an access token must have (Auth0's OpenAPI document, `security` of the operation). `None` where no
    /// token is needed.
    pub(super) fn scopes(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Token => None,
            Self::List | Self::Read => Some(&["read:sessions"]),
            Self::Update => Some(&["update:sessions"]),
            Self::DeleteAll | Self::Delete => Some(&["delete:sessions"]),
            Self::Revoke => Some(&["delete:sessions", "delete:refresh_tokens"]),
        }
    }
}

/// An operation and its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub operation: Operation,
    /// The user id or session id, decoded. Empty for the token endpoint.
    pub subject: String,
}

/// Why a request has no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetError {
    /// The path does not exist.
    NotFound,
    /// The path has other methods: these.
    MethodNotAllowed(&'static str),
    /// The id in the path is not percent-encoded UTF-8.
    BadId,
}

impl Target {
    /// Reads the path without decoding it first: an id is one segment, so an id with an unencoded slash is not found.
    pub fn of(method: &Method, path: &str) -> Result<Self, TargetError> {
        let segments: Vec<&str> = path.split('/').collect();
        let (subject, methods): (&str, &[(Method, Operation)]) = match segments[..] {
            ["", "oauth", "token"] => ("", &[(Method::POST, Operation::Token)]),
            ["", "api", "v2", "users", id, "sessions"] if !id.is_empty() => {
                (id, &[(Method::GET, Operation::List), (Method::DELETE, Operation::DeleteAll)])
            }
            ["", "api", "v2", "sessions", id] if !id.is_empty() => {
                let methods = &[
                    (Method::GET, Operation::Read),
                    (Method::DELETE, Operation::Delete),
                    (Method::PATCH, Operation::Update),
                ];
                (id, methods)
            }
            ["", "api", "v2", "sessions", id, "revoke"] if !id.is_empty() => (id, &[(Method::POST, Operation::Revoke)]),
            _ => return Err(TargetError::NotFound),
        };
        let operation = methods.iter().find(|(known, _)| known == method).map(|(_, operation)| *operation);
        let operation = operation.ok_or(TargetError::MethodNotAllowed(match methods.len() {
            3 => "GET, DELETE, PATCH",
            2 => "GET, DELETE",
            _ => "POST",
        }))?;
        let subject = percent_decode_str(subject).decode_utf8().map_err(|_| TargetError::BadId)?.into_owned();
        Ok(Self { operation, subject })
    }
}

impl IntoResponse for TargetError {
    fn into_response(self) -> Response {
        match self {
            Self::NotFound => management_error(StatusCode::NOT_FOUND, "Not Found", None),
            Self::BadId => management_error(StatusCode::BAD_REQUEST, "Invalid request URI.", Some("invalid_uri")),
            Self::MethodNotAllowed(allow) => {
                let mut response = management_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", None);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
        }
    }
}
