//! The parts of a service between a check and its tenants, put together without sockets of the service's own.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde_json::Value;
use session_checker::auth0::{Upstream, UpstreamOptions};
use session_checker::check::{CheckMetrics, Checker};
use session_checker::coverage::{Coverage, CoverageOptions};
use session_checker::decisions::DecisionLog;
use session_checker::doctor::Doctor;
use session_checker::ledger::{Failover, Ledger, Memory};
use session_checker::metrics::MetricRegistry;
use session_checker::readiness::Readiness;
use session_checker::server::{App, Rejections, Routes, ServerMetrics, check_routes};
use session_checker::shutdown::Shutdown;
use session_checker::snapshot::{ObservedState, Publisher, SnapshotMetrics};
use session_checker::source::read_documents;
use tokio_util::task::TaskTracker;

/// More than a test remembers.
const LEDGER_ENTRIES: usize = 1_000;

/// A service that has a memory of its own as its ledger.
pub struct Assembly {
    pub registry: MetricRegistry,
    pub checker: Checker,
    coverage: Arc<Coverage>,
}

impl Assembly {
    /// Puts the parts together. The policies and Secrets come from the documents, everything else that is observed from
    /// `observed`.
    pub fn new(
        registry: MetricRegistry,
        upstream: UpstreamOptions,
        observed: ObservedState,
        max_in_flight: usize,
        documents: &[Value],
    ) -> Self {
        let upstream = Upstream::new(upstream).unwrap();
        let publisher = Publisher::new(upstream, observed, max_in_flight, SnapshotMetrics::new(&registry));
        publisher.update(|observed| {
            for document in documents {
                let documents = read_documents(&document.to_string()).unwrap();
                documents.into_iter().for_each(|document| document.feed(&mut observed.index));
            }
        });
        let ledger = Arc::new(Ledger::new(Failover::new(Memory::new(LEDGER_ENTRIES), None)));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"tests");
        let decisions = Arc::new(DecisionLog::new(key, None, &registry));
        let metrics = CheckMetrics::new(&registry);
        let last_checks = Arc::clone(metrics.last_checks());
        let coverage = Arc::new(Coverage::new(CoverageOptions::default(), None, &registry, last_checks));
        let checker = Checker::new(publisher.current(), ledger, metrics, decisions, Arc::clone(&coverage));
        Self { registry, checker, coverage }
    }

    /// The routes for checks, with this prefix of its paths.
    pub fn routes(self, readiness: Readiness, path_prefix: &str) -> Routes {
        let app = App {
            checker: self.checker,
            coverage: self.coverage,
            log_batches: App::log_batches(),
            early_checks: App::early_checks(),
            doctor: Doctor::new(None, Duration::from_millis(50), 1),
            readiness,
            shutdown: Shutdown::default(),
            metrics: ServerMetrics::new(&self.registry),
            rejections: Rejections::default(),
            registry: self.registry,
            abandoned_lines: App::abandoned_lines(),
            checks: TaskTracker::new(),
        };
        check_routes(Arc::new(app), path_prefix)
    }
}
