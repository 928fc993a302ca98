//! The tenant's clock. A test can stop it and move it forward; a scenario lets it run while a step runs.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A clock. Clones share the time, so that a test can move the clock of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Time>);

#[derive(Debug, Default)]
struct Time {
    stopped: Option<Stopped>,
    /// Nanoseconds by which the clock was moved forward.
    ahead: AtomicI64,
}

#[derive(Debug)]
struct Stopped {
    at: Timestamp,
    /// Since when it runs all the same.
    running_since: Mutex<Option<Instant>>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that shows `time` until it is moved.
    pub fn stopped_at(time: Timestamp) -> Self {
        let stopped = Stopped { at: time, running_since: Mutex::default() };
        Self(Arc::new(Time { stopped: Some(stopped), ahead: AtomicI64::new(0) }))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).expect("a test moves the clock by less than centuries");
        self.0.ahead.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Lets a stopped clock run until [`Self::stop`]. The machine's clock always runs.
    pub fn run(&self) {
        if let Some(stopped) = &self.0.stopped {
            stopped.running_since().get_or_insert_with(Instant::now);
        }
    }

    /// Stops a clock that runs, at the next whole second: what happens in the same order shows the same times, however
    /// long it takes within a second.
    pub fn stop(&self) {
        let Some(stopped) = &self.0.stopped else { return };
        let mut running_since = stopped.running_since();
        let Some(since) = running_since.take() else { return };
        let shown = stopped.at + self.0.ahead() + running_for(Some(since));
        let second = 1_000_000_000;
        let rest = i64::from(shown.subsec_nanosecond()).rem_euclid(second);
        let next = shown + SignedDuration::from_nanos((second - rest) % second);
        let moved = i64::try_from(next.duration_since(stopped.at).as_nanos()).unwrap_or(i64::MAX);
        self.0.ahead.store(moved, Ordering::SeqCst);
    }

    /// The time that it shows.
    pub fn now(&self) -> Timestamp {
        let Some(stopped) = &self.0.stopped else { return Timestamp::now() + self.0.ahead() };
        // Held while `ahead` is read: a clock that is being stopped must not seem to go back.
        let running_since = stopped.running_since();
        stopped.at + self.0.ahead() + running_for(*running_since)
    }
}

impl Time {
    fn ahead(&self) -> SignedDuration {
        SignedDuration::from_nanos(self.ahead.load(Ordering::SeqCst))
    }
}

fn running_for(since: Option<Instant>) -> SignedDuration {
    let running = since.map(|since| since.elapsed()).unwrap_or_default();
    SignedDuration::try_from(running).unwrap_or(SignedDuration::ZERO)
}

impl Stopped {
    fn running_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.running_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
