//! A publisher for tests that call no tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ObservedState, Publisher, SnapshotMetrics};
use crate::auth0::{QuotaConfig, TrustedCas, Unobserved, Upstream, UpstreamOptions};
use crate::metrics::MetricRegistry;

impl Publisher {
    /// A publisher without policies.
    pub(crate) fn offline() -> Self {
        let options = UpstreamOptions {
            endpoints: BTreeMap::new(),
            cas: TrustedCas::default(),
            proxy: None,
            quotas: QuotaConfig::default(),
            observer: Arc::new(Unobserved),
        };
        let metrics = SnapshotMetrics::new(&MetricRegistry::new());
        Self::new(Upstream::new(options).unwrap(), ObservedState::default(), 10, metrics)
    }
}
