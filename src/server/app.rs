//! What the handlers of one service share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::metrics::ServerMetrics;
use super::rejections::Rejections;
use crate::check::Checker;
use crate::coverage::Coverage;
use crate::doctor::Doctor;
use crate::metrics::MetricRegistry;
use crate::readiness::Readiness;
use crate::sampler::LogSampler;
use crate::shutdown::Shutdown;

/// How many batches of log streams are read at once. With what is parsed of them, each takes up to 4 MiB.
const MAX_BATCHES: usize = 4;

/// How many checks wait at once for the policies to be loaded. Each holds a header of up to 16 KiB.
const MAX_EARLY_CHECKS: usize = 128;

/// How often a line about checks whose caller disconnected is written. Callers with a short time limit leave many
/// checks at once.
const ABANDONED_INTERVAL: Duration = Duration::from_secs(60);

/// The state of the routers.
pub struct App {
    /// Decides checks.
    pub checker: Checker,
    /// Audits the logins of log streams.
    pub coverage: Arc<Coverage>,
    /// The batches of log streams that may be read at once.
    pub log_batches: Semaphore,
    /// The checks that may wait at once for the policies to be loaded.
    pub early_checks: Semaphore,
    /// Examines policies, tenants and the ledger, for `/debug/doctor`.
    pub doctor: Doctor,
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
    /// Bounds the lines about checks whose caller disconnected.
    pub abandoned_lines: LogSampler,
    /// The running checks, which a shutdown waits for.
    pub checks: TaskTracker,
}

impl App {
    /// The permits of [`log_batches`](Self::log_batches).
    pub fn log_batches() -> Semaphore {
        Semaphore::new(MAX_BATCHES)
    }

    /// The permits of [`early_checks`](Self::early_checks).
    pub fn early_checks() -> Semaphore {
        Semaphore::new(MAX_EARLY_CHECKS)
    }

    /// The sampler of [`abandoned_lines`](Self::abandoned_lines).
    pub fn abandoned_lines() -> LogSampler {
        LogSampler::new(1, ABANDONED_INTERVAL)
    }
}
