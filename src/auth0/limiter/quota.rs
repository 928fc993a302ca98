//! `tenant.requestsPerSecond`: a bucket of as many requests as flow into it in a second.
//!
//! With a shared ledger the bucket is in Redis, one for all replicas. Without one, and while it cannot be reached, each
//! replica has a bucket of its own with its part of the rate. That one starts with a tenth: replicas that crash and start
//! again do not bring a burst each time.
//!
//! The arithmetic is the generic cell rate algorithm, as in the `governor` crate; that one has no room for a reserve, none
//! for a rate that changes, and always starts full.

use std::time::Duration;

use tokio::time::Instant;

use crate::ledger::Failover;

/// What ceilings are kept in.
#[derive(Clone)]
pub struct QuotaConfig {
    /// Redis, where replicas share a ledger.
    pub shared: Option<Failover>,
    /// How many replicas there are: what they do not share is divided among them.
    pub replicas: u32,
}

/// A replica's own bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TokenBucket {
    /// One request flows in this often.
    interval: Duration,
    capacity: u32,
    /// When it is full, if nothing is taken out of it.
    full_at: Instant,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { shared: None, replicas: 1 }
    }
}

impl TokenBucket {
    /// The part of one of so many replicas, with a tenth in it.
    pub fn new(requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(replicas.into()) / requests_per_second;
        let capacity = (requests_per_second / replicas).max(1);
        let missing = capacity - (capacity / 10).max(1);
        Self { interval, capacity, full_at: now + interval * missing }
    }

    /// What it holds when it is full, which is what flows in in a second.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The same bucket for another rate, holding what it held as far as that fits.
    pub fn resized(self, requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        let next = Self::new(requests_per_second, replicas, now);
        let debt = self.full_at.saturating_duration_since(now).div_duration_f64(self.interval);
        let held = (f64::from(self.capacity) - debt).clamp(0.0, next.capacity.into());
        Self { full_at: now + next.interval.mul_f64(f64::from(next.capacity) - held), ..next }
    }

    /// Takes one out and leaves at least the reserve in, when that is kept; else says when it can be done.
    pub fn take(&mut self, uses_reserve: bool, now: Instant) -> Result<(), Instant> {
        let usable = self.interval * (self.capacity - reserve(self.capacity, uses_reserve));
        let full_at = self.full_at.max(now) + self.interval;
        if full_at <= now + usable {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(full_at - usable)
        }
    }
}

/// A tenth is kept for revocations.
pub(super) fn reserve(capacity: u32, uses_reserve: bool) -> u32 {
    if uses_reserve { 0 } else { capacity / 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(bucket: &mut TokenBucket, uses_reserve: bool, now: Instant) -> u32 {
        (0..).take_while(|_| bucket.take(uses_reserve, now).is_ok()).count().try_into().unwrap()
    }

    #[tokio::test]
    async fn it_starts_with_a_tenth_and_a_second_fills_it() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(50, 1, now);
        assert_eq!(drain(&mut bucket, true, now), 5);
        assert_eq!(bucket.take(true, now), Err(now + Duration::from_millis(20)));
        let second = now + Duration::from_secs(1);
        assert_eq!(drain(&mut bucket, false, second), 45, "a tenth is kept");
        assert_eq!(drain(&mut bucket, true, second), 5, "for those who may use it");
        assert_eq!(drain(&mut bucket, true, second + Duration::from_secs(60)), 50);
    }

    #[tokio::test]
    async fn replicas_together_send_no_more_than_the_whole() {
        for (rate, replicas) in [(1, 1), (1, 3), (3, 2), (10, 3), (10_000, 7)] {
            let now = Instant::now();
            let mut bucket = TokenBucket::new(rate, replicas, now);
            drain(&mut bucket, true, now);
            let sent: u32 =
                (1..=6_000).map(|tick| drain(&mut bucket, true, now + Duration::from_millis(10) * tick)).sum();
            let part = 60.0 * f64::from(rate) / f64::from(replicas);
            assert!(f64::from(sent) <= part + 0.01 && f64::from(sent) >= part - 1.0, "{sent} {rate}/{replicas}");
        }
    }

    #[tokio::test]
    async fn another_rate_does_not_fill_it() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(100, 1, now);
        drain(&mut bucket, true, now);
        assert_eq!(drain(&mut bucket.resized(1_000, 1, now), true, now), 0);
        let mut full = bucket;
        full.full_at = now;
        assert_eq!(drain(&mut full.resized(10, 1, now), true, now), 10);
        assert_eq!(drain(&mut full.resized(1_000, 1, now), true, now), 100);
    }
}
