//! Paths of the Management API, with each id as one segment.

use hyper::http::Uri;
use hyper::http::uri::{self, Authority, PathAndQuery, Scheme};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::Error;
use crate::policy::Failure;

/// Everything but RFC 3986's unreserved characters. `%` is encoded too: an id never counts as encoded already.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Room for a path with ids of usual lengths.
const USUAL_LENGTH: usize = 160;

/// A page of `/api/v2/users/{id}/sessions`: the first, or the one at a cursor.
pub(super) fn sessions_of(user_id: &str, size: &str, from: Option<&str>) -> Result<String, Error> {
    let mut path = with_segment("/api/v2/users/", user_id, "/sessions?take=")?;
    path.push_str(size);
    if let Some(cursor) = from {
        path.push_str("&from=");
        path.extend(utf8_percent_encode(cursor, RESERVED));
    }
    Ok(path)
}

/// `/api/v2/sessions/{id}/revoke`.
pub(super) fn revoke(sid: &str) -> Result<String, Error> {
    with_segment("/api/v2/sessions/", sid, "/revoke")
}

/// `/api/v2/sessions/{id}`.
pub(super) fn session(sid: &str) -> Result<String, Error> {
    with_segment("/api/v2/sessions/", sid, "")
}

/// A path with the id as exactly one segment. `.` and `..` are errors because every URL library resolves them, and an empty id
/// is one because it would name the collection.
fn with_segment(before: &str, id: &str, after: &str) -> Result<String, Error> {
    if let "" | "." | ".." = id {
        let detail = "the id is empty, \".\" or \"..\", and cannot be part of a URL";
        return Err(Error::new(Failure::UpstreamError, detail));
    }
    let mut path = String::with_capacity(USUAL_LENGTH);
    path.push_str(before);
    path.extend(utf8_percent_encode(id, RESERVED));
    path.push_str(after);
    Ok(path)
}

/// The URI of an encoded absolute path with its query, below the path of a base. `None` when it is none.
pub(super) fn uri((scheme, authority): (Scheme, Authority), base: &str, target: &str) -> Option<Uri> {
    let target = match base.trim_end_matches('/') {
        "" => PathAndQuery::try_from(target),
        base => PathAndQuery::try_from([base, target].concat()),
    };
    let mut parts = uri::Parts::default();
    (parts.scheme, parts.authority, parts.path_and_query) = (Some(scheme), Some(authority), Some(target.ok()?));
    Uri::from_parts(parts).ok()
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
            assert_eq!(revoke(id).unwrap(), format!("/api/v2/sessions/{encoded}/revoke"));
        }
    }

    #[test]
    fn empty_id_and_dot_segments_are_errors() {
        for id in ["", ".", ".."] {
            assert_eq!(revoke(id).unwrap_err().failure, Failure::UpstreamError);
            assert_eq!(sessions_of(id, "50", None).unwrap_err().failure, Failure::UpstreamError);
        }
    }

    proptest! {
        #[test]
        fn ids_never_change_the_shape_of_the_url(
            id in "(?s:.){1,1024}|[\\s\\x00-\\x20\u{85}\u{a0}%/?#\\\\.]{1,40}", cursor in "(?s:.){0,40}",
        ) {
            prop_assume!(id != "." && id != "..");
            let path = sessions_of(&id, "50", Some(&cursor)).unwrap();
            let url = Url::parse(&format!("https://acme.eu.auth0.com/prefix{path}")).unwrap();
            let segments: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 6);
            prop_assert_eq!(segments[5], "sessions");
            let decoded = percent_encoding::percent_decode_str(segments[4]).decode_utf8().unwrap();
            prop_assert_eq!(decoded, id);
            let query: Vec<_> = url.query_pairs().collect();
            prop_assert_eq!(query, [("take".into(), "50".into()), ("from".into(), cursor.as_str().into())]);
            prop_assert!(url.fragment().is_none());
        }
    }
}
