//! The breaker: a tenant that does not answer is left alone for a moment, and checks are answered at once.
//!
//! It opens after [`MAX_CONSECUTIVE_FAILURES`] failures in a row, or when of at least [`MIN_REQUESTS`] requests in [`FAILURE_SPAN`] half failed. After
//! [`OPEN_DURATION`] one single request goes to see: if it is answered, the breaker closes. A failure is a timeout, a connection
//! that does not come about or breaks, or a 5xx. An answer below 500 is an answer, whatever it says, so no 4xx ever opens it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::auth0::observer::{Observer, Outcome};

/// So many failures in a row open it.
const MAX_CONSECUTIVE_FAILURES: u32 = 10;
/// From so many requests on, half of them open it.
const MIN_REQUESTS: u32 = 20;
/// What counts for that is this young, counted in whole seconds.
const FAILURE_SPAN: Duration = Duration::from_secs(10);
/// How long it stays open.
const OPEN_DURATION: Duration = Duration::from_secs(5);
/// A request that was sent shortly before its deadline, after a wait for the budget, says nothing when it comes to nothing.
const MIN_ATTEMPT_TIME: Duration = Duration::from_millis(100);

/// Whether a tenant is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// One request goes to see.
    HalfOpen,
    /// It is not.
    Open,
}

pub(super) struct Breaker {
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

enum State {
    Closed(Tally),
    HalfOpen,
    Open { until: Instant },
}

/// What came of the latest requests.
#[derive(Default)]
struct Tally {
    in_a_row: u32,
    /// By the second, oldest first.
    seconds: VecDeque<Second>,
}

struct Second {
    begins: Instant,
    requests: u32,
    failures: u32,
}

/// The leave to send one request.
pub(super) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    /// Whether it is the one that goes to see and has not come back.
    probing: bool,
}

impl Breaker {
    pub fn new(tenant: &str, observer: Arc<dyn Observer>) -> Self {
        observer.breaker(tenant, BreakerState::Closed);
        Self { tenant: tenant.into(), observer, state: Mutex::new(State::Closed(Tally::default())) }
    }

    /// Whether nobody is let through now.
    pub fn is_open(&self, now: Instant) -> bool {
        match *self.lock() {
            State::Closed(_) => false,
            State::HalfOpen => true,
            State::Open { until } => now < until,
        }
    }

    /// Lets a request through; nothing when the breaker is open.
    pub fn pass(&self, now: Instant) -> Option<BreakerPermit<'_>> {
        let mut state = self.lock();
        match *state {
            State::Closed(_) => Some(BreakerPermit { breaker: self, probing: false }),
            State::Open { until } if now >= until => {
                self.turn(&mut state, State::HalfOpen);
                Some(BreakerPermit { breaker: self, probing: true })
            }
            State::HalfOpen | State::Open { .. } => None,
        }
    }

    fn turn(&self, state: &mut State, next: State) {
        *state = next;
        let (tenant, next) = (&*self.tenant, state.name());
        match next {
            BreakerState::Open => warn!(tenant, "the tenant does not answer: it is not asked for five seconds"),
            BreakerState::HalfOpen => {}
            BreakerState::Closed => info!(tenant, "the tenant answers again"),
        }
        self.observer.breaker(tenant, next);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn name(&self) -> BreakerState {
        match self {
            Self::Closed(_) => BreakerState::Closed,
            Self::HalfOpen => BreakerState::HalfOpen,
            Self::Open { .. } => BreakerState::Open,
        }
    }
}

impl BreakerPermit<'_> {
    /// Tells how the request ended that was sent when it `started`.
    pub fn over(mut self, outcome: Outcome, started: Instant) {
        let now = Instant::now();
        let failed = match outcome {
            Outcome::Timeout if now.duration_since(started) < MIN_ATTEMPT_TIME => return,
            Outcome::Timeout | Outcome::Unreachable | Outcome::ServerError => true,
            _ => false,
        };
        let probing = std::mem::take(&mut self.probing);
        let mut state = self.breaker.lock();
        match &mut *state {
            State::Closed(tally) => {
                if tally.opens(failed, now) {
                    self.breaker.turn(&mut state, State::Open { until: now + OPEN_DURATION });
                }
            }
            State::HalfOpen if probing && failed => {
                self.breaker.turn(&mut state, State::Open { until: now + OPEN_DURATION })
            }
            State::HalfOpen if probing => self.breaker.turn(&mut state, State::Closed(Tally::default())),
            // It was sent before the breaker opened, and says nothing new.
            State::HalfOpen | State::Open { .. } => {}
        }
    }
}

impl Drop for BreakerPermit<'_> {
    /// One that went to see and did not come back leaves the place to another.
    fn drop(&mut self) {
        if self.probing {
            let mut state = self.breaker.lock();
            self.breaker.turn(&mut state, State::Open { until: Instant::now() });
        }
    }
}

impl Tally {
    /// Takes a request to account: whether the breaker has to open.
    fn opens(&mut self, failed: bool, now: Instant) -> bool {
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
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
        failed && (self.in_a_row >= MAX_CONSECUTIVE_FAILURES || (requests >= MIN_REQUESTS && failures * 2 >= requests))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::auth0::observer::Unobserved;

    fn breaker() -> Breaker {
        Breaker::new("acme.eu.auth0.com", Arc::new(Unobserved))
    }

    /// Sends a request that ends like this; false when it was not let through.
    fn send(breaker: &Breaker, outcome: Outcome) -> bool {
        let long_ago = Instant::now() - Duration::from_secs(1);
        breaker.pass(Instant::now()).map(|pass| pass.over(outcome, long_ago)).is_some()
    }

    fn state(breaker: &Breaker) -> BreakerState {
        breaker.lock().name()
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
    async fn ten_failures_in_a_row_open_it_whatever_kind_they_are() {
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
    async fn half_of_twenty_in_ten_seconds_open_it_and_older_ones_are_forgotten() {
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
    async fn no_answer_below_500_ever_opens_it() {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        for outcome in Outcome::ALL.into_iter().cycle().take(Outcome::ALL.len() * 50) {
            let failure = matches!(outcome, Outcome::Timeout | Outcome::Unreachable | Outcome::ServerError);
            assert!(failure || send(&breaker, outcome), "{outcome:?}");
        }
        assert_eq!(state(&breaker), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_seconds_a_single_request_goes_to_see() {
        let breaker = opened().await;
        advance(OPEN_DURATION - Duration::from_millis(1)).await;
        assert!(breaker.is_open(Instant::now()) && breaker.pass(Instant::now()).is_none());
        advance(Duration::from_millis(1)).await;
        assert!(!breaker.is_open(Instant::now()));
        let long_ago = Instant::now() - MIN_ATTEMPT_TIME;
        let probe = breaker.pass(Instant::now()).unwrap();
        assert!(breaker.is_open(Instant::now()) && breaker.pass(Instant::now()).is_none(), "a single one");
        probe.over(Outcome::ServerError, long_ago);
        assert!(breaker.pass(Instant::now()).is_none(), "it failed: another five seconds");
        advance(OPEN_DURATION).await;
        breaker.pass(Instant::now()).unwrap().over(Outcome::NotFound, long_ago);
        assert_eq!(state(&breaker), BreakerState::Closed);
        assert!(send(&breaker, Outcome::Timeout) && send(&breaker, Outcome::Timeout), "and nothing is held against it");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_goes_to_see_and_never_comes_back_leaves_the_place_to_another() {
        let breaker = opened().await;
        advance(OPEN_DURATION).await;
        drop(breaker.pass(Instant::now()).unwrap());
        let hasty = breaker.pass(Instant::now()).unwrap();
        hasty.over(Outcome::Timeout, Instant::now());
        assert!(send(&breaker, Outcome::Ok), "one without a chance says nothing");
        assert_eq!(state(&breaker), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_it_opened_says_nothing_after() {
        advance(FAILURE_SPAN).await;
        let breaker = breaker();
        let long_ago = Instant::now() - Duration::from_secs(1);
        let early: Vec<_> = (0..2).map(|_| breaker.pass(Instant::now()).unwrap()).collect();
        for _ in 0..MAX_CONSECUTIVE_FAILURES {
            send(&breaker, Outcome::Timeout);
        }
        let mut early = early.into_iter();
        early.next().unwrap().over(Outcome::Ok, long_ago);
        assert!(breaker.is_open(Instant::now()));
        advance(OPEN_DURATION).await;
        let probe = breaker.pass(Instant::now()).unwrap();
        early.next().unwrap().over(Outcome::Timeout, long_ago);
        assert_eq!(state(&breaker), BreakerState::HalfOpen);
        probe.over(Outcome::Ok, long_ago);
        assert_eq!(state(&breaker), BreakerState::Closed);
    }
}
