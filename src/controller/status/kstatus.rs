//! The conditions `Reconciling` and `Stalled`, by which Flux, Helm, kpt and other tools that use kstatus tell a policy that will
//! be ready by itself from one that waits for a person.
//!
//! kstatus reads an object as in progress when the status is about an older generation, or when `Reconciling` is True; as failed
//! when `Stalled` is True; else by `Ready`: True is current, and everything else is in progress.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as ApiCondition;

use crate::crd::SessionPolicyStatus;
use crate::policy::{Condition, ConditionReason, ConditionStatus};

/// The types of the conditions here, in the order in which they are listed. They are False when all is well.
pub const TYPES: [&str; 2] = ["Reconciling", "Stalled"];

/// How long a Secret that does not exist counts as on its way: tools that create a policy and its Secret together, or fetch the
/// Secret from a vault, take seconds. After that a person has to look.
const MISSING_SECRET_GRACE: Duration = Duration::from_secs(60);

/// A condition of these types, before it has a transition time.
pub struct Progress {
    pub kind: &'static str,
    pub is_true: bool,
    pub reason: ConditionReason,
    pub message: String,
}

/// The two conditions for a policy whose condition `Ready` is this one. `last` is its current status.
pub fn progress(ready: &Condition, last: &SessionPolicyStatus, now: Timestamp) -> [Progress; 2] {
    let is_stalled = match (ready.status, ready.reason) {
        (ConditionStatus::False, ConditionReason::SecretMissing) => is_overdue(last, now),
        (status, _) => status == ConditionStatus::False,
    };
    let is_reconciling = ready.status != ConditionStatus::True && !is_stalled;
    let condition = |kind, is_true, otherwise: &str| Progress {
        kind,
        is_true,
        reason: ready.reason,
        message: if is_true { ready.message.clone() } else { otherwise.to_owned() },
    };
    [
        condition(TYPES[0], is_reconciling, "nothing is in progress"),
        condition(TYPES[1], is_stalled, "nothing waits for a person"),
    ]
}

/// Whether a Secret that is missing now was missing for longer than its grace, or was so before.
fn is_overdue(last: &SessionPolicyStatus, now: Timestamp) -> bool {
    match missing_since(last) {
        Some((since, false)) => {
            now.duration_since(since) >= SignedDuration::try_from(MISSING_SECRET_GRACE).unwrap_or_default()
        }
        Some((_, true)) => true,
        None => false,
    }
}

/// Since when a status says that a Secret is missing, and whether it says that a person has to look.
fn missing_since(status: &SessionPolicyStatus) -> Option<(Timestamp, bool)> {
    let condition = status.conditions.iter().find(|condition| {
        let is_about_a_secret = condition.reason == ConditionReason::SecretMissing.as_str();
        is_about_a_secret && condition.status == "True" && TYPES.contains(&&*condition.type_)
    })?;
    Some((condition.last_transition_time.0, condition.type_ == TYPES[1]))
}

/// When the conditions of a status change although nothing happens.
pub fn changes_at(status: &SessionPolicyStatus) -> Option<Timestamp> {
    match missing_since(status) {
        Some((since, false)) => since.checked_add(MISSING_SECRET_GRACE).ok(),
        _ => None,
    }
}

/// Whether a condition of an object is one of these.
pub fn is_progress(condition: &ApiCondition) -> bool {
    TYPES.contains(&&*condition.type_)
}
