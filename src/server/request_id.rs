//! The id that ties a request to its answer and its log lines.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header in which an id comes in and goes out.
pub static HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's id when it is 1 to 64 of `[A-Za-z0-9._-]`, else a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// Of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(&HEADER).and_then(|value| value.to_str().ok()).filter(|text| is_plain(text));
        Self(given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the value of the answer's header.
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
    fn a_plain_id_is_kept_and_any_other_replaced() {
        assert_eq!(of(b"abc-1.2_Z").as_str(), "abc-1.2_Z");
        assert_eq!(of("a".repeat(64).as_bytes()).as_str().len(), 64);
        for bad in [&b""[..], b"a b", b"a/b", b"\xff", "a".repeat(65).as_bytes()] {
            assert_eq!(of(bad).as_str().len(), 36, "a new one instead of {bad:?}");
        }
    }
}
