//! The two forms of Auth0's answers: the Management API's and the token endpoint's.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An answer of the Management API.
pub(super) fn management_answer(status: StatusCode, body: impl Into<String>) -> Response {
    with_type(status, "application/json; charset=utf-8", body.into())
}

/// An error of the Management API (`BadRequestSchema` and similar schemas of Auth0's OpenAPI document), with the `errorCode`
/// that real answers have too.
pub(super) fn management_error(status: StatusCode, message: &str, code: Option<&str>) -> Response {
    management_answer(status, management_error_body(status, message, code))
}

/// The body of such an error.
pub(super) fn management_error_body(status: StatusCode, message: &str, code: Option<&str>) -> String {
    let mut body = json!({
        "statusCode": status.as_u16(),
        "error": status.canonical_reason().unwrap_or("Unknown"),
        "message": message,
    });
    if let Some(code) = code {
        body["errorCode"] = code.into();
    }
    body.to_string()
}

/// An answer of the token endpoint.
pub(super) fn token_answer(status: StatusCode, body: impl Into<String>) -> Response {
    with_type(status, "application/json", body.into())
}

/// An error of the token endpoint (`ErrorResponse` in Auth0's OpenAPI document of the Authentication API).
pub(super) fn token_error(status: StatusCode, error: &str, description: &str) -> Response {
    token_answer(status, json!({ "error": error, "error_description": description }).to_string())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}
