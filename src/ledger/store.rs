//! What a ledger is kept in: for each user one register with a record in it, read and exchanged as a whole, and a clock.
//!
//! That is all a store does. What a record means, and what may be written to it, is the protocol's business.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use super::failover::Failover;
use super::memory::Memory;
use super::record::Record;
use super::{Stats, User};

/// A moment on the clock of a store. Moments of different clocks cannot be told apart in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreTime {
    pub(super) at: Timestamp,
    pub(super) clock: Clock,
}

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// This process's.
    Local,
    /// The shared store's.
    Shared,
}

impl StoreTime {
    /// This moment on the clock that shows `now`. One of another clock is before everything, so that whatever is
    /// remembered counts: too strict for a moment, never too lax.
    pub(super) fn on_clock_of(self, now: Self) -> Timestamp {
        if self.clock == now.clock { self.at } else { Timestamp::MIN }
    }
}

/// A user's record as it stood at a moment.
#[derive(Clone, Debug)]
pub struct Versioned {
    /// The record.
    pub record: Arc<Record>,
    /// The store's time.
    pub now: StoreTime,
}

/// A keeper of records. It always answers: one that depends on something that can fail has something else behind it.
pub trait Store: Send + Sync {
    /// Reads a user's record.
    fn read(&self, user: &User) -> impl Future<Output = Versioned> + Send;

    /// Puts `next` in the place of the record that was read, if the revision that was `expected` still stands there, atomically for
    /// all who share the store. An empty `next` may be dropped.
    ///
    /// # Errors
    /// Another revision stands there: what it is.
    fn compare_exchange(
        &self,
        user: &User,
        expected: &Versioned,
        next: Record,
    ) -> impl Future<Output = Result<(), Versioned>> + Send;

    /// How a session's id is written in records.
    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(sid)
    }

    /// What can be counted about the store.
    fn stats(&self) -> Stats;
}

/// The stores there are.
pub enum Backend {
    /// This process's memory.
    Memory(Memory),
    /// Redis or Valkey, with the memory behind it.
    Failover(Failover),
}

impl Backend {
    /// What replicas share, where they do.
    pub fn shared(&self) -> Option<&Failover> {
        match self {
            Self::Memory(_) => None,
            Self::Failover(shared) => Some(shared),
        }
    }
}

impl Store for Backend {
    async fn read(&self, user: &User) -> Versioned {
        match self {
            Self::Memory(memory) => memory.read(user).await,
            Self::Failover(shared) => shared.read(user).await,
        }
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        match self {
            Self::Memory(memory) => memory.compare_exchange(user, expected, next).await,
            Self::Failover(shared) => shared.compare_exchange(user, expected, next).await,
        }
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        match self {
            Self::Memory(memory) => memory.pseudonym(sid),
            Self::Failover(shared) => shared.pseudonym(sid),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Memory(memory) => memory.stats(),
            Self::Failover(shared) => shared.stats(),
        }
    }
}
