//! What an index makes of policies, Secrets and what tenants say: which credential is used, what is said, who stands before
//! whom.

use std::collections::BTreeSet;

use super::*;
use crate::secret::CREDENTIALS_TYPE;

/// An index with policies, each by its name and what its spec adds.
fn index(policies: &[(&str, Value)]) -> Index {
    let mut index = Index::default();
    for (age, (name, extra)) in policies.iter().enumerate() {
        apply(&mut index, name, age, extra.clone());
    }
    index
}

fn apply(index: &mut Index, name: &str, age: usize, extra: Value) {
    let mut spec = json!({ "limits": { "perUser": 1 }, "callerSecretRef": { "name": "callers" } });
    lay_over(&mut spec, extra);
    let created_at = Some(at(i64::try_from(age).unwrap()));
    index.apply_policy(&Manifest { name: ObjectName::new("team", name), created_at, ..manifest(spec) });
}

fn credential(secret: &str) -> SecretManifest {
    let data = [("domain", "acme.eu.auth0.com"), ("clientId", "id"), ("clientSecret", secret)];
    SecretManifest {
        uid: None,
        name: ObjectName::new("team", "auth0"),
        kind: CREDENTIALS_TYPE.to_owned(),
        data: Ok(data.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into()),
    }
}

fn report(index: &Index, name: &str) -> PolicyReport {
    let (_, reports) = index.publish(&CallerAccess::default());
    reports.into_iter().find(|report| report.name.name == name).unwrap()
}

/// The secret that a policy's checks use.
fn used(index: &Index, name: &str) -> Option<String> {
    let (policy_set, _) = index.publish(&CallerAccess::default());
    let active_policy = policy_set
        .active_policies()
        .iter()
        .find(|active_policy| active_policy.version.scope().name.name == name)?
        .clone();
    let credentials = active_policy.credentials.clone()?;
    match &credentials.client_auth {
        crate::secret::ClientAuth::ClientSecret(secret) => {
            Some(secrecy::ExposeSecret::expose_secret(secret).to_owned())
        }
        crate::secret::ClientAuth::PrivateKey { .. } => None,
    }
}

/// The tenant's word on the newest credential.
fn says(index: &mut Index, result: &ProbeResult) {
    let keys: Vec<CredentialKey> = index.probe_targets().into_keys().collect();
    keys.into_iter().for_each(|key| index.probed(key, result.clone()));
    index.forget_replaced();
}

fn granted(scopes: &[&str]) -> ProbeResult {
    ProbeResult::Granted(Some(scopes.iter().map(|scope| (*scope).to_owned()).collect::<BTreeSet<_>>()))
}

fn word(index: &Index, name: &str) -> (ConditionStatus, ConditionReason) {
    let condition = report(index, name).credentials_ready();
    (condition.status, condition.reason)
}

const PLAIN: &[&str] = &["read:sessions"];
const ALL: &[&str] = &["read:sessions", "delete:sessions", "delete:refresh_tokens"];

#[test]
fn a_first_credential_is_used_before_it_is_proven_and_that_is_said() {
    let mut index = index(&[("a", json!({}))]);
    assert_eq!(
        (used(&index, "a"), word(&index, "a")),
        (None, (ConditionStatus::False, ConditionReason::SecretMissing))
    );
    index.apply_secret(&credential("one"));
    let one = Some("one".to_owned());
    assert_eq!(
        (used(&index, "a"), word(&index, "a")),
        (one.clone(), (ConditionStatus::Unknown, ConditionReason::Unproven))
    );
    says(&mut index, &ProbeResult::Unreachable(Failure::UpstreamTimeout));
    let told = word(&index, "a");
    assert_eq!(
        (used(&index, "a"), told),
        (one.clone(), (ConditionStatus::Unknown, ConditionReason::TenantUnreachable))
    );
    says(&mut index, &ProbeResult::Rejected);
    let told = word(&index, "a");
    assert_eq!(
        (used(&index, "a"), told),
        (one.clone(), (ConditionStatus::False, ConditionReason::CredentialsRejected))
    );
    says(&mut index, &granted(PLAIN));
    assert_eq!((used(&index, "a"), word(&index, "a")), (one, (ConditionStatus::True, ConditionReason::Proven)));
}

#[test]
fn a_new_credential_takes_over_when_it_is_proven_and_the_old_one_never_comes_back() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(PLAIN));
    index.apply_secret(&credential("two"));
    assert_eq!(used(&index, "a").unwrap(), "one");
    assert_eq!(
        word(&index, "a"),
        (ConditionStatus::True, ConditionReason::Proven),
        "nothing has happened that anybody would notice"
    );
    says(&mut index, &ProbeResult::Unreachable(Failure::UpstreamTimeout));
    assert_eq!((used(&index, "a").unwrap().as_str(), word(&index, "a").1), ("one", ConditionReason::TenantUnreachable));
    says(&mut index, &ProbeResult::Rejected);
    assert_eq!(used(&index, "a").unwrap(), "one");
    assert_eq!(word(&index, "a"), (ConditionStatus::False, ConditionReason::NewCredentialsRejected));
    says(&mut index, &granted(PLAIN));
    assert_eq!((used(&index, "a").unwrap().as_str(), word(&index, "a").1), ("two", ConditionReason::Proven));
    says(&mut index, &ProbeResult::Rejected);
    assert_eq!(
        (used(&index, "a").unwrap().as_str(), word(&index, "a").1),
        ("two", ConditionReason::CredentialsRejected)
    );
}

#[test]
fn of_several_new_credentials_the_newest_is_proven_and_the_proven_one_serves() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(PLAIN));
    for wrong in ["two", "three"] {
        index.apply_secret(&credential(wrong));
        says(&mut index, &ProbeResult::Rejected);
        assert_eq!(used(&index, "a").unwrap(), "one");
    }
    // Back to the one that serves: known already.
    index.apply_secret(&credential("one"));
    assert_eq!((used(&index, "a").unwrap().as_str(), word(&index, "a").1), ("one", ConditionReason::Proven));
}

#[test]
fn a_tenant_that_is_down_takes_back_nothing_that_it_said() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(PLAIN));
    let revision = index.revision();
    says(&mut index, &ProbeResult::Unreachable(Failure::CircuitOpen));
    assert_eq!((word(&index, "a").1, index.revision()), (ConditionReason::Proven, revision));
}

#[test]
fn what_a_credential_must_permit_depends_on_the_strategy_of_each_policy() {
    let mut index = index(&[("deny", json!({})), ("revoke", json!({ "strategy": "RevokeOldest", "priority": 1 }))]);
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(ALL));
    index.apply_secret(&credential("two"));
    says(&mut index, &granted(PLAIN));
    assert_eq!((used(&index, "deny").unwrap().as_str(), word(&index, "deny").1), ("two", ConditionReason::Proven));
    let told = report(&index, "revoke").credentials_ready();
    assert_eq!(
        (used(&index, "revoke").unwrap().as_str(), told.reason),
        ("one", ConditionReason::NewCredentialsRejected)
    );
    assert!(told.message.contains("lacks delete:sessions and delete:refresh_tokens"), "{}", told.message);
    says(&mut index, &granted(ALL));
    assert_eq!((used(&index, "revoke").unwrap().as_str(), word(&index, "revoke").1), ("two", ConditionReason::Proven));
    // The first is forgotten: a policy that needs more does not bring it back.
    says(&mut index, &granted(PLAIN));
    assert_eq!(used(&index, "revoke").unwrap(), "two");
    assert_eq!(word(&index, "revoke"), (ConditionStatus::False, ConditionReason::InsufficientScope));
    // A tenant that does not say is believed.
    says(&mut index, &ProbeResult::Granted(None));
    assert_eq!(word(&index, "revoke").1, ConditionReason::Proven);
}

#[test]
fn a_deleted_secret_stops_its_use_and_comes_back_unproven() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(PLAIN));
    index.remove_secret(&ObjectName::new("team", "auth0"));
    index.forget_replaced();
    assert_eq!((used(&index, "a"), word(&index, "a").1), (None, ConditionReason::SecretMissing));
    index.apply_secret(&credential("one"));
    assert_eq!(word(&index, "a").1, ConditionReason::Unproven);
}

#[test]
fn a_secret_made_anew_while_nobody_looked_leaves_nothing_of_the_one_before_in_use() {
    let made = |uid: &str, secret| SecretManifest { uid: Some(uid.to_owned()), ..credential(secret) };
    let mut index = index(&[("one", json!({}))]);
    index.apply_secret(&made("1", "leaked"));
    says(&mut index, &granted(&["read:sessions"]));
    // The same one goes on with what it had.
    index.apply_secret(&made("1", "next"));
    assert_eq!(used(&index, "one").as_deref(), Some("leaked"));
    index.apply_secret(&made("2", "anew"));
    assert_eq!(used(&index, "one").as_deref(), Some("anew"));
    let unreadable = SecretManifest { kind: "Opaque".to_owned(), ..made("3", "typeless") };
    index.apply_secret(&unreadable);
    assert_eq!(used(&index, "one"), None);
}

#[test]
fn a_secret_that_is_not_shown_any_more_stays_in_use_and_that_is_said() {
    let mut index = index(&[("a", json!({}))]);
    let name = ObjectName::new("team", "auth0");
    index.await_secret(&name);
    assert_eq!(word(&index, "a"), (ConditionStatus::Unknown, ConditionReason::Pending));
    index.forbid_secret(&name);
    assert_eq!(
        (used(&index, "a"), word(&index, "a")),
        (None, (ConditionStatus::False, ConditionReason::SecretForbidden))
    );
    index.apply_secret(&credential("one"));
    says(&mut index, &granted(PLAIN));
    index.forbid_secret(&name);
    assert_eq!((used(&index, "a").unwrap().as_str(), word(&index, "a").1), ("one", ConditionReason::SecretForbidden));
    index.apply_secret(&credential("one"));
    assert_eq!(word(&index, "a").1, ConditionReason::Proven);
}

#[test]
fn what_changes_nothing_is_no_change() {
    let mut index = index(&[("a", json!({}))]);
    index.apply_secret(&credential("one"));
    let revision = index.revision();
    index.apply_secret(&credential("one"));
    apply(&mut index, "a", 0, json!({}));
    index.remove_secret(&ObjectName::new("team", "other"));
    assert_eq!(index.revision(), revision);
}

#[test]
fn a_policy_made_anew_under_the_same_name_does_not_inherit_the_last_good_version() {
    let mut index = index(&[("a", json!({}))]);
    apply(&mut index, "a", 0, json!({ "limits": { "perUser": 0 } }));
    assert_eq!(report(&index, "a").active_version, ActiveVersion::LastGood);
    apply(&mut index, "a", 1, json!({ "limits": { "perUser": 0 } }));
    assert_eq!(report(&index, "a").active_version, ActiveVersion::FailurePolicy);
    let accepted = report(&index, "a").accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::False, ConditionReason::Invalid));
    assert!(
        accepted.message.starts_with("spec.limits.perUser: ") && accepted.message.ends_with("failure policy answers")
    );
}

fn overshadowing(index: &Index, name: &str) -> Option<(String, Extent)> {
    report(index, name).overshadowing.map(|overshadowing| (overshadowing.policy.name, overshadowing.extent))
}

#[test]
fn of_two_policies_that_claim_the_same_the_newer_is_in_conflict_until_the_older_goes() {
    let same = || json!({ "selector": { "clientIds": ["c1", "c2"] } });
    let turned = json!({ "selector": { "clientIds": ["c2", "c1"] } });
    let mut index = index(&[("old", same()), ("new", turned), ("higher", json!({ "priority": 5 }))]);
    assert_eq!(overshadowing(&index, "new"), Some(("old".to_owned(), Extent::Conflict)));
    let accepted = report(&index, "new").accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::False, ConditionReason::Conflicted));
    assert!(accepted.message.contains("team/old"), "{}", accepted.message);
    assert_eq!(report(&index, "new").ready().reason, ConditionReason::Conflicted);
    index.remove_policy(&ObjectName::new("team", "old"));
    assert_eq!(overshadowing(&index, "new"), Some(("higher".to_owned(), Extent::All)));
    assert_eq!(report(&index, "new").accepted().reason, ConditionReason::Accepted);
}

#[test]
fn a_policy_behind_another_stays_accepted_and_says_which() {
    let by = |list: &str, values: &[&str]| json!({ "selector": { list: values } });
    let index = index(&[
        ("client", by("clientIds", &["c1"])),
        ("organization", by("organizations", &["o1"])),
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
