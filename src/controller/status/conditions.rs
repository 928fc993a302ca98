//! Converts the report about a policy into its status, and the changes of a status into Events.
//!
//! A status depends neither on the replica nor on the time, except for the transition times of its conditions and for what was
//! seen of logins. Two replicas make the same status from the same policies, and a status without a difference is not written
//! again.

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as ApiCondition, Time};

use super::kstatus;
use crate::book;
use crate::crd::SessionPolicyStatus;
use crate::policy::{
    CallersReport, Condition, ConditionReason, ConditionStatus, CredentialReport, LogStreamReport, LoginEvidence,
    PolicyReport, PolicyVersion, SecretProblem,
};

/// The longest message, in characters. A spec may break many rules at once; the first of them are enough to start with.
/// The schema of conditions accepts 32,768.
const MAX_MESSAGE_CHARS: usize = 2000;

/// How much later the last check has to be before its time is written again: a status is not a log of checks.
const LAST_CHECK_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

/// What was seen of a policy's checks and logins.
#[derive(Clone, Copy, Debug)]
pub struct PolicyActivity {
    /// What log streams showed.
    pub logins: LoginEvidence,
    /// The last check that is known.
    pub last_check: Option<Timestamp>,
}

/// The status that a policy should have. `last` is its current status: a condition whose status is unchanged keeps its
/// transition time.
pub fn status(
    report: &PolicyReport,
    activity: PolicyActivity,
    last: &SessionPolicyStatus,
    now: Timestamp,
) -> SessionPolicyStatus {
    let condition = |kind: &str, status: ConditionStatus, reason: ConditionReason, message: String| {
        let status = status.as_str().to_owned();
        // The minute of a missing Secret begins with it, also when something else was in progress before.
        let is_same = |before: &&ApiCondition| {
            before.status == status && (!kstatus::TYPES.contains(&kind) || before.reason == reason.as_str())
        };
        let since = find(last, kind).filter(is_same).map(|before| &before.last_transition_time);
        ApiCondition {
            type_: kind.to_owned(),
            status,
            reason: reason.as_str().to_owned(),
            message: with_address(truncated(message), reason),
            observed_generation: Some(report.generation),
            // The status of a new policy is a default of the schema, with a time that is none.
            last_transition_time: since.filter(|since| since.0 != Timestamp::UNIX_EPOCH).cloned().unwrap_or(Time(now)),
        }
    };
    let written = last.last_check_time.as_ref().map(|at| at.0);
    let is_due = |at: &Timestamp| written.is_none_or(|written| at.duration_since(written) >= LAST_CHECK_INTERVAL);
    let own = report.conditions().into_iter().chain([report.enforcing(activity.logins)]);
    let own = own.map(|Condition { kind, status, reason, message }| condition(kind.as_str(), status, reason, message));
    let progress = kstatus::progress(&report.ready(), last, now).map(|progress| {
        let status = if progress.is_true { ConditionStatus::True } else { ConditionStatus::False };
        condition(progress.kind, status, progress.reason, progress.message)
    });
    SessionPolicyStatus {
        observed_generation: Some(report.generation),
        conditions: own.chain(progress).collect(),
        limits: match report.version.as_deref() {
            Some(PolicyVersion::Compiled(policy)) => Some(policy.limits.to_string()),
            Some(PolicyVersion::Invalid(_)) | None => None,
        },
        last_check_time: activity.last_check.filter(is_due).or(written).map(Time),
    }
}

/// Whether `status` should be written over `last`. A state that is not known yet, as after a start, does not replace a
/// known state of the same generation.
pub fn is_outdated(report: &PolicyReport, status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> bool {
    let was_known = last.observed_generation == Some(report.generation)
        && find(last, "Ready").is_some_and(|ready| !reason(ready).is_some_and(ConditionReason::is_open));
    let would_downgrade = was_known && is_pending(report);
    !would_downgrade && !is_written(status, last)
}

/// Whether the first answer about a Secret or a credential is still to come. It comes within a minute: a Secret that cannot be
/// read becomes `Unreadable`, and a tenant that does not respond `Unreachable`.
fn is_pending(report: &PolicyReport) -> bool {
    matches!(report.credential, CredentialReport::Unproven { .. } | CredentialReport::Secret(SecretProblem::Awaited(_)))
        || matches!(report.callers, CallersReport::Secret(SecretProblem::Awaited(_)))
        || matches!(report.log_stream, LogStreamReport::Secret(SecretProblem::Awaited(_)))
}

/// Whether `last` contains all of `status`. Conditions that others added are ignored.
fn is_written(status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> bool {
    (status.observed_generation, &status.limits, &status.last_check_time)
        == (last.observed_generation, &last.limits, &last.last_check_time)
        && status.conditions.iter().all(|condition| {
            find(last, &condition.type_).is_some_and(|before| {
                let last_transition_time = condition.last_transition_time.clone();
                ApiCondition { last_transition_time, ..before.clone() } == *condition
            })
        })
}

/// A change of a condition that people should see as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionEvent {
    /// Whether the Event has the type Normal. A problem has the type Warning.
    pub is_good: bool,
    /// The reason of the condition, or `Recovered`.
    pub reason: String,
    /// The message of the condition: what happened, and what to do.
    pub note: String,
}

/// The Events for a new status: one for each condition with a problem that it did not have with the same message before, and
/// one when `Ready` is True after a problem.
pub fn condition_events(status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> Vec<ConditionEvent> {
    let mut events = Vec::new();
    for condition in status.conditions.iter().filter(|condition| !kstatus::is_progress(condition)) {
        let before = find(last, &condition.type_);
        let is_summary = condition.type_ == "Ready";
        if is_summary
            && is(condition, ConditionStatus::True)
            && !is_problem(condition)
            && before.is_some_and(is_problem)
        {
            events.push(ConditionEvent {
                is_good: true,
                reason: "Recovered".to_owned(),
                note: condition.message.clone(),
            });
        }
        let is_known = before.is_some_and(|before| {
            is_problem(before) && (&before.reason, &before.message) == (&condition.reason, &condition.message)
        });
        // `Ready` repeats the message of another condition, except for callers and log streams, which have no
        // condition.
        let repeats = is_summary
            && status.conditions.iter().any(|other| {
                other.type_ != "Ready"
                    && !kstatus::is_progress(other)
                    && (&other.reason, &other.message) == (&condition.reason, &condition.message)
            });
        if is_problem(condition) && !is_known && !repeats {
            events.push(ConditionEvent {
                is_good: false,
                reason: condition.reason.clone(),
                note: condition.message.clone(),
            });
        }
    }
    events
}

/// Whether people should see a condition: it is False, stays unknown because a tenant or the API server does not respond, or is
/// True although no limit is enforced.
fn is_problem(condition: &ApiCondition) -> bool {
    let is_noted = matches!(
        reason(condition),
        Some(ConditionReason::TenantUnreachable | ConditionReason::SecretUnreadable | ConditionReason::ForcedAudit)
    );
    is(condition, ConditionStatus::False) || is_noted
}

/// The reason of a condition that a replica wrote. One of another version may have written others.
fn reason(condition: &ApiCondition) -> Option<ConditionReason> {
    ConditionReason::of_text(&condition.reason)
}

fn is(condition: &ApiCondition, status: ConditionStatus) -> bool {
    condition.status == status.as_str()
}

fn find<'a>(status: &'a SessionPolicyStatus, kind: &str) -> Option<&'a ApiCondition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// The message of a condition, with the address of its reason unless all is well.
fn with_address(message: String, reason: ConditionReason) -> String {
    if reason.is_good() {
        return message;
    }
    format!("{message}; see {}", book::reason(reason.as_str()))
}

fn truncated(message: String) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}
