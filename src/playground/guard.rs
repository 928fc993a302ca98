//! Which requests the playground takes, and the headers of its answers.
//!
//! Any website can make a browser on this machine send requests to loopback. They have another origin, and another `Host`
//! when they go to a name of the website that resolves to loopback: both are rejected. The page itself may be opened from
//! anywhere, because opening it changes nothing. So may the address at which a login continues after a choice of sessions: it
//! needs the login's state, which only the page for choosing sessions has.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderName, ORIGIN, REFERRER_POLICY};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::server::is_same_origin;

/// Nothing is loaded but this page's own files, nothing frames it, and no script makes markup of text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The `Host` values of this page.
#[derive(Clone)]
pub(super) struct Origins(Arc<[String]>);

impl Origins {
    /// Those of the page at `address`, a loopback address.
    pub fn of(address: SocketAddr) -> Self {
        let port = address.port();
        Self([format!("{address}"), format!("localhost:{port}"), format!("127.0.0.1:{port}")].into())
    }

    fn allow(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), &'static str> {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.0.iter().any(|known| known == host) {
            return Err("this is not the Host of the playground: open the address that `demo` printed");
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        if is_read && matches!(path, "/" | "/continue") {
            return Ok(());
        }
        let is_direct = match headers.get("sec-fetch-site") {
            // Typed into the address bar.
            Some(site) => site == "none",
            // `curl`, and browsers that send neither header: they may look.
            None => !headers.contains_key(ORIGIN),
        };
        let is_allowed = is_same_origin(headers, &format!("http://{host}")) || (is_read && is_direct);
        if is_allowed { Ok(()) } else { Err("only the playground's own page may send this request") }
    }
}

/// Rejects requests of others, and adds the headers.
pub(super) async fn check(State(origins): State<Origins>, request: Request, next: Next) -> Response {
    let mut response = match origins.allow(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_origins_are_rejected() {
        let origins = Origins::of(([127, 0, 0, 1], 3001).into());
        let allow = |method: Method, path: &str, headers: &[(&'static str, &'static str)]| {
            let headers =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            origins.allow(&method, path, &headers.collect()).is_ok()
        };
        let (host, site) = (("host", "127.0.0.1:3001"), "sec-fetch-site");
        assert!(allow(Method::GET, "/", &[host, (site, "cross-site")]), "a link from elsewhere");
        assert!(allow(Method::GET, "/", &[("host", "localhost:3001")]));
        assert!(allow(Method::GET, "/continue", &[host, (site, "same-site")]), "from the page for choosing sessions");
        assert!(!allow(Method::POST, "/continue", &[host, (site, "same-site")]));
        assert!(allow(Method::GET, "/api/events", &[host, (site, "same-origin")]));
        assert!(allow(Method::GET, "/api/state", &[host]), "curl");
        assert!(allow(Method::POST, "/api/step", &[host, (site, "same-origin")]));
        assert!(allow(Method::POST, "/api/step", &[host, ("origin", "http://127.0.0.1:3001")]));

        assert!(!allow(Method::GET, "/", &[("host", "rebound.example:3001")]));
        assert!(!allow(Method::GET, "/", &[]));
        assert!(!allow(Method::GET, "/", &[("host", "127.0.0.1:3000")]), "another port");
        assert!(!allow(Method::GET, "/api/events", &[host, (site, "cross-site")]));
        assert!(!allow(Method::GET, "/api/events", &[host, (site, "same-site")]));
        assert!(!allow(Method::GET, "/api/events", &[host, ("origin", "https://evil.example")]));
        for headers in [
            &[host][..],
            &[host, (site, "none")],
            &[host, (site, "cross-site")],
            &[host, (site, "same-site"), ("origin", "http://127.0.0.1:3001")],
            &[host, ("origin", "http://localhost:3001")],
            &[host, ("origin", "null")],
        ] {
            assert!(!allow(Method::POST, "/api/step", headers), "{headers:?}");
        }
    }
}
