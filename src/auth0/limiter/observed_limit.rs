//! What is known of a tenant's rate limit: how many requests it still takes, and when it takes more.
//!
//! Every answer says how many requests were left when it was made, but it says so late, and of several under way each was
//! made at another moment. What is kept is therefore a number that is certainly there. An answer with `remaining` r proves
//! that r, less whatever the tenant may have taken after it, are left: those still under way, and those that were answered
//! while this one was on its way. Of what is kept and what is proven the greater holds, and never more than r, for there may be
//! other callers. So a single process never sends more than the tenant takes, however many answers cross each other.
//!
//! With nothing left, nothing is sent until the reset. Then one request is, since the headers promise no more than one
//! (<https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy/rate-limit-use-cases>), and
//! its answer tells how many have gathered. Before the first answer of all, a few go at once and the others wait: a
//! process that starts into a crowd does not send all of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::observer::Outcome;
use super::super::rate::{DEFAULT_REFILL, RateLimit};

/// How many requests are sent to a tenant that has not answered yet.
const UNKNOWN_LIMIT_REQUESTS: u64 = 10;
/// A closed window is looked at again after this long at the latest: a reset that is further away is more likely a mistake
/// of somebody in between.
const MAX_CLOSED: Duration = Duration::from_secs(300);

pub(super) struct ObservedLimit {
    known: Known,
    /// By then the tenant takes one more request.
    refills_at: Instant,
    under_way: u64,
    /// Those under way that were sent since the window last closed. Only their answers may open it.
    probes: u64,
    /// How many answers there were.
    answers: u64,
    /// How often it has closed.
    closings: u64,
    /// What a rested tenant takes at once, where it says so.
    limit: u64,
}

enum Known {
    /// No answer yet.
    Nothing,
    /// Answers say nothing of a limit.
    NoLimit,
    /// So many are certainly left.
    Left(u64),
}

/// When a request was sent, in terms of the window.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    answers: u64,
    closings: u64,
}

/// When the next request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Now,
    /// Not before this.
    At(Instant),
    /// When an answer comes that says so, or at this moment.
    Unsure(Option<Instant>),
}

impl ObservedLimit {
    pub fn new(now: Instant) -> Self {
        Self { known: Known::Nothing, refills_at: now, under_way: 0, probes: 0, answers: 0, closings: 0, limit: 0 }
    }

    /// When a request may be sent; one that has to leave the reserve needs more room than one that may use it.
    pub fn opening(&self, uses_reserve: bool, now: Instant) -> Opening {
        match self.known {
            Known::NoLimit => Opening::Now,
            Known::Nothing if self.under_way < UNKNOWN_LIMIT_REQUESTS => Opening::Now,
            Known::Nothing => Opening::Unsure(None),
            Known::Left(left) if left > self.kept_back(uses_reserve) => Opening::Now,
            Known::Left(_) if now >= self.refills_at => Opening::Now,
            Known::Left(_) if self.probes > 0 => Opening::Unsure(Some(self.refills_at)),
            Known::Left(_) => Opening::At(self.refills_at),
        }
    }

    /// A tenth of what a rested tenant takes at once is kept for revocations.
    fn kept_back(&self, uses_reserve: bool) -> u64 {
        if uses_reserve { 0 } else { self.limit / 10 }
    }

    /// What a rested tenant takes at once; 0 where it does not say so.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether the tenant has not answered anything yet.
    pub fn is_unknown(&self) -> bool {
        matches!(self.known, Known::Nothing)
    }

    /// Sends a request, which [`opening`](Self::opening) allowed.
    pub fn send(&mut self, uses_reserve: bool, now: Instant) -> Sent {
        let kept_back = self.kept_back(uses_reserve);
        match &mut self.known {
            Known::Nothing | Known::NoLimit => {}
            Known::Left(left) if *left > kept_back => {
                *left -= 1;
                // A rested tenant has been full since: it makes up for this one only from now on.
                if self.refills_at <= now {
                    self.refills_at = now + DEFAULT_REFILL;
                }
            }
            // The one that is there by now. It goes to see: unless its answer says more, there is one a second.
            Known::Left(_) => self.refills_at = now + DEFAULT_REFILL,
        }
        self.under_way += 1;
        self.probes += 1;
        Sent { answers: self.answers, closings: self.closings }
    }

    /// A request was answered, with these headers.
    pub fn answered(&mut self, sent: Sent, outcome: Outcome, limit: &RateLimit, now: Instant, wall: Timestamp) {
        let overtaken_by = self.answers - sent.answers;
        self.lost(sent);
        self.limit = limit.limit.unwrap_or(self.limit);
        let opens_at = now + limit.opens_in(wall).min(MAX_CLOSED);
        match limit.remaining {
            _ if outcome == Outcome::RateLimited => self.close(opens_at),
            Some(0) => self.close(opens_at),
            _ if sent.closings < self.closings => {}
            Some(remaining) => {
                let proven = remaining.saturating_sub(self.under_way + overtaken_by);
                let left = match self.known {
                    Known::Left(left) => left.max(proven).min(remaining),
                    Known::Nothing | Known::NoLimit => proven,
                };
                self.known = Known::Left(left);
                self.refills_at = opens_at;
            }
            // A gateway's own error page says nothing of the tenant.
            None if outcome == Outcome::ServerError => {}
            // Nor does any other page of somebody in between: a tenant that has said its limit keeps it.
            None if outcome != Outcome::Ok && matches!(self.known, Known::Left(_)) => {}
            None => self.known = Known::NoLimit,
        }
    }

    /// A request came to nothing: the tenant may have counted it all the same.
    pub fn lost(&mut self, sent: Sent) {
        self.answers += 1;
        self.under_way -= 1;
        self.probes -= u64::from(sent.closings == self.closings);
    }

    fn close(&mut self, until: Instant) {
        self.known = Known::Left(0);
        self.refills_at = self.refills_at.max(until);
        self.closings += 1;
        self.probes = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WALL: &str = "2024-05-01T13:00:00Z";

    fn remaining(remaining: u64, resets_in: i64) -> RateLimit {
        let resets_at = WALL.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(resets_in);
        RateLimit { limit: Some(50), remaining: Some(remaining), resets_at: Some(resets_at), retry_at: None }
    }

    fn answer(observed: &mut ObservedLimit, sent: Sent, outcome: Outcome, limit: &RateLimit, now: Instant) {
        observed.answered(sent, outcome, limit, now, WALL.parse().unwrap());
    }

    /// A window of which one answer is known.
    fn known(left: u64, now: Instant) -> ObservedLimit {
        let mut observed = ObservedLimit::new(now);
        let sent = observed.send(true, now);
        answer(&mut observed, sent, Outcome::Ok, &remaining(left, 1), now);
        observed
    }

    #[tokio::test]
    async fn before_the_first_answer_a_few_go_and_then_as_many_as_it_proves() {
        let now = Instant::now();
        let mut observed = ObservedLimit::new(now);
        let sent: Vec<_> = (0..UNKNOWN_LIMIT_REQUESTS).map(|_| observed.send(false, now)).collect();
        assert_eq!(observed.opening(false, now), Opening::Unsure(None));
        assert!(observed.is_unknown());
        answer(&mut observed, sent[3], Outcome::Ok, &remaining(30, 1), now);
        // Nine are still under way, and each may be one that the answer did not count.
        for left in (0..21).rev() {
            assert_eq!(observed.opening(true, now), Opening::Now);
            observed.send(true, now);
            assert!(matches!(observed.known, Known::Left(it) if it == left));
        }
        assert_eq!(observed.opening(true, now), Opening::Unsure(Some(now + Duration::from_secs(1))));
    }

    #[tokio::test]
    async fn without_headers_there_is_no_limit_unless_it_was_an_error_page() {
        let now = Instant::now();
        let mut observed = ObservedLimit::new(now);
        let sent = [observed.send(false, now), observed.send(false, now)];
        answer(&mut observed, sent[0], Outcome::ServerError, &RateLimit::default(), now);
        assert!(observed.is_unknown());
        answer(&mut observed, sent[1], Outcome::NotFound, &RateLimit::default(), now);
        for _ in 0..1_000 {
            assert_eq!(observed.opening(false, now), Opening::Now);
            observed.send(false, now);
        }
    }

    #[tokio::test]
    async fn a_page_of_somebody_in_between_does_not_lift_a_limit_that_is_known() {
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
            assert_eq!(observed.opening(true, now) == Opening::Now, lifted, "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_window_is_closed_until_its_reset_and_then_one_goes_to_see() {
        let now = Instant::now();
        let mut observed = known(3, now);
        let sent: Vec<_> = (0..3).map(|_| observed.send(true, now)).collect();
        answer(&mut observed, sent[2], Outcome::Ok, &remaining(0, 7), now);
        let reset = now + Duration::from_secs(7);
        // Those that were sent before say nothing of later.
        answer(&mut observed, sent[0], Outcome::Ok, &remaining(2, 1), now);
        assert_eq!(observed.opening(true, now), Opening::At(reset));
        assert_eq!(observed.opening(true, reset - Duration::from_nanos(1)), Opening::At(reset));
        assert_eq!(observed.opening(false, reset), Opening::Now);
        let scout = observed.send(false, reset);
        assert_eq!(observed.opening(true, reset), Opening::Unsure(Some(reset + DEFAULT_REFILL)));
        answer(&mut observed, sent[1], Outcome::Ok, &remaining(1, 1), reset);
        assert_eq!(observed.opening(true, reset), Opening::Unsure(Some(reset + DEFAULT_REFILL)));
        answer(&mut observed, scout, Outcome::Ok, &remaining(15, 8), reset);
        // One came while the scout was out, which the tenant may have counted after it.
        for _ in 0..14 {
            assert_eq!(observed.opening(true, reset), Opening::Now);
            observed.send(true, reset);
        }
        assert_ne!(observed.opening(true, reset), Opening::Now);
    }

    #[tokio::test]
    async fn a_refusal_closes_it_for_as_long_as_it_says_though_not_for_ever() {
        let now = Instant::now();
        let refused = |limit: &RateLimit| {
            let mut observed = known(20, now);
            let sent = observed.send(true, now);
            answer(&mut observed, sent, Outcome::RateLimited, limit, now);
            observed.opening(true, now)
        };
        assert_eq!(refused(&RateLimit::default()), Opening::At(now + DEFAULT_REFILL));
        assert_eq!(refused(&remaining(20, 30)), Opening::At(now + Duration::from_secs(30)));
        assert_eq!(refused(&remaining(0, 1_000_000_000)), Opening::At(now + MAX_CLOSED));
    }

    #[tokio::test]
    async fn a_scout_that_is_lost_is_followed_by_another() {
        let now = Instant::now();
        let mut observed = known(0, now);
        for second in 1..5 {
            let then = now + Duration::from_secs(second);
            assert_eq!(observed.opening(false, then), Opening::Now);
            let scout = observed.send(false, then);
            observed.lost(scout);
            assert_eq!(observed.opening(false, then), Opening::At(then + DEFAULT_REFILL));
        }
    }

    #[tokio::test]
    async fn a_tenth_is_kept_for_those_who_may_use_it() {
        let now = Instant::now();
        let mut observed = known(7, now);
        for _ in 0..2 {
            observed.send(false, now);
        }
        assert_ne!(observed.opening(false, now), Opening::Now);
        for _ in 0..5 {
            assert_eq!(observed.opening(true, now), Opening::Now);
            observed.send(true, now);
        }
        assert_ne!(observed.opening(true, now), Opening::Now);
    }

    proptest! {
        /// Against a tenant with a bucket, whatever the order in which requests arrive and answers come back: no request is
        /// ever one too many.
        #[test]
        fn a_single_caller_never_sends_more_than_the_tenant_takes(
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
                    0..=3 => if observed.opening(true, now) == Opening::Now {
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
                    // Requests arrive within the second in which they were sent; answers take as long as they like.
                    _ => if arriving.is_empty() {
                        now += Duration::from_secs(1);
                        left = (left + 1 + pick as u64).min(burst.max(UNKNOWN_LIMIT_REQUESTS));
                    },
                }
            }
        }
    }
}
