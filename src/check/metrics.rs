//! The metrics of checks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::session_lists::ListOrigin;
use crate::metrics::{MetricRegistry, to_i64};
use crate::policy::{Answer, Reason};

/// Distinct users are counted up to this number for each policy: enough to judge an audit by, and at most 1 MiB of hashes.
const MAX_DISTINCT_USERS: usize = 100_000;

/// Counts checks.
pub struct CheckMetrics {
    checks: IntCounterVec,
    duration: HistogramVec,
    would_blocks: IntCounterVec,
    would_block_users: IntGaugeVec,
    failure_policy_uses: IntCounterVec,
    lists_shared: IntCounterVec,
    kept_list_bytes: IntGauge,
    lists_not_kept: IntCounter,
    rechecks: IntCounterVec,
    unknown_tenants: IntCounterVec,
    /// Keyed hashes of the users that `would_block_users` counts, by policy.
    would_block: Arc<Mutex<HashMap<String, HashSet<u64>>>>,
    /// When each policy last answered a check, in Unix seconds.
    last_checks: Arc<RwLock<HashMap<String, AtomicI64>>>,
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
    /// The tenant of the policy that governs the login; empty when none does.
    pub tenant: &'a str,
    /// A keyed hash of the user.
    pub user: u64,
    /// From the arrival of the request to the answer.
    pub took: Duration,
}

impl CheckMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let would_block: Arc<Mutex<HashMap<String, HashSet<u64>>>> = Arc::default();
        let users = Arc::clone(&would_block);
        let last_checks: Arc<RwLock<HashMap<String, AtomicI64>>> = Arc::default();
        let times = Arc::clone(&last_checks);
        registry.on_scrape(move |live| {
            users.lock().unwrap_or_else(PoisonError::into_inner).retain(|policy, _| live.has_policy(policy));
            times.write().unwrap_or_else(PoisonError::into_inner).retain(|policy, _| live.has_policy(policy));
        });
        let unknown_tenants = registry.counters(
            "unknown_tenants_total",
            "Logins with a tenant that no policy of the caller has: assumed = the caller's only tenant was assumed and nothing could be revoked, unlimited = the login has no limit (tenant_unknown).",
            &["tenant", "handling"],
        );
        // The series exist before the first such login, so that an alert sees the increase.
        let series = unknown_tenants.clone();
        registry.on_scrape(move |live| {
            for tenant in live.tenants() {
                for handling in [TenantHandling::Assumed, TenantHandling::Unlimited] {
                    series.with_label_values(&[tenant, handling.as_str()]);
                }
            }
        });
        Self {
            checks: registry.counters(
                "checks_total",
                "Checks answered, by decision and reason.",
                &["policy", "tenant", "decision", "reason"],
            ),
            duration: registry.seconds(
                "check_duration_seconds",
                "Time from the arrival of a check to its answer.",
                &["decision"],
            ),
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
            unknown_tenants,
            would_block,
            last_checks,
        }
    }

    /// When a policy last answered a check since this process started.
    pub fn last_check(&self, policy: &str) -> Option<Timestamp> {
        let times = self.last_checks.read().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_second(times.get(policy)?.load(Ordering::Relaxed)).ok()
    }

    fn note_time(&self, policy: &str) {
        let now = Timestamp::now().as_second();
        // Almost every check finds its policy, so checks do not wait for each other.
        if let Some(last) = self.last_checks.read().unwrap_or_else(PoisonError::into_inner).get(policy) {
            last.store(now, Ordering::Relaxed);
            return;
        }
        let mut times = self.last_checks.write().unwrap_or_else(PoisonError::into_inner);
        times.entry(policy.to_owned()).or_default().store(now, Ordering::Relaxed);
    }

    /// Counts a check.
    pub fn check(&self, record: CheckRecord<'_>) {
        let CheckRecord { answer, tenant, user, took } = record;
        let policy = answer.policy.as_ref().map(ToString::to_string).unwrap_or_default();
        let decision = if answer.block { "block" } else { "allow" };
        self.note_time(&policy);
        self.checks.with_label_values(&[&policy, tenant, decision, answer.reason.as_str()]).inc();
        self.duration.with_label_values(&[decision]).observe(took.as_secs_f64());
        if let Some(reason) = answer.audited_reason {
            self.would_blocks.with_label_values(&[&policy, tenant, reason.as_str()]).inc();
            let mut users = self.would_block.lock().unwrap_or_else(PoisonError::into_inner);
            let users = users.entry(policy.clone()).or_default();
            if users.len() < MAX_DISTINCT_USERS {
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

    /// Counts a login whose tenant no policy knows. `tenant` is the only one of the caller, else empty.
    pub fn unknown_tenant(&self, tenant: &str, handling: TenantHandling) {
        self.unknown_tenants.with_label_values(&[tenant, handling.as_str()]).inc();
    }

    /// Counts a holder that was allowed again from memory.
    pub fn recheck(&self, tenant: &str) {
        self.rechecks.with_label_values(&[tenant]).inc();
    }

    /// Shows how many bytes the kept lists take, and how many lists found no room since the start.
    pub fn kept_lists(&self, (bytes, not_kept): (usize, u64)) {
        self.kept_list_bytes.set(to_i64(bytes));
        self.lists_not_kept.inc_by(not_kept.saturating_sub(self.lists_not_kept.get()));
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
