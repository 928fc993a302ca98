//! The snapshot of active policies that every check reads, and how it is replaced.
//!
//! A check loads the snapshot with one atomic read and keeps it until it has answered. A source changes the
//! [`ObservedState`], and the [`Publisher`] builds the next snapshot from it and replaces the current one. The client of
//! a tenant moves from one snapshot to the next while its credential stays the same, and its tokens move with it.

mod credential_probe;
mod difference;
mod empty;
mod forced_audit;
mod log;
mod metrics;
#[cfg(test)]
mod offline;
mod publisher;
mod warmth;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::auth0::{TenantClient, TenantLimiter};
use crate::policy::{ObjectName, PolicyReport, PolicySet, Tenant};

pub use credential_probe::probe_credentials;
pub use difference::{ReportDifference, differences};
pub use empty::warn_without_policies;
pub use forced_audit::{AuditSwitch, ForcedAudit};
pub use metrics::SnapshotMetrics;
pub use publisher::{ObservedState, Publisher};
pub use warmth::keep_tenants_warm;

/// Everything that a check needs to know of policies, at one moment.
pub struct Snapshot {
    /// The number of snapshots published since the process started.
    pub generation: u64,
    /// When the snapshot was published.
    pub since: Timestamp,
    /// The active policies.
    pub policy_set: PolicySet,
    /// The report about each policy, ordered by name. A report that says the same as in the last snapshot is the same one.
    pub reports: Arc<[Arc<PolicyReport>]>,
    /// The errors in policy files.
    pub files: Vec<FileReport>,
    /// Which policies audit, whatever their mode says.
    pub forced_audit: ForcedAudit,
    clients: HashMap<ObjectName, TenantClient>,
    /// By canonical domain.
    tenants: HashMap<String, TenantState>,
}

/// What the policies of one tenant share.
#[derive(Clone)]
pub struct TenantState {
    /// The longest `timeout` of its policies. No check of the tenant takes longer.
    pub longest_check: Duration,
    /// One permit for each check that may wait for this tenant at the same time, so that a tenant that hangs does not
    /// delay the checks of others.
    pub check_slots: Arc<Semaphore>,
    /// The shortest `admissionWindow` of its policies. The ledger remembers every admission for at least this long.
    pub shortest_admission_window: Duration,
    /// The longest `recheckAfter` of its policies: a listing is used for that long at most. Zero when none of them uses one.
    pub longest_recheck: Duration,
    /// Circuit breaker and request budget, kept for as long as the tenant has a policy.
    pub limiter: Arc<TenantLimiter>,
}

/// An error in a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file's name, or the path of the folder when the folder itself cannot be read.
    pub file: String,
    /// What is wrong, for people.
    pub error: String,
}

impl Snapshot {
    /// Whether a policy audits, whatever its mode says.
    pub fn is_audit_forced(&self, policy: &ObjectName) -> bool {
        self.forced_audit.of(policy).is_some()
    }

    /// The report about a policy; `None` when there is no such policy.
    pub fn report(&self, policy: &ObjectName) -> Option<&Arc<PolicyReport>> {
        let position = self.reports.binary_search_by(|report| report.name.cmp(policy)).ok()?;
        Some(&self.reports[position])
    }

    /// The state of a tenant; `None` when none of its policies compiles.
    pub fn tenant(&self, tenant: &Tenant) -> Option<&TenantState> {
        self.tenants.get(tenant.domain())
    }

    /// The client of each policy. Policies with the same credential share one.
    pub fn clients(&self) -> impl Iterator<Item = &TenantClient> {
        self.clients.values()
    }

    /// The client of a policy's tenant; `None` when the policy has no credential.
    pub fn client(&self, policy: &ObjectName) -> Option<&TenantClient> {
        self.clients.get(policy)
    }
}
