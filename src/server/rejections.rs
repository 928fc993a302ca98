//! Bounds what rejected requests cost: wrong tokens for each source, and log lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::connections::ConnectionSource;
use crate::sampler::{BurstLimit, LogSampler};

/// How many wrong tokens a source may send at once. A caller whose token was replaced sends a few before somebody sees it.
const WRONG_TOKEN_BURST: u32 = 50;
/// After the burst, one wrong token may come in this time. Ten a second do not find a token of 16 characters.
const WRONG_TOKEN_INTERVAL: Duration = Duration::from_millis(100);
/// How many sources are remembered: 64 bytes each, less than 1 MiB in all.
const MAX_SOURCES: usize = 10_000;
/// How many lines about rejected requests are written at once.
const LOG_BURST: u32 = 20;
/// After the burst, one line is written in this time.
const LOG_INTERVAL: Duration = Duration::from_millis(500);

/// What is remembered about rejected requests.
pub struct Rejections {
    wrong_tokens: BurstLimit,
    /// When each source may send a whole burst of wrong tokens again.
    sources: Mutex<HashMap<ConnectionSource, Instant>>,
    /// Lines about requests of unknown callers. Known callers have lines of their own, which strangers cannot use up.
    strangers: LogSampler,
    callers: LogSampler,
}

impl Default for Rejections {
    fn default() -> Self {
        let sampler = || LogSampler::new(LOG_BURST, LOG_INTERVAL);
        let wrong_tokens = BurstLimit::new(WRONG_TOKEN_BURST, WRONG_TOKEN_INTERVAL);
        Self { wrong_tokens, sources: Mutex::default(), strangers: sampler(), callers: sampler() }
    }
}

impl Rejections {
    /// Counts a wrong token of a source. Returns whether the source has sent too many.
    ///
    /// A right token is never limited: all callers behind an ingress have one source. When more sources are remembered than
    /// fit, all others count as one that has sent too many.
    pub(super) fn is_over_limit(&self, source: ConnectionSource) -> bool {
        let now = Instant::now();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, full_at| *full_at > now);
            if sources.len() >= MAX_SOURCES {
                return true;
            }
        }
        !self.wrong_tokens.take(sources.entry(source).or_insert(now), now)
    }

    /// Whether a line about a rejected request is written: the number of lines that were not, since the last one.
    pub(super) fn log(&self, is_stranger: bool) -> Option<u64> {
        if is_stranger { self.strangers.admit() } else { self.callers.admit() }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn source(number: u32) -> ConnectionSource {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_tokens_are_limited_for_each_source() {
        let rejections = Rejections::default();
        let passed = |number| (0..1000).filter(|_| !rejections.is_over_limit(source(number))).count();
        assert_eq!((passed(1), passed(2)), (50, 50));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(passed(1), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_bounded_and_forgotten() {
        let rejections = Rejections::default();
        let over = (0..20_000).filter(|number| rejections.is_over_limit(source(*number))).count();
        assert_eq!((over, rejections.sources.lock().unwrap().len()), (10_000, 10_000));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!rejections.is_over_limit(source(30_000)));
        assert_eq!(rejections.sources.lock().unwrap().len(), 1);
    }
}
