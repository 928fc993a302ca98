//! Paths of the Management API, with each id as one segment.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::Error;
use crate::policy::Failure;

/// Everything but RFC 3986's unreserved characters. `%` is encoded too: an id never counts as encoded already.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `/api/v2/users/{id}/sessions`.
pub(super) fn sessions_of(user_id: &str) -> Result<String, Error> {
    Ok(format!("/api/v2/users/{}/sessions", segment(user_id)?))
}

/// A page of the list at `path`: the first, or the one at a cursor.
pub(super) fn page(path: &str, size: &str, from: Option<&str>) -> String {
    match from {
        None => format!("{path}?take={size}"),
        Some(cursor) => format!("{path}?take={size}&from={}", utf8_percent_encode(cursor, RESERVED)),
    }
}

/// `/api/v2/sessions/{id}/revoke`.
pub(super) fn revoke(sid: &str) -> Result<String, Error> {
    Ok(format!("/api/v2/sessions/{}/revoke", segment(sid)?))
}

/// `/api/v2/sessions/{id}`.
pub(super) fn session(sid: &str) -> Result<String, Error> {
    Ok(format!("/api/v2/sessions/{}", segment(sid)?))
}

/// The id as exactly one segment. `.` and `..` are errors because every URL library resolves them, and an empty id is one
/// because it would name the collection.
fn segment(id: &str) -> Result<String, Error> {
    match id {
        "" | "." | ".." => {
            Err(Error::new(Failure::UpstreamError, "the id is empty, \".\" or \"..\", and cannot be part of a URL"))
        }
        id => Ok(utf8_percent_encode(id, RESERVED).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use reqwest::Url;

    #[test]
    fn odd_ids_stay_one_segment() {
        for (id, encoded) in [
            ("auth0|a/b", "auth0%7Ca%2Fb"),
            ("waad|x%3A", "waad%7Cx%253A"),
            ("£", "%C2%A3"),
            ("a?b#c", "a%3Fb%23c"),
            ("../..", "..%2F.."),
            (r"a\b", "a%5Cb"),
            ("A-z_0.9~", "A-z_0.9~"),
            ("...", "..."),
        ] {
            assert_eq!(segment(id).unwrap(), encoded);
        }
    }

    #[test]
    fn empty_id_and_dot_segments_are_errors() {
        for id in ["", ".", ".."] {
            assert_eq!(segment(id).unwrap_err().failure, Failure::UpstreamError);
        }
    }

    proptest! {
        #[test]
        fn id_never_changes_the_shape_of_the_url(id in "(?s:.){1,1024}|[\\s\\x00-\\x20\u{85}\u{a0}%/?#\\\\.]{1,40}") {
            prop_assume!(id != "." && id != "..");
            let mut url = Url::parse("https://acme.eu.auth0.com/prefix").unwrap();
            url.set_path(&format!("/prefix{}", sessions_of(&id).unwrap()));
            let segments: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 6);
            prop_assert_eq!(segments[5], "sessions");
            let decoded = percent_encoding::percent_decode_str(segments[4]).decode_utf8().unwrap();
            prop_assert_eq!(decoded, id);
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
