//! What is in force, and how it is replaced.
//!
//! Readers take the whole with one atomic load and keep it for the length of a check; a writer changes what the sources
//! have shown, makes the next whole from it, and puts it in place. Clients of tenants live on from one to the next while
//! their credential stays the same, and with them their tokens.

mod credential_probe;
mod log;
mod metrics;
mod publisher;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::auth0::{TenantClient, TenantLimiter};
use crate::policy::{ObjectName, PolicyReport, PolicySet, Tenant};
use crate::source::FileReport;

pub use credential_probe::probe_credentials;
pub use metrics::SnapshotMetrics;
pub use publisher::{ObservedState, Publisher};

/// Everything that a check needs to know of policies, at one moment.
pub struct Snapshot {
    /// Counts the changes since the process started.
    pub generation: u64,
    /// When it was put in place.
    pub since: Timestamp,
    /// The policies.
    pub policy_set: PolicySet,
    /// What there is to say about each policy.
    pub reports: Vec<PolicyReport>,
    /// What there is to say about files.
    pub files: Vec<FileReport>,
    /// Whether every policy only audits.
    pub force_audit: bool,
    clients: HashMap<ObjectName, TenantClient>,
    /// By canonical domain.
    tenants: HashMap<String, TenantState>,
}

/// What the policies of one tenant share.
#[derive(Clone)]
pub struct TenantState {
    /// The longest `timeout` among them: no check of the tenant takes longer.
    pub longest_check: Duration,
    /// A place for each check that may wait for this tenant at the same time: one that hangs must not hold up the others.
    pub places: Arc<Semaphore>,
    /// The shortest `admissionWindow` among them: what was let in is known for at least that long.
    pub shortest_window: Duration,
    /// Breaker and budget, kept for as long as the tenant has a policy.
    pub limiter: Arc<TenantLimiter>,
}

impl Snapshot {
    /// What the policies of a tenant share; `None` when none of them compiles.
    pub fn tenant(&self, tenant: &Tenant) -> Option<&TenantState> {
        self.tenants.get(tenant.domain())
    }

    /// The client of a policy's tenant, when the policy has a credential.
    pub fn client(&self, policy: &ObjectName) -> Option<&TenantClient> {
        self.clients.get(policy)
    }
}
