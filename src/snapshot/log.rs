//! Logs what is wrong, once when it becomes so, and when it is right again.

use std::cmp::Ordering;

use super::Snapshot;
use crate::policy::{ConditionStatus, PolicyReport};

/// Tells what changed.
pub(super) fn log_changes(last: &Snapshot, next: &Snapshot) {
    let mut before = last.reports.iter().peekable();
    // Both are in the order of the names.
    for report in &next.reports {
        let mut old = None;
        while let Some(candidate) = before.next_if(|old| old.name <= report.name) {
            match candidate.name.cmp(&report.name) {
                Ordering::Equal => old = Some(candidate),
                _ => removed(candidate),
            }
        }
        if old != Some(report) {
            changed(old, report);
        }
    }
    for old in before {
        removed(old);
    }
    match (last.force_audit, next.force_audit) {
        (false, true) => tracing::warn!("every policy only audits from now on: nobody is refused"),
        (true, false) => tracing::warn!("policies are enforced again"),
        _ => {}
    }
    for file in next.files.iter().filter(|file| !last.files.contains(file)) {
        tracing::error!(file = file.file, error = file.error, "policy file is broken");
    }
}

fn removed(report: &PolicyReport) {
    tracing::info!(policy = %report.name, "policy removed");
}

fn changed(old: Option<&PolicyReport>, report: &PolicyReport) {
    let (policy, generation, in_force) = (report.name.to_string(), report.generation, report.active_version.as_str());
    if report.errors.is_empty()
        && old.is_none_or(|old| old.generation != generation || old.active_version != report.active_version)
    {
        tracing::info!(policy, generation, in_force, "policy loaded");
    }
    let conditions = old.map(PolicyReport::conditions);
    for (position, condition) in report.conditions().into_iter().enumerate() {
        let kind = condition.kind.as_str();
        let before = conditions.as_ref().map(|conditions| &conditions[position]);
        if before == Some(&condition) {
            continue;
        }
        let (reason, message) = (condition.reason.as_str(), &condition.message);
        match condition.status {
            // `Ready` only sums up the others, and its callers.
            ConditionStatus::False => tracing::warn!(
                policy,
                generation,
                in_force,
                condition = kind,
                reason,
                message,
                "policy is not as it should be"
            ),
            ConditionStatus::True if before.is_some_and(|before| before.status == ConditionStatus::False) => {
                tracing::info!(
                    policy,
                    generation,
                    in_force,
                    condition = kind,
                    reason,
                    message,
                    "policy is as it should be again"
                );
            }
            ConditionStatus::True | ConditionStatus::Unknown => {
                tracing::debug!(policy, condition = kind, reason, message, "policy")
            }
        }
    }
}
