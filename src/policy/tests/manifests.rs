//! What a manifest may say: for every rule something that is accepted and something that is refused, with the field that
//! is named and the words that help. The schema's tests hold the resource to the same tables.

use super::*;

/// A manifest that uses every field that others depend on.
pub(super) fn full() -> Value {
    json!({
        "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
        "callerSecretRef": { "name": "callers" },
        "selector": { "clientIds": ["c1"] },
        "limits": { "perClient": 1 },
        "overrides": [{ "name": "vip", "users": ["u"], "limits": { "perUser": 5 } }],
    })
}

/// The manifest above with one field set, or taken away.
pub(super) fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut spec = full();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer} has a parent"));
    match (parent, value) {
        (Value::Object(parent), Some(value)) => drop(parent.insert(name.to_owned(), value)),
        (Value::Object(parent), None) => drop(parent.remove(name)),
        (Value::Array(parent), Some(value)) => parent[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer} is a field"),
    }
    spec
}

pub(super) fn compiled(spec: &Value) -> Result<Policy, Vec<SpecError>> {
    compile(&Manifest { spec: spec.clone(), ..manifest(json!({})) })
}

fn text(length: usize) -> String {
    "é".repeat(length)
}

/// So many different texts of the greatest length that is allowed.
fn texts(count: usize, length: usize) -> Value {
    (0..count).map(|n| format!("{n:0>3}{}", text(length - 3))).collect()
}

fn many_overrides(count: usize) -> Value {
    (0..count).map(|n| json!({ "name": n.to_string(), "users": ["u"], "exempt": true })).collect()
}

/// What is accepted, for each field.
pub(super) fn accepted() -> Vec<(&'static str, Value)> {
    let label = "a".repeat(49);
    let domain = format!("{label}.{label}.{label}.{label}.{label}.com");
    assert_eq!(domain.len(), 253);
    let exempt = |extra: Value| {
        let mut exception = json!({ "name": "x", "exempt": true });
        lay_over(&mut exception, extra);
        json!([exception])
    };
    let mut rows = vec![
        ("/tenant/domain", json!("a.bc")),
        ("/tenant/domain", json!("ACME.EU.Auth0.com")),
        ("/tenant/domain", json!("0-a.auth0.com")),
        ("/tenant/domain", json!("acme.xn--p1ai")),
        ("/tenant/domain", json!(domain)),
        ("/tenant/customDomain", json!("login.acme.com")),
        ("/tenant/customDomain", Value::Null),
        ("/tenant/credentialsSecretRef/name", json!("x".repeat(253))),
        ("/tenant/requestsPerSecond", Value::Null),
        ("/callerSecretRef", Value::Null),
        ("/selector", json!({ "organizations": ["org_1"], "connections": ["db"] })),
        ("/selector", Value::Null),
        ("/selector/clientIds", texts(100, 128)),
        ("/selector/organizations", texts(100, 64)),
        ("/selector/connections", texts(100, 64)),
        ("/priority", json!(i32::MAX)),
        ("/priority", json!(i32::MIN)),
        ("/limits", json!({ "perClient": 1, "perGroup": 1000, "perUser": 1000 })),
        ("/limits", json!({ "perGroup": 1 })),
        ("/limits", json!({ "perUser": 1 })),
        ("/revokeRequiresMfa", json!(true)),
        ("/skipProtocols", json!([])),
        ("/skipProtocols", texts(32, 64)),
        ("/overrides", json!([])),
        ("/overrides", many_overrides(32)),
        ("/overrides", exempt(json!({ "users": texts(200, 300) }))),
        ("/overrides", exempt(json!({ "roles": texts(50, 128) }))),
        ("/overrides", exempt(json!({ "organizations": texts(100, 64) }))),
        ("/overrides", exempt(json!({ "connections": texts(100, 64) }))),
        ("/overrides", exempt(json!({ "clientIds": texts(100, 128) }))),
        ("/overrides/0/name", json!(text(63))),
        ("/overrides/0/exempt", json!(false)),
        ("/overrides/0/limits", json!({ "perGroup": 2 })),
        ("/overrides/0/expiresAt", json!("2027-01-31T00:00:00Z")),
        ("/overrides/0/expiresAt", json!("2027-01-31T00:00:00.5+02:00")),
        ("/activeWithin", json!("12h")),
        ("/activeWithin", json!("1ns")),
        ("/activeWithin", json!("9999h")),
        ("/timeout", json!("1ns")),
        ("/timeout", json!("10s")),
        ("/timeout", json!("1.5s")),
        ("/timeout", json!("1s500ms20us")),
        ("/timeout", Value::Null),
        ("/admissionWindow", json!("0s")),
        ("/admissionWindow", json!("10m")),
        ("/admissionWindow", json!("1m30s")),
        ("/recheckAfter", json!("0s")),
        ("/recheckAfter", json!("24h")),
        ("/message", json!(text(1))),
        ("/message", json!(text(500))),
    ];
    let words = [
        ("/reentry", &["KeepPlace", "CountOthers"][..]),
        ("/strategy", &["Deny", "RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire"]),
        ("/mode", &["Enforce", "Audit"]),
        ("/missingSession", &["Allow", "Deny"]),
        ("/failurePolicy", &["Allow", "Deny"]),
    ];
    rows.extend(words.into_iter().flat_map(|(field, words)| words.iter().map(move |word| (field, json!(word)))));
    rows
}

/// What is refused: the field that is set (or, without a value, taken away), the field that is named, and words that the
/// message must have.
pub(super) fn refused() -> Vec<(&'static str, Option<Value>, &'static str, &'static str)> {
    let mut rows = vec![
        ("/tenant", None, "spec", "missing field `tenant`"),
        ("/tenant/domain", None, "spec.tenant", "missing field `domain`"),
        ("/tenant/credentialsSecretRef", None, "spec.tenant", "missing field `credentialsSecretRef`"),
        ("/tenant/credentialsSecretRef/name", None, "spec.tenant.credentialsSecretRef", "missing field `name`"),
        ("/limits", None, "spec", "missing field `limits`"),
        ("/overrides/0/name", None, "spec.overrides[0]", "missing field `name`"),
        ("/callerSecretRef/name", None, "spec.callerSecretRef", "missing field `name`"),
    ];
    let mut bad = |pointer, value: Value, field, hint| rows.push((pointer, Some(value), field, hint));
    for domain in [
        "",
        "a.b",
        "localhost",
        "https://acme.auth0.com",
        "acme.auth0.com/",
        "acme.auth0.com:443",
        "acme.auth0.com.",
        ".auth0.com",
        "acme..com",
        "-acme.com",
        "acme-.com",
        "acme.-com",
        "acme_1.auth0.com",
        "acmé.auth0.com",
        "10.0.0.1",
        "[::1]",
        "acme.1com",
        "user@acme.auth0.com",
        " acme.auth0.com",
        "acme.auth0.com\n",
    ] {
        bad("/tenant/domain", json!(domain), "spec.tenant.domain", "write one such as acme.eu.auth0.com");
        bad("/tenant/customDomain", json!(domain), "spec.tenant.customDomain", "write one such as login.acme.com");
    }
    let long_domain = format!("{}com", "a.".repeat(126));
    bad("/tenant/domain", json!(format!("{long_domain}x")), "spec.tenant.domain", "write one such as");
    let secret = "write the name of a Secret";
    bad("/tenant/credentialsSecretRef/name", json!(""), "spec.tenant.credentialsSecretRef.name", secret);
    bad("/tenant/credentialsSecretRef/name", json!("x".repeat(254)), "spec.tenant.credentialsSecretRef.name", secret);
    bad("/callerSecretRef/name", json!(""), "spec.callerSecretRef.name", secret);
    bad("/callerSecretRef/name", json!("x".repeat(254)), "spec.callerSecretRef.name", secret);
    bad("/callerSecretRef/name", json!("auth0"), "spec.callerSecretRef.name", "a Secret of their own");
    for rate in [0, -1, 10_001] {
        bad("/tenant/requestsPerSecond", json!(rate), "spec.tenant.requestsPerSecond", "from 1 to 10000");
    }

    for (pointer, field, item, most, longest) in [
        ("/selector/clientIds", "spec.selector.clientIds", "spec.selector.clientIds[1]", 100, 128),
        ("/selector/organizations", "spec.selector.organizations", "spec.selector.organizations[1]", 100, 64),
        ("/selector/connections", "spec.selector.connections", "spec.selector.connections[1]", 100, 64),
        ("/overrides/0/users", "spec.overrides[0].users", "spec.overrides[0].users[1]", 200, 300),
        ("/overrides/0/roles", "spec.overrides[0].roles", "spec.overrides[0].roles[1]", 50, 128),
        (
            "/overrides/0/organizations",
            "spec.overrides[0].organizations",
            "spec.overrides[0].organizations[1]",
            100,
            64,
        ),
        ("/overrides/0/connections", "spec.overrides[0].connections", "spec.overrides[0].connections[1]", 100, 64),
        ("/overrides/0/clientIds", "spec.overrides[0].clientIds", "spec.overrides[0].clientIds[1]", 100, 128),
        ("/skipProtocols", "spec.skipProtocols", "spec.skipProtocols[1]", 32, 64),
    ] {
        if pointer != "/skipProtocols" {
            bad(pointer, json!([]), field, "write at least one value, or leave the list out");
        }
        bad(pointer, texts(most + 1, longest), field, "write at most");
        bad(pointer, json!(["a", text(longest + 1)]), item, "write 1 to");
        bad(pointer, json!(["a", ""]), item, "write 1 to");
        bad(pointer, json!(["a", "a"]), item, "write it once");
        bad(pointer, json!("a"), field, "expected a sequence");
        bad(pointer, json!(["a", 1]), item, "expected a string");
        bad(pointer, json!(["a", null]), item, "expected a string");
    }

    bad("/limits", json!({}), "spec.limits", "write at least one of perClient, perGroup and perUser");
    bad(
        "/limits",
        json!({ "perClient": null }),
        "spec.limits",
        "write at least one of perClient, perGroup and perUser",
    );
    bad("/overrides/0/limits", json!({}), "spec.overrides[0].limits", "write at least one of perClient");
    for number in [0, -1, 1001] {
        for (pointer, field) in [
            ("/limits/perClient", "spec.limits.perClient"),
            ("/limits/perGroup", "spec.limits.perGroup"),
            ("/limits/perUser", "spec.limits.perUser"),
            ("/overrides/0/limits/perClient", "spec.overrides[0].limits.perClient"),
            ("/overrides/0/limits/perGroup", "spec.overrides[0].limits.perGroup"),
            ("/overrides/0/limits/perUser", "spec.overrides[0].limits.perUser"),
        ] {
            bad(pointer, json!(number), field, "write a number from 1 to 1000");
        }
    }
    bad("/limits/perClient", json!("1"), "spec.limits.perClient", "expected i32");
    bad("/limits/perClient", json!(1.5), "spec.limits.perClient", "expected i32");
    bad("/priority", json!(2_147_483_648_i64), "spec.priority", "expected i32");

    bad("/overrides", many_overrides(33), "spec.overrides", "write at most 32");
    let twice =
        json!([{ "name": "a", "users": ["u"], "exempt": true }, { "name": "a", "users": ["v"], "exempt": true }]);
    bad("/overrides", twice, "spec.overrides[1].name", "give each its own");
    bad("/overrides/0/name", json!(""), "spec.overrides[0].name", "write 1 to 63 characters");
    bad("/overrides/0/name", json!(text(64)), "spec.overrides[0].name", "write 1 to 63 characters");
    bad("/overrides/0/exempt", json!(true), "spec.overrides[0]", "either limits or exempt: true");
    bad("/overrides/0", json!({ "name": "a", "users": ["u"] }), "spec.overrides[0]", "either limits or exempt: true");
    bad(
        "/overrides/0",
        json!({ "name": "a", "exempt": true }),
        "spec.overrides[0]",
        "write at least one of users, roles",
    );
    for time in ["", "tomorrow", "2027-01-31", "2027-01-31T00:00:00", "2027-02-30T00:00:00Z"] {
        bad("/overrides/0/expiresAt", json!(time), "spec.overrides[0].expiresAt", "write RFC 3339, such as");
    }

    for (pointer, field, bounds) in [
        ("/activeWithin", "spec.activeWithin", &["0s", "0.1ns"][..]),
        ("/timeout", "spec.timeout", &["0s", "10s1ns", "1h"]),
        ("/admissionWindow", "spec.admissionWindow", &["10m1ns", "1h"]),
        ("/recheckAfter", "spec.recheckAfter", &["24h1ns", "25h"]),
    ] {
        let grammar = ["", "5", "0", "-1s", "1d", "1 s", "1S", "s", "1s ", "1s1", "PT1S", "000000000000001s1"];
        for value in bounds.iter().chain(&grammar) {
            bad(pointer, json!(value), field, "write a duration");
        }
        bad(pointer, json!(5), field, "expected a string");
    }
    bad("/message", json!(""), "spec.message", "write 1 to 500 characters");
    bad("/message", json!(text(501)), "spec.message", "write 1 to 500 characters");
    for (pointer, field) in [
        ("/reentry", "spec.reentry"),
        ("/strategy", "spec.strategy"),
        ("/mode", "spec.mode"),
        ("/missingSession", "spec.missingSession"),
        ("/failurePolicy", "spec.failurePolicy"),
    ] {
        bad(pointer, json!("deny"), field, "expected");
    }
    for (pointer, field) in [
        ("/tenant", "spec.tenant"),
        ("/tenant/credentialsSecretRef", "spec.tenant.credentialsSecretRef"),
        ("/callerSecretRef", "spec.callerSecretRef"),
        ("/selector", "spec.selector"),
        ("/limits", "spec.limits"),
        ("/overrides/0", "spec.overrides[0]"),
        ("/overrides/0/limits", "spec.overrides[0].limits"),
    ] {
        bad(pointer, json!([]), field, "write fields with their names");
        bad(pointer, json!("x"), field, "expected");
    }
    for (pointer, field) in [
        ("/limit", "spec.limit"),
        ("/tenant/audience", "spec.tenant.audience"),
        ("/limits/perDevice", "spec.limits.perDevice"),
        ("/selector/clients", "spec.selector.clients"),
        ("/overrides/0/user", "spec.overrides[0].user"),
    ] {
        bad(pointer, json!("x"), field, "no such field");
    }
    rows
}

#[test]
fn a_ceiling_that_would_not_be_kept_is_refused_in_so_many_words() {
    for rate in [1, 10_000] {
        let errors = compiled(&with("/tenant/requestsPerSecond", Some(json!(rate)))).unwrap_err();
        let [error] = &errors[..] else { panic!("one error: {errors:?}") };
        assert_eq!(error.field, "spec.tenant.requestsPerSecond");
        assert!(error.message.contains("does not keep a ceiling yet"), "{error}");
    }
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
    use crate::crd::{Reentry, Strategy};
    use std::time::Duration;
    assert_eq!((policy.reentry, policy.strategy), (Reentry::KeepPlace, Strategy::Deny));
    assert_eq!((policy.stance.mode, policy.stance.failure_policy), (Mode::Enforce, AllowDeny::Allow));
    assert_eq!((policy.missing_session, policy.revoke_requires_mfa), (AllowDeny::Allow, false));
    assert_eq!(policy.timeout, Duration::from_secs(3));
    assert_eq!(policy.admission_window, Duration::from_secs(10));
    assert_eq!(policy.recheck_after, Duration::from_secs(300));
    assert_eq!(policy.active_within, None);
    assert_eq!((policy.claim.priority, policy.claim.callers), (0, None));
    assert_eq!(policy.claim.selector, Selector::default());
    assert_eq!(policy.skip_protocols, HashSet::from(["oauth2-refresh-token".to_owned()]));
    assert_eq!(policy.limits.to_string(), "client=1");
}

#[test]
fn domains_are_kept_in_lower_case_and_secrets_in_the_policys_namespace() {
    let mut spec = full();
    lay_over(&mut spec, json!({ "tenant": { "domain": "ACME.EU.auth0.com", "customDomain": "Login.Acme.com" } }));
    let claim = compiled(&spec).unwrap().claim;
    assert_eq!(claim.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(claim.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(claim.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(claim.callers, Some(ObjectName::new("team", "callers")));
}

fn salvaged(pointer: &str, value: Value) -> Option<Salvage> {
    let spec = with(pointer, Some(value));
    assert!(compiled(&spec).is_err(), "{spec} compiles and needs no salvage");
    salvage(&Manifest { spec, ..manifest(json!({})) })
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
    let saved = salvage(&Manifest { spec, ..manifest(json!({})) }).unwrap();
    assert_eq!(saved.claim.tenant.domain(), "acme.eu.auth0.com");
    assert_eq!(saved.claim.tenant.custom_domain(), Some("login.acme.com"));
    assert_eq!(saved.claim.credentials, ObjectName::new("team", "auth0"));
    assert_eq!(saved.claim.callers, Some(ObjectName::new("team", "callers")));
    assert_eq!(saved.claim.selector.clients, Some(HashSet::from(["c1".to_owned()])));
    assert_eq!(saved.claim.selector.organizations, Some(HashSet::from(["org_1".to_owned()])));
    assert_eq!((saved.claim.selector.connections, saved.claim.priority), (None, 7));
    assert_eq!((saved.stance.mode, saved.stance.failure_policy), (Mode::Audit, AllowDeny::Deny));
    assert_eq!(saved.stance.message.as_deref(), Some("No."));
}

#[test]
fn a_selector_list_that_cannot_be_read_selects_everything() {
    for list in [json!("c1"), json!(["c1", 5]), json!([]), json!({ "c1": true }), json!(7)] {
        let saved = salvaged("/selector/clientIds", list.clone()).unwrap();
        assert_eq!(saved.claim.selector.clients, None, "{list}");
    }
    let saved = salvaged("/selector", json!("everything")).unwrap();
    assert_eq!(saved.claim.selector, Selector::default());
}

#[test]
fn a_failure_policy_that_cannot_be_read_is_allow() {
    for value in [json!("deny"), json!(1), json!({}), json!(["Deny"])] {
        assert_eq!(salvaged("/failurePolicy", value).unwrap().stance.failure_policy, AllowDeny::Allow);
    }
}

#[test]
fn a_tenant_that_cannot_be_read_governs_nothing() {
    for value in [json!("https://acme.auth0.com"), json!("10.0.0.1"), json!(""), json!(1), json!(["acme.auth0.com"])] {
        assert!(salvaged("/tenant/domain", value).is_none());
    }
    assert!(salvaged("/tenant", json!("acme.auth0.com")).is_none());
    assert!(salvage(&Manifest { spec: json!(null), ..manifest(json!({})) }).is_none());
}

#[test]
fn the_rest_that_cannot_be_read_has_its_default() {
    assert_eq!(salvaged("/mode", json!("audit")).unwrap().stance.mode, Mode::Enforce);
    assert_eq!(salvaged("/priority", json!("high")).unwrap().claim.priority, 0);
    assert_eq!(salvaged("/message", json!("")).unwrap().stance.message, None);
    assert_eq!(salvaged("/tenant/customDomain", json!("http://x")).unwrap().claim.tenant.custom_domain(), None);
}
