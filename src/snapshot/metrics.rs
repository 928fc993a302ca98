//! The metrics of the active policies. The registry adds the prefix `session_checker_` to their names.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::{Gauge, IntGauge, IntGaugeVec};

use super::{ForcedAudit, Snapshot};
use crate::metrics::{MetricRegistry, to_i64};
use crate::policy::{ActiveVersion, ConditionStatus, ConditionType};

/// Shows the snapshot that is in use.
pub struct SnapshotMetrics {
    policies: IntGaugeVec,
    /// What a scrape shows of each policy comes from it.
    latest: Arc<Mutex<Weak<Snapshot>>>,
    policy_files_broken: IntGauge,
    policies_digest: IntGauge,
    generation: IntGauge,
    timestamp: Gauge,
    force_audit: IntGauge,
    policies_forced_audit: IntGauge,
}

impl SnapshotMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let policies = registry.gauges("policies", "Policies, by the version that is active.", &["state"]);
        // Also before the first policy: an alert compares their sum with 0.
        ActiveVersion::ALL.iter().for_each(|state| policies.with_label_values(&[state.as_str()]).set(0));
        let policies_by_condition = registry.gauges(
            "policies_by_condition",
            "Policies, by condition and its status, as this process sees them.",
            &["condition", "status"],
        );
        let latest: Arc<Mutex<Weak<Snapshot>>> = Arc::default();
        let shown = Arc::clone(&latest);
        let generation = registry.scraped_gauges(
            "policy_generation",
            "The newest generation of a policy that this process saw, 0 where the source has none.",
            &["policy", "tenant"],
        );
        let ready = registry.scraped_gauges(
            "policy_ready",
            "1 when the newest version of a policy is active and has everything that it needs, else 0.",
            &["policy", "tenant"],
        );
        let warnings = registry.scraped_gauges(
            "policy_warnings",
            "Parts of an active policy and of its Secrets that have no effect, or lose it in a later version.",
            &["policy", "tenant"],
        );
        registry.on_scrape(move |_| {
            let snapshot = shown.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
            let mut conditions: HashMap<(ConditionType, ConditionStatus), usize> = HashMap::new();
            for report in snapshot.iter().flat_map(|snapshot| &*snapshot.reports) {
                let of_policy = report.conditions().map(|condition| (condition.kind, condition.status));
                of_policy.iter().for_each(|state| *conditions.entry(*state).or_default() += 1);
                let is_ready = of_policy.contains(&(ConditionType::Ready, ConditionStatus::True));
                let labels = [report.name.as_str(), report.tenant()];
                generation.set(&labels, report.source_generation);
                ready.set(&labels, i64::from(is_ready));
                warnings.set(&labels, to_i64(report.warnings.len()));
            }
            for kind in ConditionType::ALL {
                for status in ConditionStatus::ALL {
                    let count = conditions.get(&(kind, status)).copied().unwrap_or_default();
                    policies_by_condition.with_label_values(&[kind.as_str(), status.as_str()]).set(to_i64(count));
                }
            }
        });
        Self {
            policies,
            latest,
            policy_files_broken: registry.gauge(
                "policy_files_broken",
                "Files of the policy folder that cannot be used, or only in part, or hold a policy and are not read.",
            ),
            policies_digest: registry.gauge(
                "policies_digest",
                "A number made of the active policies. Replicas with the same policies show the same.",
            ),
            generation: registry.gauge(
                "snapshot_generation",
                "Number of times that the active policies changed since this process started.",
            ),
            timestamp: registry
                .time("snapshot_timestamp_seconds", "Unix time at which the active policies last changed."),
            force_audit: registry.gauge("force_audit", "1 while forced audit makes every policy audit, else 0."),
            policies_forced_audit: registry
                .gauge("policies_forced_audit", "Policies that forced audit makes audit, whatever their mode says."),
        }
    }

    /// Takes over a snapshot that was published.
    pub fn published(&self, snapshot: &Arc<Snapshot>) {
        self.policies_digest.set(to_i64(snapshot.policy_set.digest()));
        self.generation.set(to_i64(snapshot.generation));
        self.timestamp.set(snapshot.since.as_duration().as_secs_f64());
        self.force_audit(&snapshot.forced_audit);
        let forced = snapshot.reports.iter().filter(|report| report.forced_audit.is_some()).count();
        self.policies_forced_audit.set(to_i64(forced));
        let broken: HashSet<&str> = snapshot.files.iter().map(|report| report.file.as_str()).collect();
        self.policy_files_broken.set(to_i64(broken.len()));
        for state in ActiveVersion::ALL {
            let count = snapshot.reports.iter().filter(|report| report.active_version == state).count();
            self.policies.with_label_values(&[state.as_str()]).set(to_i64(count));
        }
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(snapshot);
    }

    /// Shows forced audit before the first snapshot.
    pub fn force_audit(&self, forced: &ForcedAudit) {
        self.force_audit.set(i64::from(forced.of_all().is_some()));
    }
}
