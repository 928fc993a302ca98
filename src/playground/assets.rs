//! The files of the page, in the binary.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, content type and text. `include_str!` is enough for a dozen files, and cargo rebuilds when one changes.
const ASSETS: [(&str, &str, &str); 13] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/html.js", SCRIPT, include_str!("page/html.js")),
    ("/people.js", SCRIPT, include_str!("page/people.js")),
    ("/timeline.js", SCRIPT, include_str!("page/timeline.js")),
    ("/decision.js", SCRIPT, include_str!("page/decision.js")),
    ("/policy.js", SCRIPT, include_str!("page/policy.js")),
    ("/link.js", SCRIPT, include_str!("page/link.js")),
    ("/text.js", SCRIPT, include_str!("page/text.js")),
    ("/vendor/preact.mjs", SCRIPT, include_str!("page/vendor/preact.mjs")),
    ("/vendor/htm.mjs", SCRIPT, include_str!("page/vendor/htm.mjs")),
];

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.into_iter().fold(Router::new(), |router, (path, content_type, text)| {
        router.route(path, get(move || async move { ([(CONTENT_TYPE, content_type)], text).into_response() }))
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    /// `page/vendor/VENDORED.md` lists what comes from elsewhere: file, package, version, licence, SHA-256.
    #[test]
    fn vendored_files_are_the_ones_that_are_listed() {
        let list = include_str!("page/vendor/VENDORED.md");
        let vendored: Vec<_> = ASSETS.iter().filter(|(path, _, _)| path.starts_with("/vendor/")).collect();
        assert_eq!(list.lines().filter(|line| line.starts_with("| `")).count(), vendored.len());
        for (path, _, text) in vendored {
            let sum = digest(&SHA256, text.as_bytes());
            let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let file = path.trim_start_matches("/vendor/");
            let line = list.lines().find(|line| line.starts_with(&format!("| `{file}` ")));
            assert!(line.is_some_and(|line| line.contains(&sum)), "{file} has {sum}");
        }
    }

    #[test]
    fn page_loads_nothing_from_elsewhere() {
        for (path, _, text) in ASSETS.iter().filter(|(path, _, _)| !path.starts_with("/vendor/")) {
            let foreign = text
                .lines()
                .filter(|line| line.contains("://") && !line.contains("http://www.w3.org/") && !line.contains("${"));
            assert_eq!(foreign.collect::<Vec<_>>(), Vec::<&str>::new(), "{path}");
            assert!(
                !text.contains("innerHTML") && !text.contains("style=\""),
                "{path}: the page's own rules forbid it"
            );
        }
    }
}
