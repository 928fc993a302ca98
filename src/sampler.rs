//! Bounds how often a log line is written, so that a caller cannot fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets a burst of lines pass, then one in each interval, and counts the others.
#[derive(Debug)]
pub struct LogSampler {
    /// The time that one line takes of the budget.
    interval: Duration,
    /// How far the budget may be overdrawn: the length of a burst.
    tolerance: Duration,
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
        Self { interval, tolerance: interval * burst.saturating_sub(1), state }
    }

    /// `None` when the line must not be written, else the number of lines that were not written since the last one.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = state.full_at.max(now);
        if begin - now > self.tolerance {
            state.suppressed += 1;
            return None;
        }
        state.full_at = begin + self.interval;
        Some(std::mem::take(&mut state.suppressed))
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
