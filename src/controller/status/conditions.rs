//! From what there is to say about a policy to its status, and to the news that is worth an Event.
//!
//! Nothing here depends on the replica or on the time, but for the moment at which a condition's status last changed: two
//! replicas make the same status of the same policies, and a status that says the same is not written again.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition as ApiCondition, Time};

use crate::crd::SessionPolicyStatus;
use crate::policy::{
    CallersReport, Condition, ConditionReason, ConditionStatus, CredentialReport, PolicyReport, PolicyVersion,
    SecretProblem,
};

/// The longest message, in characters. A spec may break many rules at once; the first of them are enough to begin with.
const MAX_MESSAGE_CHARS: usize = 2000;

/// The status that a policy should have, when the API server holds `last`.
pub fn status(report: &PolicyReport, last: &SessionPolicyStatus, now: Timestamp) -> SessionPolicyStatus {
    let condition = |condition: Condition| {
        let kind = condition.kind.as_str();
        let status = condition.status.as_str().to_owned();
        let since =
            find(last, kind).filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
        ApiCondition {
            type_: kind.to_owned(),
            status,
            reason: condition.reason.as_str().to_owned(),
            message: shortened(condition.message),
            observed_generation: Some(report.generation),
            last_transition_time: since.unwrap_or(Time(now)),
        }
    };
    SessionPolicyStatus {
        observed_generation: Some(report.generation),
        conditions: report.conditions().into_iter().map(condition).collect(),
        limits: match report.version.as_deref() {
            Some(PolicyVersion::Compiled(policy)) => Some(policy.limits.to_string()),
            Some(PolicyVersion::Invalid(_)) | None => None,
        },
    }
}

/// Whether there is something to write: what `last` does not say yet. What is only on its way to be known, as after a
/// start, takes back nothing that was known of the same generation.
pub fn is_outdated(report: &PolicyReport, status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> bool {
    let on_its_way = [ConditionReason::Pending.as_str(), ConditionReason::Unproven.as_str()];
    let was_known = last.observed_generation == Some(report.generation)
        && find(last, "Ready").is_some_and(|ready| !on_its_way.contains(&ready.reason.as_str()));
    let would_take_back = was_known && is_pending(report);
    !would_take_back && !is_written(status, last)
}

/// Whether the API server or the tenant is being asked for the first time, and will answer or be found unreachable soon.
fn is_pending(report: &PolicyReport) -> bool {
    matches!(report.credential, CredentialReport::Unproven { .. } | CredentialReport::Secret(SecretProblem::Awaited(_)))
        || matches!(report.callers, CallersReport::Secret(SecretProblem::Awaited(_)))
}

/// Whether `last` says all of it already. Conditions of others beside ours are none of our business.
fn is_written(status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> bool {
    let said = |condition: &ApiCondition| {
        find(last, &condition.type_).is_some_and(|before| {
            ApiCondition { last_transition_time: condition.last_transition_time.clone(), ..before.clone() }
                == *condition
        })
    };
    (status.observed_generation, &status.limits) == (last.observed_generation, &last.limits)
        && status.conditions.iter().all(said)
}

/// Something that a person would want to know, as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionEvent {
    /// Whether it is good.
    pub good: bool,
    /// One word: the reason of the condition, or `Recovered`.
    pub reason: String,
    /// What happened, and what to do about it.
    pub note: String,
}

/// What is new in a status: each condition that does not hold and did not say so before, and that a policy is in force
/// again after it was not.
pub fn condition_events(status: &SessionPolicyStatus, last: &SessionPolicyStatus) -> Vec<ConditionEvent> {
    let mut condition_events = Vec::new();
    for condition in &status.conditions {
        let before = find(last, &condition.type_);
        let is_summary = condition.type_ == "Ready";
        if is_summary
            && is(condition, ConditionStatus::True)
            && before.is_some_and(|before| is(before, ConditionStatus::False))
        {
            condition_events.push(ConditionEvent {
                good: true,
                reason: "Recovered".to_owned(),
                note: condition.message.clone(),
            });
        }
        let told = before.is_some_and(|before| {
            is(before, ConditionStatus::False)
                && (&before.reason, &before.message) == (&condition.reason, &condition.message)
        });
        // The summary repeats what a condition says, but for the callers, which have none of their own.
        let repeats = is_summary
            && status.conditions.iter().any(|other| {
                other.type_ != "Ready" && (&other.reason, &other.message) == (&condition.reason, &condition.message)
            });
        if is(condition, ConditionStatus::False) && !told && !repeats {
            condition_events.push(ConditionEvent {
                good: false,
                reason: condition.reason.clone(),
                note: condition.message.clone(),
            });
        }
    }
    condition_events
}

fn is(condition: &ApiCondition, status: ConditionStatus) -> bool {
    condition.status == status.as_str()
}

fn find<'a>(status: &'a SessionPolicyStatus, kind: &str) -> Option<&'a ApiCondition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

fn shortened(message: String) -> String {
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{CallerAccess, Index, Manifest, ObjectName, SecretManifest};

    /// What there is to say about the newest of these versions, with a credential that is unproven.
    fn report(versions: &[Value]) -> PolicyReport {
        let mut index = Index::default();
        let name = |name: &str| ObjectName::new("team", name);
        let data = [("domain", "acme.eu.auth0.com"), ("clientId", "a"), ("clientSecret", "b")];
        index.apply_secret(&SecretManifest {
            uid: None,
            name: name("auth0"),
            kind: "sessionchecker.dev/credentials".to_owned(),
            data: Ok(data.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()),
        });
        for (generation, limits) in (1..).zip(versions) {
            let tenant = json!({ "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } });
            let spec = json!({ "tenant": tenant, "limits": limits });
            index.apply_policy(&Manifest { name: name("seats"), generation, created_at: None, spec });
        }
        index.publish(&CallerAccess { allow_anonymous: true, ..CallerAccess::default() }).1.remove(0)
    }

    fn proven() -> PolicyReport {
        PolicyReport { credential: CredentialReport::Proven, ..report(&[json!({ "perClient": 1, "perUser": 5 })]) }
    }

    fn invalid() -> PolicyReport {
        report(&[json!({ "perClient": 0 })])
    }

    fn rejected() -> PolicyReport {
        PolicyReport { credential: CredentialReport::Rejected { previous_in_use: false }, ..proven() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn nothing() -> SessionPolicyStatus {
        SessionPolicyStatus::default()
    }

    fn words(status: &SessionPolicyStatus) -> Vec<[&str; 3]> {
        status.conditions.iter().map(|condition| [&*condition.type_, &*condition.status, &*condition.reason]).collect()
    }

    #[test]
    fn a_new_policy_has_all_conditions_at_once() {
        let status = status(&report(&[json!({ "perClient": 1 })]), &nothing(), at(0));
        let unproven = [
            ["Accepted", "True", "Accepted"],
            ["CredentialsReady", "Unknown", "Unproven"],
            ["Ready", "Unknown", "Unproven"],
        ];
        assert_eq!(words(&status), unproven);
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
        assert_eq!((status.observed_generation, status.limits.as_deref()), (Some(1), Some("client=1")));
    }

    #[test]
    fn the_limits_are_those_in_force() {
        let limits = |versions: &[Value]| status(&report(versions), &nothing(), at(0)).limits;
        assert_eq!(limits(&[json!({ "perClient": 1, "perUser": 5 })]).as_deref(), Some("client=1 user=5"));
        assert_eq!(limits(&[json!({ "perUser": 2 }), json!({ "perUser": 0 })]).as_deref(), Some("user=2"));
        assert_eq!(limits(&[json!({ "perUser": 0 })]), None);
    }

    #[test]
    fn a_transition_is_a_change_of_the_status_and_of_nothing_else() {
        let first = status(&rejected(), &nothing(), at(0));
        let other_words = PolicyReport {
            credential: CredentialReport::InsufficientScope { missing: vec!["read:sessions"], previous_in_use: false },
            ..proven()
        };
        let second = status(&other_words, &first, at(60));
        let third = status(&proven(), &second, at(120));
        let times = |status: &SessionPolicyStatus| {
            status.conditions.iter().map(|condition| condition.last_transition_time.0).collect::<Vec<_>>()
        };
        assert_eq!(times(&first), [at(0), at(0), at(0)]);
        assert_eq!(times(&second), [at(0), at(0), at(0)]);
        assert_eq!(times(&third), [at(0), at(120), at(120)]);
    }

    #[test]
    fn what_is_said_already_is_not_written_again_at_whatever_time() {
        let last = status(&proven(), &nothing(), at(0));
        let mut later = status(&proven(), &last, at(60));
        for condition in &mut later.conditions {
            condition.last_transition_time = Time(at(60));
        }
        assert!(!is_outdated(&proven(), &later, &last));
    }

    #[test]
    fn a_change_of_anything_else_is_written() {
        let last = status(&proven(), &nothing(), at(0));
        let outdated = |report: &PolicyReport| is_outdated(report, &status(report, &last, at(60)), &last);
        assert!(outdated(&rejected()));
        assert!(outdated(&PolicyReport { generation: 2, ..proven() }));
        let mut without_limits = last.clone();
        without_limits.limits = None;
        assert!(is_outdated(&proven(), &last, &without_limits));
        let mut without_a_condition = last.clone();
        without_a_condition.conditions.remove(1);
        assert!(is_outdated(&proven(), &last, &without_a_condition));
    }

    #[test]
    fn conditions_of_others_are_left_alone() {
        let last = status(&proven(), &nothing(), at(0));
        let mut with_another = last.clone();
        with_another.conditions.insert(0, ApiCondition { type_: "Reviewed".to_owned(), ..last.conditions[0].clone() });
        assert!(!is_outdated(&proven(), &last, &with_another));
        assert_eq!(status(&proven(), &with_another, at(60)), last);
    }

    #[test]
    fn what_is_not_known_yet_takes_nothing_back() {
        let unproven = report(&[json!({ "perClient": 1, "perUser": 5 })]);
        let missing = PolicyReport {
            callers: CallersReport::Secret(SecretProblem::Awaited(ObjectName::new("team", "callers"))),
            ..proven()
        };
        for report in [unproven, missing] {
            let last = status(&proven(), &nothing(), at(0));
            assert!(!is_outdated(&report, &status(&report, &last, at(60)), &last));
            let newer = PolicyReport { generation: 2, ..report };
            assert!(is_outdated(&newer, &status(&newer, &last, at(60)), &last));
        }
    }

    #[test]
    fn each_step_of_a_new_policy_is_said() {
        let awaited = CredentialReport::Secret(SecretProblem::Awaited(ObjectName::new("team", "auth0")));
        let unproven = report(&[json!({ "perClient": 1, "perUser": 5 })]);
        let mut last = nothing();
        for report in [PolicyReport { credential: awaited, ..proven() }, unproven, proven()] {
            let next = status(&report, &last, at(0));
            assert!(is_outdated(&report, &next, &last));
            last = next;
        }
    }

    fn reasons(report: &PolicyReport, last: &SessionPolicyStatus) -> Vec<(bool, String)> {
        condition_events(&status(report, last, at(60)), last)
            .into_iter()
            .map(|condition_events| (condition_events.good, condition_events.reason))
            .collect()
    }

    #[test]
    fn what_goes_wrong_is_news_once() {
        let last = status(&proven(), &nothing(), at(0));
        assert_eq!(reasons(&rejected(), &last), [(false, "CredentialsRejected".to_owned())]);
        let last = status(&rejected(), &last, at(0));
        assert_eq!(reasons(&rejected(), &last), []);
        assert_eq!(reasons(&PolicyReport { generation: 2, ..rejected() }, &last), []);
        assert_eq!(reasons(&invalid(), &last), [(false, "Invalid".to_owned())]);
    }

    #[test]
    fn callers_have_no_condition_of_their_own_and_are_news_all_the_same() {
        let nobody = PolicyReport { callers: CallersReport::Nobody, ..proven() };
        assert_eq!(reasons(&nobody, &nothing()), [(false, "NoCallers".to_owned())]);
    }

    #[test]
    fn that_it_works_is_news_after_it_did_not() {
        assert_eq!(reasons(&proven(), &nothing()), []);
        let unknown = status(&report(&[json!({ "perClient": 1 })]), &nothing(), at(0));
        assert_eq!(reasons(&proven(), &unknown), []);
        let last = status(&rejected(), &nothing(), at(0));
        assert_eq!(reasons(&proven(), &last), [(true, "Recovered".to_owned())]);
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        assert_eq!(shortened("é".repeat(MAX_MESSAGE_CHARS)), "é".repeat(MAX_MESSAGE_CHARS));
        assert_eq!(shortened("é".repeat(MAX_MESSAGE_CHARS + 1)), format!("{}…", "é".repeat(MAX_MESSAGE_CHARS)));
    }
}
