//! What is known of a tenant's rate limit: how many requests it still takes, and when it takes more.
//!
//! Each answer says how many requests were left when the tenant made it. The number is old when it arrives, and of several
//! answers in flight each was made at another time. So the number that is kept here is one that is certainly left: an
//! answer with `remaining` r proves that r are left, less whatever the tenant may have taken after it. That is the requests
//! in flight, and the requests that ended while this answer was on its way. Of the number that is kept and the number that
//! is proven the greater holds, and never more than r, because the tenant may have other callers. So a single process never
//! sends more than the tenant takes, in whatever order the answers arrive.
//!
//! With nothing left, nothing is sent until the reset. Then one probe is sent, because the headers promise one request
//! (<https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy/rate-limit-use-cases>), and
//! its answer says how many more there are. Before the first answer of all, [`UNKNOWN_LIMIT_REQUESTS`] are sent and the
//! others wait, so that a process that starts under load does not send all of its requests at once.

use std::time::Duration;

use tokio::time::Instant;

use super::availability::Availability;
use crate::auth0::observer::Outcome;
use crate::auth0::rate_limit_headers::{DEFAULT_REFILL, RateLimit};

/// How many requests are sent to a tenant that has not answered yet: the smallest burst of a paid Auth0 plan.
const UNKNOWN_LIMIT_REQUESTS: u64 = 10;
/// The longest wait before a probe. Auth0's limits refill some requests each second. A reset that is further away comes from a
/// gateway or is a mistake, and must not keep every login without a list: one request in this time asks again.
const MAX_EXHAUSTED: Duration = Duration::from_secs(10);

pub(super) struct ObservedLimit {
    left: Left,
    /// By then the tenant takes one more request.
    refills_at: Instant,
    in_flight: u64,
    /// The requests in flight that were sent since the limit was last exhausted. Only their answers may say that there is
    /// more.
    probes: u64,
    /// How many requests have ended.
    ended: u64,
    /// How many times the limit was exhausted.
    exhaustions: u64,
    /// How many requests a rested tenant takes at once. 0 where it does not say.
    burst: u64,
}

/// How many requests the tenant still takes.
enum Left {
    /// There was no answer yet.
    Unknown,
    /// The answers carry no limit.
    Unlimited,
    /// At least this many.
    AtLeast(u64),
}

/// When a request was sent: the counts of [`ObservedLimit`] at that time.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    ended: u64,
    exhaustions: u64,
}

impl ObservedLimit {
    pub fn new(now: Instant) -> Self {
        Self { left: Left::Unknown, refills_at: now, in_flight: 0, probes: 0, ended: 0, exhaustions: 0, burst: 0 }
    }

    /// When a request may be sent. One that leaves the reserve needs more left than one that uses it.
    pub fn availability(&self, uses_reserve: bool, now: Instant) -> Availability {
        match self.left {
            Left::Unlimited => Availability::Now,
            Left::Unknown if self.in_flight < UNKNOWN_LIMIT_REQUESTS => Availability::Now,
            Left::Unknown => Availability::Unknown(None),
            Left::AtLeast(left) if left > self.reserve(uses_reserve) => Availability::Now,
            Left::AtLeast(_) if now >= self.refills_at => Availability::Now,
            Left::AtLeast(_) if self.probes > 0 => Availability::Unknown(Some(self.refills_at)),
            Left::AtLeast(_) => Availability::At(self.refills_at),
        }
    }

    /// A tenth of the burst is kept for revocations.
    fn reserve(&self, uses_reserve: bool) -> u64 {
        if uses_reserve { 0 } else { self.burst / 10 }
    }

    /// How many requests a rested tenant takes at once. `None` where it does not say.
    pub fn burst(&self) -> Option<u64> {
        Some(self.burst).filter(|burst| *burst > 0)
    }

    /// How many requests are certainly left, and how many a rested tenant takes.
    pub fn left(&self) -> Option<(u64, u64)> {
        match self.left {
            Left::AtLeast(left) => Some((left, self.burst()?)),
            Left::Unknown | Left::Unlimited => None,
        }
    }

    /// Whether the tenant has not answered anything yet.
    pub fn is_unknown(&self) -> bool {
        matches!(self.left, Left::Unknown)
    }

    /// Counts a request that is sent now, which [`availability`](Self::availability) allowed.
    pub fn send(&mut self, uses_reserve: bool, now: Instant) -> Sent {
        let reserve = self.reserve(uses_reserve);
        match &mut self.left {
            Left::Unknown | Left::Unlimited => {}
            Left::AtLeast(left) if *left > reserve => {
                *left -= 1;
                // A tenant at rest was full until now, so it starts to refill for this request only now.
                if self.refills_at <= now {
                    self.refills_at = now + DEFAULT_REFILL;
                }
            }
            // This is the probe. Unless its answer says more, one request a second is sent.
            Left::AtLeast(_) => self.refills_at = now + DEFAULT_REFILL,
        }
        self.in_flight += 1;
        self.probes += 1;
        Sent { ended: self.ended, exhaustions: self.exhaustions }
    }

    /// Counts the answer to a request, with these headers.
    pub fn answered(&mut self, sent: Sent, outcome: Outcome, limit: &RateLimit, now: Instant) {
        let overtaken_by = self.ended - sent.ended;
        self.end(sent);
        self.burst = limit.limit.unwrap_or(self.burst);
        let refills_at = now + limit.wait().min(MAX_EXHAUSTED);
        match limit.remaining {
            _ if outcome == Outcome::RateLimited => self.exhaust(refills_at),
            Some(0) => self.exhaust(refills_at),
            _ if sent.exhaustions < self.exhaustions => {}
            Some(remaining) => {
                let proven = remaining.saturating_sub(self.in_flight + overtaken_by);
                let left = match self.left {
                    Left::AtLeast(left) => left.max(proven).min(remaining),
                    Left::Unknown | Left::Unlimited => proven,
                };
                self.left = Left::AtLeast(left);
                self.refills_at = refills_at;
            }
            // The error page of a gateway says nothing about the tenant.
            None if outcome == Outcome::ServerError => {}
            // Nor does another page of a gateway: a tenant whose limit is known keeps it.
            None if outcome != Outcome::Ok && matches!(self.left, Left::AtLeast(_)) => {}
            None => self.left = Left::Unlimited,
        }
    }

    /// Counts the end of a request. Where there was no answer, the tenant may have counted the request all the same.
    pub fn end(&mut self, sent: Sent) {
        self.ended += 1;
        self.in_flight -= 1;
        self.probes -= u64::from(sent.exhaustions == self.exhaustions);
    }

    fn exhaust(&mut self, until: Instant) {
        self.left = Left::AtLeast(0);
        self.refills_at = self.refills_at.max(until);
        self.exhaustions += 1;
        self.probes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn remaining(remaining: u64, resets_in: u64) -> RateLimit {
        RateLimit { limit: Some(50), remaining: Some(remaining), wait: Some(Duration::from_secs(resets_in)) }
    }

    fn answer(observed: &mut ObservedLimit, sent: Sent, outcome: Outcome, limit: &RateLimit, now: Instant) {
        observed.answered(sent, outcome, limit, now);
    }

    /// A limit of which one answer is known.
    fn known(left: u64, now: Instant) -> ObservedLimit {
        let mut observed = ObservedLimit::new(now);
        let sent = observed.send(true, now);
        answer(&mut observed, sent, Outcome::Ok, &remaining(left, 1), now);
        observed
    }

    #[tokio::test]
    async fn first_answer_proves_how_many_may_be_sent() {
        let now = Instant::now();
        let mut observed = ObservedLimit::new(now);
        let sent: Vec<_> = (0..UNKNOWN_LIMIT_REQUESTS).map(|_| observed.send(false, now)).collect();
        assert_eq!(observed.availability(false, now), Availability::Unknown(None));
        assert!(observed.is_unknown());
        answer(&mut observed, sent[3], Outcome::Ok, &remaining(30, 1), now);
        // Nine are in flight, and the answer may have counted none of them.
        for left in (0..21).rev() {
            assert_eq!(observed.availability(true, now), Availability::Now);
            observed.send(true, now);
            assert!(matches!(observed.left, Left::AtLeast(it) if it == left));
        }
        assert_eq!(observed.availability(true, now), Availability::Unknown(Some(now + Duration::from_secs(1))));
    }

    #[tokio::test]
    async fn answer_without_headers_lifts_the_limit_except_a_5xx() {
        let now = Instant::now();
        let mut observed = ObservedLimit::new(now);
        let sent = [observed.send(false, now), observed.send(false, now)];
        answer(&mut observed, sent[0], Outcome::ServerError, &RateLimit::default(), now);
        assert!(observed.is_unknown());
        answer(&mut observed, sent[1], Outcome::NotFound, &RateLimit::default(), now);
        for _ in 0..1_000 {
            assert_eq!(observed.availability(false, now), Availability::Now);
            observed.send(false, now);
        }
    }

    #[tokio::test]
    async fn page_of_a_gateway_does_not_lift_a_known_limit() {
        let now = Instant::now();
        for (outcome, lifted) in [
            (Outcome::Forbidden, false),
            (Outcome::NotFound, false),
            (Outcome::Unauthorized, false),
            (Outcome::TooLarge, false),
            (Outcome::Ok, true),
        ] {
            let mut observed = known(2, now);
            let sent = observed.send(true, now);
            answer(&mut observed, sent, outcome, &RateLimit::default(), now);
            observed.send(true, now);
            assert_eq!(observed.availability(true, now) == Availability::Now, lifted, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn exhausted_limit_sends_one_probe_after_its_reset() {
        let now = Instant::now();
        let mut observed = known(3, now);
        let sent: Vec<_> = (0..3).map(|_| observed.send(true, now)).collect();
        answer(&mut observed, sent[2], Outcome::Ok, &remaining(0, 7), now);
        let reset = now + Duration::from_secs(7);
        // An answer to a request that was sent before says nothing about later.
        answer(&mut observed, sent[0], Outcome::Ok, &remaining(2, 1), now);
        assert_eq!(observed.availability(true, now), Availability::At(reset));
        assert_eq!(observed.availability(true, reset - Duration::from_nanos(1)), Availability::At(reset));
        assert_eq!(observed.availability(false, reset), Availability::Now);
        let probe = observed.send(false, reset);
        assert_eq!(observed.availability(true, reset), Availability::Unknown(Some(reset + DEFAULT_REFILL)));
        answer(&mut observed, sent[1], Outcome::Ok, &remaining(1, 1), reset);
        assert_eq!(observed.availability(true, reset), Availability::Unknown(Some(reset + DEFAULT_REFILL)));
        answer(&mut observed, probe, Outcome::Ok, &remaining(15, 8), reset);
        // One request ended while the probe was in flight. The tenant may have counted it after the probe.
        for _ in 0..14 {
            assert_eq!(observed.availability(true, reset), Availability::Now);
            observed.send(true, reset);
        }
        assert_ne!(observed.availability(true, reset), Availability::Now);
    }

    #[tokio::test]
    async fn rate_limited_answer_exhausts_until_its_reset_within_bounds() {
        let now = Instant::now();
        let after_429 = |limit: &RateLimit| {
            let mut observed = known(20, now);
            let sent = observed.send(true, now);
            answer(&mut observed, sent, Outcome::RateLimited, limit, now);
            observed.availability(true, now)
        };
        assert_eq!(after_429(&RateLimit::default()), Availability::At(now + DEFAULT_REFILL));
        assert_eq!(after_429(&remaining(20, 30)), Availability::At(now + MAX_EXHAUSTED));
        assert_eq!(after_429(&remaining(20, 3)), Availability::At(now + Duration::from_secs(3)));
        assert_eq!(after_429(&remaining(0, 1_000_000_000)), Availability::At(now + MAX_EXHAUSTED));
    }

    #[tokio::test]
    async fn absurd_retry_after_is_probed_soon_and_again() {
        let mut now = Instant::now();
        let mut observed = known(0, now);
        let absurd = RateLimit { wait: Some(Duration::from_secs(99_999_999)), ..RateLimit::default() };
        for _ in 0..3 {
            now += MAX_EXHAUSTED;
            assert_eq!(observed.availability(false, now), Availability::Now);
            let probe = observed.send(false, now);
            answer(&mut observed, probe, Outcome::RateLimited, &absurd, now);
            assert_eq!(observed.availability(true, now), Availability::At(now + MAX_EXHAUSTED));
        }
        now += MAX_EXHAUSTED;
        let probe = observed.send(false, now);
        answer(&mut observed, probe, Outcome::Ok, &remaining(40, 1), now);
        assert_eq!(observed.availability(false, now), Availability::Now, "the box in between is gone");
    }

    #[tokio::test]
    async fn probe_without_an_answer_is_followed_by_another() {
        let now = Instant::now();
        let mut observed = known(0, now);
        for second in 1..5 {
            let then = now + Duration::from_secs(second);
            assert_eq!(observed.availability(false, then), Availability::Now);
            let probe = observed.send(false, then);
            observed.end(probe);
            assert_eq!(observed.availability(false, then), Availability::At(then + DEFAULT_REFILL));
        }
    }

    #[tokio::test]
    async fn tenth_is_kept_for_those_that_may_use_it() {
        let now = Instant::now();
        let mut observed = known(7, now);
        for _ in 0..2 {
            observed.send(false, now);
        }
        assert_ne!(observed.availability(false, now), Availability::Now);
        for _ in 0..5 {
            assert_eq!(observed.availability(true, now), Availability::Now);
            observed.send(true, now);
        }
        assert_ne!(observed.availability(true, now), Availability::Now);
    }

    proptest! {
        /// Against a tenant with a token bucket, in whatever order requests arrive and answers come back: the tenant takes
        /// every request.
        #[test]
        fn single_caller_never_sends_more_than_the_tenant_takes(
            burst in 1u64..60, steps in prop::collection::vec((0u8..8, 0usize..64), 1..400),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _guard = runtime.enter();
            let mut now = Instant::now();
            let mut observed = ObservedLimit::new(now);
            let mut left = burst.max(UNKNOWN_LIMIT_REQUESTS);
            let mut arriving = Vec::new();
            let mut returning: Vec<(Sent, RateLimit)> = Vec::new();
            for (step, pick) in steps {
                match step {
                    0..=3 => if observed.availability(true, now) == Availability::Now {
                        arriving.push(observed.send(true, now));
                    },
                    4 | 5 => if !arriving.is_empty() {
                        let sent = arriving.swap_remove(pick % arriving.len());
                        prop_assert!(left > 0, "one too many");
                        left -= 1;
                        returning.push((sent, remaining(left, 1)));
                    },
                    6 => if !returning.is_empty() {
                        let (sent, limit) = returning.swap_remove(pick % returning.len());
                        answer(&mut observed, sent, Outcome::Ok, &limit, now);
                    },
                    // Requests arrive within the second in which they were sent. Answers may take any time.
                    _ => if arriving.is_empty() {
                        now += Duration::from_secs(1);
                        left = (left + 1 + pick as u64).min(burst.max(UNKNOWN_LIMIT_REQUESTS));
                    },
                }
            }
        }
    }
}
