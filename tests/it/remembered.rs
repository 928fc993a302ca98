//! Logins that are allowed by what is remembered, without a list, through services and a simulated tenant (decision 1.13).

use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Fault, Operation, Session, Simulator};

use crate::common::{APP, DOMAIN, Running, callers, credentials, eventually, policy, tenant};
use crate::redis_server::RedisServer;

/// A session that began so many hours ago, with these applications.
fn session(tenant: &Simulator, id: &str, hours: i64, clients: &[&str]) -> Session {
    let session = Session::new(id, tenant.now() - SignedDuration::from_hours(hours));
    clients.iter().fold(session, |session, client| session.client(client))
}

/// Replicas that share a ledger.
async fn replicas(tenant: &Simulator, documents: &[Value], server: &RedisServer) -> [Running; 2] {
    let url = server.url("redis");
    let options = ["--ledger", url.as_str(), "--ledger-timeout", "5s"];
    let replicas =
        [Running::folder(tenant, documents, &options).await, Running::folder(tenant, documents, &options).await];
    for replica in &replicas {
        let works = async || replica.metric("session_checker_ledger_degraded").await == Some(0.0);
        eventually("the ledger is shared", works).await;
    }
    replicas
}

fn is_remembered(answer: &Value) -> bool {
    answer["reason"] == "within_limit" && answer["active_sessions"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_allow_holders_by_the_list_that_they_share() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1", 2, &[APP]));
    tenant.add_session("u", session(&tenant, "s2", 1, &["app-2"]));
    let [first, second] = replicas(&tenant, &[credentials(), callers(), policy("one", json!({}))], &server).await;
    assert_eq!(first.check("u", APP, "s1").await["active_sessions"], 0);
    for replica in [&second, &first] {
        assert!(is_remembered(&replica.check("u", APP, "s1").await));
        assert!(
            is_remembered(&replica.check("u", "app-2", "s2").await),
            "older sessions are known by their applications"
        );
    }
    assert_eq!(tenant.count(Operation::List), 1);
    let remembered = format!("session_checker_decision_basis_total{{basis=\"remembered\",tenant=\"{DOMAIN}\"}}");
    assert_eq!(second.metric(&remembered).await, Some(2.0));
    let unlisted = format!("session_checker_list_needs_total{{tenant=\"{DOMAIN}\",why=\"unlisted\"}}");
    assert_eq!((first.metric(&unlisted).await, second.metric(&unlisted).await), (Some(1.0), Some(0.0)));

    // A newcomer is never allowed without a list, and a block needs one.
    assert_eq!(second.check("u", APP, "s3").await["reason"], "limit_exceeded");
    assert_eq!(tenant.count(Operation::List), 2);
    let [one, two] = [first, second];
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn older_session_that_gains_the_application_unlimited_ends_the_place() {
    let Some(server) = RedisServer::start().await else { return };
    // Without a limit: by an override, by a protocol, and where no policy applies.
    let exempt = json!([{ "name": "partners", "connections": ["partners"], "exempt": true }]);
    let spec = json!({ "overrides": exempt, "selector": { "clientIds": [APP, "app-2"] }, "admissionWindow": "0s" });
    for login in [
        json!({ "client_id": APP, "connection": "partners" }),
        json!({ "client_id": APP, "protocol": "oauth2-refresh-token" }),
        json!({ "client_id": "app-3", "tenant": DOMAIN }),
        json!({ "client_id": "app-3" }),
    ] {
        server.ask(&["FLUSHALL"]);
        let tenant = tenant().await;
        tenant.add_session("u", session(&tenant, "old", 2, &["app-2"]));
        tenant.add_session("u", session(&tenant, "s1", 1, &[APP]));
        let users = policy(
            "users",
            json!({
                "selector": { "clientIds": ["app-4"] }, "limits": { "perUser": 1 }, "admissionWindow": "0s",
            }),
        );
        let documents = [credentials(), callers(), policy("one", spec.clone()), users];
        let [first, second] = replicas(&tenant, &documents, &server).await;
        assert_eq!(first.check("u", APP, "s1").await["block"], false);
        assert!(is_remembered(&first.check("u", APP, "s1").await));
        let mut body = login.clone();
        body["user_id"] = "u".into();
        body["sid"] = "old".into();
        let (_, answer) = second.ask(&body).await;
        assert_eq!(answer["block"], false, "{answer}");
        let lists = tenant.count(Operation::List);
        let client = login["client_id"].as_str().unwrap();
        tenant.add_session("u", session(&tenant, "old", 2, &["app-2", client]));
        let answer = first.check("u", APP, "s1").await;
        let is_blocked = client == APP;
        assert_eq!((&answer["block"], is_remembered(&answer)), (&json!(is_blocked), !is_blocked), "{login} {answer}");
        assert_eq!(tenant.count(Operation::List), lists + u64::from(is_blocked));
        first.stop().await.unwrap();
        second.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_need_no_management_api() {
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1", 2, &[APP]));
    let service =
        Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({ "failurePolicy": "Deny" }))], &[])
            .await;
    assert_eq!(service.check("u", APP, "s1").await["block"], false);
    tenant.fault(Operation::List, Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    for _ in 0..20 {
        assert!(is_remembered(&service.check("u", APP, "s1").await));
    }
    let newcomer = service.check("u", APP, "s2").await;
    assert_eq!(newcomer["reason"], "upstream_error", "{newcomer}");
    // No list shows the session of that login, so it may be older, and the login may complete.
    assert_eq!(service.check("u", APP, "s1").await["reason"], "upstream_error");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_without_a_shared_ledger_counts_every_older_session() {
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1", 2, &["app-2"]));
    tenant.add_session("u", session(&tenant, "s2", 1, &[APP]));
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    for asked in 1..=3 {
        assert_eq!(service.check("u", APP, "s2").await["active_sessions"], 0);
        assert_eq!(tenant.count(Operation::List), asked);
    }
    assert!(is_remembered(&service.check("u", "app-2", "s1").await), "nothing is older");
    service.stop().await.unwrap();
}
