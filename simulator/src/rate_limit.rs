//! The token bucket behind `x-ratelimit-*` and 429.

use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

/// One token in the unit of the bucket's content, so that refilling needs no fractions.
const TOKEN: u128 = 1_000_000_000;

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// The announced time until the next token of a bucket that never refills, in nanoseconds.
const NEVER: u128 = 3600 * SECOND;

/// How many requests the tenant accepts. Auth0 publishes its limits as such pairs, for example a burst of 50 and 16 a second
/// for production tenants on its Enterprise plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests a tenant at rest accepts at once. At least 1.
    pub burst: u32,
    /// How many requests a second it accepts for ever.
    pub per_second: u32,
}

/// The token bucket of a rate limit.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    /// In billionths of a token.
    amount: u128,
    at: Timestamp,
}

/// What the bucket answers to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub allowed: bool,
    limit: u32,
    remaining: u32,
    /// The Unix time in seconds at which the next token is there.
    reset: u64,
}

impl Bucket {
    pub fn new(limit: RateLimit, now: Timestamp) -> Self {
        Self { limit, content: Mutex::new(Content { amount: u128::from(limit.burst) * TOKEN, at: now }) }
    }

    /// Takes a token, if there is one.
    pub fn take(&self, now: Timestamp) -> Level {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = u128::from(self.limit.burst) * TOKEN;
        let rate = u128::from(self.limit.per_second);
        let passed = u128::try_from(now.duration_since(content.at).as_nanos()).unwrap_or(0);
        content.amount = capacity.min(content.amount + passed * rate);
        content.at = content.at.max(now);

        let allowed = content.amount >= TOKEN;
        if allowed {
            content.amount -= TOKEN;
        }
        let missing = if content.amount == capacity { 0 } else { TOKEN - content.amount % TOKEN };
        let wait = if rate == 0 { NEVER } else { missing.div_ceil(rate) };
        let next = u128::try_from(now.as_nanosecond()).unwrap_or(0) + wait;
        Level {
            allowed,
            limit: self.limit.burst,
            remaining: u32::try_from(content.amount / TOKEN).expect("no more than the burst"),
            reset: u64::try_from(next.div_ceil(SECOND)).expect("a date of this age"),
        }
    }
}

impl Level {
    /// Writes the headers that every answer within a rate limit carries.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(self.reset));
    }
}
