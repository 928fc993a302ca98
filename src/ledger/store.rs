//! What a ledger is kept in: for each user one record, read and exchanged as a whole, and a clock.
//!
//! A store does no more than that. The protocol decides what a record means and what is written to it.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::key::UserKey;
use super::record::{MAX_LIST_AGE, Record};
use super::times::earlier;
use crate::policy::MAX_TIMEOUT;

/// No list that a check decides by was requested earlier than this before: it was at most [`MAX_LIST_AGE`] old when the check got
/// it, and the check decides before its deadline.
const OLDEST_LIST: Duration = MAX_TIMEOUT.saturating_add(MAX_LIST_AGE);

/// A time on the clock of a store, and which listing the user's record had then. Times of different clocks cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTime {
    pub(super) at: Timestamp,
    pub(super) clock: Clock,
    /// [`Record::mark`], where the time belongs to a list.
    pub(super) mark: u64,
}

/// Which clock a time is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// This process's.
    Local,
    /// The shared store's.
    Shared,
}

impl StoreTime {
    /// The time of a list on the clock that shows `now`. Where the time is another clock's, the earliest that a list in use can
    /// have: entries that may have ended for it count, too strict for a moment and never too lax, and no others.
    pub(super) fn on_clock_of(self, now: Self) -> Timestamp {
        if self.clock == now.clock { self.at } else { earlier(now.at, OLDEST_LIST) }
    }
}

/// A user's record as it was at a time.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// The record.
    pub record: Arc<Record>,
    /// The store's time when it was read.
    pub now: StoreTime,
}

/// A keeper of records. It always answers: one that depends on something that can fail has a fallback.
pub trait Store: Send + Sync + 'static {
    /// Reads a user's record.
    fn read(&self, user: &UserKey) -> impl Future<Output = Versioned> + Send;

    /// The same by a deadline: a store that has not answered by then counts as one that failed.
    fn read_by(&self, user: &UserKey, _deadline: Instant) -> impl Future<Output = Versioned> + Send {
        self.read(user)
    }

    /// Replaces the record that was read by `next` if the stored revision is still the `expected` one, atomically for all who
    /// share the store. An empty `next` may be dropped. `next` has no meaning afterwards; it is a reference so that the futures of a
    /// check do not have a copy each.
    ///
    /// # Errors
    /// The stored record, when it has another revision.
    fn compare_exchange(
        &self,
        user: &UserKey,
        expected: &Versioned,
        next: &mut Record,
    ) -> impl Future<Output = Result<(), Versioned>> + Send;

    /// How a session's id is written in records.
    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(sid)
    }

    /// Forgets what has ended, where the store does not do so by itself.
    fn sweep(&self) {}

    /// What the store counts.
    fn stats(&self) -> Stats;
}

/// What a ledger counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The entries of all records in this process's memory, each listing as one.
    pub size: usize,
    /// The bytes that they take.
    pub bytes: usize,
    /// How many were forgotten before their time because the memory is bounded. Never falls.
    pub forgotten: u64,
    /// How many origins of sessions were forgotten before their time because a user has too many. Never falls.
    pub origins_forgotten: u64,
    /// How often another replica was faster, and a check decided again. Never falls.
    pub conflicts: u64,
    /// How often the memory answered in place of the shared store. Never falls.
    pub fallbacks: u64,
    /// Whether the memory answers in its place now.
    pub degraded: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use jiff::SignedDuration;

    use super::*;
    use crate::ledger::{Known, Ledger, Memory, Record, SessionIds, SessionKey, Terms};
    use crate::policy::Origin;

    /// What counts for a list of the shared store, by a record of the memory in which a login was allowed and a session revoked so
    /// many seconds ago.
    fn counted_after_a_switch(seconds: i64) -> (usize, usize) {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let (window, longest_check) = (Duration::from_secs(10), Duration::from_secs(3));
        let terms =
            Terms { window, longest_check, listing_kept_for: Duration::from_secs(3_600), enforced: true, claims: true };
        let mut record = Record::default();
        record.admit("s1", "c", terms, at(0), at(0));
        record.revoke("s2", at(0));
        let now = StoreTime { at: at(seconds), clock: Clock::Local, mark: 0 };
        // The clocks of two stores may differ by any time.
        let since = StoreTime { at: at(0) - SignedDuration::from_hours(5), clock: Clock::Shared, mark: 0 };
        let known = Known::of(&Versioned { record: Arc::new(record), now }, since, &SessionIds(Default::default()));
        (known.admissions.len(), known.revoked.len())
    }

    /// A store whose first exchange fails, so that the record is read again, on this clock.
    struct FailingOnce {
        memory: Memory,
        clock_after: Clock,
        has_failed: AtomicBool,
    }

    impl Store for FailingOnce {
        async fn read(&self, user: &UserKey) -> Versioned {
            let clock = if self.has_failed.load(Ordering::Relaxed) { self.clock_after } else { Clock::Shared };
            let read = self.memory.read(user).await;
            Versioned { now: StoreTime { clock, ..read.now }, ..read }
        }

        async fn compare_exchange(
            &self,
            user: &UserKey,
            expected: &Versioned,
            next: &mut Record,
        ) -> Result<(), Versioned> {
            if !self.has_failed.swap(true, Ordering::Relaxed) {
                return Err(self.read(user).await);
            }
            self.memory.compare_exchange(user, expected, next).await
        }

        fn stats(&self) -> Stats {
            self.memory.stats()
        }
    }

    #[tokio::test]
    async fn failure_of_the_shared_store_is_no_conflict() {
        for clock_after in [Clock::Local, Clock::Shared] {
            let store = FailingOnce { memory: Memory::new(1_000), clock_after, has_failed: false.into() };
            let ledger = Ledger::new(store);
            let key = SessionKey::new(UserKey::new("t", "u"), "s", "c");
            ledger.note(&key, &Origin::Delegated).await;
            assert_eq!((ledger.stats().size, ledger.stats().conflicts), (1, 0), "{clock_after:?}");
        }
    }

    #[test]
    fn entry_that_ended_long_ago_does_not_count_after_a_switch() {
        assert_eq!(counted_after_a_switch(1), (1, 1));
        assert_eq!(counted_after_a_switch(29), (1, 1), "a list of 20 s ago may need it");
        assert_eq!(counted_after_a_switch(31), (0, 1));
        assert_eq!(counted_after_a_switch(81), (0, 0));
    }
}
