//! What is in force, and how it is replaced.
//!
//! Readers take the whole with one atomic load and keep it for the length of a check; a writer changes what the sources
//! have shown, makes the next whole from it, and puts it in place. Clients of tenants live on from one to the next while
//! their credential stays the same, and with them their tokens.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::auth0::{TenantClient, Upstream};
use crate::metrics::Metrics;
use crate::policy::{Claim, Doors, Index, ObjectName, PolicyReport, Rule, Snapshot, Tenant};
use crate::secret::Fingerprint;
use crate::source::FileReport;

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
    shown: Mutex<Shown>,
    upstream: Upstream,
    max_in_flight: usize,
    metrics: Arc<Metrics>,
    current: Current,
}

/// A client depends on the credential and on where its tenant is.
type ClientKey = (Fingerprint, Tenant);

impl Publisher {
    /// Starts with what is known before any source was read. `max_in_flight` checks may wait for one tenant at the same
    /// time.
    pub fn new(upstream: Upstream, shown: Shown, max_in_flight: usize, metrics: Arc<Metrics>) -> Self {
        let nothing = InForce {
            generation: 0,
            since: Timestamp::now(),
            snapshot: shown.index.snapshot(&shown.doors),
            reports: Vec::new(),
            files: Vec::new(),
            force_audit: shown.force_audit,
            clients: HashMap::new(),
            tenants: HashMap::new(),
        };
        metrics.forced_audit(shown.force_audit);
        Self {
            shown: Mutex::new(shown),
            upstream,
            max_in_flight,
            metrics,
            current: Arc::new(ArcSwap::from_pointee(nothing)),
        }
    }

    /// Where readers find what is in force.
    pub fn current(&self) -> Current {
        Arc::clone(&self.current)
    }

    /// Changes what was shown, and puts what follows from it in force.
    pub fn update<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut shown);
        let last = self.current.load();
        let snapshot = shown.index.snapshot(&shown.doors);
        let next = InForce {
            generation: last.generation + 1,
            since: Timestamp::now(),
            clients: self.clients(&snapshot, &last),
            tenants: self.tenants(&snapshot, &last),
            snapshot,
            reports: shown.index.reports(&shown.doors),
            files: shown.files.clone(),
            force_audit: shown.force_audit,
        };
        tell(&last, &next);
        self.measure(&next);
        self.current.store(Arc::new(next));
        result
    }

    /// The clients of a snapshot, taken over from the last one where nothing changed.
    fn clients(&self, snapshot: &Snapshot, last: &InForce) -> HashMap<ObjectName, TenantClient> {
        let key = |claim: &Claim, fingerprint| -> ClientKey { (fingerprint, claim.tenant.clone()) };
        let mut known: HashMap<ClientKey, TenantClient> = HashMap::new();
        for governor in last.snapshot.governors() {
            let claim = governor.rule.claim();
            if let (Some(credentials), Some(client)) = (&governor.credentials, last.client(&claim.name)) {
                known.insert(key(claim, credentials.fingerprint()), client.clone());
            }
        }
        let mut clients = HashMap::new();
        for governor in snapshot.governors() {
            let (Rule::Compiled(policy), Some(credentials)) = (&*governor.rule, &governor.credentials) else {
                continue;
            };
            let key = key(&policy.claim, credentials.fingerprint());
            let client = match known.get(&key) {
                Some(client) => client.clone(),
                // The index gives a policy only credentials that may be sent to its tenant.
                None => match TenantClient::new(&self.upstream, &policy.claim.tenant, Arc::clone(credentials)) {
                    Ok(client) => client,
                    Err(error) => {
                        tracing::error!(policy = %policy.claim.name, %error, "the credential is not used");
                        continue;
                    }
                },
            };
            known.insert(key, client.clone());
            clients.insert(policy.claim.name.clone(), client);
        }
        clients
    }

    fn tenants(&self, snapshot: &Snapshot, last: &InForce) -> HashMap<String, TenantState> {
        let mut tenants: HashMap<String, TenantState> = HashMap::new();
        for governor in snapshot.governors() {
            let Rule::Compiled(policy) = &*governor.rule else { continue };
            let domain = policy.claim.tenant.domain();
            let places = || last.tenants.get(domain).map(|tenant| Arc::clone(&tenant.places));
            let state = tenants.entry(domain.to_owned()).or_insert_with(|| TenantState {
                longest_check: Duration::ZERO,
                places: places().unwrap_or_else(|| Arc::new(Semaphore::new(self.max_in_flight))),
            });
            state.longest_check = state.longest_check.max(policy.timeout);
        }
        tenants
    }

    fn measure(&self, next: &InForce) {
        let tenants: HashMap<&ObjectName, &str> = next
            .snapshot
            .governors()
            .iter()
            .map(|governor| governor.rule.claim())
            .map(|claim| (&claim.name, claim.tenant.domain()))
            .collect();
        let tenant_of = |report: &PolicyReport| tenants.get(&report.name).copied().unwrap_or_default().to_owned();
        let seconds = next.since.as_duration().as_secs_f64();
        self.metrics.in_force(next.generation, seconds, &next.reports, tenant_of);
        let broken: HashSet<&str> = next.files.iter().map(|report| report.file.as_str()).collect();
        self.metrics.broken_files(broken.len());
        self.metrics.forced_audit(next.force_audit);
    }
}

/// Logs what is wrong, once when it becomes so, and when it is right again.
fn tell(last: &InForce, next: &InForce) {
    match (last.force_audit, next.force_audit) {
        (false, true) => tracing::warn!("every policy only audits from now on: nobody is refused"),
        (true, false) => tracing::warn!("policies are enforced again"),
        _ => {}
    }
    let before: HashMap<&ObjectName, &PolicyReport> =
        last.reports.iter().map(|report| (&report.name, report)).collect();
    for report in &next.reports {
        let old = before.get(&report.name).copied();
        if old == Some(report) {
            continue;
        }
        let (policy, generation, in_force) = (report.name.to_string(), report.generation, report.in_force.as_str());
        if report.errors.is_empty() {
            tracing::info!(policy, generation, in_force, "policy loaded");
        }
        for error in &report.errors {
            tracing::error!(policy, generation, in_force, %error, "policy does not compile");
        }
        for problem in [&report.credentials_error, &report.callers_error].into_iter().flatten() {
            tracing::warn!(policy, problem, "policy cannot be used as it should");
        }
        if let Some(older) = &report.conflicts_with {
            tracing::warn!(policy, %older, "policy is not in force: an older one claims exactly the same logins");
        }
    }
    for report in last.reports.iter().filter(|old| !next.reports.iter().any(|new| new.name == old.name)) {
        tracing::info!(policy = %report.name, "policy removed");
    }
    for file in next.files.iter().filter(|file| !last.files.contains(file)) {
        tracing::error!(file = file.file, error = file.error, "policy file is broken");
    }
}
