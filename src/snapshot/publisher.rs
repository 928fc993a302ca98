//! Builds the next snapshot when a source observed a change, and replaces the current one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::difference::keep_unchanged;
use super::{FileReport, ForcedAudit, Snapshot, SnapshotMetrics, TenantState, log};
use crate::auth0::{TenantClient, Upstream};
use crate::policy::{
    CallerAccess, CredentialKey, Index, ObjectName, PolicyReport, PolicyScope, PolicySet, PolicyVersion, ProbeResult,
    ProbeTarget, Strategy, Tenant, TenantProof,
};
use crate::secret::Credentials;

/// What the sources have reported so far, and the settings that decide with it.
#[derive(Default)]
pub struct ObservedState {
    /// The policies and Secrets.
    pub index: Index,
    /// Which callers may use policies that name no callers.
    pub caller_access: CallerAccess,
    /// The errors in policy files.
    pub files: Vec<FileReport>,
    /// The switches for forced audit.
    pub forced_audit: ForcedAudit,
    /// Whether the service has no page for choosing sessions.
    pub lacks_page: bool,
}

/// The warning about a policy with strategy `Ask` where the service has no page.
const NO_PAGE: &str = "spec.strategy: nobody is asked, and ask.otherwise decides, because this service has no page for choosing \
                       sessions: give it --choose-listen and --choose-url (in the chart choose.enabled and choose.url)";

/// Owns the current snapshot. All changes of it go through [`update`](Self::update).
pub struct Publisher {
    state: Mutex<PublisherState>,
    upstream: Upstream,
    max_in_flight: usize,
    metrics: SnapshotMetrics,
    current: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<u64>,
}

struct PublisherState {
    observed: ObservedState,
    /// The clients of the credentials in use, and of the credentials that wait for a probe.
    clients: HashMap<CredentialKey, TenantClient>,
}

/// Whether the active version of a policy has strategy `Ask`.
fn asks(report: &PolicyReport) -> bool {
    matches!(report.version.as_deref(), Some(PolicyVersion::Compiled(policy)) if policy.strategy == Strategy::Ask)
}

/// A credential that policies depend on, with the client that uses it.
pub(crate) struct Probe {
    pub target: ProbeTarget,
    pub client: TenantClient,
}

impl Publisher {
    /// Publishes the state before any source was read. At most `max_in_flight` checks wait for one tenant at the same
    /// time.
    pub fn new(upstream: Upstream, observed: ObservedState, max_in_flight: usize, metrics: SnapshotMetrics) -> Self {
        let (policy_set, reports) = observed.index.publish(&observed.caller_access);
        let first = Snapshot {
            generation: 0,
            since: Timestamp::now(),
            policy_set,
            reports: keep_unchanged(&[], reports),
            files: Vec::new(),
            forced_audit: observed.forced_audit.clone(),
            clients: HashMap::new(),
            tenants: HashMap::new(),
        };
        metrics.force_audit(&observed.forced_audit);
        Self {
            state: Mutex::new(PublisherState { observed, clients: HashMap::new() }),
            upstream,
            max_in_flight,
            metrics,
            current: Arc::new(ArcSwap::from_pointee(first)),
            changes: watch::Sender::new(0),
        }
    }

    /// What the clients of all tenants share.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The current snapshot, shared: it always holds the newest one.
    pub fn current(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.current)
    }

    /// Signals each new snapshot by its generation. A receiver may miss some, but never the last.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Applies a change to the observed state and publishes the snapshot that follows from it. A change without effect
    /// publishes nothing.
    pub fn update<T>(&self, change: impl FnOnce(&mut ObservedState) -> T) -> T {
        self.publish(&mut self.lock(), change)
    }

    fn publish<T>(&self, state: &mut PublisherState, change: impl FnOnce(&mut ObservedState) -> T) -> T {
        let PublisherState { observed, clients } = state;
        let last = self.current.load();
        let (revision, caller_access) = (observed.index.revision(), observed.caller_access.clone());
        let result = change(observed);
        let same_index = last.generation > 0 && observed.index.revision() == revision;
        if same_index
            && observed.caller_access == caller_access
            && (&observed.files, &observed.forced_audit) == (&last.files, &last.forced_audit)
        {
            return result;
        }
        observed.index.forget_replaced();
        let (policy_set, mut reports) = observed.index.publish(&observed.caller_access);
        for report in &mut reports {
            report.forced_audit = observed.forced_audit.of(&report.name).map(str::to_owned);
            if observed.lacks_page && asks(report) {
                report.warnings.push(NO_PAGE.to_owned());
            }
        }
        let (kept, of_policies) = self.clients(&policy_set, observed.index.probe_targets(), clients);
        *clients = kept;
        let next = Arc::new(Snapshot {
            generation: last.generation + 1,
            since: Timestamp::now(),
            clients: of_policies,
            tenants: self.tenants(&policy_set, &last),
            policy_set,
            reports: keep_unchanged(&last.reports, reports),
            files: observed.files.clone(),
            forced_audit: observed.forced_audit.clone(),
        });
        log::log_changes(&last, &next);
        self.metrics.published(&next);
        let generation = next.generation;
        self.current.store(next);
        self.changes.send_replace(generation);
        result
    }

    fn lock(&self) -> MutexGuard<'_, PublisherState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that policies depend on.
    pub(crate) fn probes(&self) -> HashMap<CredentialKey, Probe> {
        let state = self.lock();
        let targets = state.observed.index.probe_targets().into_iter();
        targets
            .filter_map(|(key, target)| {
                let client = state.clients.get(&key)?.clone();
                Some((key, Probe { target, client }))
            })
            .collect()
    }

    /// A client without a token: scopes are part of a token, so a new grant shows only in a new token.
    pub(crate) fn fresh_client(&self, probe: &Probe) -> TenantClient {
        self.client(&probe.target.tenant, &probe.target.credentials).unwrap_or_else(|| probe.client.clone())
    }

    /// Records the results of probes, each with the client that sent it.
    pub(crate) fn record_probes(&self, probe_results: Vec<(CredentialKey, ProbeResult, TenantClient)>) {
        let mut state = self.lock();
        let mut proven = Vec::new();
        for (key, result, client) in probe_results {
            // The credential may have been removed while the probe ran.
            if let Some(known) = state.clients.get_mut(&key) {
                if matches!(result, ProbeResult::Granted(_)) {
                    *known = client;
                }
                proven.push((key, result));
            }
        }
        self.publish(&mut state, |observed| {
            proven.into_iter().for_each(|(key, result)| observed.index.probed(key, result));
        });
    }

    /// The clients that the policies and the probes need, and the client of each policy. A client that exists is kept, because
    /// it holds the token.
    fn clients(
        &self,
        policy_set: &PolicySet,
        probe_targets: HashMap<CredentialKey, ProbeTarget>,
        last: &HashMap<CredentialKey, TenantClient>,
    ) -> (HashMap<CredentialKey, TenantClient>, HashMap<ObjectName, TenantClient>) {
        let client = |key: &CredentialKey, tenant: &Tenant, credentials: &Arc<Credentials>| {
            last.get(key).cloned().or_else(|| self.client(tenant, credentials))
        };
        let probed = probe_targets.into_iter().filter_map(|(key, target)| {
            let client = client(&key, &target.tenant, &target.credentials)?;
            Some((key, client))
        });
        let mut clients: HashMap<CredentialKey, TenantClient> = probed.collect();
        let active_policies = policy_set.active_policies();
        let mut of_policies = HashMap::with_capacity(active_policies.len());
        for active_policy in active_policies {
            let PolicyScope { name, tenant, .. } = active_policy.version.scope();
            let Some(credentials) = &active_policy.credentials else { continue };
            let of_policy = match clients.entry(CredentialKey::new(credentials, tenant)) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(place) => {
                    let Some(client) = client(place.key(), tenant, credentials) else { continue };
                    place.insert(client).clone()
                }
            };
            of_policies.insert(name.clone(), of_policy);
        }
        (clients, of_policies)
    }

    /// Creates a client. The index gives a policy only credentials that may be sent to its tenant, so this succeeds.
    fn client(&self, tenant: &Tenant, credentials: &Arc<Credentials>) -> Option<TenantClient> {
        TenantClient::new(&self.upstream, tenant, Arc::clone(credentials))
            .inspect_err(|error| {
                let tenant = tenant.domain();
                tracing::error!(tenant, %error, "no client for the tenant; its checks answer credentials_missing");
            })
            .ok()
    }

    fn tenants(&self, policy_set: &PolicySet, last: &Snapshot) -> HashMap<String, TenantState> {
        // Of the policies that name a tenant, those with the best proof set its quota: anybody may name it, and a low quota
        // would take the budget from its owner.
        let mut tenants: HashMap<&str, (TenantState, TenantProof, Option<u32>)> = HashMap::new();
        for active_policy in policy_set.active_policies() {
            let PolicyVersion::Compiled(policy) = &*active_policy.version else { continue };
            let domain = policy.scope.tenant.domain();
            let proof = active_policy.tenant_proof;
            let (state, best, quota) = tenants.entry(domain).or_insert_with(|| {
                let state = TenantState {
                    longest_check: Duration::ZERO,
                    shortest_admission_window: Duration::MAX,
                    longest_recheck: Duration::ZERO,
                    check_slots: last.tenants.get(domain).map_or_else(
                        || Arc::new(Semaphore::new(self.max_in_flight)),
                        |tenant| Arc::clone(&tenant.check_slots),
                    ),
                    limiter: self.upstream.limiter(&policy.scope.tenant),
                };
                (state, proof, None)
            });
            state.longest_check = state.longest_check.max(policy.timeout);
            state.shortest_admission_window = state.shortest_admission_window.min(policy.admission_window);
            state.longest_recheck = state.longest_recheck.max(policy.recheck_after().unwrap_or_default());
            if proof > *best {
                (*best, *quota) = (proof, None);
            }
            if proof == *best {
                *quota = [*quota, policy.requests_per_second].into_iter().flatten().min();
            }
        }
        let with_quota = tenants.into_iter().map(|(domain, (state, _, quota))| {
            state.limiter.set_quota(quota);
            (domain.to_owned(), state)
        });
        with_quota.collect()
    }
}
