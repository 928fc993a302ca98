//! The metrics of the controller. The registry adds the prefix `session_checker_` to their names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec};

use super::watch_failures::{Watch, WatchFailures, WatchId};
use crate::metrics::MetricRegistry;

/// Counts what the controller does.
pub struct ControllerMetrics {
    reconciles: IntCounterVec,
    reconcile_duration: HistogramVec,
    watch_last_contact: GaugeVec,
    watch_restarts: IntCounterVec,
    /// The watches that fail.
    pub(super) watch_failures: WatchFailures,
    /// Without labels. It has no series before an election begins: an alert fires while nobody leads.
    leader: IntGaugeVec,
    status_writes: IntCounterVec,
    status_overwrites: IntCounter,
    election_failures: IntCounter,
}

/// The result of a write of a policy's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// Written.
    Done,
    /// Not written. The writer tries again.
    Failed,
    /// The policy was deleted, or another one has its name now.
    Gone,
}

impl StatusWrite {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Gone];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Failed => "error",
            Self::Gone => "gone",
        }
    }
}

impl ControllerMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let metrics = Self {
            reconciles: registry.counters(
                "reconciles_total",
                "Batches of watch events processed, by result: published = the active policies changed, unchanged = they did not.",
                &["result"],
            ),
            reconcile_duration: registry.seconds(
                "reconcile_duration_seconds",
                "Time from a batch of watch events to the active policies that follow from it.",
                &[],
            ),
            watch_last_contact: registry.times(
                "watch_last_contact_timestamp_seconds",
                "Unix time of the latest event of any of these watches. The API server sends one every minute.",
                &["watch"],
            ),
            watch_restarts: registry.counters(
                "watch_restarts_total",
                "Watches that failed and were started again.",
                &["watch"],
            ),
            watch_failures: WatchFailures::new(registry),
            leader: registry.gauges(
                "leader",
                "1 while this replica holds the Lease and writes the status of policies, else 0. Only in a cluster.",
                &[],
            ),
            status_writes: registry.counters(
                "status_writes_total",
                "Writes of a policy's status, by result: ok, error, or gone (the policy was deleted).",
                &["result"],
            ),
            election_failures: registry.counter(
                "election_failures_total",
                "Failed reads and writes of the Lease. They are retried; the log has the cause once for each change.",
            ),
            status_overwrites: registry.counter(
                "status_overwrites_total",
                "Statuses that this replica wrote, that another writer then overwrote, and that it wrote again.",
            ),
        };
        // Present from the start, so that an alert sees the first failure as an increase.
        for watch in Watch::ALL {
            metrics.watch_restarts.with_label_values(&[watch.as_str()]);
        }
        for write in StatusWrite::ALL {
            metrics.status_writes.with_label_values(&[write.as_str()]);
        }
        metrics
    }

    /// Counts a batch of watch events.
    pub fn reconciled(&self, replaced: bool, took: Duration) {
        let result = if replaced { "published" } else { "unchanged" };
        self.reconciles.with_label_values(&[result]).inc();
        self.reconcile_duration.with_label_values(&[] as &[&str]).observe(took.as_secs_f64());
    }

    /// Records that the API server sent something on a watch.
    pub(super) fn contact(&self, watch: &WatchId) {
        self.watch_failures.answered(watch);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.watch_last_contact.with_label_values(&[watch.kind.as_str()]).set(now.as_secs_f64());
    }

    /// Ends the series of a kind of which there is no watch, so that no alert waits for it.
    pub fn watches_nothing(&self, watch: Watch) {
        // It does not exist when there never was such a watch.
        let _ = self.watch_last_contact.remove_label_values(&[watch.as_str()]);
    }

    /// Counts a watch that failed.
    pub fn restarted(&self, watch: Watch) {
        self.watch_restarts.with_label_values(&[watch.as_str()]).inc();
    }

    /// Counts a failed read or write of the Lease.
    pub fn election_failed(&self) {
        self.election_failures.inc();
    }

    /// Counts a status that was written again, because another writer overwrote it.
    pub fn status_overwritten(&self) {
        self.status_overwrites.inc();
    }

    /// Sets whether this replica holds the Lease.
    pub fn leader(&self, leader: bool) {
        self.leader.with_label_values(&[] as &[&str]).set(i64::from(leader));
    }

    /// Counts a write of a policy's status.
    pub fn status_written(&self, result: StatusWrite) {
        self.status_writes.with_label_values(&[result.as_str()]).inc();
    }
}
