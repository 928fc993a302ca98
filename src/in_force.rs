//! What is in force, and how it is replaced.
//!
//! Readers take the whole with one atomic load and keep it for the length of a check; a writer changes what the sources
//! have shown, makes the next whole from it, and puts it in place. Clients of tenants live on from one to the next while
//! their credential stays the same, and with them their tokens.

mod prover;
mod tell;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use crate::auth0::{Gate, TenantClient, Upstream};
use crate::metrics::Metrics;
use crate::policy::{
    Candidate, Doors, Governor, Index, ObjectName, PolicyReport, Proof, ProofKey, Rule, Snapshot, Tenant,
};
use crate::secret::Credentials;
use crate::source::FileReport;

pub use prover::prove_credentials;

/// Everything that a check needs to know of policies, at one moment.
pub struct InForce {
    /// Counts the changes since the process started.
    pub generation: u64,
    /// When it was put in place.
    pub since: Timestamp,
    /// The policies.
    pub snapshot: Snapshot,
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
    pub gate: Arc<Gate>,
}

impl InForce {
    /// What the policies of a tenant share; `None` when none of them compiles.
    pub fn tenant(&self, tenant: &Tenant) -> Option<&TenantState> {
        self.tenants.get(tenant.domain())
    }

    /// The client of a policy's tenant, when the policy has a credential.
    pub fn client(&self, policy: &ObjectName) -> Option<&TenantClient> {
        self.clients.get(policy)
    }
}

/// What is in force now. Clones share it.
pub type Current = Arc<ArcSwap<InForce>>;

/// What the sources have shown so far.
#[derive(Default)]
pub struct Shown {
    /// Policies and Secrets.
    pub index: Index,
    /// Who may ask.
    pub doors: Doors,
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
    metrics: Arc<Metrics>,
    current: Current,
    changes: watch::Sender<u64>,
}

struct State {
    shown: Shown,
    /// Of the credentials in use, and of those that wait to be proven.
    clients: HashMap<ProofKey, TenantClient>,
}

/// A credential that is to be proven, or was, and the client that shows it.
pub(crate) struct Trial {
    pub candidate: Candidate,
    pub client: TenantClient,
}

impl Publisher {
    /// Starts with what is known before any source was read. `max_in_flight` checks may wait for one tenant at the same
    /// time.
    pub fn new(upstream: Upstream, shown: Shown, max_in_flight: usize, metrics: Arc<Metrics>) -> Self {
        let (snapshot, reports) = shown.index.publish(&shown.doors);
        let nothing = InForce {
            generation: 0,
            since: Timestamp::now(),
            snapshot,
            reports,
            files: Vec::new(),
            force_audit: shown.force_audit,
            clients: HashMap::new(),
            tenants: HashMap::new(),
        };
        metrics.forced_audit(shown.force_audit);
        Self {
            state: Mutex::new(State { shown, clients: HashMap::new() }),
            upstream,
            max_in_flight,
            metrics,
            current: Arc::new(ArcSwap::from_pointee(nothing)),
            changes: watch::Sender::new(0),
        }
    }

    /// Where readers find what is in force.
    pub fn current(&self) -> Current {
        Arc::clone(&self.current)
    }

    /// Tells of each change by its generation. Some may be passed over, never the last.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Changes what was shown, and puts what follows from it in force. What changes nothing is not put in force again.
    pub fn update<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        self.publish(&mut self.lock(), change)
    }

    fn publish<T>(&self, state: &mut State, change: impl FnOnce(&mut Shown) -> T) -> T {
        let State { shown, clients } = state;
        let last = self.current.load();
        let (revision, doors) = (shown.index.revision(), shown.doors.clone());
        let result = change(shown);
        let same_index = last.generation > 0 && shown.index.revision() == revision;
        if same_index && shown.doors == doors && (&shown.files, shown.force_audit) == (&last.files, last.force_audit) {
            return result;
        }
        shown.index.forget_replaced();
        let (snapshot, reports) = shown.index.publish(&shown.doors);
        *clients = self.clients(&snapshot, shown.index.candidates(), clients);
        let next = InForce {
            generation: last.generation + 1,
            since: Timestamp::now(),
            clients: clients_of_policies(&snapshot, clients),
            tenants: self.tenants(&snapshot, &last),
            snapshot,
            reports,
            files: shown.files.clone(),
            force_audit: shown.force_audit,
        };
        tell::changes(&last, &next);
        self.measure(&next);
        let generation = next.generation;
        self.current.store(Arc::new(next));
        self.changes.send_replace(generation);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that policies depend on.
    pub(crate) fn trials(&self) -> HashMap<ProofKey, Trial> {
        let state = self.lock();
        let trial = |(key, candidate)| {
            let client = state.clients.get(&key)?.clone();
            Some((key, Trial { candidate, client }))
        };
        state.shown.index.candidates().into_iter().filter_map(trial).collect()
    }

    /// A client with no token of its own yet: scopes come with a token, and a new grant shows only in a new one.
    pub(crate) fn fresh_client(&self, trial: &Trial) -> TenantClient {
        self.client(&trial.candidate.tenant, &trial.candidate.credentials).unwrap_or_else(|| trial.client.clone())
    }

    /// Takes what tenants said of credentials, each with the client that asked.
    pub(crate) fn proved(&self, proofs: Vec<(ProofKey, Proof, TenantClient)>) {
        let mut state = self.lock();
        let mut proven = Vec::new();
        for (key, proof, client) in proofs {
            // It may have been withdrawn meanwhile.
            if let Some(known) = state.clients.get_mut(&key) {
                if matches!(proof, Proof::Granted(_)) {
                    *known = client;
                }
                proven.push((key, proof));
            }
        }
        self.publish(&mut state, |shown| proven.into_iter().for_each(|(key, proof)| shown.index.proved(key, proof)));
    }

    /// The clients that are needed, taken over from the last ones where they are known: tokens live in them.
    fn clients(
        &self,
        snapshot: &Snapshot,
        candidates: HashMap<ProofKey, Candidate>,
        last: &HashMap<ProofKey, TenantClient>,
    ) -> HashMap<ProofKey, TenantClient> {
        let mut needed: HashMap<ProofKey, Arc<Credentials>> =
            candidates.into_iter().map(|(key, candidate)| (key, candidate.credentials)).collect();
        for governor in snapshot.governors() {
            if let Some(credentials) = &governor.credentials {
                let key =
                    ProofKey { credential: credentials.fingerprint(), tenant: governor.rule.claim().tenant.clone() };
                needed.entry(key).or_insert_with(|| Arc::clone(credentials));
            }
        }
        let client = |(key, credentials): (ProofKey, Arc<Credentials>)| {
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

    fn tenants(&self, snapshot: &Snapshot, last: &InForce) -> HashMap<String, TenantState> {
        let mut tenants: HashMap<String, TenantState> = HashMap::new();
        let mut ceilings: HashMap<&str, Option<u32>> = HashMap::new();
        for governor in snapshot.governors() {
            let Rule::Compiled(policy) = &*governor.rule else { continue };
            let domain = policy.claim.tenant.domain();
            let places = || last.tenants.get(domain).map(|tenant| Arc::clone(&tenant.places));
            let state = tenants.entry(domain.to_owned()).or_insert_with(|| TenantState {
                longest_check: Duration::ZERO,
                shortest_window: Duration::MAX,
                places: places().unwrap_or_else(|| Arc::new(Semaphore::new(self.max_in_flight))),
                gate: self.upstream.gate(&policy.claim.tenant),
            });
            state.longest_check = state.longest_check.max(policy.timeout);
            state.shortest_window = state.shortest_window.min(policy.admission_window);
            let ceiling = ceilings.entry(domain).or_default();
            *ceiling = [*ceiling, policy.requests_per_second].into_iter().flatten().min();
        }
        for (domain, ceiling) in ceilings {
            tenants[domain].gate.limit(ceiling);
        }
        tenants
    }

    fn measure(&self, next: &InForce) {
        let seconds = next.since.as_duration().as_secs_f64();
        self.metrics.in_force(next.generation, seconds, &next.reports);
        let broken: HashSet<&str> = next.files.iter().map(|report| report.file.as_str()).collect();
        self.metrics.broken_files(broken.len());
        self.metrics.forced_audit(next.force_audit);
    }
}

fn clients_of_policies(
    snapshot: &Snapshot,
    clients: &HashMap<ProofKey, TenantClient>,
) -> HashMap<ObjectName, TenantClient> {
    let client = |governor: &Arc<Governor>| {
        let claim = governor.rule.claim();
        let credential = governor.credentials.as_ref()?.fingerprint();
        let client = clients.get(&ProofKey { credential, tenant: claim.tenant.clone() })?;
        Some((claim.name.clone(), client.clone()))
    };
    snapshot.governors().iter().filter_map(client).collect()
}
