//! Lists that checks of one user share, and that no login is allowed by it: through a service and a simulated tenant.

use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{Fault, Operation, Options, Session, Simulator};
use tokio::time::Instant;

use crate::common::{APP, DOMAIN, Running, callers, credentials, eventually, policy, tenant, tenant_with};

const COALESCED: &str = "session_checker_lists_shared_total{how=\"coalesced\",tenant=\"acme.eu.auth0.com\"}";
const REMEMBERED: &str = "session_checker_lists_shared_total{how=\"remembered\",tenant=\"acme.eu.auth0.com\"}";

const IN_FLIGHT: &str = "session_checker_http_requests_in_flight";

async fn service(tenant: &Simulator, spec: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// A session of [`APP`] that began an hour ago.
fn session(tenant: &Simulator, id: &str) -> Session {
    Session::new(id, tenant.now() - SignedDuration::from_hours(1)).client(APP)
}

/// Checks `times` new sessions of the user, one after the other. Returns how many were allowed.
async fn hammer(service: &Running, times: usize) -> usize {
    let mut allowed = 0;
    for number in 0..times {
        let answer = service.check("u", APP, &format!("new-{number}")).await;
        let words = (answer["block"] == false, answer["reason"].as_str().unwrap());
        assert!(matches!(words, (true, "within_limit") | (false, "limit_exceeded")), "{answer}");
        allowed += usize::from(words.0);
    }
    allowed
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_checks_of_a_user_at_once_cost_one_or_two_lists() {
    for limit in [1, 5] {
        let tenant = tenant().await;
        tenant.add_user("u");
        let service = service(&tenant, json!({ "limits": { "perClient": limit }, "timeout": "10s" })).await;
        let held = tenant.fault(Operation::List, Fault::Hang);
        let sids: Vec<String> = (0..100).map(|number| format!("s{number}")).collect();
        let answers = join_all(sids.iter().map(|sid| service.check("u", APP, sid)));
        // Checks that come while Auth0 takes its time join.
        let released = async {
            eventually("all wait", async || service.metric(IN_FLIGHT).await == Some(100.0)).await;
            held.clear();
        };
        let (answers, ()) = tokio::join!(answers, released);
        let allowed = answers.iter().filter(|answer| answer["block"] == false).count();
        assert_eq!(allowed, limit);
        assert!(answers.iter().all(|answer| answer["active_sessions"].is_number()), "all were decided");
        let lists = tenant.count(Operation::List);
        assert!((1..=2).contains(&lists), "{lists}");
        let shared = [service.metric(COALESCED).await, service.metric(REMEMBERED).await];
        assert_eq!(shared.into_iter().flatten().sum::<f64>() as u64 + lists, 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_never_joins_a_request_that_was_sent() {
    let tenant = tenant().await;
    tenant.add_user("u");
    let service = service(&tenant, json!({ "admissionWindow": "0s", "timeout": "10s" })).await;
    let held = tenant.fault(Operation::List.times(1), Fault::Hang);
    let mut first = Box::pin(service.check("u", APP, "s1"));
    let second = async {
        held.struck(1).await;
        // A login completes that the first list may not show.
        tenant.add_session("u", session(&tenant, "s2"));
        service.check("u", APP, "s3").await
    };
    let second = tokio::select! {
        answer = second => answer,
        _ = &mut first => panic!("it hangs"),
    };
    assert_eq!((&second["reason"], &second["active_sessions"]), (&json!("limit_exceeded"), &json!(1)));
    assert_eq!(tenant.count(Operation::List), 2, "it did not wait for the request that hangs");
    held.clear();
    assert_eq!(first.await["reason"], "limit_exceeded", "the list was made when the tenant answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_keeps_its_deadline_and_the_shared_request_goes_on() {
    let tenant = tenant().await;
    tenant.add_user("u");
    let with = |name: &str, timeout: &str| {
        policy(name, json!({ "selector": { "clientIds": [name] }, "timeout": timeout, "failurePolicy": "Deny" }))
    };
    let documents = [credentials(), callers(), with("hasty", "2s"), with("patient", "10s")];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let held = tenant.fault(Operation::List, Fault::Hang);
    let mut first = Box::pin(service.check("u", "patient", "s1"));
    assert!(poll!(&mut first).is_pending());
    tokio::select! {
        () = held.struck(1) => {}
        _ = &mut first => panic!("it hangs"),
    }
    let hasty = service.check("u", "hasty", "s2");
    let joins = service.check("u", "patient", "s3");
    let leaves = async {
        assert_eq!(hasty.await["reason"], "upstream_timeout");
        held.struck(2).await;
        held.clear();
    };
    let (first, joins, ()) = tokio::join!(first, joins, leaves);
    // Both lists arrive at the same time.
    let mut reasons = [&first, &joins].map(|answer| answer["reason"].as_str().unwrap());
    reasons.sort_unstable();
    assert_eq!(reasons, ["limit_exceeded", "within_limit"], "{first} {joins}");
    assert_eq!(tenant.count(Operation::List), 2);
    assert_eq!(service.metric(COALESCED).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_credentials_do_not_share_lists() {
    let tenant = tenant().await;
    let mut other = credentials();
    other["metadata"]["name"] = "other".into();
    other["stringData"]["clientSecret"] = "wrong".into();
    let secret = json!({ "credentialsSecretRef": { "name": "other" } });
    let documents = [
        credentials(),
        other,
        callers(),
        policy("one", json!({ "selector": { "clientIds": [APP] } })),
        policy("two", json!({ "selector": { "clientIds": ["app-2"] }, "tenant": secret })),
    ];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let logins = [("u", APP), ("u", "app-2"), ("v", APP), ("u", "app-2"), ("u", APP)];
    let answers = join_all(logins.map(|(user, client)| service.check(user, client, "s"))).await;
    let reasons: Vec<_> = answers.iter().map(|answer| answer["reason"].as_str().unwrap()).collect();
    let (good, bad) = ("within_limit", "credentials_rejected");
    assert_eq!(reasons, [good, bad, good, bad, good]);
}

#[tokio::test(flavor = "multi_thread")]
async fn looping_user_stays_blocked_and_costs_few_lists() {
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1"));
    let service = service(&tenant, json!({})).await;
    let began = Instant::now();
    assert_eq!(hammer(&service, 1_000).await, 0);
    let most = 5 + 1 + began.elapsed().as_secs() / 10;
    let lists = tenant.count(Operation::List);
    assert!(lists <= most, "{lists} lists, {most} at most");
    assert_eq!(service.metric(REMEMBERED).await, Some((1_000 - lists) as f64));
    assert_eq!(service.check("v", APP, "s2").await["reason"], "within_limit", "other users are not affected");
}

#[tokio::test(flavor = "multi_thread")]
async fn last_list_allows_no_login_that_a_fresh_one_blocks() {
    for delay in [Duration::ZERO, Duration::from_secs(3_600)] {
        let tenant = tenant_with(Options { visibility_delay: delay, ..Options::new(DOMAIN) }).await;
        tenant.add_session("u", session(&tenant, "s1"));
        let service = service(&tenant, json!({ "limits": { "perClient": 10 } })).await;
        let mut allowed = 0;
        for _ in 0..40 {
            let login = tenant.begin_login("u", APP, None);
            let answer = service.check("u", APP, login.sid()).await;
            if answer["block"] == false {
                login.complete().unwrap();
                allowed += 1;
            } else {
                assert_eq!(answer["reason"], "limit_exceeded");
                login.revoke();
            }
        }
        assert_eq!(allowed, 9, "the last list shows one session, the ledger knows the others");
        assert!(tenant.count(Operation::List) <= 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_is_used_again_without_an_admission_window() {
    for other_window in ["0s", "10s"] {
        let tenant = tenant().await;
        tenant.add_session("u", session(&tenant, "s1"));
        let documents = [
            credentials(),
            callers(),
            policy("one", json!({ "selector": { "clientIds": [APP] } })),
            policy("two", json!({ "selector": { "clientIds": ["app-2"] }, "admissionWindow": other_window })),
        ];
        let service = Running::folder(&tenant, &documents, &[]).await;
        assert_eq!(hammer(&service, 20).await, 0);
        assert_eq!(tenant.count(Operation::List) == 20, other_window == "0s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_list_is_younger_than_the_admission_window() {
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1"));
    let service = service(&tenant, json!({ "admissionWindow": "500ms" })).await;
    hammer(&service, 6).await;
    assert!(tenant.end_session("s1"));
    // A logout shows when the list is too old to be used again. The list is at least as old as the answer that it came with.
    let (mut lists, mut listed_at) = (tenant.count(Operation::List), None);
    loop {
        let asked_at = Instant::now();
        let answer = service.check("u", APP, "s2").await;
        if answer["block"] == false {
            break;
        }
        let asked = tenant.count(Operation::List);
        if asked > lists {
            (lists, listed_at) = (asked, Some(Instant::now()));
        } else if let Some(listed_at) = listed_at {
            assert!(
                asked_at.duration_since(listed_at) < Duration::from_millis(500),
                "the list was used after its time"
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_evicted_by_the_last_list_stays_revoked() {
    let tenant = tenant().await;
    tenant.add_session("u", session(&tenant, "s1"));
    let service = service(&tenant, json!({ "strategy": "RevokeOldest", "limits": { "perClient": 1 } })).await;
    let mut newest = "s1".to_owned();
    for round in 0..12 {
        let login = tenant.begin_login("u", APP, None);
        let answer = service.check("u", APP, login.sid()).await;
        if answer["block"] == false {
            newest = login.complete().unwrap();
        } else {
            // The ledger alone knows the login before, and it is not evicted before it is listed.
            assert_eq!(answer["reason"], "limit_exceeded", "{answer}");
            login.revoke();
        }
        let holds: Vec<_> = tenant.sessions_of("u").iter().map(|session| session.id().to_owned()).collect();
        assert_eq!(holds, [newest.as_str()], "round {round}");
    }
}
