//! Statuses, and what Events follow from their changes.

use serde_json::{Value, json};

use super::*;
use crate::policy::{CallerAccess, Index, Manifest, ObjectName, SecretManifest};

/// The report about the last of these versions, with an unproven credential.
fn report(versions: &[Value]) -> PolicyReport {
    let mut index = Index::default();
    let name = |name: &str| ObjectName::new("team", name);
    let data = [("domain", "acme.eu.auth0.com"), ("clientId", "a"), ("clientSecret", "b")];
    index.apply_secret(&SecretManifest {
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

/// The status without any check or login.
fn status(report: &PolicyReport, last: &SessionPolicyStatus, now: Timestamp) -> SessionPolicyStatus {
    let activity = PolicyActivity { logins: LoginEvidence::NotReceived, last_check: None };
    super::status(report, activity, last, now)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn empty() -> SessionPolicyStatus {
    SessionPolicyStatus::default()
}

fn triples(status: &SessionPolicyStatus) -> Vec<[&str; 3]> {
    status.conditions.iter().map(|condition| [&*condition.type_, &*condition.status, &*condition.reason]).collect()
}

#[test]
fn new_policy_has_all_conditions_at_once() {
    let status = status(&report(&[json!({ "perClient": 1 })]), &empty(), at(0));
    let unproven = [
        ["Accepted", "True", "Accepted"],
        ["CredentialsReady", "Unknown", "Unproven"],
        ["Ready", "Unknown", "Unproven"],
        ["Enforcing", "Unknown", "NoStream"],
        ["Reconciling", "True", "Unproven"],
        ["Stalled", "False", "Unproven"],
    ];
    assert_eq!(triples(&status), unproven);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(1)));
    assert_eq!((status.observed_generation, status.limits.as_deref()), (Some(1), Some("client=1")));
}

/// The status of an object by the published rules of kstatus (cli-utils, `pkg/kstatus`): generic properties, then `Ready`.
fn read_by_kstatus(generation: i64, status: &SessionPolicyStatus) -> &'static str {
    if status.observed_generation.is_some_and(|observed| observed != generation) {
        return "InProgress";
    }
    for condition in status.conditions.iter().filter(|condition| condition.status == "True") {
        match &*condition.type_ {
            "Reconciling" => return "InProgress",
            "Stalled" => return "Failed",
            _ => {}
        }
    }
    match find(status, "Ready") {
        Some(ready) if ready.status != "True" => "InProgress",
        _ => "Current",
    }
}

#[test]
fn kstatus_reads_every_state_as_it_is() {
    let secret = |problem| PolicyReport { credential: CredentialReport::Secret(problem), ..proven() };
    let name = || ObjectName::new("team", "auth0");
    let credential = |credential| PolicyReport { credential, ..proven() };
    let overshadowing = |extent| PolicyReport {
        overshadowing: Some(crate::policy::Overshadowing { policy: name(), extent }),
        ..proven()
    };
    let unreachable = CredentialReport::Unreachable {
        failure: crate::policy::Failure::UpstreamTimeout,
        detail: "no answer".into(),
        remedy: None,
        previous_in_use: false,
    };
    let lacking = CredentialReport::InsufficientScope { missing: vec!["read:sessions"], previous_in_use: false };
    let callers = |callers| PolicyReport { callers, ..proven() };
    for (report, expected) in [
        (proven(), "Current"),
        (overshadowing(crate::policy::Extent::Part), "Current"),
        (report(&[json!({ "perClient": 1 })]), "InProgress"),
        (secret(SecretProblem::Awaited(name())), "InProgress"),
        (secret(SecretProblem::Unreadable(name(), "500".to_owned())), "InProgress"),
        (secret(SecretProblem::Missing(name())), "InProgress"),
        (callers(CallersReport::Secret(SecretProblem::Missing(name()))), "InProgress"),
        (credential(unreachable), "InProgress"),
        (secret(SecretProblem::Forbidden(name())), "Failed"),
        (secret(SecretProblem::Invalid("x".to_owned())), "Failed"),
        (callers(CallersReport::Nobody), "Failed"),
        (overshadowing(crate::policy::Extent::Conflict), "Failed"),
        (credential(lacking), "Failed"),
        (rejected(), "Failed"),
        (invalid(), "Failed"),
    ] {
        let status = status(&report, &empty(), at(0));
        assert_eq!(read_by_kstatus(report.generation, &status), expected, "{:?}", status.conditions);
        assert_eq!(read_by_kstatus(report.generation + 1, &status), "InProgress");
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(report.generation)));
    }
}

#[test]
fn missing_secret_waits_for_a_person_after_a_minute() {
    let missing = || CredentialReport::Secret(SecretProblem::Missing(ObjectName::new("team", "auth0")));
    let report = PolicyReport { credential: missing(), ..proven() };
    let mut last = status(&proven(), &empty(), at(0));
    for (second, expected) in [(100, "InProgress"), (159, "InProgress"), (160, "Failed"), (161, "Failed")] {
        last = status(&report, &last, at(second));
        assert_eq!(read_by_kstatus(report.generation, &last), expected, "{second}");
        let changes = (expected == "InProgress").then(|| at(160));
        assert_eq!(kstatus::changes_at(&last), changes);
    }
    // A leader that starts now finds the same.
    assert_eq!(read_by_kstatus(report.generation, &status(&report, &last, at(162))), "Failed");
    // After something else was in progress, its time begins again.
    let unproven = self::report(&[json!({ "perClient": 1 })]);
    let waiting = status(&unproven, &empty(), at(0));
    assert_eq!(read_by_kstatus(1, &status(&report, &status(&report, &waiting, at(190)), at(191))), "InProgress");
    // The same after it was there.
    last = status(&proven(), &last, at(200));
    assert_eq!(read_by_kstatus(report.generation, &last), "Current");
    assert_eq!(read_by_kstatus(report.generation, &status(&report, &last, at(201))), "InProgress");
}

#[test]
fn policy_that_nobody_has_seen_is_in_progress() {
    let definition = serde_json::to_value(<crate::crd::SessionPolicy as kube::CustomResourceExt>::crd()).unwrap();
    let default = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/default").unwrap();
    let unseen: SessionPolicyStatus = serde_json::from_value(default.clone()).unwrap();
    assert_eq!(read_by_kstatus(1, &unseen), "InProgress");
    assert!(unseen.conditions.iter().all(|condition| condition.reason == ConditionReason::Pending.as_str()));
    // The first status that is written has real times.
    let unproven = report(&[json!({ "perClient": 1 })]);
    let first = status(&unproven, &unseen, at(5));
    assert!(is_outdated(&unproven, &first, &unseen));
    assert!(first.conditions.iter().all(|condition| condition.last_transition_time == Time(at(5))));
    assert_eq!(condition_events(&first, &unseen), []);
}

#[test]
fn tenant_that_does_not_respond_makes_an_event_with_the_cause() {
    let unreachable = PolicyReport {
        credential: CredentialReport::Unreachable {
            failure: crate::policy::Failure::UpstreamUnreachable,
            detail: "connection refused".into(),
            remedy: None,
            previous_in_use: false,
        },
        ..proven()
    };
    let last = status(&unreachable, &empty(), at(0));
    let events = condition_events(&last, &empty());
    assert_eq!(reasons(&unreachable, &empty()), [(false, "TenantUnreachable".to_owned())]);
    assert!(events[0].note.contains("connection refused"), "{events:?}");
    assert_eq!(reasons(&unreachable, &last), []);
    assert_eq!(reasons(&proven(), &last), [(true, "Recovered".to_owned())]);
}

#[test]
fn limits_are_those_of_the_active_version() {
    let limits = |versions: &[Value]| status(&report(versions), &empty(), at(0)).limits;
    assert_eq!(limits(&[json!({ "perClient": 1, "perUser": 5 })]).as_deref(), Some("client=1 user=5"));
    assert_eq!(limits(&[json!({ "perUser": 2 }), json!({ "perUser": 0 })]).as_deref(), Some("user=2"));
    assert_eq!(limits(&[json!({ "perUser": 0 })]), None);
}

#[test]
fn transition_time_changes_only_with_the_status() {
    let first = status(&rejected(), &empty(), at(0));
    let other_reason = PolicyReport {
        credential: CredentialReport::InsufficientScope { missing: vec!["read:sessions"], previous_in_use: false },
        ..proven()
    };
    let second = status(&other_reason, &first, at(60));
    let third = status(&proven(), &second, at(120));
    let times = |status: &SessionPolicyStatus| {
        status.conditions.iter().map(|condition| condition.last_transition_time.0).collect::<Vec<_>>()
    };
    assert_eq!(times(&first)[..3], [at(0), at(0), at(0)]);
    assert_eq!(times(&second)[..3], [at(0), at(0), at(0)]);
    assert_eq!(times(&third)[..3], [at(0), at(120), at(120)]);
}

#[test]
fn equal_status_is_not_written_again() {
    let last = status(&proven(), &empty(), at(0));
    let mut later = status(&proven(), &last, at(60));
    for condition in &mut later.conditions {
        condition.last_transition_time = Time(at(60));
    }
    assert!(!is_outdated(&proven(), &later, &last));
}

#[test]
fn every_other_difference_is_written() {
    let last = status(&proven(), &empty(), at(0));
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
fn conditions_of_others_are_ignored() {
    let last = status(&proven(), &empty(), at(0));
    let mut with_another = last.clone();
    with_another.conditions.insert(0, ApiCondition { type_: "Reviewed".to_owned(), ..last.conditions[0].clone() });
    assert!(!is_outdated(&proven(), &last, &with_another));
    assert_eq!(status(&proven(), &with_another, at(60)), last);
}

#[test]
fn unproven_credential_does_not_downgrade_status() {
    let unproven = report(&[json!({ "perClient": 1, "perUser": 5 })]);
    let missing = PolicyReport {
        callers: CallersReport::Secret(SecretProblem::Awaited(ObjectName::new("team", "callers"))),
        ..proven()
    };
    for report in [unproven, missing] {
        let last = status(&proven(), &empty(), at(0));
        assert!(!is_outdated(&report, &status(&report, &last, at(60)), &last));
        let newer = PolicyReport { generation: 2, ..report };
        assert!(is_outdated(&newer, &status(&newer, &last, at(60)), &last));
    }
}

#[test]
fn secret_that_cannot_be_read_replaces_a_known_status() {
    let problem =
        || SecretProblem::Unreadable(ObjectName::new("team", "auth0"), "the API server answered 500".to_owned());
    let last = status(&proven(), &empty(), at(0));
    for report in [
        PolicyReport { credential: CredentialReport::Secret(problem()), ..proven() },
        PolicyReport { callers: CallersReport::Secret(problem()), ..proven() },
        PolicyReport { log_stream: LogStreamReport::Secret(problem()), ..proven() },
    ] {
        let next = status(&report, &last, at(60));
        assert!(is_outdated(&report, &next, &last));
        let events = condition_events(&next, &last);
        assert_eq!(reasons(&report, &last), [(false, "SecretUnreadable".to_owned())]);
        assert!(events[0].note.contains("the API server answered 500"), "{events:?}");
        assert_eq!(reasons(&proven(), &next), [(true, "Recovered".to_owned())]);
        // What else changes is written as well.
        let forced = PolicyReport { forced_audit: Some("by a test".to_owned()), ..report };
        assert!(is_outdated(&forced, &status(&forced, &next, at(120)), &next));
    }
}

#[test]
fn every_state_of_a_new_policy_is_written() {
    let awaited = CredentialReport::Secret(SecretProblem::Awaited(ObjectName::new("team", "auth0")));
    let unproven = report(&[json!({ "perClient": 1, "perUser": 5 })]);
    let mut last = empty();
    for report in [PolicyReport { credential: awaited, ..proven() }, unproven, proven()] {
        let next = status(&report, &last, at(0));
        assert!(is_outdated(&report, &next, &last));
        last = next;
    }
}

fn reasons(report: &PolicyReport, last: &SessionPolicyStatus) -> Vec<(bool, String)> {
    condition_events(&status(report, last, at(60)), last)
        .into_iter()
        .map(|event| (event.is_good, event.reason))
        .collect()
}

#[test]
fn problem_makes_one_event() {
    let last = status(&proven(), &empty(), at(0));
    assert_eq!(reasons(&rejected(), &last), [(false, "CredentialsRejected".to_owned())]);
    let last = status(&rejected(), &last, at(0));
    assert_eq!(reasons(&rejected(), &last), []);
    assert_eq!(reasons(&PolicyReport { generation: 2, ..rejected() }, &last), []);
    assert_eq!(reasons(&invalid(), &last), [(false, "Invalid".to_owned())]);
}

#[test]
fn missing_callers_make_an_event_without_a_condition() {
    let nobody = PolicyReport { callers: CallersReport::Nobody, ..proven() };
    assert_eq!(reasons(&nobody, &empty()), [(false, "NoCallers".to_owned())]);
}

#[test]
fn recovery_makes_an_event_only_after_a_problem() {
    assert_eq!(reasons(&proven(), &empty()), []);
    let unknown = status(&report(&[json!({ "perClient": 1 })]), &empty(), at(0));
    assert_eq!(reasons(&proven(), &unknown), []);
    let last = status(&rejected(), &empty(), at(0));
    assert_eq!(reasons(&proven(), &last), [(true, "Recovered".to_owned())]);
}

/// A policy whose log stream is received.
fn streamed() -> PolicyReport {
    PolicyReport { log_stream: LogStreamReport::Ready, ..proven() }
}

fn with_logins(
    last: &SessionPolicyStatus,
    checked: u64,
    unchecked: u64,
    unknown: u64,
) -> (SessionPolicyStatus, [String; 2]) {
    let logins = LoginEvidence::Seen { checked, unchecked, unknown };
    let status = super::status(&streamed(), PolicyActivity { logins, last_check: None }, last, at(60));
    let enforcing = find(&status, "Enforcing").unwrap();
    let words = [enforcing.status.clone(), enforcing.reason.clone()];
    (status, words)
}

#[test]
fn enforcing_follows_the_logins_that_were_seen() {
    for (logins, status, reason) in [
        ((0, 0, 0), "Unknown", "NoLogins"),
        ((0, 0, 9), "Unknown", "NotKnown"),
        ((1, 0, 9), "Unknown", "NotKnown"),
        ((9, 2, 12), "Unknown", "NotKnown"),
        ((9, 2, 11), "True", "Checked"),
        ((1, 0, 1), "True", "Checked"),
        ((0, 1, 1), "Unknown", "NotKnown"),
        ((0, 3, 99), "False", "NotAsked"),
        ((1, 2, 0), "True", "Checked"),
        ((0, 3, 0), "False", "NotAsked"),
        ((297, 3, 0), "False", "NotAsked"),
        ((298, 3, 0), "True", "Checked"),
    ] {
        assert_eq!(with_logins(&empty(), logins.0, logins.1, logins.2).1, [status, reason], "{logins:?}");
    }
}

#[test]
fn unchecked_logins_make_one_event() {
    let (last, _) = with_logins(&empty(), 9, 0, 0);
    let (unchecked, _) = with_logins(&last, 9, 9, 0);
    let events = condition_events(&unchecked, &last);
    assert_eq!(events.iter().map(|event| &*event.reason).collect::<Vec<_>>(), ["NotAsked"]);
    assert!(is_outdated(&streamed(), &unchecked, &last));
    let (more, _) = with_logins(&unchecked, 9, 10, 0);
    assert_eq!(condition_events(&more, &unchecked), []);
    assert!(!is_outdated(&streamed(), &more, &unchecked), "a count is not written");
}

#[test]
fn last_check_is_written_at_most_once_an_hour() {
    let with_check = |last: &SessionPolicyStatus, second: Option<i64>| {
        let activity = PolicyActivity { logins: LoginEvidence::NotReceived, last_check: second.map(at) };
        let next = super::status(&proven(), activity, last, at(0));
        let is_written = is_outdated(&proven(), &next, last);
        (next, is_written)
    };
    let last = status(&proven(), &empty(), at(0));
    let (first, is_written) = with_check(&last, Some(10));
    assert_eq!((first.last_check_time.clone(), is_written), (Some(Time(at(10))), true));
    for second in [None, Some(5), Some(10), Some(3609)] {
        assert!(!with_check(&first, second).1, "{second:?}");
    }
    let (second, is_written) = with_check(&first, Some(3610));
    assert_eq!((second.last_check_time, is_written), (Some(Time(at(3610))), true));
}

#[test]
fn forced_audit_makes_an_event_that_names_who_wrote_it() {
    let by = "ConfigMap team/session-checker-force-audit, written by kubectl-annotate at 2026-01-03T00:00:00Z";
    let forced = PolicyReport { forced_audit: Some(by.to_owned()), ..proven() };
    for last in [status(&proven(), &empty(), at(0)), status(&rejected(), &empty(), at(0))] {
        assert_eq!(reasons(&forced, &last), [(false, "ForcedAudit".to_owned())]);
        assert!(condition_events(&status(&forced, &last, at(60)), &last)[0].note.contains(by));
    }
    let last = status(&forced, &empty(), at(0));
    assert_eq!(read_by_kstatus(forced.generation, &last), "Current");
    assert_eq!(reasons(&forced, &last), []);
    assert_eq!(reasons(&proven(), &last), [(true, "Recovered".to_owned())]);
}

#[test]
fn message_names_the_address_of_its_reason_unless_all_is_well() {
    for (report, condition, reason) in [
        (rejected(), "CredentialsReady", Some("CredentialsRejected")),
        (invalid(), "Ready", Some("Invalid")),
        (proven(), "Ready", None),
    ] {
        let status = status(&report, &empty(), at(0));
        let message = &find(&status, condition).unwrap().message;
        match reason {
            Some(reason) => assert!(message.ends_with(&format!("; see {}", book::reason(reason))), "{message}"),
            None => assert!(!message.contains("https://"), "{message}"),
        }
    }
}

#[test]
fn long_message_is_truncated_between_characters() {
    assert_eq!(truncated("é".repeat(MAX_MESSAGE_CHARS)), "é".repeat(MAX_MESSAGE_CHARS));
    assert_eq!(truncated("é".repeat(MAX_MESSAGE_CHARS + 1)), format!("{}…", "é".repeat(MAX_MESSAGE_CHARS)));
}
