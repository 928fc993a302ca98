//! `tenant.requestsPerSecond`: a token bucket that holds as many requests as flow into it in a second.
//!
//! With a shared ledger the bucket is in Redis, one for all replicas. Without one, and while Redis cannot be reached, each
//! replica has its own bucket with its part of the rate. A replica's own bucket starts with a tenth, so that replicas that
//! crash and restart do not send a burst each time.
//!
//! The generic cell rate algorithm is written by hand because the `governor` crate has no reserve, no rate that changes,
//! and always starts full.

use std::time::Duration;

use tokio::time::Instant;

use super::availability::Availability;
use super::shared_bucket::SharedBucket;
use crate::redis::Redis;

/// How long a prepaid request may be used: the time in which it would have flowed into the bucket again.
const PREPAID_TTL: Duration = Duration::from_secs(1);

/// Where the quotas of the tenants are kept.
#[derive(Clone)]
pub struct QuotaConfig {
    /// The bucket of all replicas, where they share a Redis.
    pub(super) shared: Option<SharedBucket>,
    /// How many replicas there are. Each uses its part of a quota that is not shared.
    pub(super) replicas: u32,
}

/// The quota of one tenant, as this replica sees it.
pub(super) struct Quota {
    requests_per_second: u32,
    /// This replica's own bucket, which also replaces the shared one while Redis cannot be reached.
    own: TokenBucket,
    /// What was taken out of a bucket and is not used yet.
    pub prepaid: Prepaid,
}

/// Requests that were taken out of a bucket for callers who then did not send them. They end soon, so that they do not
/// add to a later burst.
#[derive(Clone, Copy)]
pub(super) struct Prepaid {
    requests: u32,
    until: Instant,
}

/// A replica's own bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
struct TokenBucket {
    /// The time in which one request flows in.
    interval: Duration,
    capacity: u32,
    /// When the bucket is full, if nothing is taken out of it.
    full_at: Instant,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { shared: None, replicas: 1 }
    }
}

impl QuotaConfig {
    /// Keeps quotas in `redis`, where replicas share one, and else divides them by the number of replicas.
    pub fn new(redis: Option<Redis>, replicas: u32) -> Self {
        Self { shared: redis.map(SharedBucket::new), replicas }
    }
}

impl Quota {
    pub fn new(requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        let own = TokenBucket::new(requests_per_second, replicas, now);
        Self { requests_per_second, own, prepaid: Prepaid::none(now) }
    }

    /// The quota for another rate. The bucket holds what it held, as far as that fits.
    pub fn resized(self, requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        if self.requests_per_second == requests_per_second {
            return self;
        }
        let own = self.own.resized(requests_per_second, replicas, now);
        Self { requests_per_second, own, prepaid: Prepaid::none(now) }
    }

    pub fn requests_per_second(&self) -> u32 {
        self.requests_per_second
    }

    /// What this replica's own bucket holds when it is full, which is what flows in within a second.
    pub fn own_capacity(&self) -> u32 {
        self.own.capacity
    }

    /// Takes one request out, when there is one. `Unknown` while the bucket is shared: only Redis knows what is in it.
    pub fn take(&mut self, uses_reserve: bool, now: Instant, is_shared: bool) -> Availability {
        if self.prepaid.take(now) {
            return Availability::Now;
        }
        if is_shared {
            return Availability::Unknown(None);
        }
        self.own.take(uses_reserve, now)
    }
}

impl Prepaid {
    fn none(now: Instant) -> Self {
        Self { requests: 0, until: now }
    }

    pub fn add(&mut self, requests: u32, now: Instant) {
        let left = if now < self.until { self.requests } else { 0 };
        *self = Self { requests: left + requests, until: now + PREPAID_TTL };
    }

    fn take(&mut self, now: Instant) -> bool {
        let there = self.requests > 0 && now < self.until;
        self.requests -= u32::from(there);
        there
    }
}

impl TokenBucket {
    /// One replica's part of a quota, with a tenth in it.
    fn new(requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(replicas.into()) / requests_per_second;
        let capacity = (requests_per_second / replicas).max(1);
        let missing = capacity - (capacity / 10).max(1);
        Self { interval, capacity, full_at: now + interval * missing }
    }

    /// The same bucket for another rate, holding what it held as far as that fits.
    fn resized(self, requests_per_second: u32, replicas: u32, now: Instant) -> Self {
        let next = Self::new(requests_per_second, replicas, now);
        let debt = self.full_at.saturating_duration_since(now).div_duration_f64(self.interval);
        let held = (f64::from(self.capacity) - debt).clamp(0.0, next.capacity.into());
        Self { full_at: now + next.interval.mul_f64(f64::from(next.capacity) - held), ..next }
    }

    /// Takes one request out and leaves the reserve in, or says when that is possible.
    fn take(&mut self, uses_reserve: bool, now: Instant) -> Availability {
        let usable = self.interval * (self.capacity - reserve(self.capacity, uses_reserve));
        let full_at = self.full_at.max(now) + self.interval;
        if full_at <= now + usable {
            self.full_at = full_at;
            Availability::Now
        } else {
            Availability::At(full_at - usable)
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
        (0..).take_while(|_| bucket.take(uses_reserve, now) == Availability::Now).count().try_into().unwrap()
    }

    #[tokio::test]
    async fn bucket_starts_with_a_tenth_and_is_full_after_a_second() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(50, 1, now);
        assert_eq!(drain(&mut bucket, true, now), 5);
        assert_eq!(bucket.take(true, now), Availability::At(now + Duration::from_millis(20)));
        let second = now + Duration::from_secs(1);
        assert_eq!(drain(&mut bucket, false, second), 45, "a tenth is kept");
        assert_eq!(drain(&mut bucket, true, second), 5, "for those that may use it");
        assert_eq!(drain(&mut bucket, true, second + Duration::from_secs(60)), 50);
    }

    #[tokio::test]
    async fn replicas_together_keep_the_quota() {
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
    async fn changed_rate_does_not_fill_the_bucket() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(100, 1, now);
        drain(&mut bucket, true, now);
        assert_eq!(drain(&mut bucket.resized(1_000, 1, now), true, now), 0);
        let mut full = bucket;
        full.full_at = now;
        assert_eq!(drain(&mut full.resized(10, 1, now), true, now), 10);
        assert_eq!(drain(&mut full.resized(1_000, 1, now), true, now), 100);
    }

    #[tokio::test]
    async fn unused_prepaid_request_does_not_add_to_a_later_burst() {
        let now = Instant::now();
        let mut prepaid = Prepaid::none(now);
        assert!(!prepaid.take(now));
        prepaid.add(2, now);
        assert!(prepaid.take(now + PREPAID_TTL / 2));
        assert!(!prepaid.take(now + PREPAID_TTL));
        prepaid.add(1, now + PREPAID_TTL);
        assert!(prepaid.take(now + PREPAID_TTL));
        assert!(!prepaid.take(now + PREPAID_TTL), "the one that had ended did not come back");
    }
}
