//! HTTP: the router for checks, the router for operating the service, and their sockets. No other module uses HTTP types.

mod abandoned;
mod admin;
mod app;
mod body;
mod check;
mod choose;
mod connection;
mod connections;
mod error;
mod header_lists;
mod listener;
mod logs;
mod metrics;
mod openapi;
mod peer;
mod rejections;
mod request;
mod request_id;
mod routes;
mod same_origin;
mod strict_lines;
mod tls;
mod write_deadline;

use std::sync::Arc;

use axum::routing::{any, get, post};
use axum::{Router, middleware};

pub use app::App;
pub use connection::ConnectionTimeouts;
pub use connections::ConnectionLimits;
pub use listener::{Listener, ServeOptions};
pub use metrics::{ConnectionMetrics, ServerMetrics};
pub use openapi::DOCUMENT as OPENAPI;
pub use rejections::Rejections;
pub use routes::Routes;
pub use same_origin::is_same_origin;
pub use tls::{TlsError, TlsFiles};

/// Parses the body of a check, for [`fuzzing`](crate::fuzzing).
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz_check_body(body: &[u8]) {
    let login = request::parse(body);
    // White space around it changes nothing, as long as it begins as UTF-8 does.
    if let Ok(login) = &login
        && !body.starts_with(b"\xef\xbb\xbf")
    {
        assert!(!login.user_id().is_empty() && !login.client_id().is_empty());
        let padded = [b"  ", body, b"\n"].concat();
        assert!(request::parse(&padded).is_ok());
    }
}

/// The routes for Auth0's Actions, also under a prefix.
pub fn check_routes(app: Arc<App>, path_prefix: &str) -> Routes {
    let routes = Router::new()
        // Checks themselves do not come here.
        .route("/check", any(check::only_post))
        .route("/check/", any(check::only_post))
        .route("/healthz", get(admin::healthz))
        .method_not_allowed_fallback(check::method_not_allowed);
    let routes = if path_prefix.is_empty() { routes } else { routes.clone().nest(path_prefix, routes) };
    let router = routes.fallback(check::not_found).with_state(Arc::clone(&app));
    let labels = &[("/check", routes::CHECK), ("/check/", routes::CHECK), ("/healthz", "/healthz")];
    Routes::observed(app, router, path_prefix, labels)
}

/// The routes for log streams. They are public as those for checks are, and have tokens of their own.
pub fn logs_routes(app: Arc<App>) -> Routes {
    let router = Router::new()
        .route("/logs", post(logs::receive))
        .route("/logs/", post(logs::receive))
        .route("/healthz", get(admin::healthz))
        .method_not_allowed_fallback(logs::method_not_allowed)
        .fallback(logs::not_found)
        .with_state(Arc::clone(&app));
    Routes::observed(app, router, "", &[("/logs", "/logs"), ("/logs/", "/logs"), ("/healthz", "/healthz")])
}

/// The routes for people who choose which of their sessions to end.
pub fn choose_routes(app: Arc<App>) -> Routes {
    let router = Router::new()
        .route("/choose", get(choose::show).post(choose::choose))
        .route("/choose/", get(choose::show).post(choose::choose))
        .route("/choose/style.css", get(choose::style))
        .route("/healthz", get(admin::healthz))
        .method_not_allowed_fallback(choose::method_not_allowed)
        .fallback(choose::not_found)
        .with_state(Arc::clone(&app));
    let labels =
        &[("/choose", "/choose"), ("/choose/", "/choose"), ("/choose/style.css", "/choose"), ("/healthz", "/healthz")];
    Routes::observed(app, router, "", labels)
}

/// The routes for Kubernetes, Prometheus and operators. They have no authentication and must not be exposed.
pub fn admin_routes(app: Arc<App>) -> Routes {
    let router = Router::new()
        .route("/livez", get(admin::livez))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics))
        .route("/debug/policies", get(admin::policies))
        .route("/debug/doctor", get(admin::doctor))
        .route("/debug/decisions", get(admin::decisions))
        .route("/debug/hash", get(admin::hash))
        .route("/openapi.json", get(admin::openapi))
        .layer(middleware::from_fn(routes::require_host))
        .with_state(app);
    router.into()
}
