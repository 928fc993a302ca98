//! What a manifest may say: for every rule something that is accepted and something that is refused, with the field that
//! is named and the words that help.

use super::session_policies::{accepted, full, refused, with};
use super::*;

pub(super) fn compiled(spec: &Value) -> Result<Policy, Vec<SpecError>> {
    compile(&Manifest { spec: spec.clone(), ..manifest(json!({})) })
}

#[test]
fn a_ceiling_is_what_is_written_and_none_where_nothing_is() {
    for rate in [1, 16, 10_000] {
        let policy = compiled(&with("/tenant/requestsPerSecond", Some(json!(rate)))).unwrap();
        assert_eq!(policy.requests_per_second, Some(rate));
    }
    assert_eq!(compiled(&with("/tenant/requestsPerSecond", None)).unwrap().requests_per_second, None);
}

#[test]
fn what_the_bounds_allow_compiles() {
    assert!(compiled(&full()).is_ok());
    for (pointer, value) in accepted() {
        if let Err(errors) = compiled(&with(pointer, Some(value.clone()))) {
            panic!("{pointer} {value} is refused: {errors:?}");
        }
    }
}

#[test]
fn what_breaks_a_rule_is_refused_by_its_field_with_what_to_write() {
    for (pointer, value, field, hint) in refused() {
        let errors = compiled(&with(pointer, value.clone())).expect_err(&format!("{pointer} {value:?}"));
        let told = errors.iter().any(|error| error.field == field && error.message.contains(hint));
        assert!(told, "{pointer} {value:?} is told as {errors:?}, not as {field}: …{hint}…");
    }
}

#[test]
fn a_spec_is_an_object() {
    for spec in [json!(null), json!([]), json!("x"), json!([full()["tenant"]])] {
        assert_eq!(compiled(&spec).unwrap_err()[0].field, "spec", "{spec}");
    }
}

#[test]
fn a_group_limit_needs_the_clients_that_make_the_group() {
    let without_group = |limits: Value, overrides: Value| {
        compiled(&json!({
            "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
            "limits": limits, "overrides": overrides,
        }))
    };
    let errors = without_group(json!({ "perGroup": 1 }), json!([])).unwrap_err();
    assert_eq!(errors[0].field, "spec.limits.perGroup");
    assert!(errors[0].message.contains("name them in selector.clientIds, or use perUser"));
    let overrides = json!([{ "name": "a", "clientIds": ["c1"], "limits": { "perGroup": 1 } }]);
    let errors = without_group(json!({ "perUser": 1 }), overrides).unwrap_err();
    assert_eq!(errors[0].field, "spec.overrides[0].limits.perGroup");
}

#[test]
fn every_rule_that_is_broken_is_told_at_once_and_reads_as_a_line() {
    let mut spec = with("/timeout", Some(json!("1h")));
    lay_over(&mut spec, json!({ "limits": { "perClient": 0 }, "message": "", "typo": 1 }));
    let errors = compiled(&spec).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.typo", "spec.limits.perClient", "spec.timeout", "spec.message"]);
    assert_eq!(errors[1].to_string(), "spec.limits.perClient: write a number from 1 to 1000, not 0");
}

#[test]
fn what_is_left_out_has_the_defaults_of_the_resource() {
    let policy = policy(json!({ "limits": { "perClient": 1 } }));
    use std::time::Duration;
    assert_eq!((policy.reentry, policy.strategy), (Reentry::KeepPlace, Strategy::Deny));
    assert_eq!((policy.enforcement.mode, policy.enforcement.failure_policy), (Mode::Enforce, AllowDeny::Allow));
    assert_eq!((policy.missing_session, policy.revoke_requires_mfa), (AllowDeny::Allow, false));
    assert_eq!(policy.timeout, Duration::from_secs(3));
    assert_eq!(policy.admission_window, Duration::from_secs(10));
    assert_eq!(policy.recheck_after, Duration::from_secs(300));
    assert_eq!(policy.active_within, None);
    assert_eq!((policy.scope.priority, policy.scope.callers), (0, None));
    assert_eq!(policy.scope.selector, Selector::default());
    assert_eq!(policy.skip_protocols, HashSet::from(["oauth2-refresh-token".to_owned()]));
    assert_eq!(policy.limits.to_string(), "client=1");
}

#[test]
fn domains_are_kept_in_lower_case_and_secrets_in_the_policys_namespace() {
    let mut spec = full();
    lay_over(&mut spec, json!({ "tenant": { "domain": "ACME.EU.auth0.com", "customDomain": "Login.Acme.com" } }));
    let scope = compiled(&spec).unwrap().scope;
    assert_eq!(scope.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(scope.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(scope.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(scope.callers, Some(ObjectName::new("team", "callers")));
}

fn salvaged(pointer: &str, value: Value) -> Option<FallbackPolicy> {
    let spec = with(pointer, Some(value));
    assert!(compiled(&spec).is_err(), "{spec} compiles and needs no salvage");
    fallback(&Manifest { spec, ..manifest(json!({})) })
}

#[test]
fn a_policy_that_does_not_compile_still_governs_what_it_selects() {
    let mut spec = full();
    lay_over(
        &mut spec,
        json!({
            "tenant": { "customDomain": "Login.acme.com" }, "selector": { "organizations": ["org_1"] }, "priority": 7,
            "mode": "Audit", "failurePolicy": "Deny", "message": "No.", "limits": { "perClient": 0 },
        }),
    );
    let saved = fallback(&Manifest { spec, ..manifest(json!({})) }).unwrap();
    assert_eq!(saved.scope.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(saved.scope.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(saved.scope.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(saved.scope.callers, Some(ObjectName::new("team", "callers")));
    assert_eq!(saved.scope.selector.clients, Some(HashSet::from(["c1".to_owned()])));
    assert_eq!(saved.scope.selector.organizations, Some(HashSet::from(["org_1".to_owned()])));
    assert_eq!((saved.scope.selector.connections, saved.scope.priority), (None, 7));
    assert_eq!((saved.enforcement.mode, saved.enforcement.failure_policy), (Mode::Audit, AllowDeny::Deny));
    assert_eq!(saved.enforcement.message.as_deref(), Some("No."));
}

#[test]
fn a_selector_list_that_cannot_be_read_selects_everything() {
    for list in [json!("c1"), json!(["c1", 5]), json!([]), json!({ "c1": true }), json!(7)] {
        let saved = salvaged("/selector/clientIds", list.clone()).unwrap();
        assert_eq!(saved.scope.selector.clients, None, "{list}");
    }
    let saved = salvaged("/selector", json!("everything")).unwrap();
    assert_eq!(saved.scope.selector, Selector::default());
}

#[test]
fn a_failure_policy_that_cannot_be_read_is_allow() {
    for value in [json!("deny"), json!(1), json!({}), json!(["Deny"])] {
        assert_eq!(salvaged("/failurePolicy", value).unwrap().enforcement.failure_policy, AllowDeny::Allow);
    }
}

#[test]
fn a_tenant_that_cannot_be_read_governs_nothing() {
    for value in [json!("https://acme.auth0.com"), json!("10.0.0.1"), json!(""), json!(1), json!(["acme.auth0.com"])] {
        assert!(salvaged("/tenant/domain", value).is_none());
    }
    assert!(salvaged("/tenant", json!("acme.auth0.com")).is_none());
    assert!(fallback(&Manifest { spec: json!(null), ..manifest(json!({})) }).is_none());
}

#[test]
fn the_rest_that_cannot_be_read_has_its_default() {
    assert_eq!(salvaged("/mode", json!("audit")).unwrap().enforcement.mode, Mode::Enforce);
    assert_eq!(salvaged("/priority", json!("high")).unwrap().scope.priority, 0);
    assert_eq!(salvaged("/message", json!("")).unwrap().enforcement.message, None);
    assert_eq!(salvaged("/tenant/customDomain", json!("http://x")).unwrap().scope.tenant.custom_domain(), None);
}
