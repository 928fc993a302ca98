//! `session-checker why` and `hash`: the decisions of a running service, of one replica and of several.

use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{Session, Simulator};

use crate::common::{APP, Running, callers, credentials, eventually, folder, policy, tenant};
use crate::process::{Process, finished};
use crate::redis_server::RedisServer;

const USER: &str = "auth0|anna";

/// The decisions that `why` prints as JSON.
async fn why(service: &Running, arguments: &[&str]) -> Vec<Value> {
    let admin = format!("http://{}", service.admin_address);
    let (code, text) = finished(&[&["why", "-o", "json", "--admin-url", &admin], arguments].concat()).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["decisions"].as_array().unwrap().clone()
}

/// A tenant in which Anna has a session on her laptop.
async fn scene() -> Simulator {
    let tenant = tenant().await;
    tenant.add_session(USER, Session::new("laptop", tenant.now()).client(APP));
    tenant
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_login_is_explained_by_user_and_by_request() {
    let tenant = scene().await;
    let documents = [credentials(), callers(), policy("one", json!({ "message": "One seat." }))];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let answer = service.check(USER, APP, "phone").await;
    assert_eq!(answer["reason"], "limit_exceeded");
    let request = answer["request_id"].as_str().unwrap();
    for arguments in [["--user", USER], ["--request-id", request]] {
        let decisions = why(&service, &arguments).await;
        let decision = &decisions[0];
        assert_eq!((&decision["request_id"], &decision["policy"]), (&answer["request_id"], &json!("default/one")));
        assert_eq!((&decision["active_sessions"], &decision["limit"]), (&json!(1), &json!(1)));
        assert_eq!(
            (&decision["message"], &decision["sessions"][0]["limits"]),
            (&json!("One seat."), &json!(["client"]))
        );
    }
    assert_eq!(why(&service, &["--user", "auth0|bert"]).await, Vec::<Value>::new());
    let admin = format!("http://{}", service.admin_address);
    let (_, text) = finished(&["why", "--user", USER, "--since", "1h", "--admin-url", &admin]).await;
    for expected in [
        "blocked: limit_exceeded",
        &session_checker::book::reason("limit_exceeded"),
        "1 other session counted towards the client limit of 1",
        "the user read: One seat.",
        "counted towards client; began",
        "These are the decisions of one replica",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("anna") && !text.contains("laptop"), "{text}");

    let (code, hash) = finished(&["hash", USER, "--admin-url", &admin]).await;
    assert_eq!(code, 0, "{hash}");
    assert_eq!(why(&service, &["--user-hash", hash.trim()]).await.len(), 1);
    service.stop().await.unwrap();
    let (code, text) = finished(&["why", "--user", USER, "--admin-url", &admin]).await;
    assert!(code == 1 && text.contains("127.0.0.1"), "{text}");
    let (code, text) = finished(&["why"]).await;
    assert!(code == 64 && text.contains("--user"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn login_that_memory_allowed_says_by_how_old_a_list() {
    let tenant = scene().await;
    let documents = [credentials(), policy("one", json!({ "callerSecretRef": null }))];
    let folder = folder(&documents);
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &["--allow-anonymous"]).await;
    assert_eq!(service.answer(USER, "laptop").await["reason"], "within_limit");
    // Of plain permissions a sample is recorded.
    let recorded = async || {
        for _ in 0..100 {
            assert_eq!(service.answer(USER, "laptop").await["reason"], "within_limit");
        }
        let shown: Value = serde_json::from_str(&service.admin("/debug/decisions").await).unwrap();
        let records = shown["decisions"].as_array().unwrap();
        records.iter().any(|record| record["listing_age_s"].is_u64())
    };
    eventually("a decision by memory is recorded", recorded).await;
    let admin = format!("http://{}", service.admin_address);
    let (_, text) = finished(&["why", "--user", USER, "--admin-url", &admin]).await;
    assert!(text.contains("allowed by what is remembered: a list that was requested"), "{text}");
    let lines = || process.log().into_iter().filter(|line| line["message"] == "check").collect::<Vec<_>>();
    eventually("the checks have lines", || async { lines().len() > 1 }).await;
    let by_memory: Vec<_> = lines().iter().take(2).map(|line| line["listing_age_s"].is_u64()).collect();
    assert_eq!(by_memory, [false, true], "{:?}", lines());
}

/// A replica with a shared store.
async fn replica(tenant: &Simulator, redis: &RedisServer) -> Running {
    let documents = [credentials(), callers(), policy("one", json!({}))];
    Running::folder(tenant, &documents, &["--ledger", &redis.url("redis"), "--ledger-timeout", "5s"]).await
}

/// Two replicas. The first has blocked a login, which the second knows.
async fn sharing(tenant: &Simulator, redis: &RedisServer) -> [Running; 2] {
    let [first, second] = [replica(tenant, redis).await, replica(tenant, redis).await];
    assert_eq!(first.check(USER, APP, "phone").await["reason"], "limit_exceeded");
    let is_seen = || async { why(&second, &["--user", USER]).await.len() == 1 };
    eventually("the other replica knows the decision", is_seen).await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_with_a_shared_store_share_decisions_and_hashes() {
    let Some(redis) = RedisServer::start().await else { return };
    let tenant = scene().await;
    let [first, second] = sharing(&tenant, &redis).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    // A new replica knows both the decision and the hash.
    let third = replica(&tenant, &redis).await;
    assert_eq!(why(&third, &["--user", USER]).await.len(), 1);
    third.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_records_of_another_type_are_replaced() {
    let Some(redis) = RedisServer::start().await else { return };
    let tenant = scene().await;
    let [first, second] = sharing(&tenant, &redis).await;
    let key = redis.ask(&["KEYS", "session-checker:decisions:*"]).trim().to_owned();
    redis.ask(&["DEL", &key]);
    redis.ask(&["SET", &key, "x"]);
    assert_eq!(why(&second, &["--user", USER]).await.len(), 0, "the key has no record");
    assert_eq!(first.check(USER, APP, "tablet").await["reason"], "limit_exceeded");
    let is_seen = || async { why(&second, &["--user", USER]).await.len() == 1 };
    eventually("the other replica knows the next decision", is_seen).await;
    assert_eq!(first.metric("session_checker_decision_records_unshared_total").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_without_a_shared_store_know_their_own_decisions_until_they_end() {
    let tenant = scene().await;
    let documents = [credentials(), callers(), policy("one", json!({}))];
    let (first, second) =
        (Running::folder(&tenant, &documents, &[]).await, Running::folder(&tenant, &documents, &[]).await);
    for (service, sid) in [(&first, "phone"), (&second, "tablet")] {
        assert_eq!(service.check(USER, APP, sid).await["reason"], "limit_exceeded");
        assert_eq!(why(service, &["--user", USER]).await.len(), 1, "its own");
    }
    let of_second = format!("http://{}", second.admin_address);
    assert_eq!(
        why(&first, &["--user", USER, "--admin-url", &of_second]).await.len(),
        2,
        "of both, when both are named"
    );
    first.stop().await.unwrap();
    let again = Running::folder(&tenant, &documents, &[]).await;
    let admin = format!("http://{}", again.admin_address);
    let (code, text) = finished(&["why", "--user", USER, "--admin-url", &admin]).await;
    assert_eq!(code, 0, "{text}");
    for expected in ["No decision was found.", "These are the decisions of one replica since it started"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    again.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_fails_leaves_the_decisions_of_the_replica() {
    let Some(mut redis) = RedisServer::start().await else { return };
    let tenant = scene().await;
    let documents = [credentials(), callers(), policy("one", json!({}))];
    let url = redis.url("redis");
    let service = Running::folder(&tenant, &documents, &["--ledger", &url]).await;
    let unshared = "session_checker_decision_records_unshared_total";
    assert_eq!(service.metric(unshared).await, Some(0.0));
    redis.kill();
    assert_eq!(service.check(USER, APP, "phone").await["reason"], "limit_exceeded");
    eventually("the loss is counted", || async { service.metric(unshared).await == Some(1.0) }).await;
    let admin = format!("http://{}", service.admin_address);
    let (code, text) = finished(&["why", "--user", USER, "--admin-url", &admin]).await;
    assert!(code == 0 && text.contains("blocked: limit_exceeded"), "{text}");
    assert!(text.contains("These are the decisions of one replica since it started"), "{text}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_decision_have_their_browser_system_and_age() {
    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";
    let tenant = tenant().await;
    let began = tenant.now() - SignedDuration::from_hours(3);
    let device = json!({ "last_user_agent": FIREFOX });
    tenant.add_session(USER, Session::new("laptop", began).client(APP).field("device", device));
    tenant.add_session(
        USER,
        Session::new("desk", began).client(APP).field("device", json!({ "last_user_agent": "<b>" })),
    );
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    assert_eq!(service.check(USER, APP, "phone").await["reason"], "limit_exceeded");
    let decisions = why(&service, &["--user", USER]).await;
    let devices: Vec<_> = decisions[0]["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| (session["browser"].clone(), session["system"].clone()))
        .collect();
    assert!(devices.contains(&(json!("Firefox"), json!("Linux"))), "{devices:?}");
    assert!(devices.contains(&(Value::Null, Value::Null)), "text of a stranger is not recorded: {devices:?}");
    let admin = format!("http://{}", service.admin_address);
    let (_, text) = finished(&["why", "--user", USER, "--admin-url", &admin]).await;
    assert!(text.contains(" (Firefox on Linux) counted towards client; began "), "{text}");
    assert!(text.contains("(3 h before)") && !text.contains("Gecko"), "{text}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_and_audited_logins_are_recorded_and_plain_ones_hardly() {
    let tenant = scene().await;
    let audit = json!({ "mode": "Audit", "selector": { "clientIds": ["other"] }, "limits": { "perUser": 1 } });
    let documents =
        [credentials(), callers(), policy("one", json!({ "strategy": "RevokeOldest" })), policy("two", audit)];
    let service = Running::folder(&tenant, &documents, &[]).await;
    assert_eq!(service.check(USER, "other", "tablet").await["reason"], "audit");
    assert_eq!(service.check(USER, APP, "phone").await["reason"], "evicted");
    let reasons: Vec<Value> =
        why(&service, &["--user", USER]).await.iter().map(|decision| decision["reason"].clone()).collect();
    assert_eq!(reasons, ["evicted", "audit"]);
    service.stop().await.unwrap();
}
