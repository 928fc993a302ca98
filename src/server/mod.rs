//! HTTP: the router for checks, the router for operating the service, and their sockets. No other module uses HTTP types.

mod admin;
mod app;
mod check;
mod error;
mod layers;
mod listener;
mod metrics;
mod request;
mod request_id;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Router, middleware};

pub use app::App;
pub use listener::{Listener, TlsError, TlsFiles};
pub use metrics::ServerMetrics;

/// The routes for Auth0's Actions.
pub fn check_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/check", post(check::check))
        .method_not_allowed_fallback(check::method_not_allowed)
        .fallback(check::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), layers::observe))
        .with_state(app)
}

/// The routes for Kubernetes, Prometheus and operators. They have no authentication and must not be exposed.
pub fn admin_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(admin::livez))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics))
        .route("/debug/policies", get(admin::policies))
        .with_state(app)
}
