//! Support staff with delegated sessions, and web views of an app, over real sockets.

use serde_json::{Value, json};
use simulator::{Operation, Session, Simulator};

use crate::common::{APP, Running, callers, credentials, policy, tenant};

const NATIVE: &str = "native-app";

async fn service(tenant: &Simulator, spec: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// The answer to a login with more fields than the three that every login has.
async fn ask(service: &Running, client: &str, sid: &str, more: Value) -> Value {
    let mut body = json!({ "user_id": "u", "client_id": client, "sid": sid });
    body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    let (status, answer) = service.ask(&body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn as_web_view() -> Value {
    json!({ "session_transfer_token": { "client_id": NATIVE, "request": { "ip": "192.0.2.1" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_is_exempt_and_takes_no_place_of_the_customer() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({ "strategy": "RevokeOldest" })).await;
    let answer = ask(&service, APP, "agent", json!({ "actor": { "sub": "auth0|agent" } })).await;
    assert_eq!((&answer["reason"], &answer["policy"]), (&json!("exempt"), &json!("default/one")));
    assert_eq!(tenant.count(Operation::List), 0);

    // The list does not say whose session it is. The customer's login neither counts nor ends it.
    tenant.add_session("u", Session::new("agent", tenant.now()).client(APP));
    let answer = ask(&service, APP, "customer", json!({})).await;
    assert_eq!((&answer["reason"], &answer["active_sessions"]), (&json!("within_limit"), &json!(0)));
    assert_eq!(tenant.count(Operation::Revoke), 0);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_agent_is_like_any_other_session() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({ "actors": "Count" })).await;
    assert_eq!(ask(&service, APP, "agent", json!({ "actor": true })).await["reason"], "within_limit");
    tenant.add_session("u", Session::new("agent", tenant.now()).client(APP));
    assert_eq!(ask(&service, APP, "customer", json!({})).await["reason"], "limit_exceeded");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn web_view_and_its_app_have_one_place() {
    for strategy in ["Deny", "RevokeOldest"] {
        let tenant = tenant().await;
        tenant.add_session("u", Session::new("phone", tenant.now()).client(NATIVE));
        let spec = json!({ "limits": { "perClient": null, "perUser": 1 }, "strategy": strategy });
        let service = service(&tenant, spec).await;
        let answer = ask(&service, APP, "view", as_web_view()).await;
        assert_eq!((&answer["reason"], &answer["active_sessions"]), (&json!("within_limit"), &json!(0)), "{strategy}");

        // The web view completes. The app logs in again, and another device is over the limit by one session.
        tenant.add_session("u", Session::new("view", tenant.now()).client(APP));
        assert_eq!(ask(&service, NATIVE, "phone", json!({})).await["reason"], "within_limit", "{strategy}");
        let other = ask(&service, APP, "laptop", json!({})).await;
        assert_eq!(other["active_sessions"], 1, "{strategy}: {other}");
        if strategy == "Deny" {
            assert_eq!(other["reason"], "limit_exceeded");
        } else {
            assert_eq!((&other["reason"], &other["revoked_sessions"]), (&json!("evicted"), &json!(2)));
        }
        service.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_types_of_origins_are_named() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({})).await;
    for (field, wrong) in [
        ("actor", json!("agent")),
        ("actor", json!(1)),
        ("session_transfer_token", json!("token")),
        ("session_transfer_token", json!({ "client_id": 5 })),
        ("locale", json!(["de"])),
        ("amr", json!([5])),
    ] {
        let (status, answer) =
            service.ask(&json!({ "user_id": "u", "client_id": APP, "sid": "s", field: wrong.clone() })).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(field), "{answer}");
    }
    for (field, absent) in [
        ("actor", json!(null)),
        ("actor", json!(false)),
        ("session_transfer_token", json!(null)),
        ("session_transfer_token", json!({})),
        ("session_transfer_token", json!({ "client_id": "" })),
    ] {
        let (status, answer) =
            service.ask(&json!({ "user_id": "u", "client_id": APP, "sid": "s", field: absent })).await;
        assert_eq!((status, &answer["reason"]), (200, &json!("within_limit")));
    }
    service.stop().await.unwrap();
}
