//! The rate limit headers of a tenant's answers.
//!
//! `x-ratelimit-reset` is the Unix time in seconds at which requests are allowed again, not a duration:
//! <https://auth0.com/docs/troubleshoot/customer-support/operational-policies/rate-limit-policy/rate-limit-use-cases>.

use std::time::Duration;

use hyper::http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use jiff::Timestamp;

/// The wait where the headers give none: Auth0's per-second limits refill within a second.
pub(super) const DEFAULT_REFILL: Duration = Duration::from_secs(1);

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The rate limit headers of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests the tenant takes at once: `x-ratelimit-limit`.
    pub limit: Option<u64>,
    /// How many of them are left: `x-ratelimit-remaining`.
    pub remaining: Option<u64>,
    /// How long after the answer the next request is allowed: `Retry-After`, else `x-ratelimit-reset`. `None` where neither gives
    /// a time in the future.
    pub wait: Option<Duration>,
}

impl RateLimit {
    /// Reads the headers of an answer that came at `now`. An unreadable header counts as missing. A time is compared with the
    /// [`date`] of the same answer, because the tenant's clock and ours may differ.
    pub(super) fn read(headers: &HeaderMap, date: Option<Timestamp>, now: Timestamp) -> Self {
        let now = date.unwrap_or(now);
        let number = |name: &HeaderName| text(headers, name)?.parse::<u64>().ok();
        let retry_at = text(headers, &RETRY_AFTER).and_then(|value| match value.parse::<u64>() {
            Ok(seconds) => Some(later(now, seconds)),
            Err(_) => http_date(value),
        });
        let resets_at = || number(&RESET).map(|seconds| later(Timestamp::UNIX_EPOCH, seconds));
        let wait = retry_at.or_else(resets_at).map(|allowed_at| allowed_at.duration_since(now));
        Self {
            limit: number(&LIMIT),
            remaining: number(&REMAINING),
            wait: wait.filter(jiff::SignedDuration::is_positive).and_then(|wait| wait.try_into().ok()),
        }
    }

    /// How long to wait for the next request after the answer.
    pub(super) fn wait(&self) -> Duration {
        self.wait.unwrap_or(DEFAULT_REFILL)
    }
}

/// The time of an answer by the clock of the tenant, in whole seconds.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(text(headers, &DATE)?)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn http_date(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

/// The time this many seconds later, at most [`Timestamp::MAX`].
fn later(from: Timestamp, seconds: u64) -> Timestamp {
    from.saturating_add(Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::http::header::HeaderValue;
    use proptest::prelude::*;

    fn wait(headers: &[(&'static str, &'static str)]) -> Duration {
        let headers = headers.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect();
        let now = "2024-05-01T13:00:00Z".parse().unwrap();
        RateLimit::read(&headers, date(&headers), now).wait()
    }

    /// The wait after an answer that came at `ours` by our clock and at `theirs` by the tenant's.
    fn wait_on_clocks(ours: Timestamp, theirs: Timestamp, header: HeaderName, value: String) -> Duration {
        let date = httpdate::fmt_http_date(theirs.into());
        let headers = [(DATE, date), (header, value)].map(|(name, text)| (name, HeaderValue::try_from(text).unwrap()));
        let headers = HeaderMap::from_iter(headers);
        RateLimit::read(&headers, self::date(&headers), ours).wait()
    }

    #[test]
    fn the_wait_follows_the_headers() {
        assert_eq!(wait(&[("x-ratelimit-reset", "1714568407")]), Duration::from_secs(7));
        assert_eq!(wait(&[("retry-after", "3")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", " 3 "), ("x-ratelimit-reset", "1714568407")]), Duration::from_secs(3));
        assert_eq!(wait(&[("retry-after", "Wed, 01 May 2024 13:00:05 GMT")]), Duration::from_secs(5));
    }

    proptest! {
        /// However far the two clocks are apart, the wait is the one that the tenant means.
        #[test]
        fn difference_of_the_clocks_does_not_change_the_wait(
            ours in 1_600_000_000i64..1_900_000_000, apart in -100_000i64..100_000, seconds in 1i64..100_000,
        ) {
            let (ours, wait) = (Timestamp::from_second(ours).unwrap(), Duration::from_secs(seconds.unsigned_abs()));
            let theirs = ours + jiff::SignedDuration::from_secs(apart);
            let allowed_at = theirs + jiff::SignedDuration::from_secs(seconds);
            let reset = HeaderName::from_static("x-ratelimit-reset");
            prop_assert_eq!(wait_on_clocks(ours, theirs, reset, allowed_at.as_second().to_string()), wait);
            let date = httpdate::fmt_http_date(allowed_at.into());
            prop_assert_eq!(wait_on_clocks(ours, theirs, RETRY_AFTER, date), wait);
            prop_assert_eq!(wait_on_clocks(ours, theirs, RETRY_AFTER, seconds.to_string()), wait);
        }
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
