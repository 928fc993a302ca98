//! The metrics of the log streams.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::judge::Checked;
use crate::metrics::{MetricRegistry, to_i64};

/// Counts what log streams report.
pub struct CoverageMetrics {
    logins: IntCounterVec,
    entries: IntCounterVec,
    pending: IntGauge,
    rejected: IntCounterVec,
    marks_lost: IntCounter,
}

/// What an entry of a log stream is.
#[derive(Clone, Copy)]
pub(super) enum EntryKind {
    Login,
    Other,
    Duplicate,
    Malformed,
}

impl EntryKind {
    const ALL: [Self; 4] = [Self::Login, Self::Other, Self::Duplicate, Self::Malformed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Other => "other",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
        }
    }
}

impl CoverageMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let metrics = Self {
            logins: registry.counters(
                "logins_seen_total",
                "Successful logins that a log stream reported, by whether they were checked: unknown = the entry names no session, or the checks of its time are not all known.",
                &["tenant", "checked"],
            ),
            entries: registry.counters(
                "log_stream_entries_total",
                "Entries of log streams: login, other, duplicate (its log_id was seen before) or malformed.",
                &["tenant", "kind"],
            ),
            pending: registry.gauge(
                "log_stream_pending_logins",
                "Reported logins that wait until the checks of their time are known.",
            ),
            rejected: registry.counters(
                "log_stream_rejected_total",
                "Batches of log streams that were not taken: busy = too many requests or waiting logins, and Auth0 sends the batch again; too_large = over a bound, and its entries are lost when Auth0 gives up.",
                &["reason"],
            ),
            marks_lost: registry.counter(
                "shared_checks_lost_total",
                "Checks that could not be shared with the other replicas. Logins of that time are unknown.",
            ),
        };
        for reason in [BUSY, TOO_LARGE] {
            metrics.rejected.with_label_values(&[reason]);
        }
        metrics
    }

    /// Creates the series of a tenant with a log stream: an alert sees the first login as an increase.
    pub fn begin(&self, tenant: &str) {
        for checked in Checked::ALL {
            self.logins.with_label_values(&[tenant, checked.as_str()]);
        }
        for kind in EntryKind::ALL {
            self.entries.with_label_values(&[tenant, kind.as_str()]);
        }
    }

    pub(super) fn login(&self, tenant: &str, checked: Checked) {
        self.logins.with_label_values(&[tenant, checked.as_str()]).inc();
    }

    pub(super) fn entries(&self, tenant: &str, kind: EntryKind, count: usize) {
        self.entries.with_label_values(&[tenant, kind.as_str()]).inc_by(count as u64);
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(to_i64(count));
    }

    /// Counts a batch that was not taken.
    pub fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    pub(super) fn mark_lost(&self) {
        self.marks_lost.inc();
    }
}

/// The batch was not taken now, and may be sent again.
pub const BUSY: &str = "busy";
/// The batch exceeds a bound.
pub const TOO_LARGE: &str = "too_large";
