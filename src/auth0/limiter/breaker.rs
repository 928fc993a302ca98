//! The circuit breaker of a tenant: while the tenant does not answer, calls fail at once and nothing is sent.
//!
//! It opens after [`MAX_CONSECUTIVE_FAILURES`] failures in a row, or when at least [`MIN_REQUESTS`] requests ended within
//! [`FAILURE_SPAN`] and half of them failed. After [`OPEN_DURATION`] it sends one probe. An answer to the probe closes it. A
//! failure is a timeout, a connection that fails or breaks, or a 5xx. Any status below 500 is an answer, so no number of
//! 4xx opens the breaker.
//!
//! It is written by hand because libraries wrap the call and count each error of it: this breaker must leave out requests
//! that had too little time, and must free the probe's place when a check is cancelled.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::auth0::observer::{BreakerState, Observer, Outcome};
use crate::clock::ServiceClock;

/// This many failures in a row open the breaker. A call sends a request at most twice, so at least five calls failed.
const MAX_CONSECUTIVE_FAILURES: u32 = 10;
/// Below this number of requests, half of them is too few to judge a tenant by.
const MIN_REQUESTS: u32 = 20;
/// Only requests that ended within this span count towards the half, rounded to whole seconds.
const FAILURE_SPAN: Duration = Duration::from_secs(10);
/// How long the breaker stays open before it probes: half of [`FAILURE_SPAN`].
const OPEN_DURATION: Duration = Duration::from_secs(5);
/// A timeout of a request that had less time than this is no failure: it was sent just before its deadline, after a wait
/// for the budget.
const MIN_ATTEMPT_TIME: Duration = Duration::from_millis(100);

pub(super) struct Breaker {
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    clock: ServiceClock,
    phase: Mutex<Phase>,
}

/// A [`BreakerState`] with what is known in it.
enum Phase {
    Closed(Tally),
    HalfOpen,
    Open { until: Instant },
}

/// How the latest requests ended.
#[derive(Default)]
struct Tally {
    consecutive_failures: u32,
    /// Oldest first.
    seconds: VecDeque<Second>,
}

struct Second {
    begins: Instant,
    requests: u32,
    failures: u32,
}

impl Breaker {
    pub fn new(tenant: &str, observer: Arc<dyn Observer>, clock: ServiceClock) -> Self {
        observer.breaker(tenant, BreakerState::Closed);
        Self { tenant: tenant.into(), observer, clock, phase: Mutex::new(Phase::Closed(Tally::default())) }
    }

    /// Whether [`allow`](Self::allow) would allow no request.
    pub fn is_open(&self, now: Instant) -> bool {
        match *self.lock() {
            Phase::Closed(_) => false,
            Phase::HalfOpen => true,
            Phase::Open { until } => now < until,
        }
    }

    /// Allows a request, and says whether it is the probe. A probe has to end in [`record`](Self::record) or in
    /// [`cancel_probe`](Self::cancel_probe), or no other is sent. `None` when the breaker is open.
    pub fn allow(&self, now: Instant) -> Option<bool> {
        let mut phase = self.lock();
        match *phase {
            Phase::Closed(_) => Some(false),
            Phase::Open { until } if now >= until => {
                self.change(&mut phase, Phase::HalfOpen);
                Some(true)
            }
            Phase::HalfOpen | Phase::Open { .. } => None,
        }
    }

    /// Counts a request that ended `took` after it was sent.
    pub fn record(&self, is_probe: bool, outcome: Outcome, took: Duration) {
        let failed = match outcome {
            Outcome::Timeout if took < MIN_ATTEMPT_TIME => {
                if is_probe {
                    self.cancel_probe();
                }
                return;
            }
            outcome => !outcome.is_answer(),
        };
        let now = self.clock.instant();
        let mut phase = self.lock();
        let opened = Phase::Open { until: now + OPEN_DURATION };
        match &mut *phase {
            Phase::Closed(tally) => {
                if tally.record(failed, now) {
                    self.change(&mut phase, opened);
                }
            }
            Phase::HalfOpen if is_probe && failed => self.change(&mut phase, opened),
            Phase::HalfOpen if is_probe => self.change(&mut phase, Phase::Closed(Tally::default())),
            // The request was sent before the breaker opened, so its outcome is older than what is known.
            Phase::HalfOpen | Phase::Open { .. } => {}
        }
    }

    /// Lets the next request be the probe, because this one ended without an outcome.
    pub fn cancel_probe(&self) {
        let mut phase = self.lock();
        self.change(&mut phase, Phase::Open { until: self.clock.instant() });
    }

    fn change(&self, phase: &mut Phase, next: Phase) {
        *phase = next;
        let (tenant, state) = (&*self.tenant, phase.state());
        match state {
            BreakerState::Open => warn!(
                tenant,
                "circuit breaker open: requests fail (timeout, connection or 5xx); the next one is sent in 5 s"
            ),
            BreakerState::HalfOpen => {}
            BreakerState::Closed => info!(tenant, "circuit breaker closed: the tenant answers again"),
        }
        self.observer.breaker(tenant, state);
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    fn state(&self) -> BreakerState {
        match self {
            Self::Closed(_) => BreakerState::Closed,
            Self::HalfOpen => BreakerState::HalfOpen,
            Self::Open { .. } => BreakerState::Open,
        }
    }
}

impl Tally {
    /// Counts a request, and says whether the breaker has to open.
    fn record(&mut self, failed: bool, now: Instant) -> bool {
        self.consecutive_failures = if failed { self.consecutive_failures + 1 } else { 0 };
        while self.seconds.front().is_some_and(|oldest| now.duration_since(oldest.begins) >= FAILURE_SPAN) {
            self.seconds.pop_front();
        }
        let second = match self.seconds.back_mut() {
            Some(last) if now.duration_since(last.begins) < Duration::from_secs(1) => last,
            _ => {
                self.seconds.push_back(Second { begins: now, requests: 0, failures: 0 });
                self.seconds.back_mut().expect("it was pushed just now")
            }
        };
        second.requests += 1;
        second.failures += u32::from(failed);
        let (requests, failures) = self
            .seconds
            .iter()
            .fold((0, 0), |(requests, failures), second| (requests + second.requests, failures + second.failures));
        let half_failed = requests >= MIN_REQUESTS && failures * 2 >= requests;
        failed && (self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES || half_failed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::auth0::observer::Unobserved;

    fn breaker() -> Breaker {
        Breaker::new("acme.eu.auth0.com", Arc::new(Unobserved), ServiceClock::default())
    }

    /// Sends a request that ends like this. False when the breaker does not allow it.
    fn send(breaker: &Breaker, outcome: Outcome) -> bool {
        breaker.allow(Instant::now()).map(|is_probe| breaker.record(is_probe, outcome, MIN_ATTEMPT_TIME)).is_some()
    }

    fn state(breaker: &Breaker) -> BreakerState {
        breaker.lock().state()
    }

    async fn opened() -> Breaker {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        for _ in 0..MAX_CONSECUTIVE_FAILURES {
            assert!(send(&breaker, Outcome::Unreachable));
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn ten_failures_in_a_row_of_any_kind_open_it() {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        let failures = [Outcome::Timeout, Outcome::Unreachable, Outcome::ServerError];
        for failure in failures.into_iter().cycle().take(9) {
            assert!(send(&breaker, failure));
        }
        assert!(send(&breaker, Outcome::NotFound), "any answer ends the row");
        for failure in failures.into_iter().cycle().take(9) {
            assert!(send(&breaker, failure) && state(&breaker) == BreakerState::Closed);
        }
        assert!(send(&breaker, Outcome::Timeout));
        assert!(breaker.is_open(Instant::now()) && !send(&breaker, Outcome::Ok));
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_twenty_failures_within_ten_seconds_open_it() {
        advance(FAILURE_SPAN).await;
        let one_second = Duration::from_secs(1);
        let breaker = breaker();
        for _ in 0..10 {
            assert!(send(&breaker, Outcome::Ok) && send(&breaker, Outcome::ServerError));
            assert_eq!(state(&breaker) == BreakerState::Open, breaker.is_open(Instant::now()));
        }
        assert!(breaker.is_open(Instant::now()), "ten of twenty");

        let breaker = self::breaker();
        for second in 0..60 {
            let outcome = if second % 2 == 0 { Outcome::ServerError } else { Outcome::Ok };
            assert!(send(&breaker, outcome), "never twenty within ten seconds: {second}");
            advance(one_second).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn status_below_500_never_opens_it() {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        for outcome in Outcome::ALL.into_iter().cycle().take(Outcome::ALL.len() * 50) {
            let failure = matches!(outcome, Outcome::Timeout | Outcome::Unreachable | Outcome::ServerError);
            assert!(failure || send(&breaker, outcome), "{outcome:?}");
        }
        assert_eq!(state(&breaker), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_is_sent_after_five_seconds() {
        let breaker = opened().await;
        advance(OPEN_DURATION - Duration::from_millis(1)).await;
        assert!(breaker.is_open(Instant::now()) && breaker.allow(Instant::now()).is_none());
        advance(Duration::from_millis(1)).await;
        assert!(!breaker.is_open(Instant::now()));
        assert_eq!(breaker.allow(Instant::now()), Some(true));
        assert!(breaker.is_open(Instant::now()) && breaker.allow(Instant::now()).is_none(), "one probe");
        breaker.record(true, Outcome::ServerError, MIN_ATTEMPT_TIME);
        assert!(breaker.allow(Instant::now()).is_none(), "the probe failed: another five seconds");
        advance(OPEN_DURATION).await;
        assert!(send(&breaker, Outcome::NotFound));
        assert_eq!(state(&breaker), BreakerState::Closed);
        assert!(send(&breaker, Outcome::Timeout) && send(&breaker, Outcome::Timeout), "earlier failures do not count");
    }

    #[tokio::test(start_paused = true)]
    async fn probe_without_an_outcome_is_followed_by_another() {
        let breaker = opened().await;
        advance(OPEN_DURATION).await;
        assert_eq!(breaker.allow(Instant::now()), Some(true));
        breaker.cancel_probe();
        assert_eq!(breaker.allow(Instant::now()), Some(true));
        breaker.record(true, Outcome::Timeout, Duration::ZERO);
        assert!(send(&breaker, Outcome::Ok), "a request with too little time says nothing");
        assert_eq!(state(&breaker), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn request_sent_before_it_opened_does_not_count_after() {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        assert_eq!([0, 1].map(|_| breaker.allow(Instant::now())), [Some(false); 2]);
        for _ in 0..MAX_CONSECUTIVE_FAILURES {
            send(&breaker, Outcome::Timeout);
        }
        breaker.record(false, Outcome::Ok, MIN_ATTEMPT_TIME);
        assert!(breaker.is_open(Instant::now()));
        advance(OPEN_DURATION).await;
        assert_eq!(breaker.allow(Instant::now()), Some(true));
        breaker.record(false, Outcome::Timeout, MIN_ATTEMPT_TIME);
        assert_eq!(state(&breaker), BreakerState::HalfOpen);
        breaker.record(true, Outcome::Ok, MIN_ATTEMPT_TIME);
        assert_eq!(state(&breaker), BreakerState::Closed);
    }
}
