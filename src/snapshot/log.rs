//! Logs the differences between two snapshots: an error when it appears, and again when it is gone.

use super::difference::{ReportDifference, differences};
use super::{ForcedAudit, Snapshot};
use crate::policy::{Condition, ConditionStatus, ConditionType, PolicyReport, PolicyVersion};

pub(super) fn log_changes(last: &Snapshot, next: &Snapshot) {
    for ReportDifference { old, new } in differences(&last.reports, &next.reports) {
        match new {
            Some(report) => log_changed(old, report),
            None => old.into_iter().for_each(log_removed),
        }
    }
    log_forced_audit(&last.forced_audit, &next.forced_audit);
    for file in next.files.iter().filter(|file| !last.files.contains(file)) {
        tracing::error!(file = file.file, error = file.error, "policy file not used completely");
    }
    let mut mended: Vec<&str> = last.files.iter().map(|file| &*file.file).collect();
    mended.dedup();
    for file in mended.into_iter().filter(|name| next.files.iter().all(|file| file.file != *name)) {
        tracing::info!(file, "policy file has no errors any more");
    }
}

fn log_forced_audit(last: &ForcedAudit, next: &ForcedAudit) {
    if last.of_all() != next.of_all() {
        match next.of_all() {
            Some(by) => tracing::warn!(by, "forced audit is on: no login is blocked and no session is revoked"),
            None => tracing::warn!("forced audit is off: each policy acts by its mode again"),
        }
    }
    let is_on =
        |forced: &ForcedAudit, namespace: &String| forced.namespaces.get(namespace).is_some_and(|one| one.is_on);
    for namespace in last.namespaces.keys().filter(|namespace| is_on(last, namespace) && !is_on(next, namespace)) {
        tracing::warn!(namespace, "forced audit is off for the namespace: each policy acts by its mode again");
    }
    for (namespace, switch) in next.namespaces.iter().filter(|(_, switch)| switch.is_on) {
        if last.namespaces.get(namespace) != Some(switch) {
            let by = &switch.source;
            tracing::warn!(namespace, by, "forced audit is on for the namespace: its policies block no login");
        }
    }
}

fn log_removed(report: &PolicyReport) {
    tracing::info!(policy = %report.name, "policy removed");
}

fn log_changed(old: Option<&PolicyReport>, report: &PolicyReport) {
    let (policy, generation, in_force) = (report.name.to_string(), report.generation, report.active_version.as_str());
    if report.errors.is_empty()
        && old.is_none_or(|old| old.generation != generation || old.active_version != report.active_version)
    {
        let limits = match report.version.as_deref() {
            Some(PolicyVersion::Compiled(compiled)) => Some(compiled.limits.to_string()),
            Some(PolicyVersion::Invalid(_)) | None => None,
        };
        tracing::info!(policy, generation, in_force, limits, "policy loaded");
    }
    for warning in report.warnings.iter().filter(|warning| old.is_none_or(|old| !old.warnings.contains(warning))) {
        tracing::warn!(policy, generation, warning, "policy has a part without effect");
    }
    let (before, after) = (old.map(PolicyReport::conditions), report.conditions());
    let is_other = |condition: &Condition, status| condition.kind != ConditionType::Ready && condition.status == status;
    let is_false = after.iter().any(|condition| is_other(condition, ConditionStatus::False));
    let ends =
        before.iter().flatten().zip(&after).any(|(before, after)| {
            is_other(before, ConditionStatus::False) && !is_other(after, ConditionStatus::False)
        });
    // `Ready` repeats what another condition says: a problem is told once, and so is its end.
    let is_told = |status| if status == ConditionStatus::False { is_false } else { ends };
    for (position, condition) in after.iter().enumerate() {
        let kind = condition.kind.as_str();
        let before = before.as_ref().map(|before| &before[position]);
        if before == Some(condition) || (condition.kind == ConditionType::Ready && is_told(condition.status)) {
            continue;
        }
        // The key `message` is the sentence of the log line.
        let (reason, detail) = (condition.reason.as_str(), &condition.message);
        match condition.status {
            ConditionStatus::False => tracing::warn!(
                policy,
                generation,
                in_force,
                condition = kind,
                reason,
                detail,
                "policy condition is False"
            ),
            ConditionStatus::True | ConditionStatus::Unknown
                if before.is_some_and(|before| before.status == ConditionStatus::False) =>
            {
                let sentence = match condition.status {
                    ConditionStatus::True => "policy condition is True again",
                    _ => "policy condition is no longer False",
                };
                tracing::info!(policy, generation, in_force, condition = kind, reason, detail, "{sentence}");
            }
            ConditionStatus::True | ConditionStatus::Unknown => {
                tracing::debug!(policy, condition = kind, reason, detail, "policy condition changed");
            }
        }
    }
}
