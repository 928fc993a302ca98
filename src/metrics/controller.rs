//! The metrics of the controller.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGauge};

use super::Make;

/// What the watches and what follows from them come to.
pub struct ControllerMetrics {
    reconciles: IntCounterVec,
    reconcile_duration: HistogramVec,
    watch_last_contact: GaugeVec,
    watch_restarts: IntCounterVec,
    leader: IntGauge,
    status_writes: IntCounterVec,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// SessionPolicies.
    Policies,
    /// The Secrets that they name.
    Secrets,
}

/// What became of a write of a policy's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWrite {
    /// It is written.
    Done,
    /// It could not be written; it is tried again.
    Failed,
    /// The policy was deleted or made anew meanwhile.
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

impl Watch {
    const ALL: [Self; 2] = [Self::Policies, Self::Secrets];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::Secrets => "secrets",
        }
    }
}

impl ControllerMetrics {
    pub(super) fn new(make: &Make<'_>) -> Self {
        let metrics = Self {
            reconciles: make.counters(
                "reconciles_total",
                "Batches of watch events taken in, by whether what is in force was replaced (published) or not (unchanged).",
                &["result"],
            ),
            reconcile_duration: make.seconds(
                "reconcile_duration_seconds",
                "From a batch of watch events to what is in force.",
                &[],
            ),
            watch_last_contact: make.times(
                "watch_last_contact_timestamp_seconds",
                "When the API server last said something on any of these watches, as Unix time. It does so every minute.",
                &["watch"],
            ),
            watch_restarts: make.counters(
                "watch_restarts_total",
                "Watches that could not go on and were tried again.",
                &["watch"],
            ),
            leader: make.gauge("leader", "1 while this replica holds the Lease and writes the status of policies."),
            status_writes: make.counters(
                "status_writes_total",
                "Writes of a policy's status: ok, error, or gone (the policy was deleted meanwhile).",
                &["result"],
            ),
        };
        // There from the start: the first failure is a rise then, and an alert on it has something to look at before.
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

    /// Takes note that the API server said something on a watch.
    pub fn contact(&self, watch: Watch) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.watch_last_contact.with_label_values(&[watch.as_str()]).set(now.as_secs_f64());
    }

    /// Takes note that there is no watch of this kind: nobody is to wait for its word.
    pub fn watches_nothing(&self, watch: Watch) {
        // There is none when there never was a watch.
        let _ = self.watch_last_contact.remove_label_values(&[watch.as_str()]);
    }

    /// Counts a watch that could not go on.
    pub fn restarted(&self, watch: Watch) {
        self.watch_restarts.with_label_values(&[watch.as_str()]).inc();
    }

    /// Takes note of whether this replica holds the Lease.
    pub fn leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }

    /// Counts a write of a policy's status.
    pub fn status_written(&self, result: StatusWrite) {
        self.status_writes.with_label_values(&[result.as_str()]).inc();
    }
}
