//! The index: which credential a policy uses, its conditions, and which policy takes precedence.

use std::collections::BTreeSet;

use super::*;
use crate::secret::{CALLERS_TYPE, CREDENTIALS_TYPE};

/// The digest of the policies of a test, as every process computes it.
const DIGEST: u64 = 228_206_379_650_773;

/// An index with policies, each with a name and fields for its spec; earlier ones are older.
fn index(policies: &[(&str, Value)]) -> Index {
    let mut index = Index::default();
    for (age, (name, extra)) in policies.iter().enumerate() {
        apply(&mut index, name, age, extra.clone());
    }
    index
}

fn apply(index: &mut Index, name: &str, age: usize, extra: Value) {
    let mut spec = json!({ "limits": { "perUser": 1 }, "callerSecretRef": { "name": "callers" } });
    merge(&mut spec, extra);
    let created_at = Some(at(i64::try_from(age).unwrap()));
    index.apply_policy(&Manifest { name: ObjectName::new("team", name), created_at, ..manifest(spec) });
}

fn credential(secret: &str) -> SecretManifest {
    let data = [("domain", "acme.eu.auth0.com"), ("clientId", "id"), ("clientSecret", secret)];
    SecretManifest {
        name: ObjectName::new("team", "auth0"),
        kind: CREDENTIALS_TYPE.to_owned(),
        data: Ok(data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into()),
    }
}

fn report(index: &Index, name: &str) -> PolicyReport {
    let (_, reports) = index.publish(&CallerAccess::default());
    reports.into_iter().find(|report| report.name.name() == name).unwrap()
}

/// The client secret that a policy uses.
fn secret_in_use(index: &Index, name: &str) -> Option<String> {
    let (policy_set, _) = index.publish(&CallerAccess::default());
    let active_policy = policy_set
        .active_policies()
        .iter()
        .find(|active_policy| active_policy.version.scope().name.name() == name)?
        .clone();
    let credentials = active_policy.credentials.clone()?;
    match &credentials.client_auth {
        crate::secret::ClientAuth::ClientSecret(secret) => {
            Some(secrecy::ExposeSecret::expose_secret(secret).to_owned())
        }
        crate::secret::ClientAuth::PrivateKey { .. } => None,
    }
}

/// Applies a probe result to every credential that is probed.
fn probe(index: &mut Index, result: &ProbeResult) {
    let keys: Vec<CredentialKey> = index.probe_targets().into_keys().collect();
    keys.into_iter().for_each(|key| index.probed(key, result.clone()));
    index.forget_replaced();
}

fn granted(scopes: &[&str]) -> ProbeResult {
    ProbeResult::Granted(Some(scopes.iter().map(|scope| (*scope).to_owned()).collect::<BTreeSet<_>>()))
}

fn credential_condition(index: &Index, name: &str) -> (ConditionStatus, ConditionReason) {
    let condition = report(index, name).credentials_ready();
    (condition.status, condition.reason)
}

const READ: &[&str] = &["read:sessions"];
const ALL: &[&str] = &["read:sessions", "delete:sessions", "delete:refresh_tokens"];

#[test]
fn first_credential_is_used_unproven_and_reported() {
    let mut index = index(&[("a", json!({}))]);
    assert_eq!(
        (secret_in_use(&index, "a"), credential_condition(&index, "a")),
        (None, (ConditionStatus::False, ConditionReason::SecretMissing))
    );
    index.apply_secret(&credential("one"));
    let one = Some("one".to_owned());
    assert_eq!(
        (secret_in_use(&index, "a"), credential_condition(&index, "a")),
        (one.clone(), (ConditionStatus::Unknown, ConditionReason::Unproven))
    );
    probe(
        &mut index,
        &ProbeResult::Unreachable { failure: Failure::UpstreamTimeout, detail: "no answer".into(), remedy: None },
    );
    let condition = credential_condition(&index, "a");
    assert_eq!(
        (secret_in_use(&index, "a"), condition),
        (one.clone(), (ConditionStatus::Unknown, ConditionReason::TenantUnreachable))
    );
    probe(&mut index, &ProbeResult::Rejected);
    let condition = credential_condition(&index, "a");
    assert_eq!(
        (secret_in_use(&index, "a"), condition),
        (one.clone(), (ConditionStatus::False, ConditionReason::CredentialsRejected))
    );
    probe(&mut index, &granted(READ));
    assert_eq!(
        (secret_in_use(&index, "a"), credential_condition(&index, "a")),
        (one, (ConditionStatus::True, ConditionReason::Proven))
    );
}

#[test]
fn new_credential_replaces_the_old_one_for_good_once_proven() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    index.apply_secret(&credential("two"));
    assert_eq!(secret_in_use(&index, "a").unwrap(), "one");
    assert_eq!(
        credential_condition(&index, "a"),
        (ConditionStatus::True, ConditionReason::Proven),
        "the previous credential is in use"
    );
    probe(
        &mut index,
        &ProbeResult::Unreachable { failure: Failure::UpstreamTimeout, detail: "no answer".into(), remedy: None },
    );
    assert_eq!(
        (secret_in_use(&index, "a").unwrap().as_str(), credential_condition(&index, "a").1),
        ("one", ConditionReason::TenantUnreachable)
    );
    probe(&mut index, &ProbeResult::Rejected);
    assert_eq!(secret_in_use(&index, "a").unwrap(), "one");
    assert_eq!(credential_condition(&index, "a"), (ConditionStatus::False, ConditionReason::NewCredentialsRejected));
    probe(&mut index, &granted(READ));
    assert_eq!(
        (secret_in_use(&index, "a").unwrap().as_str(), credential_condition(&index, "a").1),
        ("two", ConditionReason::Proven)
    );
    probe(&mut index, &ProbeResult::Rejected);
    assert_eq!(
        (secret_in_use(&index, "a").unwrap().as_str(), credential_condition(&index, "a").1),
        ("two", ConditionReason::CredentialsRejected)
    );
}

#[test]
fn custom_domains_do_not_discard_the_proof_of_a_credential() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    index.apply_secret(&credential("two"));
    probe(&mut index, &ProbeResult::Rejected);
    apply(&mut index, "a", 0, json!({ "tenant": { "customDomains": ["login.acme.de"] } }));
    index.forget_replaced();
    assert_eq!(secret_in_use(&index, "a").unwrap(), "one");
    assert_eq!(credential_condition(&index, "a"), (ConditionStatus::False, ConditionReason::NewCredentialsRejected));
    // The credential is sent to another host then.
    apply(&mut index, "a", 0, json!({ "tenant": { "customDomain": "login.acme.com" } }));
    assert_ne!(credential_condition(&index, "a").1, ConditionReason::NewCredentialsRejected);
}

#[test]
fn newest_credential_is_probed_while_the_proven_one_is_used() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    for wrong in ["two", "three"] {
        index.apply_secret(&credential(wrong));
        probe(&mut index, &ProbeResult::Rejected);
        assert_eq!(secret_in_use(&index, "a").unwrap(), "one");
    }
    // The credential that is in use is proven already.
    index.apply_secret(&credential("one"));
    assert_eq!(
        (secret_in_use(&index, "a").unwrap().as_str(), credential_condition(&index, "a").1),
        ("one", ConditionReason::Proven)
    );
}

#[test]
fn unreachable_tenant_keeps_the_earlier_probe_result() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    let revision = index.revision();
    probe(
        &mut index,
        &ProbeResult::Unreachable { failure: Failure::CircuitOpen, detail: "no answer".into(), remedy: None },
    );
    assert_eq!((credential_condition(&index, "a").1, index.revision()), (ConditionReason::Proven, revision));
}

#[test]
fn oauth_scopes_depend_on_the_strategy_of_each_policy() {
    let mut index = index(&[("deny", json!({})), ("revoke", json!({ "strategy": "RevokeOldest", "priority": 1 }))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(ALL));
    index.apply_secret(&credential("two"));
    probe(&mut index, &granted(READ));
    assert_eq!(
        (secret_in_use(&index, "deny").unwrap().as_str(), credential_condition(&index, "deny").1),
        ("two", ConditionReason::Proven)
    );
    let condition = report(&index, "revoke").credentials_ready();
    assert_eq!(
        (secret_in_use(&index, "revoke").unwrap().as_str(), condition.reason),
        ("one", ConditionReason::NewCredentialsRejected)
    );
    assert!(condition.message.contains("lacks delete:sessions and delete:refresh_tokens"), "{}", condition.message);
    probe(&mut index, &granted(ALL));
    assert_eq!(
        (secret_in_use(&index, "revoke").unwrap().as_str(), credential_condition(&index, "revoke").1),
        ("two", ConditionReason::Proven)
    );
    // The first one is dropped: a policy that needs more does not bring it back.
    probe(&mut index, &granted(READ));
    assert_eq!(secret_in_use(&index, "revoke").unwrap(), "two");
    assert_eq!(credential_condition(&index, "revoke"), (ConditionStatus::False, ConditionReason::InsufficientScope));
    // When the tenant does not name the scopes, the token is assumed to have all.
    probe(&mut index, &ProbeResult::Granted(None));
    assert_eq!(credential_condition(&index, "revoke").1, ConditionReason::Proven);
}

#[test]
fn deleted_secret_is_not_used_and_returns_unproven() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    index.remove_secret(&ObjectName::new("team", "auth0"));
    index.forget_replaced();
    assert_eq!(
        (secret_in_use(&index, "a"), credential_condition(&index, "a").1),
        (None, ConditionReason::SecretMissing)
    );
    index.apply_secret(&credential("one"));
    assert_eq!(credential_condition(&index, "a").1, ConditionReason::Unproven);
}

#[test]
fn recreated_secret_is_proven_as_any_change() {
    let mut index = index(&[("one", json!({}))]);
    index.apply_secret(&credential("first"));
    probe(&mut index, &granted(READ));
    index.apply_secret(&credential("recreated"));
    assert_eq!(secret_in_use(&index, "one").as_deref(), Some("first"));
    let unreadable = SecretManifest { kind: "Opaque".to_owned(), ..credential("typeless") };
    index.apply_secret(&unreadable);
    assert_eq!(secret_in_use(&index, "one").as_deref(), Some("first"));
    index.apply_secret(&credential("recreated"));
    probe(&mut index, &granted(READ));
    assert_eq!(secret_in_use(&index, "one").as_deref(), Some("recreated"));
}

#[test]
fn forbidden_secret_stays_in_use_and_is_reported() {
    let mut index = index(&[("a", json!({}))]);
    let name = ObjectName::new("team", "auth0");
    index.await_secret(&name);
    assert_eq!(credential_condition(&index, "a"), (ConditionStatus::Unknown, ConditionReason::Pending));
    index.forbid_secret(&name);
    assert_eq!(
        (secret_in_use(&index, "a"), credential_condition(&index, "a")),
        (None, (ConditionStatus::False, ConditionReason::SecretForbidden))
    );
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    index.forbid_secret(&name);
    assert_eq!(
        (secret_in_use(&index, "a").unwrap().as_str(), credential_condition(&index, "a").1),
        ("one", ConditionReason::SecretForbidden)
    );
    index.apply_secret(&credential("one"));
    assert_eq!(credential_condition(&index, "a").1, ConditionReason::Proven);
}

#[test]
fn secret_that_was_never_read_is_reported_with_the_cause() {
    let mut index = index(&[("a", json!({}))]);
    let name = ObjectName::new("team", "auth0");
    let cause = "the API server answered 500: unable to transform key";
    index.await_secret(&name);
    index.fail_secret(&name, cause);
    assert_eq!(credential_condition(&index, "a"), (ConditionStatus::Unknown, ConditionReason::SecretUnreadable));
    let message = report(&index, "a").credentials_ready().message;
    assert!(message.contains("credential Secret team/auth0") && message.contains(cause), "{message}");
    let revision = index.revision();
    index.fail_secret(&name, "another cause with a number of its own");
    assert_eq!(index.revision(), revision, "the first cause stays");
    index.apply_secret(&credential("one"));
    assert_eq!(credential_condition(&index, "a").1, ConditionReason::Unproven);
    for known in [Index::remove_secret, Index::forbid_secret] {
        known(&mut index, &name);
        let before = credential_condition(&index, "a");
        index.fail_secret(&name, cause);
        assert_eq!(credential_condition(&index, "a"), before, "the last answer stays");
    }
}

#[test]
fn failing_watch_leaves_a_secret_that_was_read() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    probe(&mut index, &granted(READ));
    index.fail_secret(&ObjectName::new("team", "auth0"), "the API server answered 500");
    assert_eq!(credential_condition(&index, "a").1, ConditionReason::Proven);
}

#[test]
fn condition_begins_with_the_remedy_for_a_tenant_that_is_not_reached() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    let remedy = "acme.eu.auth0.com has the private address 10.0.0.1: allow it";
    let (failure, detail) = (Failure::UpstreamUnreachable, "refused".into());
    probe(&mut index, &ProbeResult::Unreachable { failure, detail, remedy: Some(remedy.to_owned()) });
    let message = report(&index, "a").credentials_ready().message;
    assert!(message.starts_with(remedy) && message.ends_with("the service retries"), "{message}");
}

#[test]
fn value_that_never_matches_is_in_the_message_of_a_policy_that_is_ready() {
    let mut index = index(&[("a", json!({ "skipProtocols": ["refresh_token"] }))]);
    index.apply_secret(&credential("one"));
    index.apply_secret(&SecretManifest {
        name: ObjectName::new("team", "callers"),
        kind: CALLERS_TYPE.to_owned(),
        data: Ok([("token".to_owned(), b"0123456789abcdef-caller".to_vec())].into()),
    });
    probe(&mut index, &granted(ALL));
    let ready = report(&index, "a").ready();
    assert_eq!(ready.status, ConditionStatus::True, "{}", ready.message);
    assert!(ready.message.contains("; spec.skipProtocols"), "{}", ready.message);
}

#[test]
fn long_cause_is_cut_behind_the_remedy() {
    let mut index = index(&[("a", json!({}))]);
    let name = ObjectName::new("team", "auth0");
    index.await_secret(&name);
    index.fail_secret(&name, &"é".repeat(5000));
    let message = report(&index, "a").credentials_ready().message;
    assert!(message.contains("the service retries (éé") && message.ends_with("é…)"), "{message}");
    assert!(message.chars().count() < 1000);
}

#[test]
fn updates_without_a_change_keep_the_revision() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    let revision = index.revision();
    index.apply_secret(&credential("one"));
    apply(&mut index, "a", 0, json!({}));
    index.remove_secret(&ObjectName::new("team", "other"));
    assert_eq!(index.revision(), revision);
}

#[test]
fn recreated_policy_does_not_inherit_the_last_good_version() {
    let mut index = index(&[("a", json!({}))]);
    apply(&mut index, "a", 0, json!({ "limits": { "perUser": 0 } }));
    assert_eq!(report(&index, "a").active_version, ActiveVersion::LastGood);
    apply(&mut index, "a", 1, json!({ "limits": { "perUser": 0 } }));
    assert_eq!(report(&index, "a").active_version, ActiveVersion::FailurePolicy);
    let accepted = report(&index, "a").accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::False, ConditionReason::Invalid));
    assert!(
        accepted.message.starts_with("spec.limits.perUser: ")
            && accepted.message.ends_with("failurePolicy applies to its logins until you correct the spec")
    );
}

fn overshadowing(index: &Index, name: &str) -> Option<(String, Extent)> {
    report(index, name)
        .overshadowing
        .map(|overshadowing| (overshadowing.policy.name().to_owned(), overshadowing.extent))
}

#[test]
fn newer_of_two_equal_policies_conflicts_until_the_older_goes() {
    let same = || json!({ "selector": { "clientIds": ["c1", "c2"] } });
    let reordered = json!({ "selector": { "clientIds": ["c2", "c1"] } });
    let mut index = index(&[("old", same()), ("new", reordered), ("higher", json!({ "priority": 5 }))]);
    assert_eq!(overshadowing(&index, "new"), Some(("old".to_owned(), Extent::Conflict)));
    let accepted = report(&index, "new").accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::False, ConditionReason::Conflicted));
    assert!(accepted.message.contains("team/old"), "{}", accepted.message);
    assert_eq!(report(&index, "new").ready().reason, ConditionReason::Conflicted);
    let forced = PolicyReport { forced_audit: Some("by a test".to_owned()), ..report(&index, "new") }.ready();
    assert_eq!(forced.reason, ConditionReason::Conflicted);
    assert!(forced.message.contains("; forced audit is on (by a test)"), "{}", forced.message);
    index.remove_policy(&ObjectName::new("team", "old"));
    assert_eq!(overshadowing(&index, "new"), Some(("higher".to_owned(), Extent::All)));
    assert_eq!(report(&index, "new").accepted().reason, ConditionReason::Accepted);
}

#[test]
fn overshadowed_policy_stays_accepted_and_names_the_other() {
    let by = |list: &str, values: &[&str]| json!({ "selector": { list: values } });
    let index = index(&[
        ("client", by("clientIds", &["c1"])),
        ("organization", by("organizations", &["org_1"])),
        ("elsewhere", json!({ "selector": { "clientIds": ["c9"] }, "callerSecretRef": { "name": "others" } })),
        ("rest", json!({})),
    ]);
    assert_eq!(overshadowing(&index, "client"), None);
    assert_eq!(overshadowing(&index, "organization"), Some(("client".to_owned(), Extent::Part)));
    assert_eq!(overshadowing(&index, "elsewhere"), None, "it has other callers");
    assert_eq!(overshadowing(&index, "rest"), Some(("client".to_owned(), Extent::Part)));
    let accepted = report(&index, "rest").accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::True, ConditionReason::Accepted));
    assert!(accepted.message.contains("team/client takes precedence"), "{}", accepted.message);
}

fn digest(index: &Index) -> u64 {
    index.publish(&CallerAccess::default()).0.digest()
}

/// An index with the policies of manifests without a generation and a creation time, as in a folder.
fn of_folder(policies: &[(&str, Value)]) -> Index {
    let mut index = Index::default();
    for (name, extra) in policies {
        index.apply_policy(&Manifest { name: ObjectName::new("team", name), generation: 0, ..manifest(extra.clone()) });
    }
    index
}

#[test]
fn digest_is_that_of_the_active_policies_in_any_order() {
    let limit = |limit: u32| json!({ "limits": { "perUser": limit } });
    let (one, two) = (("one", limit(1)), ("two", limit(2)));
    let expected = digest(&of_folder(&[one.clone(), two.clone()]));
    assert_eq!(digest(&of_folder(&[two.clone(), one.clone()])), expected);
    assert!(0 < expected && expected < 1 << 48 && expected as f64 as u64 == expected, "{expected}");
    // It is of no process: every other one has the same.
    assert_eq!(expected, DIGEST, "it depends on more than names and specs");
    let text = r#"{ "limits": { "perClient": 1, "perUser": 2 } }"#;
    let turned = r#"{ "limits": { "perUser": 2, "perClient": 1 } }"#;
    let [text, turned] = [text, turned].map(|text| ("one", serde_json::from_str(text).unwrap()));
    assert_eq!(digest(&of_folder(&[text])), digest(&of_folder(&[turned])), "the order of fields");

    for other in [
        vec![one.clone(), ("two", limit(3))],
        vec![("one", limit(2)), ("two", limit(1))],
        vec![one.clone()],
        vec![one.clone(), ("three", limit(2))],
        vec![],
    ] {
        assert_ne!(digest(&of_folder(&other)), expected, "{other:?}");
    }
    assert_eq!(digest(&of_folder(&[])), 0, "as before the first policy");
}

#[test]
fn digest_is_that_of_the_version_that_is_active() {
    let limit = |limit: Value| json!({ "limits": { "perUser": limit } });
    let mut index = of_folder(&[("one", limit(json!(1)))]);
    let first = digest(&index);
    let change = |index: &mut Index, value: Value| {
        let (name, spec) = (ObjectName::new("team", "one"), manifest(limit(value)));
        index.apply_policy(&Manifest { name, generation: 0, ..spec });
    };
    // What does not compile leaves the last good version active. A replica that never had it answers by the failure
    // policy.
    for wrong in [json!("none"), json!("many")] {
        change(&mut index, wrong.clone());
        assert_eq!(digest(&index), first, "{wrong}");
        assert_ne!(digest(&of_folder(&[("one", limit(wrong.clone()))])), first, "{wrong}");
    }
    change(&mut index, json!(2));
    assert_ne!(digest(&index), first);
    change(&mut index, json!(1));
    assert_eq!(digest(&index), first, "however many versions came before");
    index.remove_policy(&ObjectName::new("team", "one"));
    assert_eq!(digest(&index), 0);
}
