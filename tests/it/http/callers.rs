//! Which caller a token identifies, and which policies it uses.

use super::*;

#[tokio::test]
async fn unknown_caller_is_rejected() {
    let documents = [callers(), policy("one", json!({}))];
    let open = [policy("one", json!({ "callerSecretRef": null }))];
    let closed = Setup::default().serve(&documents);
    let all_named = Setup::anonymous().serve(&documents);
    let anonymous = Setup::anonymous().serve(&open);
    let not_asked_for = Setup::default().serve(&open);
    let body = login(json!({}));

    for (service, token, status) in [
        (&closed, Some(TOKEN), 200),
        (&closed, Some("nobody-knows-this-token"), 401),
        (&closed, None, 401),
        (&all_named, Some(TOKEN), 200),
        (&all_named, Some("nobody-knows-this-token"), 401),
        (&all_named, None, 401),
        (&anonymous, None, 200),
        (&anonymous, Some("nobody-knows-this-token"), 401),
        (&not_asked_for, None, 401),
        (&not_asked_for, Some(TOKEN), 401),
    ] {
        let reply = service.ask_as(token, &body).await;
        assert_eq!(reply.status, status, "{token:?}: {}", reply.body);
        if status == 401 {
            assert_eq!(reply.error().1, "unauthorized");
        }
    }
    let nothing = Setup::anonymous().serve(&[]);
    assert_eq!(nothing.decide_as(None, json!({})).await["reason"], "no_policy");
    assert_eq!(Setup::default().serve(&[]).ask_as(None, &body).await.error(), (401, "unauthorized"));
}

#[tokio::test]
async fn unknown_caller_is_not_rejected_before_all_callers_are_read() {
    let documents = [
        callers(),
        policy("one", json!({})),
        policy("two", json!({ "callerSecretRef": { "name": "late" }, "selector": { "clientIds": ["two"] } })),
    ];
    let body = login(json!({}));
    for (awaited, expected) in [(&["late"][..], (503, "not_ready")), (&["tenant"], (401, "unauthorized"))] {
        let readiness = Readiness::default();
        let _latch = readiness.delay_for("Secrets");
        let service = Setup { awaited, readiness, ..Setup::default() }.serve(&documents);
        assert_eq!(service.ask_as(Some(TOKEN), &body).await.status, 200);
        assert_eq!(service.ask_as(Some(OTHER_TOKEN), &body).await.error(), expected, "{awaited:?}");
        assert_eq!(service.ask_as(None, &body).await.error(), (401, "unauthorized"), "no Secret has this token");
    }
    // A Pod that is ready without the Secret answers strangers as ever: nothing bounds how long it lacks it.
    let service = Setup { awaited: &["late"], ..Setup::default() }.serve(&documents);
    assert_eq!(service.ask_as(Some(OTHER_TOKEN), &body).await.error(), (401, "unauthorized"));
    // The content is an answer, and so is that it does not exist.
    let late = named("callers", "late", json!({ "a": OTHER_TOKEN }));
    let service = Setup { awaited: &["late"], ..Setup::default() }.serve(&[&documents[..], &[late]].concat());
    assert_eq!(service.ask_as(Some(OTHER_TOKEN), &body).await.status, 200);
    assert_eq!(service.ask_as(Some(GLOBAL_TOKEN), &body).await.error(), (401, "unauthorized"));
    let service = Setup::default().serve(&documents);
    assert_eq!(service.ask_as(Some(OTHER_TOKEN), &body).await.error(), (401, "unauthorized"));
}

#[tokio::test]
async fn caller_is_identified_by_exactly_one_bearer_token() {
    let service = Setup::anonymous().serve(&[
        callers(),
        policy("open", json!({ "callerSecretRef": null })),
        policy("one", json!({ "priority": 1 })),
    ]);
    let send = |values: &[&str]| {
        let mut request = request(None, login(json!({})).to_string());
        for value in values {
            request.headers_mut().append("authorization", value.parse().unwrap());
        }
        service.send(request)
    };
    for good in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}"), format!("BEARER  {TOKEN} ")] {
        assert_eq!(send(&[&good]).await.body["policy"], "default/one", "{good}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let two = [bearer.as_str(), bearer.as_str()];
    let others = [
        &[""][..],
        &["Bearer"],
        &["Bearer "],
        &[TOKEN],
        &["Basic YTpi"],
        &["Digest x"],
        &["Bearer a-callers-token-of-some-lengt"],
        &["Bearer A-CALLERS-TOKEN-OF-SOME-LENGTH"],
        &two,
    ];
    for bad in others {
        assert_eq!(send(bad).await.error(), (401, "unauthorized"), "{bad:?}");
    }
}

#[tokio::test]
async fn caller_uses_only_its_own_policies() {
    let service = Setup::anonymous().token(GLOBAL_TOKEN).serve(&[
        callers(),
        named("callers", "others", json!({ "a": OTHER_TOKEN })),
        policy("mine", json!({ "selector": { "clientIds": ["mine"] } })),
        policy("theirs", json!({ "selector": { "clientIds": ["theirs"] }, "callerSecretRef": { "name": "others" } })),
        policy("open", json!({ "selector": { "clientIds": ["open"] }, "callerSecretRef": null })),
    ]);
    let callers = [(Some(TOKEN), "mine"), (Some(OTHER_TOKEN), "theirs"), (Some(GLOBAL_TOKEN), "open"), (None, "open")];
    for (token, own) in callers {
        for client in ["mine", "theirs", "open", "elsewhere"] {
            let answer = service.decide_as(token, json!({ "client_id": client })).await;
            let expected = if client == own { "credentials_missing" } else { "no_policy" };
            assert_eq!(answer["reason"], expected, "{token:?} {client}");
        }
    }
}

#[tokio::test]
async fn token_in_two_secrets_uses_the_policies_of_both() {
    let service = Setup::default().serve(&[
        callers(),
        named("callers", "others", json!({ "a": TOKEN, "b": OTHER_TOKEN })),
        policy("mine", json!({ "selector": { "clientIds": ["mine"] } })),
        policy("theirs", json!({ "selector": { "clientIds": ["theirs"] }, "callerSecretRef": { "name": "others" } })),
    ]);
    assert_eq!(service.active_policy(json!({ "client_id": "mine" })).await, "default/mine");
    assert_eq!(service.active_policy(json!({ "client_id": "theirs" })).await, "default/theirs");
    let other = service.decide_as(Some(OTHER_TOKEN), json!({ "client_id": "mine" })).await;
    assert_eq!(other["reason"], "no_policy");
}

#[tokio::test]
async fn short_token_does_not_disable_the_others_in_its_secret() {
    let tokens = json!({ "old": format!(" {TOKEN}\n"), "new": OTHER_TOKEN, "short": "fifteen-letters", "empty": "",
        "least": "sixteen-letters." });
    let service = Setup::default().serve(&[named("callers", "callers", tokens), policy("one", json!({}))]);
    for good in [TOKEN, OTHER_TOKEN, "sixteen-letters."] {
        assert_eq!(service.decide_as(Some(good), json!({})).await["policy"], "default/one", "{good}");
    }
    for bad in ["fifteen-letters", "", "old"] {
        assert_eq!(service.ask_as(Some(bad), &login(json!({}))).await.error(), (401, "unauthorized"), "{bad}");
    }
    let wrong_type = named("credentials", "callers", json!({ "a": TOKEN }));
    let service = Setup::anonymous().serve(&[wrong_type, policy("one", json!({}))]);
    assert_eq!(service.ask_as(Some(TOKEN), &login(json!({}))).await.error(), (401, "unauthorized"));
}

#[tokio::test]
async fn tenant_of_a_request_selects_the_policies() {
    let mut acme = json!({ "priority": 5 });
    acme["tenant"] = json!({ "customDomain": "Login.Acme.com" });
    let service = Setup::default().serve(&[callers(), policy("acme", acme), policy("other", other_tenant())]);

    let ambiguous = json!({ "block": false, "reason": "tenant_ambiguous", "revoke_session": false });
    for none in [json!({}), json!({ "tenant": "" }), json!({ "tenant": null })] {
        assert_eq!(service.decide(none.clone()).await, ambiguous, "{none}");
    }
    for name in [DOMAIN, "ACME.EU.Auth0.com", "login.acme.com", "LOGIN.acme.COM"] {
        assert_eq!(service.active_policy(json!({ "tenant": name })).await, "default/acme", "{name}");
    }
    assert_eq!(service.active_policy(json!({ "tenant": OTHER_DOMAIN })).await, "default/other");
    for unknown in ["acme.us.auth0.com", "acme.eu.auth0.com.", "https://acme.eu.auth0.com", "acme"] {
        assert_eq!(service.active_policy(json!({ "tenant": unknown })).await, "tenant_unknown", "{unknown}");
    }
}
