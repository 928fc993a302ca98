//! What a ledger is kept in: for each user one register with a record in it, read and exchanged as a whole, and a clock.
//!
//! That is all a store does. What a record means, and what may be written to it, is the protocol's business.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use super::memory::Memory;
use super::record::Record;
use super::shared::Shared;
use super::{Stats, User};

/// A moment on the clock of a store. Moments of different clocks cannot be told apart in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
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

impl Moment {
    /// This moment on the clock that shows `now`. One of another clock is before everything, so that whatever is
    /// remembered counts: too strict for a moment, never too lax.
    pub(super) fn on_clock_of(self, now: Self) -> Timestamp {
        if self.clock == now.clock { self.at } else { Timestamp::MIN }
    }
}

/// A user's record as it stood at a moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The record.
    pub record: Arc<Record>,
    /// The store's time.
    pub now: Moment,
}

/// A keeper of records. It always answers: one that depends on something that can fail has something else behind it.
pub trait Store: Send + Sync {
    /// Reads a user's record.
    fn read(&self, user: &User) -> impl Future<Output = Reading> + Send;

    /// Puts `next` in the place of the record that was read, if the revision that `stood` there still does, atomically for
    /// all who share the store. An empty `next` may be dropped.
    ///
    /// # Errors
    /// Another revision stands there: what it is.
    fn compare_exchange(
        &self,
        user: &User,
        stood: &Reading,
        next: Record,
    ) -> impl Future<Output = Result<(), Reading>> + Send;

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
    Shared(Shared),
}

impl Backend {
    /// What replicas share, where they do.
    pub fn shared(&self) -> Option<&Shared> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(shared) => Some(shared),
        }
    }
}

impl Store for Backend {
    async fn read(&self, user: &User) -> Reading {
        match self {
            Self::Memory(memory) => memory.read(user).await,
            Self::Shared(shared) => shared.read(user).await,
        }
    }

    async fn compare_exchange(&self, user: &User, stood: &Reading, next: Record) -> Result<(), Reading> {
        match self {
            Self::Memory(memory) => memory.compare_exchange(user, stood, next).await,
            Self::Shared(shared) => shared.compare_exchange(user, stood, next).await,
        }
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        match self {
            Self::Memory(memory) => memory.pseudonym(sid),
            Self::Shared(shared) => shared.pseudonym(sid),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Memory(memory) => memory.stats(),
            Self::Shared(shared) => shared.stats(),
        }
    }
}
