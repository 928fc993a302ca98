//! What a tenant says about its rate limit.
//!
//! `x-ratelimit-reset` is the Unix time in seconds at which requests are allowed again, not a span:
//! <https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy/rate-limit-use-cases>.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};

/// How long a refusal holds that does not say for how long.
pub(super) const DEFAULT_REFILL: Duration = Duration::from_secs(1);

/// The rate limit headers of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests a window allows.
    pub limit: Option<u64>,
    /// How many of them are left.
    pub remaining: Option<u64>,
    /// When more are allowed.
    pub resets_at: Option<Timestamp>,
    /// When to ask again, as `Retry-After` says it.
    pub retry_at: Option<Timestamp>,
}

impl RateLimit {
    /// Reads the headers of an answer that came at `now`; one that cannot be read is taken to be missing.
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

    /// How long to wait after a refusal that came at `now`: what `Retry-After` says, else the reset, else a second.
    pub(super) fn opens_in(&self, now: Timestamp) -> Duration {
        let opens_in = self.retry_at.or(self.resets_at).map(|opens| opens.duration_since(now));
        // A window that is said to be open already belongs to a clock that differs from ours, and says nothing.
        opens_in
            .filter(jiff::SignedDuration::is_positive)
            .and_then(|span| span.try_into().ok())
            .unwrap_or(DEFAULT_REFILL)
    }
}

/// A span beyond the end of time ends there.
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
        RateLimit::read(&headers, now).opens_in(now)
    }

    #[test]
    fn the_window_opens_when_the_headers_say_so() {
        assert_eq!(wait(&[("x-ratelimit-reset", "1714568407")]), Duration::from_secs(7));
        assert_eq!(wait(&[("retry-after", "3")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", " 3 "), ("x-ratelimit-reset", "1714568407")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", "Wed, 01 May 2024 13:00:05 GMT")]), Duration::from_secs(5));
    }

    #[test]
    fn without_a_readable_header_it_opens_in_a_second() {
        assert_eq!(wait(&[]), DEFAULT_REFILL);
        assert_eq!(wait(&[("x-ratelimit-reset", "soon"), ("retry-after", "-1")]), DEFAULT_REFILL);
    }

    #[test]
    fn a_window_said_to_be_open_is_not_stormed() {
        assert_eq!(wait(&[("retry-after", "0")]), DEFAULT_REFILL);
        assert_eq!(wait(&[("x-ratelimit-reset", "1")]), DEFAULT_REFILL);
        assert_eq!(wait(&[("retry-after", "Wed, 01 May 2024 12:00:00 GMT")]), DEFAULT_REFILL);
    }

    #[test]
    fn absurd_numbers_are_only_very_late() {
        for header in ["retry-after", "x-ratelimit-reset"] {
            assert!(wait(&[(header, "18446744073709551615")]) > Duration::from_secs(1 << 30));
        }
    }
}
