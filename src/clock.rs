//! The clock of the service: the one place from which it takes the time of day and the age of what it keeps.
//!
//! `serve` has the system's clock, which this type only passes on. The demo follows the clock of its simulated tenant, which
//! stands still between the steps of a scenario and jumps when hours are to pass, so that both agree on the time.
//!
//! *What follows the clock*: decisions (`activeWithin`, `expiresAt` of an override), the ledger in memory and
//! lists, tokens, the rate limit of a tenant and its circuit breaker. *What does not*: deadlines and timers. A request that
//! may take three seconds may take three seconds of the machine's time, whatever the scenario's clock shows, because a real
//! socket answers it. Where one is compared with the other, [`ServiceClock::clock_time`] and [`ServiceClock::timer_time`]
//! convert. A timer that waits for a moment of the clock therefore does not see a jump; what it would have refreshed is found
//! out of date by the next check.
//!
//! Work that no check depends on (the probe of credentials, the status writer, followed files, the audit of log streams) runs
//! on the machine's time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The time of day, and a monotonic time that agrees with it. Clones are the same clock. The default is the system's.
#[derive(Clone, Default)]
pub struct ServiceClock(Option<Arc<Followed>>);

/// A time that something else decides.
struct Followed {
    source: Box<dyn Fn() -> Timestamp + Send + Sync>,
    began: (Timestamp, Instant),
}

impl ServiceClock {
    /// The clock that shows what `source` returns, which must never go backwards.
    pub fn follow(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let began = (source(), Instant::now());
        Self(Some(Arc::new(Followed { source: Box::new(source), began })))
    }

    /// The time of day.
    pub fn timestamp(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(followed) => (followed.source)(),
        }
    }

    /// The monotonic time, for ages and expiries.
    pub fn instant(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(followed) => {
                let (timestamp, instant) = followed.began;
                let since = Duration::try_from((followed.source)().duration_since(timestamp)).unwrap_or_default();
                instant.checked_add(since).unwrap_or(instant)
            }
        }
    }

    /// The moment of this clock at which a timer for `at` ends.
    pub fn clock_time(&self, at: Instant) -> Instant {
        if self.0.is_none() { at } else { convert(at, Instant::now(), self.instant()) }
    }

    /// The moment for which a timer has to be set that ends at `at` of this clock.
    pub fn timer_time(&self, at: Instant) -> Instant {
        if self.0.is_none() { at } else { convert(at, self.instant(), Instant::now()) }
    }
}

/// The moment `at` of a clock that shows `from` now, on a clock that shows `to` now. One that cannot be represented does not
/// move.
fn convert(at: Instant, from: Instant, to: Instant) -> Instant {
    let moved = if to >= from { at.checked_add(to - from) } else { at.checked_sub(from - to) };
    moved.unwrap_or(at)
}

impl fmt::Debug for ServiceClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ServiceClock(followed)" } else { "ServiceClock(system)" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn followed_clock_jumps_and_its_timers_do_not() {
        let seconds = Arc::new(AtomicI64::new(1_000));
        let shown = Arc::clone(&seconds);
        let clock =
            ServiceClock::follow(move || Timestamp::from_second(shown.load(Ordering::Relaxed)).expect("in range"));
        let (began, deadline) = (clock.instant(), Instant::now() + Duration::from_secs(3));
        seconds.fetch_add(7_200, Ordering::Relaxed);
        assert_eq!(clock.instant() - began, Duration::from_secs(7_200));
        assert_eq!(clock.timestamp(), Timestamp::from_second(8_200).unwrap());
        assert_eq!(clock.clock_time(deadline) - clock.instant(), Duration::from_secs(3));
        assert_eq!(clock.timer_time(clock.instant() + Duration::from_secs(3)), deadline);
        assert_eq!(clock.timer_time(clock.clock_time(deadline)), deadline);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.instant() - began, Duration::from_secs(7_200), "it stands still while the machine's runs");
        assert_eq!(clock.clock_time(deadline) - clock.instant(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn system_clock_is_the_timers_clock() {
        let (clock, at) = (ServiceClock::default(), Instant::now());
        assert_eq!((clock.instant(), clock.clock_time(at), clock.timer_time(at)), (at, at, at));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.instant() - at, Duration::from_secs(2));
    }
}
