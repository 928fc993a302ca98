//! A check, from a request to an answer, through a real service and a simulated tenant.

use serde_json::json;
use simulator::Session;

use crate::common::{APP, Running, callers, credentials, policy, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn second_session_is_blocked_and_ended_by_the_action() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()).client(APP));
    tenant.add_session("u", Session::new("s2", tenant.now()));
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;

    let first = service.check("u", APP, "s1").await;
    assert_eq!((&first["block"], &first["reason"]), (&json!(false), &json!("within_limit")), "{first}");

    let second = service.check("u", APP, "s2").await;
    let request_id = second["request_id"].clone();
    assert_eq!(
        second,
        json!({
            "block": true, "reason": "limit_exceeded", "revoke_session": true, "policy": "default/one",
            "message": "You are already signed in elsewhere. Sign out there and try again.",
            "limit": 1, "limit_scope": "client", "active_sessions": 1, "request_id": request_id,
        })
    );
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oldest_session_is_evicted_and_then_blocked() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()).client(APP));
    tenant.add_session("u", Session::new("s2", tenant.now()));
    let one = policy("one", json!({ "strategy": "RevokeOldest" }));
    let service = Running::folder(&tenant, &[credentials(), callers(), one], &[]).await;

    let second = service.check("u", APP, "s2").await;
    assert_eq!((&second["reason"], &second["revoked_sessions"]), (&json!("evicted"), &json!(1)), "{second}");
    assert_eq!(tenant.sessions_of("u").iter().map(Session::id).collect::<Vec<_>>(), ["s2"]);

    let first = service.check("u", APP, "s1").await;
    assert_eq!((&first["block"], &first["reason"]), (&json!(true), &json!("session_revoked")), "{first}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_known_callers_are_counted_and_those_of_strangers_not() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let count = async |error: &str| {
        service.metric(&format!("session_checker_checks_rejected_total{{error=\"{error}\"}}")).await
    };
    assert_eq!(service.status("wrong token").await, 401);
    for error in ["invalid_json", "invalid_request", "body_too_large", "unsupported_media_type", "request_timeout"] {
        assert_eq!(count(error).await, Some(0.0), "{error}");
    }
    assert_eq!(count("unauthorized").await, None);
    let long = "u".repeat(2_000);
    assert_eq!(service.ask(&json!({ "user_id": long, "client_id": APP, "sid": "s" })).await.0, 422);
    assert_eq!(service.ask(&json!({ "user_id": "u".repeat(20_000), "client_id": APP })).await.0, 413);
    assert_eq!((count("invalid_request").await, count("body_too_large").await), (Some(1.0), Some(1.0)));
}
