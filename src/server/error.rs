//! Answers to requests that get no decision: a machine-readable word and a sentence for people.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::request_id::RequestId;

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    kind: ErrorKind,
    message: String,
    request_id: RequestId,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The path does not exist.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The policies are not loaded yet.
    NotReady,
    /// The request cannot be taken now, and may be sent again.
    Unavailable,
    /// The request has no `Host`, or several.
    BadRequest,
    /// The caller is unknown.
    Unauthorized,
    /// The caller is unknown, and its source has sent too many wrong tokens.
    TooManyRequests,
    /// The content type is not JSON, or the body is encoded in a way that is not supported.
    UnsupportedMediaType,
    /// The body is too large.
    BodyTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is not JSON.
    InvalidJson,
    /// The body is JSON but not a check.
    InvalidRequest,
    /// The service failed.
    Internal,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'static str,
    message: &'a str,
    request_id: &'a str,
}

impl ErrorKind {
    /// The errors of the port for checks.
    pub(super) const OF_CHECKS: [Self; 12] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotReady,
        Self::BadRequest,
        Self::Unauthorized,
        Self::TooManyRequests,
        Self::UnsupportedMediaType,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::Internal,
    ];

    /// Makes the error answer. `message` is for people: it says what is wrong and what to do.
    pub fn with_message(self, message: impl Into<String>, request_id: &RequestId) -> ApiError {
        ApiError { kind: self, message: message.into(), request_id: request_id.clone() }
    }

    /// Whether the request is rejected without its body: then the rest of the connection cannot be read as a request.
    pub(super) const fn comes_before_the_body(self) -> bool {
        !matches!(self, Self::InvalidJson | Self::InvalidRequest | Self::Internal)
    }

    /// Whether the caller is unknown.
    pub(super) const fn is_of_a_stranger(self) -> bool {
        matches!(
            self,
            Self::NotFound
                | Self::MethodNotAllowed
                | Self::NotReady
                | Self::BadRequest
                | Self::Unauthorized
                | Self::TooManyRequests
        )
    }

    /// The status and the word of the answer's `error`.
    pub(super) const fn status_and_word(self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::InvalidJson => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::InvalidRequest => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }
}

/// What an answer says about its rejected request, for the layers.
#[derive(Clone, Debug)]
pub(super) struct Rejection {
    pub(super) kind: ErrorKind,
    pub(super) error: &'static str,
    pub(super) message: String,
}

impl ApiError {
    pub(super) const fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error) = self.kind.status_and_word();
        let body = ErrorBody { error, message: &self.message, request_id: self.request_id.as_str() };
        let mut response = (status, Json(body)).into_response();
        match self.kind {
            ErrorKind::Unauthorized => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ErrorKind::TooManyRequests => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            ErrorKind::Unavailable => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response.extensions_mut().insert(Rejection { kind: self.kind, error, message: self.message });
        response
    }
}
