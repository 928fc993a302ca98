//! Evictions, holders that are allowed from memory, and logins at the same time: through a service and a simulated tenant.

use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use simulator::{Fault, Operation, Options, Session, Simulator};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, callers, credentials, eventually, folder, policy, tenant, tenant_with, write,
};

/// A session of [`APP`] that began `hours_ago`.
fn session(id: &str, hours_ago: i64, now: Timestamp) -> Session {
    Session::new(id, now - SignedDuration::from_hours(hours_ago)).client(APP)
}

fn ids(tenant: &Simulator) -> Vec<String> {
    tenant.sessions_of("u").iter().map(|session| session.id().to_owned()).collect()
}

async fn service(tenant: &Simulator, spec: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// The answer without its request id.
async fn check(service: &Running, sid: &str) -> Value {
    without_id(service.check("u", APP, sid).await)
}

fn without_id(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("request_id").unwrap();
    answer
}

fn within(active: usize) -> Value {
    json!({ "block": false, "reason": "within_limit", "revoke_session": false, "policy": "default/one",
        "limit": 1, "limit_scope": "client", "active_sessions": active })
}

/// A tenant whose user has a new session and others, on several pages, among which each strategy chooses differently.
async fn four_and_a_new_one() -> Simulator {
    let tenant = tenant_with(Options { page_size_cap: 2, ..Options::new(DOMAIN) }).await;
    let now = tenant.now();
    let used =
        |session: Session, minutes: i64| session.at("last_interacted_at", now - SignedDuration::from_mins(minutes));
    let hours = SignedDuration::from_hours;
    tenant.add_session("u", used(session("d", 1, now), 20).at("expires_at", now + hours(2)));
    tenant.add_session("u", used(session("b", 3, now), 1).at("idle_expires_at", now + hours(1)));
    tenant.add_session("u", Session::new("other", now - hours(9)).client("another-app"));
    tenant.add_session("u", session("expired", 8, now).at("expires_at", now - hours(1)));
    tenant.add_session("u", Session::new("me", now));
    tenant.add_session("u", used(session("a", 4, now), 10));
    tenant.add_session("u", used(session("c", 2, now), 30));
    tenant
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_revokes_the_surplus_in_its_own_order() {
    for (strategy, stay) in
        [("RevokeOldest", ["d", "c"]), ("RevokeLeastRecentlyUsed", ["b", "a"]), ("RevokeNextToExpire", ["a", "c"])]
    {
        let tenant = four_and_a_new_one().await;
        let service = service(&tenant, json!({ "strategy": strategy, "limits": { "perClient": 3 } })).await;
        assert_eq!(
            check(&service, "me").await,
            json!({ "block": false, "reason": "evicted", "revoke_session": false, "revoked_sessions": 2,
                "policy": "default/one", "limit": 3, "limit_scope": "client", "active_sessions": 4 }),
            "{strategy}"
        );
        let left: Vec<_> = ids(&tenant).into_iter().filter(|id| stay.contains(&id.as_str())).collect();
        assert_eq!(left, stay, "{strategy}");
        assert_eq!(ids(&tenant).len(), 5, "those, the new one, the other application's and the expired: {strategy}");
        assert_eq!(tenant.count(Operation::Revoke), 2, "{strategy}");
        assert_eq!(tenant.count(Operation::List), 4, "every page was read once: {strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn current_session_is_never_revoked() {
    for strategy in ["RevokeOldest", "RevokeLeastRecentlyUsed", "RevokeNextToExpire"] {
        let tenant = tenant().await;
        let now = tenant.now();
        let soon = now + SignedDuration::from_mins(1);
        let me = Session::new("me", now - SignedDuration::from_hours(50)).client("another-app").at("expires_at", soon);
        tenant.add_session("u", me);
        tenant.add_session("u", session("s1", 1, now));
        let service = service(&tenant, json!({ "strategy": strategy })).await;
        assert_eq!(check(&service, "me").await["reason"], "evicted", "{strategy}");
        assert_eq!(ids(&tenant), ["me"], "{strategy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_is_allowed_without_an_eviction() {
    let tenant = tenant().await;
    let now = tenant.now();
    for (id, hours_ago) in [("s1", 3), ("s2", 2), ("s3", 1)] {
        tenant.add_session("u", session(id, hours_ago, now));
    }
    let service = service(&tenant, json!({ "strategy": "RevokeOldest" })).await;
    for id in ["s3", "s1"] {
        let answer = check(&service, id).await;
        assert_eq!((&answer["block"], &answer["reason"]), (&json!(false), &json!("within_limit")), "{answer}");
    }
    assert_eq!(tenant.count(Operation::Revoke), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn login_without_the_required_second_factor_is_blocked() {
    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    tenant.add_session("u", Session::new("me", tenant.now()));
    let service = service(&tenant, json!({ "strategy": "RevokeOldest", "revokeRequiresMfa": true })).await;
    let ask = async |mfa: Value| {
        let (_, answer) = service.ask(&json!({ "user_id": "u", "client_id": APP, "sid": "me", "mfa": mfa })).await;
        (answer["reason"].clone(), answer["block"].clone(), answer["revoke_session"].clone())
    };
    for no in [Value::Null, json!(false)] {
        assert_eq!(ask(no).await, (json!("limit_exceeded"), json!(true), json!(true)));
    }
    assert_eq!(ids(&tenant), ["s1", "me"]);
    assert_eq!(ask(json!(true)).await, (json!("evicted"), json!(false), json!(false)));
    assert_eq!(ids(&tenant), ["me"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn login_without_a_session_lists_and_revokes_nothing() {
    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    let service = service(&tenant, json!({ "strategy": "RevokeOldest" })).await;
    assert_eq!(check(&service, "").await["reason"], "no_session");
    // The credential is probed at the start.
    assert!(tenant.requests().iter().all(|request| request.operation == Some(Operation::Token)));
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_revokes_nothing_and_counts_the_surplus_each_time() {
    for (spec, options) in [(json!({ "mode": "Audit" }), &[][..]), (json!({}), &["--force-audit"][..])] {
        let tenant = tenant().await;
        tenant.add_session("u", session("s1", 1, tenant.now()));
        for id in ["me", "me-too"] {
            tenant.add_session("u", Session::new(id, tenant.now()));
        }
        let mut one = policy("one", spec);
        one["spec"]["strategy"] = "RevokeOldest".into();
        one["spec"]["message"] = "No.".into();
        let service = Running::folder(&tenant, &[credentials(), callers(), one], options).await;
        // The first login is under way when the second comes, so it could not be evicted.
        for (id, active, audited) in [("me", 1, "evicted"), ("me-too", 2, "limit_exceeded")] {
            assert_eq!(
                check(&service, id).await,
                json!({ "block": false, "reason": "audit", "audited_reason": audited, "revoke_session": false,
                    "policy": "default/one", "limit": 1, "limit_scope": "client", "active_sessions": active })
            );
        }
        assert_eq!((ids(&tenant).len(), tenant.count(Operation::Revoke)), (3, 0));
        assert_eq!(check(&service, "s1").await["reason"], "within_limit", "it does not count as revoked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_session_does_not_count_while_it_is_listed() {
    let options = Options { visibility_delay: Duration::from_secs(3600), ..Options::new(DOMAIN) };
    let tenant = tenant_with(options).await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    tenant.add_session("u", Session::new("s2", tenant.now()));
    let service = service(&tenant, json!({ "strategy": "RevokeOldest" })).await;

    assert_eq!(check(&service, "s2").await["reason"], "evicted");
    assert_eq!(check(&service, "s2").await, within(0));
    assert_eq!(tenant.count(Operation::Revoke), 1, "it is not revoked again");
    let blocked = check(&service, "s1").await;
    assert_eq!(
        blocked,
        json!({ "block": true, "reason": "session_revoked", "revoke_session": false, "policy": "default/one",
            "message": "This session was ended because you signed in elsewhere. Please sign in again." })
    );
    assert_eq!(tenant.count(Operation::List), 2, "the ledger knew it without a list");
}

/// Checks a login that evicts two sessions; the revocation of one of them meets a fault. After a 429 the service waits a second
/// before it sends the next request.
async fn check_with_fault(fault: Option<Fault>, failure_policy: &str) -> (Simulator, Running, Value) {
    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 2, tenant.now()));
    tenant.add_session("u", session("s2", 1, tenant.now()));
    for id in ["s3", "s4"] {
        tenant.add_session("u", Session::new(id, tenant.now()));
    }
    if let Some(fault) = fault {
        tenant.fault(Operation::Revoke.of("s1"), fault);
    }
    let spec = json!({ "strategy": "RevokeOldest", "failurePolicy": failure_policy, "timeout": "4s" });
    let service = service(&tenant, spec).await;
    let answer = check(&service, "s3").await;
    (tenant, service, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_policy_answers_when_a_revocation_fails() {
    let fails = async |(fault, reason): (Fault, &'static str)| {
        let mut expected = json!({ "reason": reason, "revoke_session": false, "revoked_sessions": 1,
            "policy": "default/one", "limit": 1, "limit_scope": "client", "active_sessions": 2 });
        let (tenant, _service, answer) = check_with_fault(Some(fault.clone()), "Allow").await;
        expected["block"] = false.into();
        assert_eq!(answer, expected);
        assert_eq!(ids(&tenant), ["s1", "s3", "s4"]);

        let (tenant, service, answer) = check_with_fault(Some(fault), "Deny").await;
        expected["block"] = true.into();
        expected["message"] = answer["message"].clone();
        assert_eq!(answer, expected);
        assert!(answer["message"].is_string());
        assert_eq!(ids(&tenant), ["s1", "s3", "s4"]);

        tenant.clear_faults();
        let next = check(&service, "s4").await;
        let met = (&next["reason"], &next["active_sessions"], &next["revoked_sessions"]);
        assert_eq!(
            met,
            (&json!("evicted"), &json!(1), &json!(1)),
            "the session that stayed counts, the blocked login does not: {next}"
        );
        assert_eq!(ids(&tenant), ["s3", "s4"]);
    };
    let faults = [
        (Fault::status(StatusCode::TOO_MANY_REQUESTS), "rate_limited"),
        (Fault::status(StatusCode::INTERNAL_SERVER_ERROR), "upstream_error"),
        (Fault::Delay(Duration::from_secs(3600)), "upstream_timeout"),
        (Fault::Reset, "upstream_unreachable"),
        (Fault::error(StatusCode::FORBIDDEN, "No.", Some("insufficient_scope")), "insufficient_scope"),
        (Fault::not_entitled(), "not_entitled"),
    ];
    // At the same time, because some take as long as the policy allows.
    join_all(faults.map(fails)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_already_gone_counts_as_revoked() {
    let (_, _service, gone) = check_with_fault(Some(Fault::status(StatusCode::NOT_FOUND)), "Deny").await;
    assert_eq!((&gone["reason"], &gone["revoked_sessions"]), (&json!("evicted"), &json!(2)), "{gone}");

    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    tenant.add_session("u", Session::new("s2", tenant.now()));
    tenant.fault(Operation::Revoke.times(1), Fault::status(StatusCode::BAD_GATEWAY));
    let answer = check(&service(&tenant, json!({ "strategy": "RevokeOldest" })).await, "s2").await;
    assert_eq!(answer["reason"], "evicted", "{answer}");
    assert_eq!(ids(&tenant), ["s2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_login_takes_no_place() {
    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    for id in ["s2", "s3"] {
        tenant.add_session("u", Session::new(id, tenant.now()));
    }
    let service = service(&tenant, json!({ "admissionWindow": "10m" })).await;
    assert_eq!(check(&service, "s2").await["reason"], "limit_exceeded");
    assert!(tenant.end_session("s1"));
    assert_eq!(check(&service, "s3").await, within(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_at_once_are_allowed_up_to_exactly_the_limit() {
    let options = Options { visibility_delay: Duration::from_secs(3600), ..Options::new(DOMAIN) };
    let tenant = tenant_with(options).await;
    tenant.add_user("u");
    let spec = json!({ "limits": { "perClient": 3 }, "admissionWindow": "10m", "timeout": "10s" });
    let service = service(&tenant, spec).await;
    let login = async || {
        let login = tenant.begin_login("u", APP, None);
        let answer = check(&service, login.sid()).await;
        if answer["block"] == false {
            assert_eq!(answer["reason"], "within_limit", "{answer}");
            login.complete()
        } else {
            assert_eq!(answer["reason"], "limit_exceeded", "{answer}");
            assert_eq!(answer["revoke_session"], true, "{answer}");
            login.revoke();
            None
        }
    };
    let allowed = join_all((0..12).map(|_| login())).await.into_iter().flatten().count();
    assert_eq!(allowed, 3);
    assert_eq!(ids(&tenant).len(), 3);
    assert_eq!(login().await, None, "no later login is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_applications_have_separate_places() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({})).await;
    for (user, client) in [("u", APP), ("u", "app-2"), ("v", APP)] {
        let login = tenant.begin_login(user, client, None);
        assert_eq!(without_id(service.check(user, client, login.sid()).await), within(0), "{user} {client}");
    }
}

/// A service with one policy, in a folder that the test changes, and a session of its application.
async fn with_a_holder(spec: Value) -> (Simulator, Running, TempDir) {
    let tenant = tenant().await;
    tenant.add_session("u", session("s1", 1, tenant.now()));
    let folder = folder(&[credentials(), callers(), policy("one", spec)]);
    let service = Running::path(&tenant, folder.path(), &[]).await;
    (tenant, service, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_is_allowed_from_memory_by_the_limits_of_the_moment() {
    let (tenant, service, folder) = with_a_holder(json!({ "limits": { "perClient": 2 } })).await;
    tenant.add_session("u", session("s0", 2, tenant.now()));
    assert_eq!(check(&service, "s1").await["active_sessions"], 1);
    for _ in 0..2 {
        assert_eq!(
            check(&service, "s1").await,
            json!({ "block": false, "reason": "within_limit", "revoke_session": false, "policy": "default/one" })
        );
    }
    assert_eq!(tenant.count(Operation::List), 1);
    service.check("u", "app-2", "s1").await;
    assert_eq!(tenant.count(Operation::List), 2, "another application needs a list");

    write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", json!({}))]);
    eventually("the change is active", async || service.admin("/debug/policies").await.contains("client=1")).await;
    assert_eq!(check(&service, "s1").await["reason"], "limit_exceeded", "a block needs a list");
    assert_eq!(tenant.count(Operation::List), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn holder_is_listed_each_time_without_recheck_after() {
    for spec in [json!({ "recheckAfter": "0s" }), json!({ "reentry": "CountOthers" })] {
        let (tenant, service, _folder) = with_a_holder(spec).await;
        for asked in 1..=3 {
            assert_eq!(check(&service, "s1").await, within(0));
            assert_eq!(tenant.count(Operation::List), asked);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomer_and_blocked_holder_are_not_remembered() {
    let tenant = tenant().await;
    let now = tenant.now();
    tenant.add_session("u", session("s1", 2, now));
    tenant.add_session("u", session("s2", 1, now));
    tenant.add_session("u", Session::new("s3", now));
    let service = service(&tenant, json!({ "limits": { "perClient": 3 }, "admissionWindow": "0s" })).await;
    for asked in 1..=2 {
        assert_eq!(check(&service, "s3").await["active_sessions"], 2);
        assert_eq!(tenant.count(Operation::List), asked);
    }
    let strict = self::service(&tenant, json!({})).await;
    for _ in 0..2 {
        let blocked = check(&strict, "s2").await;
        assert_eq!((&blocked["reason"], &blocked["revoke_session"]), (&json!("limit_exceeded"), &json!(false)));
    }
    assert_eq!(tenant.count(Operation::List), 4);
}
