//! A request that names its tenant by a name that no policy has, over real sockets.

use serde_json::{Value, json};
use simulator::{Operation, Session};

use crate::common::{APP, DOMAIN, Running, callers, credentials, policy, tenant};

async fn ask(service: &Running, name: &str, sid: &str) -> Value {
    let (status, answer) = service.ask(&json!({ "user_id": "u", "client_id": APP, "sid": sid, "tenant": name })).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn counted(handling: &str) -> String {
    format!(r#"session_checker_unknown_tenants_total{{handling="{handling}",tenant="{DOMAIN}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_custom_domain_is_decided_without_revoking() {
    let tenant = tenant().await;
    let evicting =
        policy("one", json!({ "strategy": "RevokeOldest", "tenant": { "customDomains": ["login.acme.de"] } }));
    let service = Running::folder(&tenant, &[credentials(), callers(), evicting], &[]).await;
    for handling in ["assumed", "unlimited"] {
        assert_eq!(service.metric(&counted(handling)).await, Some(0.0), "the series exists from the start");
    }
    assert_eq!(ask(&service, "login.acme.it", "s1").await["reason"], "within_limit");
    tenant.add_session("u", Session::new("s2", tenant.now()).client(APP));
    // Nothing of the first login is remembered, or it would count beside s2 and could not be evicted.
    let answer = ask(&service, "login.acme.it", "s3").await;
    assert_eq!(
        (&answer["reason"], &answer["block"], &answer["active_sessions"]),
        (&json!("limit_exceeded"), &json!(true), &json!(1))
    );
    assert_eq!(answer["revoke_session"], false);
    assert_eq!(tenant.requests().iter().filter(|it| it.operation == Some(Operation::Revoke)).count(), 0);
    assert_eq!(service.metric(&counted("assumed")).await, Some(2.0));

    // The same login by a name that the policy has.
    assert_eq!(ask(&service, "Login.Acme.de", "s3").await["reason"], "evicted");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn canonical_domain_of_another_tenant_is_tenant_unknown() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()).client(APP));
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let mut answer = ask(&service, "acme-staging.eu.auth0.com", "s2").await;
    answer.as_object_mut().unwrap().remove("request_id");
    assert_eq!(answer, json!({ "block": false, "reason": "tenant_unknown", "revoke_session": false }));
    assert_eq!(tenant.requests().iter().filter(|it| it.operation == Some(Operation::List)).count(), 0);
    assert_eq!(service.metric(&counted("unlimited")).await, Some(1.0));
    service.stop().await.unwrap();
}
