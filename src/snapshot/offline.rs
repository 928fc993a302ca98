//! A publisher for tests that call no tenant.

use super::{ObservedState, Publisher, SnapshotMetrics};
use crate::auth0::{Upstream, UpstreamOptions};
use crate::metrics::MetricRegistry;

impl Publisher {
    /// A publisher without policies.
    pub(crate) fn offline() -> Self {
        let upstream = Upstream::new(UpstreamOptions::default()).unwrap();
        Self::new(upstream, ObservedState::default(), 10, SnapshotMetrics::new(&MetricRegistry::new()))
    }
}
