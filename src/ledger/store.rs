//! What a ledger is kept in: for each user one record, read and exchanged as a whole, and a clock.
//!
//! A store does no more than that. The protocol decides what a record means and what is written to it.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use super::key::UserKey;
use super::record::Record;

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
    /// The same time on the clock that shows `now`. A time of another clock is before everything, so that every entry
    /// counts: too strict for a moment, never too lax.
    pub(super) fn on_clock_of(self, now: Self) -> Timestamp {
        if self.clock == now.clock { self.at } else { Timestamp::MIN }
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
