//! The token bucket behind `x-ratelimit-*` and 429.

use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue};
use jiff::Timestamp;

/// What one token of the bucket is counted as, so that refilling needs no fractions.
const TOKEN: u128 = 1_000_000_000;

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

/// How far away the next token of a bucket is announced that never refills, in nanoseconds.
const NEVER: u128 = 3600 * SECOND;

/// How many requests the tenant takes. Auth0's published figures are pairs of this kind, for example a burst of 50 and 16
/// a second for the production tenants of its largest plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests that a rested tenant takes at once; at least 1.
    pub burst: u32,
    /// Requests a second that it takes for ever.
    pub per_second: u32,
}

/// A bucket and what is left in it.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    /// In billionths of a token.
    content: u128,
    at: Timestamp,
}

/// What the bucket says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub allowed: bool,
    limit: u32,
    remaining: u32,
    /// Unix seconds at which the next token is there.
    reset: u64,
}

impl Bucket {
    pub fn new(limit: RateLimit, now: Timestamp) -> Self {
        Self { limit, level: Mutex::new(Level { content: u128::from(limit.burst) * TOKEN, at: now }) }
    }

    /// Takes a token, when there is one.
    pub fn take(&self, now: Timestamp) -> Verdict {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let capacity = u128::from(self.limit.burst) * TOKEN;
        let rate = u128::from(self.limit.per_second);
        let passed = u128::try_from(now.duration_since(level.at).as_nanos()).unwrap_or(0);
        level.content = capacity.min(level.content + passed * rate);
        level.at = level.at.max(now);

        let allowed = level.content >= TOKEN;
        if allowed {
            level.content -= TOKEN;
        }
        let missing = if level.content == capacity { 0 } else { TOKEN - level.content % TOKEN };
        let wait = if rate == 0 { NEVER } else { missing.div_ceil(rate) };
        let next = u128::try_from(now.as_nanosecond()).unwrap_or(0) + wait;
        Verdict {
            allowed,
            limit: self.limit.burst,
            remaining: u32::try_from(level.content / TOKEN).expect("no more than the burst"),
            reset: u64::try_from(next.div_ceil(SECOND)).expect("a date of this age"),
        }
    }
}

impl Verdict {
    /// Writes the headers that every limited answer carries.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(self.reset));
    }
}
