//! The tenant's clock. A test can stop it and move it forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A clock. Clones share the time, so that a test can move the clock of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Time>);

#[derive(Debug, Default)]
struct Time {
    stopped_at: Option<Timestamp>,
    /// Nanoseconds by which the clock was moved forward.
    ahead: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `time` until it is moved.
    pub fn stopped_at(time: Timestamp) -> Self {
        Self(Arc::new(Time { stopped_at: Some(time), ahead: AtomicI64::new(0) }))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).expect("a test moves the clock by less than centuries");
        self.0.ahead.fetch_add(nanos, Ordering::SeqCst);
    }

    /// The time that it shows.
    pub fn now(&self) -> Timestamp {
        let base = self.0.stopped_at.unwrap_or_else(Timestamp::now);
        base + SignedDuration::from_nanos(self.0.ahead.load(Ordering::SeqCst))
    }
}
