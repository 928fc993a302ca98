//! Which manifests compile: valid and invalid values for every rule, with the field and the message of the error.

use super::session_policies::{full, invalid, valid, with};
use std::time::Duration;

use super::*;

pub(super) fn compiled(spec: &Value) -> Result<Policy, Vec<SpecError>> {
    validate(&Manifest { spec: spec.clone(), ..manifest(json!({})) })
}

#[test]
fn rules_of_the_api_server_alone_do_not_stop_a_policy() {
    for (pointer, value, ..) in invalid() {
        let manifest = Manifest { spec: with(pointer, value.clone()), ..manifest(json!({})) };
        let errors = validate(&manifest).unwrap_err();
        let is_new =
            |error: &SpecError| error.message.contains("white space") || error.message.contains("bytes together");
        assert_eq!(compile(&manifest).is_ok(), errors.iter().all(is_new), "{pointer} {value:?}");
        if compile(&manifest).is_ok() {
            assert!(compile_stored(&manifest).is_ok(), "{pointer} {value:?}");
        }
    }
}

#[test]
fn requests_per_second_is_optional() {
    for rate in [1, 16, 10_000] {
        let policy = compiled(&with("/tenant/requestsPerSecond", Some(json!(rate)))).unwrap();
        assert_eq!(policy.requests_per_second, Some(rate));
    }
    assert_eq!(compiled(&with("/tenant/requestsPerSecond", None)).unwrap().requests_per_second, None);
}

#[test]
fn values_within_the_bounds_compile() {
    assert!(compiled(&full()).is_ok());
    for (pointer, value) in valid() {
        if let Err(errors) = compiled(&with(pointer, Some(value.clone()))) {
            panic!("{pointer} {value} does not compile: {errors:?}");
        }
    }
}

#[test]
fn broken_rules_name_their_field_and_what_to_write() {
    for (pointer, value, field, hint) in invalid() {
        let errors = compiled(&with(pointer, value.clone())).expect_err(&format!("{pointer} {value:?}"));
        let named = errors.iter().any(|error| error.field == field && error.message.contains(hint));
        assert!(named, "{pointer} {value:?}: {errors:?} instead of {field}: …{hint}…");
    }
}

#[test]
fn spec_must_be_an_object() {
    for spec in [json!(null), json!([]), json!("x"), json!([full()["tenant"]])] {
        assert_eq!(compiled(&spec).unwrap_err()[0].field, "spec", "{spec}");
    }
}

#[test]
fn group_limit_requires_clients_in_the_selector() {
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
fn errors_of_all_fields_are_reported_together() {
    let mut spec = with("/timeout", Some(json!("1h")));
    merge(&mut spec, json!({ "limits": { "perClient": 0 }, "message": "", "typo": 1 }));
    let errors = compiled(&spec).unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["spec.typo", "spec.limits.perClient", "spec.timeout", "spec.message"]);
    assert_eq!(errors[1].to_string(), "spec.limits.perClient: write a number from 1 to 1000, not 0");
}

#[test]
fn omitted_fields_have_the_defaults_of_the_resource() {
    let policy = policy(json!({ "limits": { "perClient": 1 } }));
    assert_eq!((policy.reentry, policy.strategy), (Reentry::KeepPlace, Strategy::Deny));
    assert_eq!((policy.enforcement.mode, policy.enforcement.failure_policy), (Mode::Enforce, AllowDeny::Allow));
    assert_eq!((policy.missing_session, policy.revoke_requires_mfa), (AllowDeny::Allow, false));
    assert_eq!(policy.timeout, Duration::from_secs(3));
    assert_eq!(policy.admission_window, Duration::from_secs(10));
    assert_eq!(policy.recheck_after, Duration::from_secs(3600));
    assert_eq!(policy.active_within, None);
    assert_eq!((policy.scope.priority, policy.scope.callers), (0, None));
    assert_eq!(policy.scope.selector, Selector::default());
    assert_eq!(policy.skip_protocols, HashSet::from(["oauth2-refresh-token".to_owned()]));
    assert_eq!(policy.limits.to_string(), "client=1");
}

#[test]
fn domains_are_in_lower_case_and_secrets_in_the_namespace() {
    let mut spec = full();
    merge(&mut spec, json!({ "tenant": { "domain": "ACME.EU.auth0.com", "customDomain": "Login.Acme.com" } }));
    let scope = compiled(&spec).unwrap().scope;
    assert_eq!(scope.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(scope.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(scope.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(scope.callers, Some(ObjectName::new("team", "callers")));
}

fn fallback_with(pointer: &str, value: Value) -> Option<FallbackPolicy> {
    let spec = with(pointer, Some(value));
    assert!(compiled(&spec).is_err(), "{spec} compiles");
    fallback(&Manifest { spec, ..manifest(json!({})) })
}

#[test]
fn invalid_policy_still_governs_the_logins_it_selects() {
    let mut spec = full();
    merge(
        &mut spec,
        json!({
            "tenant": { "customDomain": "Login.acme.com" }, "selector": { "organizations": ["org_1"] }, "priority": 7,
            "mode": "Audit", "failurePolicy": "Deny", "message": "No.", "limits": { "perClient": 0 },
        }),
    );
    let fallback = fallback(&Manifest { spec, ..manifest(json!({})) }).unwrap();
    assert_eq!(fallback.scope.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(fallback.scope.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(fallback.scope.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(fallback.scope.callers, Some(ObjectName::new("team", "callers")));
    assert_eq!(fallback.scope.selector.clients, Some(HashSet::from(["c1".to_owned()])));
    assert_eq!(fallback.scope.selector.organizations, Some(HashSet::from(["org_1".to_owned()])));
    assert_eq!((fallback.scope.selector.connections, fallback.scope.priority), (None, 7));
    assert_eq!((fallback.enforcement.mode, fallback.enforcement.failure_policy), (Mode::Audit, AllowDeny::Deny));
    assert_eq!(fallback.enforcement.message.as_deref(), Some("No."));
}

#[test]
fn unreadable_selector_list_selects_everything() {
    for list in [json!("c1"), json!(["c1", 5]), json!([]), json!({ "c1": true }), json!(7)] {
        let fallback = fallback_with("/selector/clientIds", list.clone()).unwrap();
        assert_eq!(fallback.scope.selector.clients, None, "{list}");
    }
    let fallback = fallback_with("/selector", json!("everything")).unwrap();
    assert_eq!(fallback.scope.selector, Selector::default());
}

#[test]
fn unreadable_failure_policy_is_allow() {
    for value in [json!("deny"), json!(1), json!({}), json!(["Deny"])] {
        assert_eq!(fallback_with("/failurePolicy", value).unwrap().enforcement.failure_policy, AllowDeny::Allow);
    }
}

#[test]
fn policy_with_an_unreadable_tenant_governs_nothing() {
    for value in [json!("https://acme.auth0.com"), json!("10.0.0.1"), json!(""), json!(1), json!(["acme.auth0.com"])] {
        assert!(fallback_with("/tenant/domain", value).is_none());
    }
    assert!(fallback_with("/tenant", json!("acme.auth0.com")).is_none());
    assert!(fallback(&Manifest { spec: json!(null), ..manifest(json!({})) }).is_none());
}

#[test]
fn other_unreadable_fields_have_their_defaults() {
    assert_eq!(fallback_with("/mode", json!("audit")).unwrap().enforcement.mode, Mode::Enforce);
    assert_eq!(fallback_with("/priority", json!("high")).unwrap().scope.priority, 0);
    assert_eq!(fallback_with("/message", json!("")).unwrap().enforcement.message, None);
    assert_eq!(fallback_with("/tenant/customDomain", json!("http://x")).unwrap().scope.tenant.custom_domain(), None);
}
