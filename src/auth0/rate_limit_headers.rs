//! The rate limit headers of a tenant's answers.
//!
//! `x-ratelimit-reset` is the Unix time in seconds at which requests are allowed again, not a duration:
//! <https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy/rate-limit-use-cases>.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};

/// The wait where the headers give none: Auth0's per-second limits refill within a second.
pub(super) const DEFAULT_REFILL: Duration = Duration::from_secs(1);

/// The rate limit headers of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests the tenant takes at once: `x-ratelimit-limit`.
    pub limit: Option<u64>,
    /// How many of them are left: `x-ratelimit-remaining`.
    pub remaining: Option<u64>,
    /// When more are allowed: `x-ratelimit-reset`.
    pub resets_at: Option<Timestamp>,
    /// When to send the next request: `Retry-After`.
    pub retry_at: Option<Timestamp>,
}

impl RateLimit {
    /// Reads the headers of an answer that came at `now`. An unreadable header counts as missing.
    pub(super) fn read(headers: &HeaderMap, now: Timestamp) -> Self {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
        let number = |name: &'static str| text(&HeaderName::from_static(name))?.parse::<u64>().ok();
        let retry_at = text(&RETRY_AFTER).and_then(|value| match value.parse::<u64>() {
            Ok(seconds) => Some(later(now, seconds)),
            Err(_) => Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok(),
        });
        Self {
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            resets_at: number("x-ratelimit-reset").map(|seconds| later(Timestamp::UNIX_EPOCH, seconds)),
            retry_at,
        }
    }

    /// How long to wait for the next request after an answer that came at `now`: until `Retry-After`, else until the reset,
    /// else [`DEFAULT_REFILL`].
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        let wait = self.retry_at.or(self.resets_at).map(|allowed_at| allowed_at.duration_since(now));
        // A time in the past comes from a clock that differs from ours, and gives no duration.
        wait.filter(jiff::SignedDuration::is_positive).and_then(|span| span.try_into().ok()).unwrap_or(DEFAULT_REFILL)
    }
}

/// The time this many seconds later, at most [`Timestamp::MAX`].
fn later(from: Timestamp, seconds: u64) -> Timestamp {
    from.saturating_add(Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn wait(headers: &[(&'static str, &'static str)]) -> Duration {
        let headers = headers.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        let now = "2024-05-01T13:00:00Z".parse().unwrap();
        RateLimit::read(&headers, now).wait(now)
    }

    #[test]
    fn the_wait_follows_the_headers() {
        assert_eq!(wait(&[("x-ratelimit-reset", "1714568407")]), Duration::from_secs(7));
        assert_eq!(wait(&[("retry-after", "3")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", " 3 "), ("x-ratelimit-reset", "1714568407")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", "Wed, 01 May 2024 13:00:05 GMT")]), Duration::from_secs(5));
    }

    #[test]
    fn the_wait_without_a_readable_header_is_a_second() {
        assert_eq!(wait(&[]), DEFAULT_REFILL);
        assert_eq!(wait(&[("x-ratelimit-reset", "soon"), ("retry-after", "-1")]), DEFAULT_REFILL);
    }

    #[test]
    fn a_time_in_the_past_still_waits_a_second() {
        assert_eq!(wait(&[("retry-after", "0")]), DEFAULT_REFILL);
        assert_eq!(wait(&[("x-ratelimit-reset", "1")]), DEFAULT_REFILL);
        assert_eq!(wait(&[("retry-after", "Wed, 01 May 2024 12:00:00 GMT")]), DEFAULT_REFILL);
    }

    #[test]
    fn absurd_numbers_give_a_very_long_wait() {
        for header in ["retry-after", "x-ratelimit-reset"] {
            assert!(wait(&[(header, "18446744073709551615")]) > Duration::from_secs(1 << 30));
        }
    }
}
