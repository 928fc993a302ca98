//! The tenant's clock, which a test can stop and move.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A clock. Clones show the same time, so that a test and the tenant can share one.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Source>);

#[derive(Debug, Default)]
struct Source {
    stopped_at: Option<Timestamp>,
    /// Nanoseconds by which the clock was moved forward.
    ahead: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `time` until it is moved.
    pub fn stopped_at(time: Timestamp) -> Self {
        Self(Arc::new(Source { stopped_at: Some(time), ahead: AtomicI64::new(0) }))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).expect("nobody moves the clock by centuries");
        self.0.ahead.fetch_add(nanos, Ordering::SeqCst);
    }

    /// The time it shows.
    pub fn now(&self) -> Timestamp {
        let base = self.0.stopped_at.unwrap_or_else(Timestamp::now);
        base + SignedDuration::from_nanos(self.0.ahead.load(Ordering::SeqCst))
    }
}
