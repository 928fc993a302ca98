//! Lists that are not read to their end, unknown users and unusual ids, through a service and a simulated tenant.

use std::time::Duration;

use futures::future::join_all;
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use simulator::{Clock, Fault, Operation, Options, Session, Simulator};

use crate::common::{APP, DOMAIN, Running, callers, credentials, policy, tenant, tenant_as_is, tenant_with};

async fn service(tenant: &Simulator, spec: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// Adds sessions of [`APP`] to user `u`, one a minute, the first one 1,000 minutes ago.
fn add_sessions(tenant: &Simulator, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let began = tenant.now() - SignedDuration::from_mins(1_000 - number);
        tenant.add_session("u", Session::new(format!("s{number}"), began).client(APP));
    }
}

fn words(answer: &Value) -> (&str, bool) {
    (answer["reason"].as_str().unwrap(), answer["block"].as_bool().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_stops_when_the_answer_cannot_change() {
    let tenant = tenant().await;
    add_sessions(&tenant, 0..160);
    let service = service(&tenant, json!({ "limits": { "perClient": 2 } })).await;
    // The session is on the first page, behind enough others.
    let answer = service.check("u", APP, "s20").await;
    assert_eq!(words(&answer), ("limit_exceeded", true));
    assert_eq!((&answer["active_sessions"], &answer["active_sessions_at_least"]), (&json!(20), &json!(true)));
    assert_eq!(tenant.count(Operation::List), 1);
    // A holder is on the last page, so that a newcomer needs all of them.
    let answer = service.check("u", APP, "new").await;
    assert_eq!((&answer["active_sessions"], answer.get("active_sessions_at_least")), (&json!(160), None));
    assert_eq!(tenant.count(Operation::List), 5);
    // It holds its place although all pages are needed to know that.
    assert_eq!(words(&service.check("u", APP, "s1").await), ("within_limit", false));
    assert_eq!(tenant.count(Operation::List), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_list_is_never_remembered() {
    let tenant = tenant().await;
    add_sessions(&tenant, 0..60);
    tenant.add_session("u", Session::new("first", tenant.now() - SignedDuration::from_hours(100)).client(APP));
    let service = service(&tenant, json!({ "limits": { "perClient": 1 }, "recheckAfter": "0s" })).await;
    for asked in 1..=8 {
        assert_eq!(words(&service.check("u", APP, "s20").await), ("limit_exceeded", true));
        assert_eq!(tenant.count(Operation::List), asked, "one page, each time");
    }
    assert_eq!(words(&service.check("u", APP, "first").await), ("within_limit", false), "it is on the second page");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_share_a_list_read_all_of_it() {
    let tenant = tenant().await;
    add_sessions(&tenant, 0..60);
    tenant.add_session("u", Session::new("first", tenant.now() - SignedDuration::from_hours(100)).client(APP));
    let service = service(&tenant, json!({ "limits": { "perClient": 1 }, "timeout": "10s" })).await;
    tenant.fault(Operation::List, Fault::Delay(Duration::from_millis(50)));
    let sids = ["s20", "s21", "s22", "first"];
    let answers = join_all(sids.map(|sid| service.check("u", APP, sid))).await;
    let blocked: Vec<bool> = answers.iter().map(|answer| answer["block"] == true).collect();
    assert_eq!(blocked, [true, true, true, false], "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_list_is_decided_by_what_was_read() {
    for (strategy, sessions, sid, expected) in [
        ("Deny", 3, "new", ("limit_exceeded", true)),
        ("Deny", 1, "new", ("upstream_error", true)),
        ("Deny", 3, "s0", ("upstream_error", true)),
        ("RevokeOldest", 3, "new", ("evicted", false)),
        ("RevokeOldest", 3, "s2", ("within_limit", false)),
        ("RevokeOldest", 1, "new", ("upstream_error", true)),
    ] {
        let tenant = tenant().await;
        add_sessions(&tenant, 0..sessions);
        tenant.fault(Operation::List, Fault::EndlessPages);
        let spec = json!({
            "limits": { "perClient": 2 }, "strategy": strategy, "failurePolicy": "Deny", "timeout": "10s",
        });
        let service = service(&tenant, spec).await;
        let answer = service.check("u", APP, sid).await;
        assert_eq!(words(&answer), expected, "{strategy} {sessions} {sid}: {answer}");
        assert_eq!(tenant.count(Operation::List), 40);
        let capped = r#"session_checker_auth0_oversized_lists_total{bound="pages",tenant="acme.eu.auth0.com"}"#;
        assert_eq!(service.metric(capped).await, Some(1.0));
        if answer["active_sessions"].is_number() {
            assert_eq!(answer["active_sessions_at_least"], true, "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_user_has_a_reason_and_is_never_remembered() {
    let tenant = tenant_as_is(Options::new(DOMAIN)).await;
    let service = service(&tenant, json!({})).await;
    for asked in 1..=8 {
        let answer = service.check("u", APP, "new").await;
        assert_eq!(words(&answer), ("unknown_user", false), "{answer}");
        assert_eq!(answer["active_sessions"], 0);
        assert_eq!(tenant.count(Operation::List), asked);
    }
    // The accounts are linked, and the user is known from now on.
    add_sessions(&tenant, 0..1);
    assert_eq!(words(&service.check("u", APP, "new").await), ("limit_exceeded", true));
    let unknown = r#"session_checker_auth0_unknown_users_total{tenant="acme.eu.auth0.com"}"#;
    assert_eq!(service.metric(unknown).await, Some(8.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_difference_has_a_series_from_the_first_answer() {
    let tenant = tenant().await;
    let service = service(&tenant, json!({})).await;
    service.check("u", APP, "new").await;
    let series = r#"session_checker_auth0_clock_difference_seconds{tenant="acme.eu.auth0.com"}"#;
    let difference = service.metric(series).await.unwrap();
    // Both read one clock, and a busy machine takes its time between.
    assert!((-60.0..=1.0).contains(&difference), "{difference}");
}

/// The reason and the count of a newcomer under `activeWithin`, by a tenant whose clock is some hours ahead. The user's other session
/// began an hour ago.
async fn counted_by_a_clock(hours_ahead: i64, active_within: &str, ends_in_minutes: i64) -> (String, u64) {
    let clock = Clock::stopped_at(Timestamp::now() + SignedDuration::from_hours(hours_ahead));
    let tenant = tenant_with(Options { clock, ..Options::new(DOMAIN) }).await;
    let ends_at = tenant.now() + SignedDuration::from_mins(ends_in_minutes);
    let list = json!({ "sessions": [{
        "id": "other", "user_id": "u", "clients": [{ "client_id": APP }],
        "created_at": (tenant.now() - SignedDuration::from_hours(1)).to_string(),
        "idle_expires_at": ends_at.to_string(), "expires_at": ends_at.to_string(),
    }] });
    let _list = tenant.fault(Operation::List, Fault::json(StatusCode::OK, list.to_string()));
    let service = service(&tenant, json!({ "activeWithin": active_within })).await;
    let answer = service.check("u", APP, "new").await;
    (words(&answer).0.to_owned(), answer["active_sessions"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_judged_by_the_tenants_clock() {
    for hours_ahead in [-5, 0, 5] {
        let counted = |active_within, ends_in| counted_by_a_clock(hours_ahead, active_within, ends_in);
        assert_eq!(counted("2h", 60).await, ("limit_exceeded".to_owned(), 1), "{hours_ahead}");
        assert_eq!(counted("30m", 60).await, ("within_limit".to_owned(), 0), "inactive: {hours_ahead}");
        assert_eq!(counted("2h", -1).await, ("within_limit".to_owned(), 0), "ended: {hours_ahead}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_stops_by_the_tenants_clock() {
    let clock = Clock::stopped_at(Timestamp::now() + SignedDuration::from_hours(24));
    let tenant = tenant_with(Options { clock, ..Options::new(DOMAIN) }).await;
    add_sessions(&tenant, 0..60);
    let service = service(&tenant, json!({ "activeWithin": "2h" })).await;
    // By our clock, the sessions of the first page are used in hours to come, and would be enough.
    assert_eq!(words(&service.check("u", APP, "new").await), ("within_limit", false));
    assert_eq!(tenant.count(Operation::List), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_session_id_is_counted_and_never_revoked() {
    let tenant = tenant().await;
    let began = tenant.now() - SignedDuration::from_hours(1);
    tenant.add_session("u", Session::new("sess_1:2+3", began).client(APP));
    let service = service(&tenant, json!({ "strategy": "RevokeOldest" })).await;
    let answer = service.check("u", APP, "new").await;
    assert_eq!(words(&answer), ("limit_exceeded", true), "{answer}");
    assert_eq!(tenant.count(Operation::Revoke), 0);
    let unusual = r#"session_checker_auth0_unusual_ids_total{tenant="acme.eu.auth0.com"}"#;
    assert_eq!(service.metric(unusual).await, Some(1.0));
}
