//! Replaces the snapshot when a source observes a change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use super::{Snapshot, SnapshotMetrics, TenantState, log};
use crate::auth0::{TenantClient, Upstream};
use crate::policy::{
    ActivePolicy, CallerAccess, CredentialKey, Index, ObjectName, PolicySet, PolicyVersion, ProbeResult, ProbeTarget,
    Tenant,
};
use crate::secret::Credentials;
use crate::source::FileReport;

/// What the sources have shown so far.
#[derive(Default)]
pub struct ObservedState {
    /// Policies and Secrets.
    pub index: Index,
    /// Who may ask.
    pub caller_access: CallerAccess,
    /// What is wrong with files.
    pub files: Vec<FileReport>,
    /// Whether every policy only audits: the way out when a limit locks people out.
    pub force_audit: bool,
}

/// The one place where what is in force is replaced.
pub struct Publisher {
    state: Mutex<State>,
    upstream: Upstream,
    max_in_flight: usize,
    metrics: SnapshotMetrics,
    current: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<u64>,
}

struct State {
    observed: ObservedState,
    /// Of the credentials in use, and of those that wait to be proven.
    clients: HashMap<CredentialKey, TenantClient>,
}

/// A credential that is to be proven, or was, and the client that shows it.
pub(crate) struct Probe {
    pub target: ProbeTarget,
    pub client: TenantClient,
}

impl Publisher {
    /// Starts with what is known before any source was read. `max_in_flight` checks may wait for one tenant at the same
    /// time.
    pub fn new(upstream: Upstream, observed: ObservedState, max_in_flight: usize, metrics: SnapshotMetrics) -> Self {
        let (policy_set, reports) = observed.index.publish(&observed.caller_access);
        let nothing = Snapshot {
            generation: 0,
            since: Timestamp::now(),
            policy_set,
            reports,
            files: Vec::new(),
            force_audit: observed.force_audit,
            clients: HashMap::new(),
            tenants: HashMap::new(),
        };
        metrics.force_audit(observed.force_audit);
        Self {
            state: Mutex::new(State { observed, clients: HashMap::new() }),
            upstream,
            max_in_flight,
            metrics,
            current: Arc::new(ArcSwap::from_pointee(nothing)),
            changes: watch::Sender::new(0),
        }
    }

    /// Where readers find what is in force.
    pub fn current(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.current)
    }

    /// Tells of each change by its generation. Some may be passed over, never the last.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes what was shown, and puts what follows from it in force. What changes nothing is not put in force again.
    pub fn update<T>(&self, change: impl FnOnce(&mut ObservedState) -> T) -> T {
        self.publish(&mut self.lock(), change)
    }

    fn publish<T>(&self, state: &mut State, change: impl FnOnce(&mut ObservedState) -> T) -> T {
        let State { observed, clients } = state;
        let last = self.current.load();
        let (revision, caller_access) = (observed.index.revision(), observed.caller_access.clone());
        let result = change(observed);
        let same_index = last.generation > 0 && observed.index.revision() == revision;
        if same_index
            && observed.caller_access == caller_access
            && (&observed.files, observed.force_audit) == (&last.files, last.force_audit)
        {
            return result;
        }
        observed.index.forget_replaced();
        let (policy_set, reports) = observed.index.publish(&observed.caller_access);
        *clients = self.clients(&policy_set, observed.index.probe_targets(), clients);
        let next = Snapshot {
            generation: last.generation + 1,
            since: Timestamp::now(),
            clients: clients_of_policies(&policy_set, clients),
            tenants: self.tenants(&policy_set, &last),
            policy_set,
            reports,
            files: observed.files.clone(),
            force_audit: observed.force_audit,
        };
        log::log_changes(&last, &next);
        self.metrics.published(&next);
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.changes.send_replace(generation);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that policies depend on.
    pub(crate) fn probes(&self) -> HashMap<CredentialKey, Probe> {
        let state = self.lock();
        let probe = |(key, target)| {
            let client = state.clients.get(&key)?.clone();
            Some((key, Probe { target, client }))
        };
        state.observed.index.probe_targets().into_iter().filter_map(probe).collect()
    }

    /// A client with no token of its own yet: scopes come with a token, and a new grant shows only in a new one.
    pub(crate) fn fresh_client(&self, probe: &Probe) -> TenantClient {
        self.client(&probe.target.tenant, &probe.target.credentials).unwrap_or_else(|| probe.client.clone())
    }

    /// Takes what tenants said of credentials, each with the client that asked.
    pub(crate) fn probed(&self, probe_results: Vec<(CredentialKey, ProbeResult, TenantClient)>) {
        let mut state = self.lock();
        let mut proven = Vec::new();
        for (key, result, client) in probe_results {
            // It may have been withdrawn meanwhile.
            if let Some(known) = state.clients.get_mut(&key) {
                if matches!(result, ProbeResult::Granted(_)) {
                    *known = client;
                }
                proven.push((key, result));
            }
        }
        self.publish(&mut state, |observed| {
            proven.into_iter().for_each(|(key, result)| observed.index.probed(key, result))
        });
    }

    /// The clients that are needed, taken over from the last ones where they are known: tokens live in them.
    fn clients(
        &self,
        policy_set: &PolicySet,
        probe_targets: HashMap<CredentialKey, ProbeTarget>,
        last: &HashMap<CredentialKey, TenantClient>,
    ) -> HashMap<CredentialKey, TenantClient> {
        let mut needed: HashMap<CredentialKey, Arc<Credentials>> =
            probe_targets.into_iter().map(|(key, target)| (key, target.credentials)).collect();
        for active_policy in policy_set.active_policies() {
            if let Some(credentials) = &active_policy.credentials {
                let key = CredentialKey {
                    credential: credentials.fingerprint(),
                    tenant: active_policy.version.scope().tenant.clone(),
                };
                needed.entry(key).or_insert_with(|| Arc::clone(credentials));
            }
        }
        let client = |(key, credentials): (CredentialKey, Arc<Credentials>)| {
            let client = last.get(&key).cloned().or_else(|| self.client(&key.tenant, &credentials))?;
            Some((key, client))
        };
        needed.into_iter().filter_map(client).collect()
    }

    /// The index gives a policy only credentials that may be sent to its tenant, so there always is one.
    fn client(&self, tenant: &Tenant, credentials: &Arc<Credentials>) -> Option<TenantClient> {
        TenantClient::new(&self.upstream, tenant, Arc::clone(credentials))
            .inspect_err(|error| tracing::error!(tenant = tenant.domain(), %error, "the credential is not used"))
            .ok()
    }

    fn tenants(&self, policy_set: &PolicySet, last: &Snapshot) -> HashMap<String, TenantState> {
        let mut tenants: HashMap<String, TenantState> = HashMap::new();
        let mut quotas: HashMap<&str, Option<u32>> = HashMap::new();
        for active_policy in policy_set.active_policies() {
            let PolicyVersion::Compiled(policy) = &*active_policy.version else { continue };
            let domain = policy.scope.tenant.domain();
            let places = || last.tenants.get(domain).map(|tenant| Arc::clone(&tenant.places));
            let state = tenants.entry(domain.to_owned()).or_insert_with(|| TenantState {
                longest_check: Duration::ZERO,
                shortest_window: Duration::MAX,
                places: places().unwrap_or_else(|| Arc::new(Semaphore::new(self.max_in_flight))),
                limiter: self.upstream.limiter(&policy.scope.tenant),
            });
            state.longest_check = state.longest_check.max(policy.timeout);
            state.shortest_window = state.shortest_window.min(policy.admission_window);
            let ceiling = quotas.entry(domain).or_default();
            *ceiling = [*ceiling, policy.requests_per_second].into_iter().flatten().min();
        }
        for (domain, ceiling) in quotas {
            tenants[domain].limiter.set_quota(ceiling);
        }
        tenants
    }
}

fn clients_of_policies(
    policy_set: &PolicySet,
    clients: &HashMap<CredentialKey, TenantClient>,
) -> HashMap<ObjectName, TenantClient> {
    let client = |active_policy: &Arc<ActivePolicy>| {
        let scope = active_policy.version.scope();
        let credential = active_policy.credentials.as_ref()?.fingerprint();
        let client = clients.get(&CredentialKey { credential, tenant: scope.tenant.clone() })?;
        Some((scope.name.clone(), client.clone()))
    };
    policy_set.active_policies().iter().filter_map(client).collect()
}
