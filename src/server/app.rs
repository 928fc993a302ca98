//! What the handlers of one service share.

use tokio_util::task::TaskTracker;

use super::metrics::ServerMetrics;
use super::rejections::Rejections;
use crate::check::Checker;
use crate::metrics::MetricRegistry;
use crate::readiness::Readiness;
use crate::shutdown::Shutdown;

/// The state of the routers.
pub struct App {
    /// Decides checks.
    pub checker: Checker,
    /// Whether checks are answered yet, for `/check` and `/readyz`.
    pub readiness: Readiness,
    /// Whether connections should end after their answer.
    pub shutdown: Shutdown,
    /// Counts requests.
    pub metrics: ServerMetrics,
    /// Bounds what rejected requests cost.
    pub rejections: Rejections,
    /// The metric families of all parts, for `/metrics`.
    pub registry: MetricRegistry,
    /// The running checks, which a shutdown waits for.
    pub checks: TaskTracker,
}
