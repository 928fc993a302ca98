//! The strategies for users with few and very many sessions, and when the tenant revokes only some of them: through a service
//! and a simulated tenant.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{Fault, Operation, Options, RateLimit, Session, Simulator};

use crate::common::{APP, DOMAIN, Running, callers, credentials, policy, tenant, tenant_with};

const LIMIT: usize = 3;
/// The strategies that revoke, and the factor that multiplies a session's number in the order of each, so that they differ.
const REVOKING: [(&str, usize); 3] = [("RevokeOldest", 1), ("RevokeLeastRecentlyUsed", 7), ("RevokeNextToExpire", 11)];

async fn service(tenant: &Simulator, spec: Value) -> Running {
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// Gives the user `sessions` sessions of [`APP`] and the one of the login. Each strategy revokes them in a different order, and
/// none in that of the list.
fn add_sessions(tenant: &Simulator, sessions: usize) {
    let now = tenant.now();
    for number in (0..sessions).rev() {
        let [age, idle, lifetime] = REVOKING.map(|(_, factor)| rank(number, factor, sessions) as i64);
        let most = sessions as i64;
        tenant.add_session(
            "u",
            Session::new(id(number), now - SignedDuration::from_mins(most - age))
                .client(APP)
                .at("last_interacted_at", now - SignedDuration::from_secs(most - idle))
                .at("expires_at", now + SignedDuration::from_mins(60 + lifetime)),
        );
    }
    tenant.add_session("u", Session::new("me", now));
}

fn id(number: usize) -> String {
    format!("s{number}")
}

/// The position of a session in the order of a strategy, which revokes the first one first. The factors and the numbers of
/// sessions have no common divisor, so no two sessions have the same position.
fn rank(number: usize, factor: usize, sessions: usize) -> usize {
    number * factor % sessions
}

/// The ids of the sessions that the user has at the tenant.
fn ids(tenant: &Simulator) -> BTreeSet<String> {
    tenant.sessions_of("u").iter().map(|session| session.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_leaves_exactly_the_limit() {
    for sessions in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 1_000] {
        for (strategy, factor) in REVOKING {
            let tenant = tenant().await;
            add_sessions(&tenant, sessions);
            let spec = json!({ "strategy": strategy, "limits": { "perClient": LIMIT }, "timeout": "10s" });
            let answer = service(&tenant, spec).await.check("u", APP, "me").await;
            let surplus = (sessions + 1).saturating_sub(LIMIT);
            let outcome =
                (&answer["block"], &answer["reason"], &answer["revoked_sessions"], &answer["active_sessions"]);
            let [reason, revoked] = match surplus {
                0 => [json!("within_limit"), Value::Null],
                surplus => [json!("evicted"), json!(surplus)],
            };
            assert_eq!(outcome, (&json!(false), &reason, &revoked, &json!(sessions)), "{strategy}: {answer}");
            let stay = (0..sessions).filter(|number| rank(*number, factor, sessions) >= surplus).map(id);
            let stay: BTreeSet<_> = stay.chain(["me".to_owned()]).collect();
            assert_eq!(ids(&tenant), stay, "{strategy} of {sessions}");
            assert_eq!(tenant.count(Operation::Revoke), surplus as u64, "{strategy} of {sessions}");
            assert_eq!(tenant.count(Operation::List), (sessions as u64 + 1).div_ceil(50), "every page once");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deny_policy_counts_every_page_and_revokes_nothing() {
    for sessions in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 1_000] {
        let tenant = tenant().await;
        add_sessions(&tenant, sessions);
        let before = ids(&tenant);
        let spec = json!({ "limits": { "perClient": LIMIT }, "timeout": "10s" });
        let answer = service(&tenant, spec).await.check("u", APP, "me").await;
        let reason = if sessions < LIMIT { "within_limit" } else { "limit_exceeded" };
        let outcome = (&answer["block"], &answer["reason"], &answer["active_sessions"]);
        assert_eq!(outcome, (&json!(sessions >= LIMIT), &json!(reason), &json!(sessions)), "{answer}");
        assert_eq!((ids(&tenant), tenant.count(Operation::Revoke)), (before, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_not_revoked_at_first_are_revoked_later() {
    let one = async |strategy: &str, failure_policy: &str| {
        let tenant = tenant().await;
        add_sessions(&tenant, 13);
        let [slowed, broken, gone, hanging, reset] = [2, 4, 6, 8, 10].map(id);
        let revoke_of = |sid: &str| Operation::Revoke.of(sid);
        tenant.fault(revoke_of(&slowed), Fault::status(StatusCode::TOO_MANY_REQUESTS));
        tenant.fault(revoke_of(&broken), Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
        tenant.fault(revoke_of(&gone), Fault::status(StatusCode::NOT_FOUND));
        // A fault that hangs would go on when the faults are cleared, and could then still end the session.
        tenant.fault(revoke_of(&hanging), Fault::Delay(Duration::from_secs(3600)));
        tenant.fault(revoke_of(&reset), Fault::Reset);
        let spec = json!({ "strategy": strategy, "failurePolicy": failure_policy, "timeout": "4s" });
        let service = service(&tenant, spec).await;

        let answer = service.check("u", APP, "me").await;
        let reason = answer["reason"].as_str().unwrap();
        let failures = ["rate_limited", "upstream_error", "upstream_timeout", "upstream_unreachable"];
        assert!(failures.contains(&reason), "the reason is the first failure: {answer}");
        assert_eq!(answer["block"], failure_policy == "Deny", "{answer}");
        assert_eq!(answer["revoked_sessions"], 9, "{answer}");
        // The session that the tenant called gone is there: the fault only pretends it.
        let stay = [&slowed, &broken, &hanging, &reset, &gone, "me"].map(str::to_owned);
        assert_eq!(ids(&tenant), BTreeSet::from(stay));

        tenant.clear_faults();
        let next = tenant.begin_login("u", APP, None);
        let answer = service.check("u", APP, next.sid()).await;
        let me_counts = failure_policy == "Allow";
        let expected = if me_counts { (true, "limit_exceeded", 5) } else { (false, "evicted", 4) };
        let outcome = (&answer["block"], answer["reason"].as_str().unwrap(), &answer["active_sessions"]);
        assert_eq!(outcome, (&json!(expected.0), expected.1, &json!(expected.2)), "{answer}");
        if me_counts {
            next.revoke();
        } else {
            assert_eq!(answer["revoked_sessions"], 4, "{answer}");
            next.complete().unwrap();
            assert_eq!(ids(&tenant).len(), 3, "the new one, the blocked one, and the one that the fault called gone");
        }
    };
    for failure_policy in ["Allow", "Deny"] {
        join_all(REVOKING.map(|(strategy, _)| one(strategy, failure_policy))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn surplus_beyond_the_rate_limit_is_revoked_over_time() {
    let limit = RateLimit { burst: 20, per_second: 10 };
    let tenant = tenant_with(Options { rate_limit: Some(limit), ..Options::new(DOMAIN) }).await;
    add_sessions(&tenant, 49);
    let spec = json!({ "strategy": "RevokeOldest", "failurePolicy": "Deny", "timeout": "3s", "admissionWindow": "0s" });
    let service = service(&tenant, spec).await;
    let mut revoked = 0;
    for round in 0.. {
        assert!(round < 50, "it makes progress: {revoked} after {round} logins");
        let answer = service.check("u", APP, "me").await;
        revoked += answer["revoked_sessions"].as_u64().unwrap_or(0);
        assert_eq!(49 - revoked, ids(&tenant).len() as u64 - 1, "the answer counts what was revoked: {answer}");
        if answer["block"] == false {
            assert_eq!(answer["reason"], "evicted", "{answer}");
            break;
        }
        assert_eq!(answer["reason"], "rate_limited", "{answer}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(revoked, 49);
    for operation in ["list", "revoke"] {
        let rejected = format!(
            "session_checker_auth0_requests_total{{operation=\"{operation}\",outcome=\"rate_limited\",tenant=\"{DOMAIN}\"}}"
        );
        assert_eq!(service.metric(&rejected).await, None, "{operation}");
    }
}
