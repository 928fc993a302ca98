//! The names of tenants in requests: which policies a name selects, and what happens to a name that no policy has.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::policy::policy_set::{ActivePolicy, PolicySet, PolicyVersion, TenantProof};

/// The tenants of the tests: the canonical domain, and further names.
const TENANTS: [(&str, Option<&str>, &[&str]); 3] = [
    ("acme.eu.auth0.com", Some("login.acme.com"), &["login.acme.de", "Login.Acme.fr"]),
    ("acme-staging.eu.auth0.com", None, &["login.staging.example"]),
    ("acme.auth0app.com", None, &[]),
];

/// Names in requests, with those of all tenants.
const NAMES: [&str; 14] = [
    "acme.eu.auth0.com",
    "ACME.eu.Auth0.com",
    "login.acme.com",
    "login.acme.de",
    "LOGIN.acme.fr",
    "acme-staging.eu.auth0.com",
    "login.staging.example",
    "acme.auth0app.com",
    "copied.us.auth0.com",
    "Copied.auth0app.COM",
    "copied.us.auth0.com.",
    "login.acme.it",
    "acme",
    "https://acme.eu.auth0.com",
];

fn view(tenants: &[usize], client: Option<&str>) -> CallerView {
    let policies = tenants.iter().map(|tenant| {
        let (domain, custom, names) = TENANTS[*tenant];
        let mut spec = json!({ "tenant": { "domain": domain, "customDomains": names }, "limits": { "perUser": 1 } });
        if let Some(custom) = custom {
            spec["tenant"]["customDomain"] = json!(custom);
        }
        if let Some(client) = client {
            spec["selector"] = json!({ "clientIds": [client] });
        }
        let manifest = Manifest { name: ObjectName::new("team", tenant.to_string()), ..manifest(spec) };
        Arc::new(ActivePolicy {
            version: Arc::new(PolicyVersion::Compiled(compile(&manifest).unwrap())),
            credentials: None,
            tenant_proof: TenantProof::Unproven,
        })
    });
    PolicySet::new(policies.collect(), &[], &HashMap::new(), &CallerAccess::default()).whole_view()
}

fn login(tenant: Option<&str>) -> Login {
    let context = LoginContext { tenant: tenant.map(str::to_owned), ..LoginContext::default() };
    Login::new("u".to_owned(), "c1".to_owned(), Some("s9".to_owned()), context).unwrap()
}

/// What a resolution says: a word, and the domain of the tenant whose policy governs the login.
fn resolved(view: &CallerView, tenant: Option<&str>) -> (&'static str, Option<String>) {
    let domain = |active: &Arc<ActivePolicy>| Some(active.version.scope().tenant.domain().to_owned());
    match view.resolve(&login(tenant)) {
        Resolution::Policy(active) => ("policy", domain(active)),
        Resolution::AssumedTenant(active) => ("assumed", domain(active)),
        Resolution::NoPolicy => ("none", None),
        Resolution::AmbiguousTenant => ("ambiguous", None),
        Resolution::UnknownTenant => ("unknown", None),
    }
}

/// The same by the specification (decision 0.2).
fn expected(tenants: &[usize], name: Option<&str>) -> (&'static str, Option<String>) {
    let governed = |word, tenant: usize| (word, Some(TENANTS[tenant].0.to_owned()));
    let Some(name) = name.map(str::to_ascii_lowercase) else {
        return match tenants {
            [] => ("none", None),
            [one] => governed("policy", *one),
            _ => ("ambiguous", None),
        };
    };
    let has = |tenant: &&usize| {
        let (domain, custom, names) = TENANTS[**tenant];
        let all = [Some(domain), custom].into_iter().flatten().chain(names.iter().copied());
        all.map(str::to_ascii_lowercase).any(|own| own == name)
    };
    if let Some(tenant) = tenants.iter().find(has) {
        return governed("policy", *tenant);
    }
    let canonical = name.trim_end_matches('.');
    match tenants {
        [] => ("none", None),
        [one] if !canonical.ends_with(".auth0.com") && !canonical.ends_with(".auth0app.com") => {
            governed("assumed", *one)
        }
        _ => ("unknown", None),
    }
}

proptest! {
    #[test]
    fn tenant_of_a_login_is_found_as_specified(
        tenants in subsequence(vec![0, 1, 2], 0..=3),
        name in proptest::option::of(select(&NAMES[..])),
    ) {
        prop_assert_eq!(resolved(&view(&tenants, None), name), expected(&tenants, name));
    }

    #[test]
    fn unknown_canonical_domain_never_selects_a_policy(
        tenants in subsequence(vec![0, 1, 2], 0..=3),
        label in "[a-z0-9]{1,20}",
        suffix in select(vec![".auth0.com", ".us.auth0.com", ".AUTH0APP.com"]),
    ) {
        let (word, policy) = resolved(&view(&tenants, None), Some(&format!("x-{label}{suffix}")));
        prop_assert!(policy.is_none() && word != "ambiguous", "{word}");
    }
}

#[test]
fn assumed_tenant_without_a_policy_for_the_login_is_no_policy() {
    assert_eq!(resolved(&view(&[0], Some("c2")), Some("login.acme.it")).0, "none");
    assert_eq!(resolved(&view(&[0], Some("c2")), Some("copied.us.auth0.com")).0, "unknown");
}

#[test]
fn name_that_one_policy_lists_keeps_all_policies_of_the_tenant() {
    let mut index = Index::default();
    let naming = json!({ "tenant": { "customDomains": ["login.acme.de"] }, "selector": { "clientIds": ["c2"] } });
    for (name, mut spec) in [("naming", naming), ("other", json!({}))] {
        spec["limits"] = json!({ "perUser": 1 });
        index.apply_policy(&Manifest { name: ObjectName::new("team", name), ..manifest(spec) });
    }
    let view = index.publish(&CallerAccess::default()).0.whole_view();
    for name in ["login.acme.de", "Login.Acme.DE", "acme.eu.auth0.com"] {
        let login = login(Some(name));
        let Resolution::Policy(active) = view.resolve(&login) else { panic!("{name}: {:?}", view.resolve(&login)) };
        assert_eq!(active.version.scope().name.name(), "other", "{name}");
    }
}

#[test]
fn unreadable_custom_domains_leave_the_readable_ones() {
    let domains = json!(["login.acme.de", "http://x", 5, "other.auth0.com"]);
    let fallback = fallback(&manifest(json!({ "tenant": { "customDomains": domains } }))).unwrap();
    let names: Vec<_> = fallback.scope.tenant.names().collect();
    assert_eq!(names, ["acme.eu.auth0.com", "login.acme.de"]);
}

#[test]
fn check_without_revoking_is_decided_as_under_deny() {
    let strategies = ["Deny", "RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire"];
    for strategy in strategies {
        let check = Check::new(json!({ "limits": { "perClient": 1 }, "strategy": strategy }))
            .oldest_first([session("s1", &["c1"]), session("s9", &[])]);
        let login = check.login();
        let limit_check = check.policy.pre_checks(&login, now()).unwrap().without_revoking();
        let sessions = SessionList::new("u", check.listed.iter().cloned());
        let (revoked, origins) = (HashSet::new(), Origins::default());
        let inputs =
            LimitInputs { sessions: &sessions, admissions: &[], revoked: &revoked, origins: &origins, now: now() };
        let decision = limit_check.decide(inputs);
        assert_eq!(decision, exceeded(LimitScope::Client, 1, 1, false), "{strategy}");
    }
}
