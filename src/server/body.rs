//! The body of a request, bounded in size and time.
//!
//! It is read with `http_body_util`'s limit, which `tower-http`'s body limit wraps, and `tokio`'s timeout. The layers of
//! `tower-http` do not fit the contract: the limit answers 413 by the `Content-Length`, before the caller is known; the
//! body timeout starts again with every chunk, so a slow caller could hold a check open; the request timeout would
//! cancel the check.

use std::time::Duration;

use axum::BoxError;
use axum::body::HttpBody;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::error::{ApiError, ErrorKind};
use super::request_id::RequestId;

/// How long a body may take to arrive: the longest timeout that a policy may have. Auth0 gives up on a batch of a log stream after
/// some seconds as well.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether `Content-Type` names this media type, whatever its parameters.
pub(super) fn has_type(headers: &HeaderMap, media_type: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|text| text.split(';').next()).is_some_and(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// It is larger, ends early, or takes too long.
pub(super) async fn read<B>(body: B, max: usize, request_id: &RequestId) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    let too_large =
        || ErrorKind::BodyTooLarge.with_message(format!("The body is larger than {max} bytes."), request_id);
    // A `Content-Length` over the limit needs no waiting.
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(ErrorKind::InvalidJson.with_message("The connection ended before the body was complete.", request_id))
        }
        Err(_) => {
            let message = format!("The body did not arrive within {} seconds.", BODY_TIMEOUT.as_secs());
            Err(ErrorKind::RequestTimeout.with_message(message, request_id))
        }
    }
}
