//! Whether a browser's request comes from a page of this program. The page for choosing sessions and the playground ask.

use axum::http::HeaderMap;
use axum::http::header::ORIGIN;

/// Whether a page of this origin sent the request, and no other site. Browsers send the first header since 2023; others the
/// second.
pub fn is_same_origin(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => headers.get(ORIGIN).is_some_and(|sender| sender == origin),
    }
}
