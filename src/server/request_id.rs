//! The id that connects a request with its answer and its log lines.
//!
//! `tower-http`'s request id layer is not used: it keeps any id that the caller sends, and the contract replaces an id that is
//! not plain, so the validation below would stay and the layers would be added to it.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries the id in requests and answers.
pub static HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's id when it is 1 to 64 characters of `[A-Za-z0-9._-]`, else a new UUID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes the id of a request's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&HEADER).and_then(|value| value.to_str().ok()).filter(|text| is_plain(text));
        Self(
            given
                .map_or_else(|| Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()).into(), Arc::from),
        )
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id for the request's log lines.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The id as the value of the answer's header.
    pub fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("an id holds only characters that a header may hold")
    }
}

fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> RequestId {
        RequestId::of(&[(HEADER.clone(), HeaderValue::from_bytes(value).unwrap())].into_iter().collect())
    }

    #[test]
    fn plain_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(of(b"abc-1.2_Z").as_str(), "abc-1.2_Z");
        assert_eq!(of("a".repeat(64).as_bytes()).as_str().len(), 64);
        for bad in [&b""[..], b"a b", b"a/b", b"\xff", "a".repeat(65).as_bytes()] {
            assert_eq!(of(bad).as_str().len(), 36, "a new one instead of {bad:?}");
        }
    }
}
