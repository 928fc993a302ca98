//! The metrics of the records of decisions.

use prometheus::{IntCounter, IntGauge};

use crate::metrics::{MetricRegistry, raise_to};
use crate::telemetry::{RecordExport, record_export};

/// What the records take, and which ones other replicas do not see.
pub struct DecisionMetrics {
    pub(super) bytes: IntGauge,
    pub(super) unshared: IntCounter,
}

impl DecisionMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        Self::count_unexported(registry);
        Self {
            bytes: registry.gauge("decision_record_bytes", "Bytes of the decision records in memory, at most 6 MiB."),
            unshared: registry.counter(
                "decision_records_unshared_total",
                "Decision records that were not written to the shared store: it did not answer, or too many waited. Only the replica that decided has them.",
            ),
        }
    }

    /// Registers how many records were lost on the way to a collector. Without a collector none is.
    fn count_unexported(registry: &MetricRegistry) {
        let unexported = registry.counter(
            "decision_records_unexported_total",
            "Decision records that were not exported as OTLP logs: the collector did not take them, or too many waited.",
        );
        registry.on_scrape(move |_| {
            raise_to(&unexported, record_export().map_or(0, RecordExport::lost));
        });
    }
}
