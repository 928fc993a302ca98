use futures::FutureExt;
use futures::future::join_all;
use tokio::time::advance;

use super::*;
use crate::auth0::observer::Unobserved;
use crate::policy::ObjectName;

const SECOND: Duration = Duration::from_secs(1);

fn limiter() -> Arc<RateLimiter> {
    Arc::new(RateLimiter::new("acme.eu.auth0.com", QuotaConfig::default(), ServiceClock::default()))
}

fn context(policy: &str, timeout: Duration) -> CallContext {
    let policy = Some(ObjectName::new("default", policy));
    CallContext { policy, silent: false, deadline: Instant::now() + timeout }
}

fn left(remaining: u64, resets_in: u64) -> RateLimit {
    RateLimit { limit: Some(10), remaining: Some(remaining), wait: Some(Duration::from_secs(resets_in)) }
}

/// Gets a permit for a login of policy `a`.
async fn acquire(limiter: &Arc<RateLimiter>, timeout: Duration) -> Result<Permit, Error> {
    limiter.acquire(Priority::Login, &context("a", timeout)).await.0
}

/// A limiter that knows one answer.
async fn known(remaining: u64, resets_in: u64) -> Arc<RateLimiter> {
    let limiter = limiter();
    let first = acquire(&limiter, SECOND).await.unwrap();
    first.record(Outcome::Ok, SECOND, &left(remaining, resets_in));
    limiter
}

/// Of `count` simultaneous requests, when each got its permit. `None` = it got none.
async fn burst(limiter: &Arc<RateLimiter>, count: usize, timeout: Duration) -> Vec<Option<Duration>> {
    let begun = Instant::now();
    join_all((0..count).map(|_| async {
        acquire(limiter, timeout).await.ok().map(|permit| {
            permit.record(Outcome::Ok, SECOND, &RateLimit::default());
            begun.elapsed()
        })
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn request_waits_only_for_a_budget_that_refills_in_time() {
    let limiter = known(0, 2).await;
    for (timeout, in_time) in [(SECOND, false), (SECOND * 5, true)] {
        let begun = Instant::now();
        let (permit, waited) = limiter.acquire(Priority::Login, &context("a", timeout)).await;
        assert_eq!((permit.is_ok(), waited), (in_time, in_time));
        assert_eq!(begun.elapsed() > SECOND, in_time, "an error comes at once: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_request_fails_at_once_when_the_refill_is_too_late() {
    let limiter = known(2, 1).await;
    let last = acquire(&limiter, SECOND).await.unwrap();
    let mut waiting = Box::pin(acquire(&limiter, SECOND));
    assert!(waiting.as_mut().now_or_never().is_none());
    last.record(Outcome::RateLimited, SECOND, &left(0, 60));
    let begun = Instant::now();
    assert_eq!(waiting.await.err().unwrap().failure, Failure::RateLimited);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn silent_tenant_gets_ten_requests_and_the_others_time_out() {
    let limiter = limiter();
    let mut permits = Vec::new();
    loop {
        match limiter.acquire(Priority::Login, &context("a", SECOND)).await {
            (Ok(permit), _) => permits.push(permit),
            (Err(error), waited) => {
                assert_eq!((error.failure, waited), (Failure::UpstreamTimeout, true));
                break;
            }
        }
    }
    assert_eq!(permits.len(), 10);
    permits.pop().unwrap().record(Outcome::Ok, SECOND, &RateLimit::default());
    assert_eq!(burst(&limiter, 1_000, SECOND).await.into_iter().flatten().count(), 1_000, "it has no limit");
}

#[tokio::test(start_paused = true)]
async fn quota_allows_its_rate_and_no_more() {
    for (rate, replicas) in [(1, 1), (10, 1), (30, 3), (100, 1)] {
        let limiter = Arc::new(RateLimiter::new("t", QuotaConfig { shared: None, replicas }, ServiceClock::default()));
        limiter.set_quota(Some(rate));
        let part = rate / replicas;
        // The bucket fills up, and then more is requested than it holds.
        advance(SECOND * 2).await;
        let sent = burst(&limiter, 1_000, SECOND * 3).await;
        let by = |end: Duration| sent.iter().flatten().filter(|at| **at <= end).count();
        let at_once = (part - part / 10) as usize;
        assert_eq!(by(Duration::ZERO), at_once, "{rate}/{replicas}");
        for second in 1..=3 {
            assert!(by(SECOND * second) <= at_once + (part * second) as usize, "{rate}/{replicas}");
        }
        // What flows in at the end of the third second may be too late.
        assert!(
            by(SECOND * 3) >= at_once + (part * 3).saturating_sub(2) as usize,
            "{rate}/{replicas}: {}",
            by(SECOND * 3)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn changed_quota_holds_at_once_and_brings_no_burst() {
    let limiter = limiter();
    limiter.set_quota(Some(10));
    advance(SECOND * 2).await;
    burst(&limiter, 9, SECOND).await;
    for rate in [Some(100), Some(10)] {
        limiter.set_quota(rate);
        assert_eq!(burst(&limiter, 5, Duration::from_millis(1)).await.into_iter().flatten().count(), 0, "{rate:?}");
    }
    limiter.set_quota(None);
    assert_eq!(burst(&limiter, 50, Duration::from_millis(1)).await.into_iter().flatten().count(), 50);
}

#[tokio::test(start_paused = true)]
async fn revocation_uses_the_reserve_that_logins_leave() {
    let limiter = limiter();
    limiter.set_quota(Some(20));
    advance(SECOND).await;
    assert_eq!(burst(&limiter, 50, Duration::from_millis(1)).await.into_iter().flatten().count(), 18);
    let short = context("a", Duration::from_millis(1));
    for there in [true, true, false] {
        assert_eq!(limiter.acquire(Priority::Revocation, &short).await.0.is_ok(), there);
    }
}

#[tokio::test(start_paused = true)]
async fn urgent_requests_go_first_and_policies_alternate() {
    let limiter = known(0, 1).await;
    let order = Mutex::new(Vec::new());
    let go = async |priority: Priority, policy: &'static str| {
        let permit = limiter.acquire(priority, &context(policy, SECOND * 30)).await.0.unwrap();
        order.lock().unwrap().push((priority, policy));
        // One at a time: the next has to wait for the next second.
        permit.record(Outcome::Ok, SECOND, &left(0, 1));
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
async fn full_queue_sheds_the_requests_that_wait_longest() {
    let limiter = known(0, 1).await;
    let sent = burst(&limiter, 1_000, SECOND * 3).await;
    assert!(limiter.lock().queue.len() == 0 && !limiter.lock().is_served, "no request is left in the queue");
    let position = sent.iter().position(Option::is_some).unwrap();
    assert_eq!(position, 1_000 - MIN_QUEUE);
}

#[tokio::test(start_paused = true)]
async fn request_that_is_given_up_spends_nothing() {
    let limiter = limiter();
    limiter.set_quota(Some(1));
    advance(SECOND).await;
    assert!(acquire(&limiter, SECOND).await.is_ok());
    let mut given_up = Box::pin(acquire(&limiter, SECOND * 3));
    assert!(given_up.as_mut().now_or_never().is_none());
    drop(given_up);
    let begun = Instant::now();
    assert!(acquire(&limiter, SECOND * 2).await.is_ok());
    assert!(begun.elapsed() <= SECOND + QUEUE_SWEEP_INTERVAL, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn dropped_permit_is_a_cancellation() {
    // Of four, one is the reserve.
    let limiter = known(4, 60).await;
    let availability = || limiter.lock().observed.availability(false, Instant::now());
    let breaker = Arc::new(Breaker::new("acme.eu.auth0.com", Arc::new(Unobserved), ServiceClock::default()));
    for _ in 0..10 {
        breaker.record(false, Outcome::Unreachable, SECOND);
    }
    let permit = acquire(&limiter, SECOND).await.unwrap();
    assert!(permit.checked_by(&breaker).is_none(), "the breaker is open");
    advance(SECOND * 5).await;
    let probe = acquire(&limiter, SECOND).await.unwrap().checked_by(&breaker).unwrap();
    let last = acquire(&limiter, SECOND).await.unwrap();
    assert!(breaker.is_open(Instant::now()));
    assert!(matches!(availability(), Availability::Unknown(Some(_))), "an answer may say that there is more");
    drop((probe, last));
    assert!(!breaker.is_open(Instant::now()), "the next request is the probe");
    assert!(matches!(availability(), Availability::At(_)), "no answer comes any more");
}
