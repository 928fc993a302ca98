//! The fields of an answer, and its texts.

use super::*;

#[tokio::test]
async fn answer_without_a_list_has_only_the_fields_that_apply() {
    let some = json!({
        "selector": { "clientIds": ["some"] },
        "overrides": [
            { "name": "over", "users": ["u"], "exempt": true, "expiresAt": "2020-01-01T00:00:00Z" },
            { "name": "staff", "roles": ["staff"], "exempt": true },
        ],
        "message": "Please call us.",
    });
    let mut denying = some.clone();
    denying["selector"] = json!({ "clientIds": ["denying"] });
    denying["missingSession"] = "Deny".into();
    denying["skipProtocols"] = json!([]);
    denying["failurePolicy"] = "Deny".into();
    let service = Setup::default().serve(&[callers(), policy("some", some), policy("denying", denying)]);

    let allowed = |reason: &str| json!({ "block": false, "reason": reason, "revoke_session": false });
    let by = |name: &str, mut answer: Value| {
        answer["policy"] = format!("default/{name}").into();
        answer
    };
    let blocked = |reason: &str, message: &str| {
        by("denying", json!({ "block": true, "reason": reason, "revoke_session": false, "message": message }))
    };
    let ask = |client: &str, more: Value| {
        let mut more = more;
        more["client_id"] = client.into();
        service.decide(more)
    };
    assert_eq!(ask("none", json!({})).await, allowed("no_policy"));
    assert_eq!(ask("some", json!({ "roles": ["a", "staff"] })).await, by("some", allowed("exempt")));
    let refresh = json!({ "protocol": "oauth2-refresh-token", "sid": null });
    assert_eq!(ask("some", refresh.clone()).await, by("some", allowed("skipped_protocol")));
    assert_eq!(ask("some", json!({ "sid": null })).await, by("some", allowed("no_session")));
    assert_eq!(ask("some", json!({ "sid": "" })).await, by("some", allowed("no_session")));
    assert_eq!(ask("some", json!({})).await, by("some", allowed("credentials_missing")));
    let over = ask("some", json!({ "user_id": "u" })).await;
    assert_eq!(over, by("some", allowed("credentials_missing")), "the override has ended");

    assert_eq!(ask("denying", json!({ "roles": ["staff"], "sid": null })).await, by("denying", allowed("exempt")));
    assert_eq!(ask("denying", refresh).await, blocked("no_session", NO_SESSION), "[] skips no protocol");
    assert_eq!(ask("denying", json!({ "sid": "" })).await, blocked("no_session", NO_SESSION));
    assert_eq!(ask("denying", json!({})).await, blocked("credentials_missing", UNAVAILABLE));
}

#[tokio::test]
async fn blocked_user_gets_a_message_and_failures_have_their_own() {
    let spec = json!({ "missingSession": "Deny", "failurePolicy": "Deny" });
    let service = Setup::default().serve(&[callers(), policy("one", spec)]);
    assert_eq!(service.decide(json!({ "sid": null })).await["message"], NO_SESSION);
    assert_eq!(service.decide(json!({})).await["message"], UNAVAILABLE);
    let german = service.decide(json!({ "locale": "de-AT" })).await;
    assert_eq!(
        german["message"],
        "Ihre Sitzungen konnten nicht geprüft werden. Bitte versuchen Sie es in einem Moment erneut."
    );
}

#[tokio::test]
async fn audit_allows_every_login_and_reports_the_enforced_reason() {
    let spec = json!({ "missingSession": "Deny", "failurePolicy": "Deny", "message": "No." });
    let audits = |reason: &str| {
        json!({ "block": false, "reason": "audit", "audited_reason": reason, "revoke_session": false,
            "policy": "default/one" })
    };
    let mut auditing = spec.clone();
    auditing["mode"] = "Audit".into();
    auditing["overrides"] = json!([{ "name": "staff", "roles": ["staff"], "exempt": true }]);
    let by_policy = Setup::default().serve(&[callers(), policy("one", auditing)]);
    let forced = Setup { force_audit: true, ..Setup::default() }.serve(&[callers(), policy("one", spec)]);
    for service in [&by_policy, &forced] {
        assert_eq!(service.decide(json!({ "sid": null })).await, audits("no_session"));
        assert_eq!(service.decide(json!({})).await, audits("credentials_missing"));
    }
    let plain = by_policy.decide(json!({ "roles": ["staff"] })).await;
    assert_eq!(plain, json!({ "block": false, "reason": "exempt", "revoke_session": false, "policy": "default/one" }));

    let lenient = Setup { force_audit: true, ..Setup::default() }.serve(&[callers(), policy("one", json!({}))]);
    let failure = lenient.decide(json!({})).await;
    assert_eq!(
        failure,
        json!({ "block": false, "reason": "credentials_missing", "revoke_session": false, "policy": "default/one" })
    );
}

#[tokio::test]
async fn failure_policy_answers_checks_above_the_concurrency_limit() {
    let denying = json!({ "selector": { "clientIds": ["denying"] }, "failurePolicy": "Deny" });
    let documents = [callers(), credentials(), policy("one", json!({})), policy("denying", denying)];
    let service = Setup { max_in_flight: 0, ..Setup::default() }.serve(&documents);
    let allowed = service.decide(json!({})).await;
    assert_eq!((&allowed["block"], &allowed["reason"]), (&json!(false), &json!("overloaded")), "{allowed}");
    let blocked = service.decide(json!({ "client_id": "denying" })).await;
    assert_eq!((&blocked["block"], &blocked["reason"]), (&json!(true), &json!("overloaded")), "{blocked}");
    assert_eq!(service.decide(json!({ "sid": null })).await["reason"], "no_session", "which needs no place");
}
