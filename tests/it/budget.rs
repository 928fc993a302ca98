//! A tenant's request budget and circuit breaker, with real services and simulated tenants.

use axum::http::StatusCode;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use simulator::{Application, Fault, Operation, Options, RateLimit, Session, Simulator};
use tokio::time::Instant;

use crate::common::{
    APP, DOMAIN, Running, callers, credentials, eventually, folder, policy, serve_args, tenant, tenant_with, write,
};
use crate::redis_server::RedisServer;

const RATE_LIMITED: &str =
    "session_checker_auth0_requests_total{operation=\"list\",outcome=\"rate_limited\",tenant=\"acme.eu.auth0.com\"}";
const BREAKER: &str = "session_checker_auth0_breaker_state{tenant=\"acme.eu.auth0.com\"}";

async fn service(tenant: &Simulator, spec: Value, options: &[&str]) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], options).await
}

/// The reason that a check of this user answers. Each user logs in to a separate session.
async fn reason(service: &Running, user: usize) -> String {
    let answer = service.check(&format!("user-{user}"), APP, &format!("sid-{user}")).await;
    answer["reason"].as_str().unwrap().to_owned()
}

fn count(reasons: &[String], reason: &str) -> usize {
    reasons.iter().filter(|known| *known == reason).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn burst_of_checks_stays_within_the_rate_limit() {
    let limit = RateLimit { burst: 20, per_second: 0 };
    let tenant = tenant_with(Options { rate_limit: Some(limit), ..Options::new(DOMAIN) }).await;
    // Less than the 10 s after which the service probes a tenant that names no time: no check waits for that probe.
    let service = service(&tenant, json!({ "timeout": "5s" }), &[]).await;
    let reasons = join_all((0..200).map(|user| reason(&service, user))).await;
    let decided = count(&reasons, "within_limit");
    assert_eq!(count(&reasons, "rate_limited"), 200 - decided, "{reasons:?}");
    assert!((18..=20).contains(&decided), "all but the reserve is used: {decided}");
    assert_eq!(service.metric(RATE_LIMITED).await, None, "the tenant accepted every request");
    assert_eq!(tenant.count(Operation::List), decided as u64);
    let refusals = "session_checker_auth0_budget_refusals_total{operation=\"list\",tenant=\"acme.eu.auth0.com\"}";
    assert_eq!(service.metric(refusals).await, Some((200 - decided) as f64));
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_budget_sends_nothing_after_a_policy_change_too() {
    let limit = RateLimit { burst: 2, per_second: 0 };
    let tenant = tenant_with(Options { rate_limit: Some(limit), ..Options::new(DOMAIN) }).await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let service = Running::path(&tenant, folder.path(), &[]).await;
    assert_eq!([reason(&service, 0).await, reason(&service, 1).await], ["within_limit", "within_limit"]);
    let changed = policy("one", json!({ "limits": { "perClient": 2 } }));
    let mut other_secret = credentials();
    other_secret["stringData"]["clientId"] = "another".into();
    tenant.add_application(Application::with_secret("another", "checker-secret"));
    write(folder.path(), "policies.yaml", &[other_secret, callers(), changed]);
    eventually("the change is active", async || service.admin("/debug/policies").await.contains("client=2")).await;
    for user in 2..5 {
        assert_eq!(reason(&service, user).await, "rate_limited");
    }
    assert_eq!(tenant.count(Operation::List), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_endpoint_has_a_separate_budget() {
    let limit = RateLimit { burst: 1, per_second: 0 };
    let tenant = tenant_with(Options { token_rate_limit: Some(limit), ..Options::new(DOMAIN) }).await;
    let service = service(&tenant, json!({}), &[]).await;
    for user in 0..5 {
        assert_eq!(reason(&service, user).await, "within_limit", "only the token endpoint's budget is spent");
    }
    tenant.revoke_tokens();
    for user in 5..8 {
        assert_eq!(reason(&service, user).await, "rate_limited");
    }
    assert_eq!(tenant.count(Operation::Token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lowest_quota_of_a_tenants_policies_holds() {
    let tenant = tenant().await;
    let with = |name: &str, rate: Value| {
        let selector = json!({ "clientIds": [name] });
        let tenant = json!({ "requestsPerSecond": rate });
        policy(name, json!({ "selector": selector, "tenant": tenant, "timeout": "3s" }))
    };
    let documents = [credentials(), callers(), with("a", 1_000.into()), with("b", 10.into()), with("c", Value::Null)];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let began = Instant::now();
    let all = (0..150).map(|number| {
        let (service, client) = (&service, ["a", "b", "c"][number % 3]);
        async move { service.check(&format!("user-{number}"), client, "sid").await["reason"].clone() }
    });
    let decided = join_all(all).await.into_iter().filter(|reason| reason == "within_limit").count();
    let most = 10.0 * (1.0 + began.elapsed().as_secs_f64());
    assert!(decided >= 3 && decided as f64 <= most, "{decided} of at most {most}");
    // A busy machine may be late with an answer that the tenant gave.
    let sent = tenant.count(Operation::List);
    assert!(sent >= decided as u64 && sent as f64 <= most, "{sent} sent, {decided} decided, at most {most}");
}

/// Sends checks to three replicas until this many requests reached the tenant, beginning with `user`. Returns how many did, and
/// how many seconds it took.
async fn under_load(tenant: &Simulator, replicas: &[Running], requests: u64, mut user: usize) -> (f64, f64) {
    let (before, began) = (tenant.count(Operation::List), Instant::now());
    while tenant.count(Operation::List) - before < requests {
        join_all((user..user + 60).map(|user| reason(&replicas[user % 3], user))).await;
        user += 60;
    }
    ((tenant.count(Operation::List) - before) as f64, began.elapsed().as_secs_f64())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_keep_a_quota_with_redis_and_without_it() {
    let Some(mut server) = RedisServer::start().await else { return };
    let tenant = tenant().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let spec = json!({ "tenant": { "requestsPerSecond": 30 }, "timeout": "200ms" });
        let url = server.url("valkey");
        let options = ["--ledger", &url, "--ledger-timeout", "2s", "--replicas", "3"];
        replicas.push(service(&tenant, spec, &options).await);
    }
    assert_eq!(replicas[0].metric("session_checker_ledger_shared").await, Some(1.0));
    // A burst of 30, and 30 a second, however long a busy machine takes.
    let (sent, seconds) = under_load(&tenant, &replicas, 60, 0).await;
    assert!(sent <= 30.0 * (1.0 + seconds), "{sent} in {seconds} s");

    server.kill();
    // Each replica has a third of both. A second before the kill may count twice.
    let (sent, seconds) = under_load(&tenant, &replicas, 30, 100_000).await;
    assert!(sent <= 30.0 * (2.0 + seconds), "{sent} in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_whose_clock_was_set_back_keeps_the_budget_open() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = tenant().await;
    let url = server.url("redis");
    let service = service(&tenant, json!({ "tenant": { "requestsPerSecond": 30 } }), &["--ledger", &url]).await;
    assert_eq!(reason(&service, 0).await, "within_limit");
    let key = server.ask(&["KEYS", "session-checker:budget:*"]);
    // The server wrote this time before its clock was set back by an hour.
    let ahead = (Timestamp::now() + SignedDuration::from_hours(1)).as_microsecond().to_string();
    server.ask(&["SET", key.trim(), &ahead]);
    assert_eq!(reason(&service, 1).await, "within_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn budget_that_no_replica_wrote_does_not_degrade_the_ledger() {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = tenant().await;
    let spec = json!({ "tenant": { "requestsPerSecond": 30 } });
    let url = server.url("redis");
    let service = service(&tenant, spec, &["--ledger", &url, "--ledger-timeout", "5s"]).await;
    assert_eq!(reason(&service, 0).await, "within_limit");
    let key = server.ask(&["KEYS", "session-checker:budget:*"]);
    let key = key.trim();
    let damages = [&["RPUSH", key, "x"][..], &["SET", key, "x"], &["SET", key, "nan"], &["SET", key, ""]];
    for (number, damage) in damages.into_iter().enumerate() {
        server.ask(&["DEL", key]);
        server.ask(damage);
        assert_eq!(reason(&service, number + 1).await, "within_limit", "{damage:?}");
        assert_eq!(service.metric("session_checker_ledger_degraded").await, Some(0.0), "{damage:?}");
        assert!(server.ask(&["GET", key]).parse::<f64>().is_ok_and(|full_at| full_at > 1e15), "{damage:?}");
    }
    assert_eq!(service.metric("session_checker_ledger_fallbacks_total").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_opens_for_its_tenant_only_and_answers_at_once() {
    let (failing, sound) = (tenant().await, tenant_with(Options::new("other.eu.auth0.com")).await);
    let of = |name: &str, domain: &str| {
        let selector = json!({ "clientIds": [name] });
        let tenant = json!({ "domain": domain, "credentialsSecretRef": { "name": name } });
        policy(name, json!({ "selector": selector, "tenant": tenant, "failurePolicy": "Deny" }))
    };
    let secret = |name: &str, domain: &str| {
        let mut secret = credentials();
        secret["metadata"]["name"] = name.into();
        secret["stringData"]["domain"] = domain.into();
        secret
    };
    let documents = [
        secret("failing", DOMAIN),
        secret("sound", "other.eu.auth0.com"),
        of("failing", DOMAIN),
        of("sound", "other.eu.auth0.com"),
        callers(),
    ];
    let folder = folder(&documents);
    let endpoints = [format!("{DOMAIN}={}", failing.url()), format!("other.eu.auth0.com={}", sound.url())];
    let path = folder.path().to_str().unwrap();
    let options = ["--policy-dir", path, "--auth0-endpoint", &endpoints[0], "--auth0-endpoint", &endpoints[1]];
    let service = Running::start(serve_args(&options)).await.unwrap();
    let ask = async |user: usize, client: &str| {
        let answer = service.check(&format!("user-{user}"), client, "sid").await;
        (answer["block"].clone(), answer["reason"].clone())
    };
    let allowed = (json!(false), json!("within_limit"));
    assert_eq!(ask(0, "failing").await, allowed);
    assert_eq!(service.metric(BREAKER).await, Some(0.0));

    failing.fault(Operation::List, Fault::status(StatusCode::BAD_GATEWAY));
    for user in 0..5 {
        assert_eq!(ask(user, "failing").await, (json!(true), json!("upstream_error")), "{user}");
    }
    let sent = failing.count(Operation::List);
    assert_eq!(sent, 11, "each was sent twice");
    assert_eq!(service.metric(BREAKER).await, Some(2.0));
    failing.clear_faults();
    for user in 0..20 {
        assert_eq!(ask(user, "failing").await, (json!(true), json!("circuit_open")));
        assert_eq!(ask(user, "sound").await, allowed);
    }
    assert_eq!(failing.count(Operation::List), sent, "nothing was sent");
    assert_eq!(service.metric("session_checker_auth0_breaker_state{tenant=\"other.eu.auth0.com\"}").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_number_of_4xx_opens_the_breaker() {
    for fault in [
        Fault::status(StatusCode::BAD_REQUEST),
        Fault::status(StatusCode::NOT_FOUND),
        Fault::error(StatusCode::FORBIDDEN, "No.", Some("insufficient_scope")),
    ] {
        let tenant = tenant().await;
        tenant.add_session("u", Session::new("s1", tenant.now()));
        let service = service(&tenant, json!({}), &[]).await;
        let injected = tenant.fault(Operation::List, fault);
        for user in 0..30 {
            reason(&service, user).await;
        }
        assert_eq!(injected.strikes(), 30);
        assert_eq!(service.metric(BREAKER).await, Some(0.0));
        injected.clear();
        assert_eq!(reason(&service, 100).await, "within_limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_hangs_opens_the_breaker() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({ "timeout": "2s" }), &[]).await;
    assert_eq!(reason(&service, 0).await, "within_limit");
    tenant.fault(Operation::List, Fault::Hang);
    let reasons = join_all((0..12).map(|user| reason(&service, user))).await;
    assert_eq!(count(&reasons, "upstream_timeout"), 12, "{reasons:?}");
    assert_eq!(reason(&service, 0).await, "circuit_open");
    tenant.clear_faults();
    eventually("the breaker closes again", async || reason(&service, 0).await == "within_limit").await;
    assert_eq!(service.metric(BREAKER).await, Some(0.0));
}
