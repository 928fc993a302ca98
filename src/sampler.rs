//! Bounds how often something happens, such as a log line that is written, so that a caller cannot fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A burst, and then one more in each interval.
#[derive(Clone, Copy, Debug)]
pub struct BurstLimit {
    /// The time that one takes of the budget.
    interval: Duration,
    /// How far the budget may be overdrawn: the length of a burst.
    tolerance: Duration,
}

impl BurstLimit {
    /// `burst` pass at once, and one more in each `interval`.
    pub fn new(burst: u32, interval: Duration) -> Self {
        Self { interval, tolerance: interval * burst.saturating_sub(1) }
    }

    /// Whether one more passes now. `full_at` is when a whole burst passes again.
    pub fn take(self, full_at: &mut Instant, now: Instant) -> bool {
        let begin = (*full_at).max(now);
        let passes = begin - now <= self.tolerance;
        if passes {
            *full_at = begin + self.interval;
        }
        passes
    }
}

/// Lets a burst of lines pass, then one in each interval, and counts the others.
#[derive(Debug)]
pub struct LogSampler {
    limit: BurstLimit,
    state: Mutex<Sampled>,
}

#[derive(Debug)]
struct Sampled {
    /// When the budget is full again.
    full_at: Instant,
    suppressed: u64,
}

impl LogSampler {
    /// `burst` lines pass at once, and one more in each `interval`.
    pub fn new(burst: u32, interval: Duration) -> Self {
        let state = Mutex::new(Sampled { full_at: Instant::now(), suppressed: 0 });
        Self { limit: BurstLimit::new(burst, interval), state }
    }

    /// `None` when the line must not be written, else the number of lines that were not written since the last one.
    pub fn admit(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.limit.take(&mut state.full_at, Instant::now()) {
            return Some(std::mem::take(&mut state.suppressed));
        }
        state.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_passes_then_one_line_an_interval() {
        let sampler = LogSampler::new(3, Duration::from_secs(60));
        let passed = (0..100).filter_map(|_| sampler.admit()).collect::<Vec<_>>();
        assert_eq!(passed, [0, 0, 0]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!((sampler.admit(), sampler.admit()), (Some(97), None));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(sampler.admit(), Some(1));
    }
}
