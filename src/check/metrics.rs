//! The metrics of checks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::blocked_users::BlockedUsers;
use super::over_limit::{MAX_BEGUN_POLICIES, OverLimit};
use super::session_lists::ListOrigin;
use crate::coverage::LastChecks;
use crate::ledger::ListNeed;
use crate::metrics::{BegunCounters, MetricRegistry, raise_to, to_i64};
use crate::policy::{Answer, Login, ObjectName, Policy, PolicyScope, PolicyVersion, Reason};

/// The values of the label `basis`.
const LIST: &str = "list";
const REMEMBERED: &str = "remembered";

/// Distinct users are counted up to this number for each policy: enough to judge an audit by, and at most 1 MiB of hashes.
const MAX_DISTINCT_USERS: usize = 100_000;

/// Counts checks.
pub struct CheckMetrics {
    checks: IntCounterVec,
    duration: HistogramVec,
    would_blocks: IntCounterVec,
    would_block_users: IntGaugeVec,
    would_asks: IntCounterVec,
    failure_policy_uses: IntCounterVec,
    lists_shared: IntCounterVec,
    kept_list_bytes: IntGauge,
    lists_not_kept: IntCounter,
    rechecks: IntCounterVec,
    decision_basis: BegunCounters,
    list_needs: BegunCounters,
    unknown_tenants: BegunCounters,
    override_checks: BegunCounters,
    protocols_not_asked: BegunCounters,
    over_limit: OverLimit,
    blocked_users: BlockedUsers,
    /// The users that `would_block_users` counts, by policy.
    would_block: Arc<Mutex<HashMap<String, WouldBlock>>>,
    last_checks: Arc<LastChecks>,
}

/// The users of a policy that `would_block_users` counts. They begin again when the policy is for another tenant.
#[derive(Default)]
struct WouldBlock {
    tenant: String,
    /// By keyed hash.
    users: HashSet<u64>,
}

/// What happened to a login whose tenant no policy of the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantHandling {
    /// The caller's only tenant was assumed.
    Assumed,
    /// The login has no limit.
    Unlimited,
}

/// One check, as the metrics see it.
#[derive(Clone, Copy, Debug)]
pub struct CheckRecord<'a> {
    /// The answer.
    pub answer: &'a Answer,
    /// The login that it answers.
    pub login: &'a Login,
    /// The version of the policy that governs the login.
    pub version: Option<&'a PolicyVersion>,
    /// The tenant of the policy that governs the login; empty when none does.
    pub tenant: &'a str,
    /// A keyed hash of the user.
    pub user: u64,
    /// From the arrival of the request, or from when the policies were loaded, to the answer.
    pub took: Duration,
    /// The age of the listing, when the answer rests on what is remembered.
    pub listing_age: Option<Duration>,
}

impl CheckMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let would_block: Arc<Mutex<HashMap<String, WouldBlock>>> = Arc::default();
        let users = Arc::clone(&would_block);
        let last_checks: Arc<LastChecks> = Arc::default();
        let times = Arc::clone(&last_checks);
        registry.on_scrape(move |live| {
            users.lock().unwrap_or_else(PoisonError::into_inner).retain(|policy, _| live.has_policy(policy));
            times.retain(|policy| live.has_policy(policy));
        });
        let unknown_tenants = registry.begun_counters(
            "unknown_tenants_total",
            "Logins with a tenant that no policy of the caller has: assumed = the caller's only tenant was assumed and nothing could be revoked, unlimited = the login has no limit (tenant_unknown).",
            &["tenant", "handling"],
        );
        // The series exist before the first such login, so that an alert sees the increase.
        let series = unknown_tenants.clone();
        registry.on_scrape(move |live| {
            for tenant in live.tenants() {
                for handling in [TenantHandling::Assumed, TenantHandling::Unlimited] {
                    series.begin(&[tenant, handling.as_str()]);
                }
            }
        });
        let checks = registry.counters(
            "checks_total",
            "Checks answered, by decision and reason.",
            &["policy", "tenant", "decision", "reason"],
        );
        // The first login without a limit is an increase. The series of a policy begin with its first check: alerts read from them
        // whether a policy is used.
        for reason in [Reason::NoPolicy, Reason::TenantAmbiguous, Reason::TenantUnknown] {
            checks.with_label_values(&["", "", "allow", reason.as_str()]);
        }
        let duration = registry.seconds(
            "check_duration_seconds",
            "Time from the arrival of a check, or from when the policies were loaded, to its answer.",
            &["decision"],
        );
        for decision in ["allow", "block"] {
            duration.with_label_values(&[decision]);
        }
        let decision_basis = registry.begun_counters(
            "decision_basis_total",
            "Checks of a limit, by what they need: list = a list of the user's sessions, remembered = only what is remembered of them.",
            &["tenant", "basis"],
        );
        let list_needs = registry.begun_counters(
            "list_needs_total",
            "Checks that need a list, by why what is remembered does not allow the login: off = recheckAfter 0s, CountOthers or a tenant that is only assumed, unlisted = no list is remembered, old = it is older than recheckAfter, newcomer = it does not show the session with the application, crowded = as many sessions as a limit allows may come before.",
            &["tenant", "why"],
        );
        let series = (decision_basis.clone(), list_needs.clone());
        registry.on_scrape(move |live| {
            for tenant in live.tenants() {
                for basis in [LIST, REMEMBERED] {
                    series.0.begin(&[tenant, basis]);
                }
                for need in ListNeed::ALL {
                    series.1.begin(&[tenant, need.as_str()]);
                }
            }
        });
        Self {
            checks,
            duration,
            would_blocks: registry.counters(
                "would_blocks_total",
                "Logins that Enforce would have blocked or evicted for. An upper bound: audited logins are allowed, so a surplus session is counted at each login.",
                &["policy", "tenant", "reason"],
            ),
            would_block_users: registry.gauges(
                "would_block_users",
                "Distinct users in would_blocks_total since this process started, at most 100000 for each policy.",
                &["policy", "tenant"],
            ),
            would_asks: registry.counters(
                "would_asks_total",
                "Logins of would_blocks_total whose users Enforce would have asked which sessions to end (strategy Ask).",
                &["policy", "tenant"],
            ),
            failure_policy_uses: registry.counters(
                "failure_policy_uses_total",
                "Checks that could not be decided. The failure policy answered them.",
                &["policy", "tenant", "reason", "decision"],
            ),
            lists_shared: registry.counters(
                "lists_shared_total",
                "Checks that sent no list request of their own: coalesced = they shared the request of another check of the same user, remembered = the user needs lists too often and the last list was used.",
                &["tenant", "how"],
            ),
            kept_list_bytes: registry
                .gauge("kept_list_bytes", "Bytes of the lists that are kept for users who need lists too often."),
            lists_not_kept: registry.counter(
                "lists_not_kept_total",
                "Lists that were not kept because the kept lists take as much memory as they may.",
            ),
            rechecks: registry.counters(
                "rechecks_total",
                "Holders of a place that were allowed again from memory (recheckAfter).",
                &["tenant"],
            ),
            decision_basis,
            list_needs,
            unknown_tenants,
            override_checks: registry.begun_counters(
                "override_checks_total",
                "Checks whose limits an override chose. An override that never matches has no effect.",
                &["policy", "tenant", "override"],
            ),
            protocols_not_asked: registry.begun_counters(
                "protocols_not_asked_total",
                "Checks whose Action does not ask about a protocol that the policy limits. Logins with this protocol are not limited.",
                &["policy", "tenant"],
            ),
            over_limit: OverLimit::new(registry),
            blocked_users: BlockedUsers::new(registry),
            would_block,
            last_checks,
        }
    }

    /// When each policy last answered a check since this process started.
    pub fn last_checks(&self) -> &Arc<LastChecks> {
        &self.last_checks
    }

    /// Counts a check.
    pub fn check(&self, record: CheckRecord<'_>) {
        let CheckRecord { answer, login, version, tenant, user, took, .. } = record;
        let policy = answer.policy.as_ref().map_or("", ObjectName::as_str);
        let decision = if answer.block { "block" } else { "allow" };
        self.last_checks.note(policy);
        self.checks.with_label_values(&[policy, tenant, decision, answer.reason.as_str()]).inc();
        self.duration.with_label_values(&[decision]).observe(took.as_secs_f64());
        self.over_limit.note(answer, version, tenant, login.client_id());
        if answer.block {
            self.blocked_users.note(policy, tenant, user);
        }
        if let Some(reason) = answer.audited_reason {
            self.would_blocks.with_label_values(&[policy, tenant, reason.as_str()]).inc();
            // Zero is counted as well: the series begins with the first audited login.
            self.would_asks.with_label_values(&[policy, tenant]).inc_by(u64::from(answer.asks));
            let mut policies = self.would_block.lock().unwrap_or_else(PoisonError::into_inner);
            let counted = policies.entry(policy.to_owned()).or_default();
            if counted.tenant != tenant {
                *counted = WouldBlock { tenant: tenant.to_owned(), ..WouldBlock::default() };
            }
            if counted.users.len() < MAX_DISTINCT_USERS {
                counted.users.insert(user);
            }
            self.would_block_users.with_label_values(&[policy, tenant]).set(to_i64(counted.users.len()));
        }
        if let (Reason::Failed(failure), _) | (_, Some(Reason::Failed(failure))) =
            (answer.reason, answer.audited_reason)
        {
            self.failure_policy_uses.with_label_values(&[policy, tenant, failure.as_str(), decision]).inc();
        }
    }

    /// Counts a login whose tenant no policy knows. `tenant` is the only one of the caller, else empty.
    pub fn unknown_tenant(&self, tenant: &str, handling: TenantHandling) {
        self.unknown_tenants.inc(&[tenant, handling.as_str()]);
    }

    /// Counts a holder that was allowed again from memory, or why the check needs a list.
    pub fn recalled(&self, tenant: &str, need: Option<ListNeed>) {
        let basis = match need {
            None => {
                self.rechecks.with_label_values(&[tenant]).inc();
                REMEMBERED
            }
            Some(need) => {
                self.list_needs.inc(&[tenant, need.as_str()]);
                LIST
            }
        };
        self.decision_basis.inc(&[tenant, basis]);
    }

    /// Counts a check whose limits an override chose.
    pub fn override_matched(&self, policy: &Policy, position: usize) {
        let Some(chosen) = policy.overrides.get(position) else { return };
        let (scope, policy) = (&policy.scope, policy.scope.name.as_str());
        self.override_checks.inc(&[policy, scope.tenant.domain(), &chosen.name]);
    }

    /// Counts a check whose Action does not ask about a protocol that the policy limits.
    pub fn protocol_not_asked(&self, policy: &Policy) {
        self.protocols_not_asked.inc(&[policy.scope.name.as_str(), policy.scope.tenant.domain()]);
    }

    /// Begins the series of the policies, and ends those of applications and overrides that they no longer name.
    pub fn show_policies<'a>(&self, policies: impl Iterator<Item = &'a Policy> + Clone) {
        self.over_limit.begin(policies.clone());
        if policies.clone().count() <= MAX_BEGUN_POLICIES {
            for PolicyScope { name, tenant, .. } in policies.clone().map(|policy| &policy.scope) {
                self.protocols_not_asked.begin(&[name.as_str(), tenant.domain()]);
            }
        }
        self.show_overrides(policies);
    }

    /// Begins the series of the overrides that can match, so that one that never does is seen, and ends all others.
    fn show_overrides<'a>(&self, policies: impl Iterator<Item = &'a Policy>) {
        let now = Timestamp::now();
        let mut live = HashSet::new();
        for policy in policies {
            let name = policy.scope.name.to_string();
            for entry in policy.overrides.iter().filter(|entry| entry.is_active(now)) {
                self.override_checks.begin(&[name.as_str(), policy.scope.tenant.domain(), &entry.name]);
                live.insert((name.clone(), entry.name.clone()));
            }
        }
        self.override_checks
            .retain(|labels| live.contains(&(labels["policy"].to_owned(), labels["override"].to_owned())));
    }

    /// Shows how many bytes the kept lists take, and how many lists found no room since the start.
    pub fn kept_lists(&self, (bytes, not_kept): (usize, u64)) {
        self.kept_list_bytes.set(to_i64(bytes));
        raise_to(&self.lists_not_kept, not_kept);
    }

    /// Counts a check that shared a list.
    pub fn list_shared(&self, tenant: &str, origin: ListOrigin) {
        self.lists_shared.with_label_values(&[tenant, origin.as_str()]).inc();
    }
}

impl TenantHandling {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Unlimited => "unlimited",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::metrics::LiveSeries;
    use crate::policy::{LoginContext, Manifest, compile};

    #[test]
    fn series_of_not_asked_protocols_begin_and_end_with_a_policy() {
        let registry = MetricRegistry::new();
        let metrics = CheckMetrics::new(&registry);
        let policy = |number: usize| {
            let spec = json!({
                "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
                "limits": { "perClient": 1 },
            });
            let name = ObjectName::new("team", format!("seats-{number}"));
            compile(&Manifest { name, generation: 1, created_at: None, spec }).unwrap()
        };
        let scrape = |policies: &[Policy]| {
            metrics.show_policies(policies.iter());
            let live = policies.iter().map(|policy| (policy.scope.name.to_string(), policy.scope.tenant.domain()));
            let text = registry.scrape(&LiveSeries::new(live));
            let lines = text.lines().filter(|line| line.starts_with("session_checker_protocols_not_asked_total{"));
            lines.map(|line| line.split_once("policy=").unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        let of = |number: usize, value: u32| format!(r#""team/seats-{number}",tenant="acme.eu.auth0.com"}} {value}"#);
        let policies: Vec<Policy> = (0..=MAX_BEGUN_POLICIES).map(policy).collect();
        assert_eq!(scrape(&policies[..2]), [of(0, 0), of(1, 0)]);
        metrics.protocol_not_asked(&policies[1]);
        assert_eq!(scrape(&policies[..2]), [of(0, 0), of(1, 1)]);
        assert_eq!(scrape(&policies), [of(1, 1)], "a series for each of many policies would be too much");
        assert_eq!(scrape(&policies[..1]), [of(0, 0)]);
    }

    #[test]
    fn would_block_users_begin_again_with_another_tenant() {
        let registry = MetricRegistry::new();
        let metrics = CheckMetrics::new(&registry);
        let login = Login::new("u".to_owned(), "c".to_owned(), None, LoginContext::default()).unwrap();
        let answer = Answer {
            audited_reason: Some(Reason::LimitExceeded),
            policy: Some(ObjectName::new("team", "seats")),
            ..Answer::allow(Reason::Audit)
        };
        let note = |tenant, user| {
            let took = Duration::ZERO;
            metrics.check(CheckRecord {
                answer: &answer,
                login: &login,
                version: None,
                tenant,
                user,
                took,
                listing_age: None,
            });
        };
        let counted = |tenant: &str| {
            let text = registry.scrape(&LiveSeries::new([("team/seats".to_owned(), tenant)]));
            let series = format!("session_checker_would_block_users{{policy=\"team/seats\",tenant=\"{tenant}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
        };
        (1..=3).for_each(|user| note("acme.eu.auth0.com", user));
        assert_eq!(counted("acme.eu.auth0.com").as_deref(), Some("3"));
        note("other.eu.auth0.com", 1);
        assert_eq!(counted("other.eu.auth0.com").as_deref(), Some("1"));
    }
}
