//! Secrets as people write them: which keys of a callers' Secret are tokens, and what the conditions say of a Secret that
//! cannot work.

use serde_json::{Value, json};
use simulator::Simulator;

use crate::common::{DOMAIN, Running, TOKEN, callers, credentials, eventually, folder, policy, tenant, write};

/// A callers' Secret with these entries.
fn callers_with(entries: Value) -> Value {
    let mut secret = callers();
    secret["stringData"] = entries;
    secret
}

async fn serve(tenant: &Simulator, secrets: &[Value]) -> (Running, Value) {
    let documents = [secrets, &[policy("one", json!({}))]].concat();
    let service = Running::folder(tenant, &documents, &[]).await;
    let settled = || async { shown(&service).await["conditions"][1]["reason"] != "Unproven" };
    eventually("the credential is probed", settled).await;
    let shown = shown(&service).await;
    (service, shown)
}

async fn shown(service: &Running) -> Value {
    service.debug().await["policies"][0].take()
}

/// The condition `Ready`: its reason and its message.
fn ready(shown: &Value) -> (&str, &str) {
    let condition = &shown["conditions"][2];
    assert_eq!(condition["type"], "Ready");
    (condition["reason"].as_str().unwrap(), condition["message"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_slot_of_a_callers_secret_is_absent() {
    let tenant = tenant().await;
    for empty in ["", " \n"] {
        let secret = callers_with(json!({ "current": TOKEN, "previous": empty, "next": null, "description": empty }));
        let (service, shown) = serve(&tenant, &[credentials(), secret]).await;
        assert_eq!(ready(&shown), ("Ready", "the policy is active as written"), "{shown}");
        assert_eq!(service.status(TOKEN).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn value_of_another_key_is_announced_as_no_token() {
    let tenant = tenant().await;
    for (key, value, works) in [
        ("description", "owned-by-team-login", 200),
        ("password", "0123456789abcdef", 200),
        ("note", "The token of our Action, see the wiki.", 401),
        ("Token", "0123456789abcdef", 200),
    ] {
        let secret = callers_with(json!({ "action": TOKEN, key: value }));
        let (service, shown) = serve(&tenant, &[credentials(), secret]).await;
        let (reason, message) = ready(&shown);
        assert_eq!(reason, "Ready", "{shown}");
        assert!(message.contains(&format!("\"{key}\"")) && message.contains("action-*"), "{message}");
        assert!(!message.contains(value), "{message}");
        assert_eq!((service.status(TOKEN).await, service.status(value).await), (200, works), "{key}");
        let warnings = format!("session_checker_policy_warnings{{policy=\"default/one\",tenant=\"{DOMAIN}\"}}");
        assert_eq!(service.metric(&warnings).await, Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_for_tokens_need_no_note() {
    let tenant = tenant().await;
    for key in ["token", "token-1", "action", "action-2027", "current", "previous", "next"] {
        let (service, shown) = serve(&tenant, &[credentials(), callers_with(json!({ key: TOKEN }))]).await;
        assert_eq!(ready(&shown), ("Ready", "the policy is active as written"), "{shown}");
        assert_eq!(service.status(TOKEN).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_secret_without_a_token_is_not_ready() {
    let tenant = tenant().await;
    for entries in [json!({}), json!({ "token": "" }), json!({ "description": "none yet" })] {
        let (_service, shown) = serve(&tenant, &[credentials(), callers_with(entries)]).await;
        let (reason, message) = ready(&shown);
        assert_eq!(reason, "SecretInvalid", "{shown}");
        assert!(message.contains("no usable token"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_of_the_wrong_type_is_told_the_right_one() {
    let tenant = tenant().await;
    let typed = |mut secret: Value, kind: &str| {
        secret["type"] = json!(kind);
        secret
    };
    for kind in ["Opaque", "sessionchecker.dev/credentials", "sessionchecker.dev/caller"] {
        let (_service, shown) = serve(&tenant, &[credentials(), typed(callers(), kind)]).await;
        let (reason, message) = ready(&shown);
        assert_eq!(reason, "SecretInvalid", "{shown}");
        assert!(message.contains("of type \"sessionchecker.dev/callers\"") && message.contains(kind), "{message}");
    }
    for kind in ["Opaque", "sessionchecker.dev/callers", "sessionchecker.dev/credential"] {
        let (_service, shown) = serve(&tenant, &[typed(credentials(), kind), callers()]).await;
        let (reason, message) = ready(&shown);
        assert_eq!(reason, "SecretInvalid", "{shown}");
        assert!(message.contains("of type \"sessionchecker.dev/credentials\"") && message.contains(kind), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_key_is_reported_with_the_keys_that_are_there() {
    let tenant = tenant().await;
    let mut secret = credentials();
    secret["stringData"] = json!({ "domain": DOMAIN, "client_id": "checker", "clientSecret": "checker-secret" });
    let (_service, shown) = serve(&tenant, &[secret, callers()]).await;
    let (reason, message) = ready(&shown);
    assert_eq!(reason, "SecretInvalid", "{shown}");
    assert!(message.contains("\"clientId\" is missing") && message.contains("client_id"), "{message}");
    let mut secret = credentials();
    secret["stringData"] = json!({ "domain": DOMAIN, "clientId": "checker", "client-secret": "checker-secret" });
    let (_service, shown) = serve(&tenant, &[secret, callers()]).await;
    assert!(ready(&shown).1.contains("client-secret") && !shown.to_string().contains("checker-secret"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_credential_names_the_key_that_looks_wrong() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let service = Running::path(&tenant, folder.path(), &[]).await;
    for (key, value) in [
        ("clientSecret", "checker-secret "),
        ("clientSecret", "\"checker-secret\""),
        ("clientId", "'checker'"),
        ("clientId", "check er"),
    ] {
        let mut secret = credentials();
        secret["stringData"][key] = json!(value);
        write(folder.path(), "policies.yaml", &[secret, callers(), policy("one", json!({}))]);
        let message = || async { shown(&service).await["conditions"][1]["message"].as_str().unwrap().to_owned() };
        let named = format!("the value of \"{key}\" has white space or quotes");
        eventually(&named, || async { message().await.contains(&named) }).await;
        assert!(!message().await.contains(value));
        write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", json!({}))]);
        eventually("repaired", || async { shown(&service).await["ready"] == true }).await;
    }
}
