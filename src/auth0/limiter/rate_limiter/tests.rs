use futures::FutureExt;
use futures::future::join_all;
use jiff::SignedDuration;
use tokio::time::advance;

use super::*;
use crate::policy::ObjectName;

const SECOND: Duration = Duration::from_secs(1);

fn budget() -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new("acme.eu.auth0.com", QuotaConfig::default()))
}

fn context(policy: &str, patience: Duration) -> CallContext {
    let policy = Some(ObjectName::new("default", policy));
    CallContext { policy, silent: false, deadline: Instant::now() + patience }
}

fn left(remaining: u64, resets_in: i64) -> RateLimit {
    let resets_at = Timestamp::now() + SignedDuration::from_secs(resets_in);
    RateLimit { limit: Some(10), remaining: Some(remaining), resets_at: Some(resets_at), retry_at: None }
}

/// A budget of which one answer is known.
async fn known(remaining: u64, resets_in: i64) -> Arc<RateLimiter> {
    let budget = budget();
    let first = budget.admit(Priority::Login, &context("a", SECOND)).await;
    first.permit.unwrap().over(Outcome::Ok, &left(remaining, resets_in));
    budget
}

/// Of so many who ask at the same moment, when each was let through; `None` = not.
async fn crowd(budget: &Arc<RateLimiter>, count: usize, patience: Duration) -> Vec<Option<Duration>> {
    let begun = Instant::now();
    join_all((0..count).map(|_| async {
        let admitted = budget.admit(Priority::Login, &context("a", patience)).await;
        admitted.permit.ok().map(|permit| {
            permit.over(Outcome::Ok, &RateLimit::default());
            begun.elapsed()
        })
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_is_waited_for_only_where_it_opens_in_time() {
    let budget = known(0, 2).await;
    for (patience, comes_in) in [(SECOND, false), (SECOND * 5, true)] {
        let begun = Instant::now();
        let admitted = budget.admit(Priority::Login, &context("a", patience)).await;
        assert_eq!((admitted.permit.is_ok(), admitted.waited), (comes_in, comes_in));
        assert_eq!(begun.elapsed() > SECOND, comes_in, "refused at once: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_told_at_once_when_the_budget_closes_for_longer_than_they_can_wait() {
    let budget = known(2, 1).await;
    let last = budget.admit(Priority::Login, &context("a", SECOND)).await.permit.unwrap();
    let waiting = context("a", SECOND);
    let mut waits = Box::pin(budget.admit(Priority::Login, &waiting));
    assert!(waits.as_mut().now_or_never().is_none());
    last.over(Outcome::RateLimited, &left(0, 60));
    let begun = Instant::now();
    assert_eq!(waits.await.permit.err(), Some(Refusal::NoRoom));
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_into_a_tenant_that_says_nothing_and_the_reason_is_its_silence() {
    let budget = budget();
    let mut out = Vec::new();
    loop {
        let admitted = budget.admit(Priority::Login, &context("a", SECOND)).await;
        match admitted.permit {
            Ok(permit) => out.push(permit),
            Err(refusal) => {
                assert_eq!((refusal, admitted.waited), (Refusal::NoAnswer, true));
                break;
            }
        }
    }
    assert_eq!(out.len(), 10);
    out.pop().unwrap().over(Outcome::Ok, &RateLimit::default());
    assert_eq!(crowd(&budget, 1_000, SECOND).await.into_iter().flatten().count(), 1_000, "it has no limit");
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_lets_its_rate_through_and_no_more() {
    for (rate, replicas) in [(1, 1), (10, 1), (30, 3), (100, 1)] {
        let budget = Arc::new(RateLimiter::new("t", QuotaConfig { shared: None, replicas }));
        budget.limit(Some(rate));
        let part = rate / replicas;
        // Fills up, and is asked for more than it has.
        advance(SECOND * 2).await;
        let came = crowd(&budget, 1_000, SECOND * 3).await;
        let by = |end: Duration| came.iter().flatten().filter(|at| **at <= end).count();
        let burst = (part - part / 10) as usize;
        assert_eq!(by(Duration::ZERO), burst, "{rate}/{replicas}");
        for second in 1..=3 {
            assert!(by(SECOND * second) <= burst + (part * second) as usize, "{rate}/{replicas}");
        }
        // What flows in in the third second may come a moment too late.
        assert!(
            by(SECOND * 3) >= burst + (part * 3).saturating_sub(2) as usize,
            "{rate}/{replicas}: {}",
            by(SECOND * 3)
        );
    }
}

#[tokio::test]
async fn what_was_paid_for_and_not_used_is_not_added_to_the_burst_of_a_later_crowd() {
    let now = Instant::now();
    let mut prepaid = Prepaid::none(now);
    assert!(!prepaid.spend(now));
    prepaid.add(2, now);
    assert!(prepaid.spend(now + PREPAID_TTL / 2));
    assert!(!prepaid.spend(now + PREPAID_TTL));
    prepaid.add(1, now + PREPAID_TTL);
    assert!(prepaid.spend(now + PREPAID_TTL));
    assert!(!prepaid.spend(now + PREPAID_TTL), "the one that had ended did not come back");
}

#[tokio::test(start_paused = true)]
async fn a_changed_ceiling_holds_at_once_and_brings_no_burst() {
    let budget = budget();
    budget.limit(Some(10));
    advance(SECOND * 2).await;
    crowd(&budget, 9, SECOND).await;
    for rate in [Some(100), Some(10)] {
        budget.limit(rate);
        assert_eq!(crowd(&budget, 5, Duration::from_millis(1)).await.into_iter().flatten().count(), 0, "{rate:?}");
    }
    budget.limit(None);
    assert_eq!(crowd(&budget, 50, Duration::from_millis(1)).await.into_iter().flatten().count(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_uses_the_reserve_that_logins_leave() {
    let budget = budget();
    budget.limit(Some(20));
    advance(SECOND).await;
    assert_eq!(crowd(&budget, 50, Duration::from_millis(1)).await.into_iter().flatten().count(), 18);
    let hasty = context("a", Duration::from_millis(1));
    for there in [true, true, false] {
        assert_eq!(budget.admit(Priority::Revocation, &hasty).await.permit.is_ok(), there);
    }
}

#[tokio::test(start_paused = true)]
async fn when_there_is_room_again_the_urgent_go_first_and_policies_take_turns() {
    let budget = known(0, 1).await;
    let order = Mutex::new(Vec::new());
    let go = async |priority: Priority, policy: &'static str| {
        let permit = budget.admit(priority, &context(policy, SECOND * 30)).await.permit.unwrap();
        order.lock().unwrap().push((priority, policy));
        // One at a time: the next has to wait for the next second.
        permit.over(Outcome::Ok, &left(0, 1));
    };
    use Priority::{Login, NextPage, Revocation, Silent};
    let all = [
        (Silent, "a"),
        (Login, "a"),
        (Login, "a"),
        (Login, "a"),
        (Login, "b"),
        (NextPage, "b"),
        (Revocation, "a"),
        (Login, "b"),
    ];
    join_all(all.map(|(priority, policy)| go(priority, policy))).await;
    let served = order.into_inner().unwrap();
    let priorities: Vec<_> = served.iter().map(|(priority, _)| *priority).collect();
    assert_eq!(priorities, [Revocation, NextPage, Login, Login, Login, Login, Login, Silent]);
    let policies: Vec<_> = served[2..7].iter().map(|(_, policy)| *policy).collect();
    assert_eq!(policies, ["a", "b", "a", "b", "a"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_can_be_served_and_the_longest_waiting_make_room() {
    let budget = known(0, 1).await;
    let came = crowd(&budget, 1_000, SECOND * 3).await;
    assert!(budget.lock().queue.len() == 0 && !budget.lock().served, "nobody is left behind");
    let position = came.iter().position(Option::is_some).unwrap();
    assert_eq!(position, 1_000 - MIN_QUEUE);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_spends_nothing() {
    let budget = budget();
    budget.limit(Some(1));
    advance(SECOND).await;
    assert!(budget.admit(Priority::Login, &context("a", SECOND)).await.permit.is_ok());
    let waiting = context("a", SECOND * 3);
    let mut leaves = Box::pin(budget.admit(Priority::Login, &waiting));
    assert!(leaves.as_mut().now_or_never().is_none());
    drop(leaves);
    let begun = Instant::now();
    assert!(budget.admit(Priority::Login, &context("a", SECOND * 2)).await.permit.is_ok());
    assert!(begun.elapsed() <= SECOND + QUEUE_SWEEP_INTERVAL, "{:?}", begun.elapsed());
}
