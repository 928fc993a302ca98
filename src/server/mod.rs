//! HTTP: the listener for checks and the one for operating the service. HTTP types stop here.

mod admin;
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

use tokio_util::task::TaskTracker;

use crate::check::Checker;
use crate::metrics::MetricRegistry;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

pub use listener::{Listener, Tls, TlsError};
pub use metrics::ServerMetrics;

/// What the handlers share.
pub struct App {
    /// Decides.
    pub checker: Checker,
    /// Whether checks are answered yet.
    pub readiness: Readiness,
    /// Whether connections should end after their answer.
    pub shutdown: Shutdown,
    /// Counts requests.
    pub metrics: ServerMetrics,
    /// The metric families of all parts.
    pub registry: MetricRegistry,
    /// The checks under way.
    pub checks: TaskTracker,
}

/// The routes that Auth0's Actions reach.
pub fn check_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/check", post(check::check))
        .method_not_allowed_fallback(check::method_not_allowed)
        .fallback(check::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), layers::observe))
        .with_state(app)
}

/// The routes for Kubernetes, Prometheus and people who run the service; never to be reached from outside.
pub fn admin_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/livez", get(admin::livez))
        .route("/readyz", get(admin::readyz))
        .route("/metrics", get(admin::metrics))
        .route("/debug/policies", get(admin::policies))
        .with_state(app)
}
