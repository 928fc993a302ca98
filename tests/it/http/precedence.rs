//! Which of several policies answers.

use super::*;

#[tokio::test]
async fn policies_that_do_not_match_cause_no_ambiguity() {
    let mut other = other_tenant();
    other["selector"] = json!({ "clientIds": ["shared", "theirs"] });
    let mine = json!({ "selector": { "clientIds": ["shared", "mine"] } });
    let service = Setup::default().serve(&[callers(), policy("mine", mine), policy("theirs", other)]);
    assert_eq!(service.active_policy(json!({ "client_id": "mine" })).await, "default/mine");
    assert_eq!(service.active_policy(json!({ "client_id": "theirs" })).await, "default/theirs");
    assert_eq!(service.active_policy(json!({ "client_id": "shared" })).await, "tenant_ambiguous");
    assert_eq!(service.active_policy(json!({ "client_id": "none" })).await, "no_policy");
}

#[tokio::test]
async fn priority_takes_precedence_over_selector_specificity() {
    let of = |name: &str, priority: i32, selector: Value| {
        policy(name, json!({ "priority": priority, "selector": selector }))
    };
    let service = Setup::default().serve(&[
        callers(),
        of("all", 0, json!({})),
        of("two", 0, json!({ "organizations": ["org_1"], "connections": ["db"] })),
        of("organization", 0, json!({ "organizations": ["org_1", "org_3"] })),
        of("client", 0, json!({ "clientIds": ["named"] })),
        of("client-and-connection", 0, json!({ "clientIds": ["named"], "connections": ["db"] })),
        of("urgent", 7, json!({ "organizations": ["org_2"] })),
        of("last", -3, json!({ "clientIds": ["low"] })),
    ]);
    for (more, expected) in [
        (json!({}), "all"),
        (json!({ "client_id": "low" }), "all"),
        (json!({ "client_id": "named" }), "client"),
        (json!({ "client_id": "Named" }), "all"),
        (json!({ "client_id": "named", "organization_id": "org_1" }), "client"),
        (json!({ "client_id": "named", "connection": "db" }), "client-and-connection"),
        (json!({ "client_id": "named", "connection": "db", "organization_id": "org_2" }), "urgent"),
        (json!({ "organization_id": "org_1" }), "organization"),
        (json!({ "organization_id": "org_1", "connection": "db" }), "two"),
        (json!({ "organization_id": "org_3", "connection": "db" }), "organization"),
        (json!({ "organization_id": "ORG_1" }), "all"),
        (json!({ "connection": "db" }), "all"),
    ] {
        assert_eq!(service.active_policy(more.clone()).await, format!("default/{expected}"), "{more}");
    }
}

#[tokio::test]
async fn older_policy_takes_precedence_then_the_first_by_name() {
    let old = created(policy("z-old", json!({})), "2026-01-01T00:00:00Z");
    let new = created(policy("a-new", json!({})), "2026-06-01T00:00:00Z");
    let ageless = |name| policy(name, json!({}));
    let active_policy = async |documents: &[Value]| {
        let documents = [&[callers()], documents].concat();
        Setup::default().serve(&documents).active_policy(json!({})).await
    };
    assert_eq!(active_policy(&[new.clone(), old.clone()]).await, "default/z-old");
    assert_eq!(active_policy(&[old, new.clone(), ageless("a-ageless")]).await, "default/z-old");
    assert_eq!(active_policy(&[new]).await, "default/a-new", "it takes over when the older goes");
    assert_eq!(active_policy(&[ageless("b"), ageless("a")]).await, "default/a");
}

#[tokio::test]
async fn invalid_policy_answers_for_the_readable_part_of_its_selector() {
    let broken = |name: &str, more: Value| {
        let mut broken = policy(name, more);
        broken["spec"]["limits"] = json!({ "perClient": 0 });
        broken
    };
    let strict = json!({ "selector": { "clientIds": ["strict"] }, "failurePolicy": "Deny", "message": "Ask us." });
    let odd = json!({ "selector": { "clientIds": ["odd"] }, "failurePolicy": "Perhaps" });
    let auditing = json!({ "selector": { "clientIds": ["audited"] }, "failurePolicy": "Deny", "mode": "Audit" });
    let service = Setup::default().serve(&[
        callers(),
        policy("good", json!({})),
        broken("strict", strict),
        broken("odd", odd),
        broken("auditing", auditing),
    ]);
    assert_eq!(
        service.decide(json!({ "client_id": "strict", "sid": null })).await,
        json!({ "block": true, "reason": "policy_invalid", "revoke_session": false, "policy": "default/strict",
            "message": UNAVAILABLE })
    );
    assert_eq!(
        service.decide(json!({ "client_id": "odd" })).await,
        json!({ "block": false, "reason": "policy_invalid", "revoke_session": false, "policy": "default/odd" })
    );
    assert_eq!(
        service.decide(json!({ "client_id": "audited" })).await,
        json!({ "block": false, "reason": "audit", "audited_reason": "policy_invalid", "revoke_session": false,
            "policy": "default/auditing" })
    );
    assert_eq!(service.decide(json!({})).await["reason"], "credentials_missing");

    let unreadable = broken("unreadable", json!({ "selector": { "clientIds": "strict" }, "failurePolicy": "Deny" }));
    let all = Setup::default().serve(&[callers(), unreadable]);
    assert_eq!(all.decide(json!({ "client_id": "any" })).await["reason"], "policy_invalid");
    let nowhere = broken("nowhere", json!({ "tenant": { "domain": "https://acme" }, "failurePolicy": "Deny" }));
    let nothing = Setup::default().token(TOKEN).serve(&[callers(), nowhere]);
    assert_eq!(nothing.decide(json!({})).await["reason"], "no_policy");
}
