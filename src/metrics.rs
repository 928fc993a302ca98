//! Every metric of the service, in one place. Base units, closed label sets, and beside them only policy and tenant; a
//! series ends when its policy or tenant does.

mod controller;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

pub use controller::{ControllerMetrics, StatusWrite, Watch};

use crate::auth0::{BreakerState, Observer, Operation, Outcome, RateLimit};
use crate::check::session_lists::ListOrigin;
use crate::ledger::Stats;
use crate::policy::{ActiveVersion, Answer, ConditionStatus, ConditionType, Failure, PolicyReport, Reason};

/// From half a millisecond to 15 seconds: the work of checks and of calls to Auth0.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0];

/// Distinct users are counted up to this many for each policy: enough to judge an audit by, little enough to hold.
const DISTINCT_USERS: usize = 100_000;

/// The metrics. Made once; everything that counts holds a reference.
pub struct Metrics {
    /// Those of the controller.
    pub controller: ControllerMetrics,
    registry: Registry,
    checks: IntCounterVec,
    check_duration: HistogramVec,
    would_blocks: IntCounterVec,
    would_block_users: IntGaugeVec,
    failure_policy_uses: IntCounterVec,
    auth0_requests: IntCounterVec,
    auth0_request_duration: HistogramVec,
    auth0_token_refreshes: IntCounterVec,
    auth0_rate_limit_remaining: IntGaugeVec,
    auth0_breaker_state: IntGaugeVec,
    auth0_budget_waits: IntCounterVec,
    auth0_budget_refusals: IntCounterVec,
    lists_shared: IntCounterVec,
    rechecks: IntCounterVec,
    auth0_unknown_users: IntCounterVec,
    auth0_dropped_entries: IntCounterVec,
    policies: IntGaugeVec,
    policies_by_condition: IntGaugeVec,
    policy_generation: IntGaugeVec,
    policy_ready: IntGaugeVec,
    policy_files_broken: IntGauge,
    snapshot_generation: IntGauge,
    snapshot_time: Gauge,
    force_audit: IntGauge,
    ledger_entries: IntGauge,
    ledger_shared: IntGauge,
    ledger_degraded: IntGauge,
    ledger_forgotten: IntCounter,
    ledger_conflicts: IntCounter,
    ledger_fallbacks: IntCounter,
    http_requests: IntCounterVec,
    http_request_duration: HistogramVec,
    http_requests_in_flight: IntGauge,
    would_block: Mutex<HashMap<String, HashSet<u64>>>,
    scrape: Mutex<()>,
}

/// One check, as the metrics see it.
#[derive(Clone, Copy, Debug)]
pub struct CheckRecord<'a> {
    /// What was answered.
    pub answer: &'a Answer,
    /// The tenant of the policy that governs the login; empty when none does.
    pub tenant: &'a str,
    /// A keyed hash of the user.
    pub user: u64,
    /// From the arrival of the request to the answer.
    pub took: Duration,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Make(&registry);
        let policy = ["policy", "tenant"];
        let metrics = Self {
            controller: ControllerMetrics::new(&make),
            checks: make.counters(
                "checks_total",
                "Checks answered, by what was answered and why.",
                &[&policy[..], &["decision", "reason"]].concat(),
            ),
            check_duration: make.seconds("check_duration_seconds", "From the arrival of a check to its answer.", &["decision"]),
            would_blocks: make.counters(
                "would_blocks_total",
                "Logins that an auditing policy would not have simply let in. An upper bound: nobody is stopped, so the surplus counts again.",
                &[&policy[..], &["reason"]].concat(),
            ),
            would_block_users: make.gauges(
                "would_block_users",
                "Distinct users among the would-blocks since this process started, up to 100000 a policy.",
                &policy,
            ),
            failure_policy_uses: make.counters(
                "failure_policy_uses_total",
                "Checks that could not be decided and were answered by the failure policy.",
                &[&policy[..], &["reason", "decision"]].concat(),
            ),
            auth0_requests: make.counters(
                "auth0_requests_total",
                "HTTP requests to Auth0, retries counted singly.",
                &["tenant", "operation", "outcome"],
            ),
            auth0_request_duration: make.seconds(
                "auth0_request_duration_seconds",
                "Duration of HTTP requests to Auth0.",
                &["tenant", "operation"],
            ),
            auth0_token_refreshes: make.counters(
                "auth0_token_refreshes_total",
                "Attempts to fetch a token, by how they ended: ok or the reason of the failure.",
                &["tenant", "result"],
            ),
            auth0_rate_limit_remaining: make.gauges(
                "auth0_rate_limit_remaining",
                "What Auth0 last said is left of its rate limit.",
                &["tenant", "operation"],
            ),
            auth0_breaker_state: make.gauges(
                "auth0_breaker_state",
                "Whether a tenant is asked: 0 = yes, 1 = one request goes to see, 2 = it did not answer of late and is left alone.",
                &["tenant"],
            ),
            auth0_budget_waits: make.counters(
                "auth0_budget_waits_total",
                "Requests that had to wait for the tenant's budget.",
                &["tenant", "operation"],
            ),
            auth0_budget_refusals: make.counters(
                "auth0_budget_refusals_total",
                "Requests that were not sent because the tenant's budget had no room for them in time.",
                &["tenant", "operation"],
            ),
            lists_shared: make.counters(
                "lists_shared_total",
                "Checks that asked for no list of their own: coalesced = with another of the same user, remembered = the user asks too often.",
                &["tenant", "how"],
            ),
            rechecks: make.counters("rechecks_total", "Holders that were let in again from memory (recheckAfter).", &["tenant"]),
            auth0_unknown_users: make.counters(
                "auth0_unknown_users_total",
                "Lists that Auth0 answered with 404: the user is taken for one without sessions.",
                &["tenant"],
            ),
            auth0_dropped_entries: make.counters(
                "auth0_dropped_entries_total",
                "Entries of session lists that could not be read or belong to another user.",
                &["tenant"],
            ),
            policies: make.gauges("policies", "Policies by the version that is in force.", &["state"]),
            policies_by_condition: make.gauges(
                "policies_by_condition",
                "Policies by condition and its status, as this process sees them.",
                &["condition", "status"],
            ),
            policy_generation: make.gauges("policy_generation", "The newest generation of a policy that this process saw.", &policy),
            policy_ready: make.gauges(
                "policy_ready",
                "1 when the newest version of a policy is in force with everything that it needs, else 0.",
                &policy,
            ),
            policy_files_broken: make.gauge("policy_files_broken", "Files of the policy folder that cannot be used, or only in part."),
            snapshot_generation: make.gauge("snapshot_generation", "How often what is in force changed since this process started."),
            snapshot_time: make.time("snapshot_timestamp_seconds", "When what is in force last changed, as Unix time."),
            force_audit: make.gauge("force_audit", "1 while every policy only audits because the service was told so."),
            ledger_entries: make.gauge("ledger_entries", "Admissions and revocations in this process's memory."),
            ledger_shared: make.gauge("ledger_shared", "1 when replicas share a ledger, 0 when each has its own."),
            ledger_degraded: make.gauge("ledger_degraded", "1 while this process's memory stands in for the shared ledger."),
            ledger_forgotten: make.counter("ledger_forgotten_total", "What was forgotten before its time because the ledger is bounded."),
            ledger_conflicts: make.counter("ledger_conflicts_total", "Decisions made again because another replica was faster."),
            ledger_fallbacks: make.counter("ledger_fallbacks_total", "Operations that the memory did in place of the shared ledger."),
            http_requests: make.counters("http_requests_total", "HTTP requests answered.", &["route", "method", "status"]),
            http_request_duration: make.seconds("http_request_duration_seconds", "Duration of HTTP requests.", &["route"]),
            http_requests_in_flight: make.gauge("http_requests_in_flight", "HTTP requests under way."),
            would_block: Mutex::default(),
            scrape: Mutex::default(),
            registry: registry.clone(),
        };
        let build = make.gauges("build_info", "The version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(ProcessCollector::for_self())).expect("registered once");
        metrics
    }

    /// Counts a check.
    pub fn check(&self, record: CheckRecord<'_>) {
        let CheckRecord { answer, tenant, user, took } = record;
        let policy = answer.policy.as_ref().map(ToString::to_string).unwrap_or_default();
        let decision = if answer.block { "block" } else { "allow" };
        self.checks.with_label_values(&[&policy, tenant, decision, answer.reason.as_str()]).inc();
        self.check_duration.with_label_values(&[decision]).observe(took.as_secs_f64());
        if let Some(reason) = answer.audited_reason {
            self.would_blocks.with_label_values(&[&policy, tenant, reason.as_str()]).inc();
            let mut users = self.would_block.lock().unwrap_or_else(PoisonError::into_inner);
            let users = users.entry(policy.clone()).or_default();
            if users.len() < DISTINCT_USERS {
                users.insert(user);
            }
            self.would_block_users.with_label_values(&[&policy, tenant]).set(to_i64(users.len()));
        }
        if let (Reason::Failed(failure), _) | (_, Some(Reason::Failed(failure))) =
            (answer.reason, answer.audited_reason)
        {
            self.failure_policy_uses.with_label_values(&[&policy, tenant, failure.as_str(), decision]).inc();
        }
    }

    /// Takes note of what is in force now.
    pub fn snapshot_published(&self, generation: u64, at: f64, reports: &[PolicyReport]) {
        self.snapshot_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.snapshot_time.set(at);
        for state in ActiveVersion::ALL {
            let count = reports.iter().filter(|report| report.active_version == state).count();
            self.policies.with_label_values(&[state.as_str()]).set(to_i64(count));
        }
        let mut conditions: HashMap<(ConditionType, ConditionStatus), usize> = HashMap::new();
        for report in reports {
            let (policy, tenant) = (report.name.to_string(), report.tenant());
            self.policy_generation.with_label_values(&[policy.as_str(), tenant]).set(report.generation);
            self.policy_ready.with_label_values(&[policy.as_str(), tenant]).set(i64::from(report.is_ready()));
            for condition in report.conditions() {
                *conditions.entry((condition.kind, condition.status)).or_default() += 1;
            }
        }
        for kind in ConditionType::ALL {
            for status in ConditionStatus::ALL {
                let count = conditions.get(&(kind, status)).copied().unwrap_or_default();
                self.policies_by_condition.with_label_values(&[kind.as_str(), status.as_str()]).set(to_i64(count));
            }
        }
    }

    /// Ends the series of policies and tenants that are not there any more. Done at each scrape and not when a policy goes: a check
    /// that is under way then counts itself afterwards.
    pub fn end_series(&self, reports: &[PolicyReport]) {
        let mut policies = HashMap::from([(String::new(), String::new())]);
        let mut tenants = HashSet::from([String::new()]);
        for report in reports {
            tenants.insert(report.tenant().to_owned());
            policies.insert(report.name.to_string(), report.tenant().to_owned());
        }
        self.prune(&policies, &tenants);
    }

    /// `policies` are those there are, each with its tenant.
    fn prune(&self, policies: &HashMap<String, String>, tenants: &HashSet<String>) {
        let is_live = |labels: &HashMap<&str, &str>| match (labels.get("policy"), labels.get("tenant")) {
            (Some(policy), tenant) => policies.get(*policy).map(String::as_str) == tenant.copied(),
            (None, Some(tenant)) => tenants.contains(*tenant),
            (None, None) => true,
        };
        for vec in [
            &self.checks,
            &self.would_blocks,
            &self.failure_policy_uses,
            &self.auth0_requests,
            &self.auth0_token_refreshes,
            &self.auth0_budget_waits,
            &self.auth0_budget_refusals,
            &self.lists_shared,
            &self.rechecks,
            &self.auth0_unknown_users,
            &self.auth0_dropped_entries,
        ] {
            end_series(vec, &is_live, |labels| vec.remove(labels).is_ok());
        }
        for vec in [
            &self.would_block_users,
            &self.auth0_rate_limit_remaining,
            &self.auth0_breaker_state,
            &self.policy_generation,
            &self.policy_ready,
        ] {
            end_series(vec, &is_live, |labels| vec.remove(labels).is_ok());
        }
        let durations = &self.auth0_request_duration;
        end_series(durations, &is_live, |labels| durations.remove(labels).is_ok());
        self.would_block
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|policy, _| policies.contains_key(policy));
    }

    /// Takes note of how many policy files cannot be used.
    pub fn broken_files(&self, count: usize) {
        self.policy_files_broken.set(to_i64(count));
    }

    /// Takes note of whether every policy only audits.
    pub fn forced_audit(&self, forced: bool) {
        self.force_audit.set(i64::from(forced));
    }

    /// Counts a holder that was let in again from memory.
    pub fn recheck(&self, tenant: &str) {
        self.rechecks.with_label_values(&[tenant]).inc();
    }

    /// Counts a check that shared a list.
    pub fn list_shared(&self, tenant: &str, source: ListOrigin) {
        self.lists_shared.with_label_values(&[tenant, source.as_str()]).inc();
    }

    /// Takes note of whether replicas share a ledger.
    pub fn ledger_shared(&self, shared: bool) {
        self.ledger_shared.set(i64::from(shared));
    }

    /// Takes over what the ledger counts itself.
    pub fn ledger(&self, stats: Stats) {
        // Two scrapes at once must not both add the difference.
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.ledger_entries.set(to_i64(stats.size));
        self.ledger_degraded.set(i64::from(stats.degraded));
        for (counter, total) in [
            (&self.ledger_forgotten, stats.forgotten),
            (&self.ledger_conflicts, stats.conflicts),
            (&self.ledger_fallbacks, stats.fallbacks),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Counts an HTTP request from here to the drop of the guard.
    pub fn http_request_begun(&self) -> impl Drop + use<> {
        struct InFlight(IntGauge);
        impl Drop for InFlight {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.http_requests_in_flight.inc();
        InFlight(self.http_requests_in_flight.clone())
    }

    /// Counts an answered HTTP request.
    pub fn http_request(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.http_requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.http_request_duration.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Everything in the text format of Prometheus.
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        let families = self.registry.gather();
        TextEncoder::new().encode(&families, &mut text).expect("writing to memory");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for Metrics {
    fn request(&self, tenant: &str, operation: Operation, outcome: Outcome, took: Duration) {
        self.auth0_requests.with_label_values(&[tenant, operation.as_str(), outcome.as_str()]).inc();
        self.auth0_request_duration.with_label_values(&[tenant, operation.as_str()]).observe(took.as_secs_f64());
    }

    fn rate_limit(&self, tenant: &str, operation: Operation, limit: &RateLimit) {
        if let Some(remaining) = limit.remaining {
            let remaining = i64::try_from(remaining).unwrap_or(i64::MAX);
            self.auth0_rate_limit_remaining.with_label_values(&[tenant, operation.as_str()]).set(remaining);
        }
    }

    fn budget_wait(&self, tenant: &str, operation: Operation) {
        self.auth0_budget_waits.with_label_values(&[tenant, operation.as_str()]).inc();
    }

    fn budget_refusal(&self, tenant: &str, operation: Operation) {
        self.auth0_budget_refusals.with_label_values(&[tenant, operation.as_str()]).inc();
    }

    fn breaker(&self, tenant: &str, state: BreakerState) {
        let state = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.auth0_breaker_state.with_label_values(&[tenant]).set(state);
    }

    fn token(&self, tenant: &str, result: Result<(), Failure>) {
        let result = result.map_or_else(Failure::as_str, |()| "ok");
        self.auth0_token_refreshes.with_label_values(&[tenant, result]).inc();
    }

    fn unknown_user(&self, tenant: &str) {
        self.auth0_unknown_users.with_label_values(&[tenant]).inc();
    }

    fn dropped_entries(&self, tenant: &str, count: usize) {
        self.auth0_dropped_entries.with_label_values(&[tenant]).inc_by(count as u64);
    }
}

/// Makes metrics and registers them. Their names and labels are constants, so none of it can fail.
struct Make<'a>(&'a Registry);

impl Make<'_> {
    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect("each metric is registered once");
        collector
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(options(name, help), labels).expect("valid"))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(options(name, help)).expect("valid"))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(options(name, help), labels).expect("valid"))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(options(name, help)).expect("valid"))
    }

    fn time(&self, name: &str, help: &str) -> Gauge {
        self.register(Gauge::with_opts(options(name, help)).expect("valid"))
    }

    fn times(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(options(name, help), labels).expect("valid"))
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec());
        self.register(HistogramVec::new(options, labels).expect("valid"))
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("session_checker_{name}"), help)
}

/// Removes the series whose labels are no longer live.
fn end_series(
    collector: &impl Collector,
    is_live: &impl Fn(&HashMap<&str, &str>) -> bool,
    remove: impl Fn(&HashMap<&str, &str>) -> bool,
) {
    for family in collector.collect() {
        for metric in family.get_metric() {
            let labels: HashMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if !is_live(&labels) {
                remove(&labels);
            }
        }
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
