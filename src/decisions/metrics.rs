//! The metrics of the records of decisions.

use prometheus::{IntCounter, IntGauge};

use crate::metrics::MetricRegistry;

/// What the records take, and which ones other replicas do not see.
pub struct DecisionMetrics {
    pub(super) bytes: IntGauge,
    pub(super) unshared: IntCounter,
}

impl DecisionMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        Self {
            bytes: registry.gauge("decision_record_bytes", "Bytes of the decision records in memory, at most 6 MiB."),
            unshared: registry.counter(
                "decision_records_unshared_total",
                "Decision records that were not written to the shared store: it did not answer, or too many waited. Only the replica that decided has them.",
            ),
        }
    }
}
