//! The condition `Enforcing`: whether the logins that a policy selects are checked, as far as a log stream shows it.

use super::condition::{Condition, ConditionStatus, ConditionType, LogStreamReport, PolicyReport};
use super::condition_reason::ConditionReason;

/// The fewest unchecked logins that count: one may be the end of a time without the service that everybody knows of.
const MIN_UNCHECKED: u64 = 3;
/// The share of unchecked logins that counts, as its inverse: one in a hundred. Auth0 may lose a check now and then.
const UNCHECKED_SHARE: u64 = 100;

/// What log streams showed of the logins that a policy selects, in the last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEvidence {
    /// The service receives no log streams.
    NotReceived,
    /// There are several replicas, and they share nothing: no replica knows the checks of the others.
    NotShared,
    /// These logins were seen.
    Seen {
        /// Logins that were checked.
        checked: u64,
        /// Logins that were not.
        unchecked: u64,
        /// Logins of which it is not known.
        unknown: u64,
    },
}

impl PolicyReport {
    /// The condition `Enforcing`: the logins that were seen were checked. It says so only while it is known of at least half of
    /// them. Nothing else depends on it.
    pub fn enforcing(&self, evidence: LoginEvidence) -> Condition {
        use ConditionStatus::{False, True, Unknown};
        let (status, reason, message) = match (&self.log_stream, evidence) {
            (LogStreamReport::Unnamed, _) => (
                Unknown,
                ConditionReason::NoStream,
                "the policy names no log stream, so nothing shows whether its logins are checked: set \
                 tenant.logStreamSecretRef"
                    .to_owned(),
            ),
            (LogStreamReport::Secret(_), _) => {
                let (_, reason, message) = self.log_stream.describe();
                (Unknown, reason, message)
            }
            (_, LoginEvidence::NotReceived) => (
                Unknown,
                ConditionReason::NoStream,
                "the service receives no log streams: start it with --logs-listen (chart value logStream.enabled)".to_owned(),
            ),
            (_, LoginEvidence::NotShared) => (
                Unknown,
                ConditionReason::NoSharedLedger,
                "several replicas answer checks and share no ledger, so no replica knows the checks of the others: set --ledger"
                    .to_owned(),
            ),
            (_, LoginEvidence::Seen { checked, unchecked, .. })
                if unchecked >= MIN_UNCHECKED && unchecked.saturating_mul(UNCHECKED_SHARE) >= checked + unchecked =>
            {
                (
                    False,
                    ConditionReason::NotAsked,
                    "logins complete without a check: see whether the Action is bound to the post-login trigger, calls this \
                     service, and runs for these applications"
                        .to_owned(),
                )
            }
            (_, LoginEvidence::Seen { checked, unchecked, unknown })
                if unknown > checked + unchecked || (checked == 0 && unknown > 0) =>
            {
                (
                    Unknown,
                    ConditionReason::NotKnown,
                    "of too many logins that the log stream reported it is not known whether they were checked: their entries name no \
                     session, or not all checks of their time are remembered"
                        .to_owned(),
                )
            }
            (_, LoginEvidence::Seen { checked: 1.., .. }) => {
                (True, ConditionReason::Checked, "the logins that the log stream reported were checked".to_owned())
            }
            (_, LoginEvidence::Seen { .. }) => (
                Unknown,
                ConditionReason::NoLogins,
                "the log stream reported no login of this policy in the last hour, or too few to judge by".to_owned(),
            ),
        };
        Condition { kind: ConditionType::Enforcing, status, reason, message }
    }
}
