//! A store for the oracle: a shared server as Redis is one, with a clock that jumps, and replicas that can be cut off from it.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::super::record::Record;
use super::super::store::{Clock, Stats, Store, StoreTime, Versioned};
use super::super::{Memory, UserKey};
use crate::clock::ServiceClock;

/// The true time of a history, in milliseconds.
#[derive(Clone, Default)]
pub struct TrueTime(Arc<AtomicI64>);

impl TrueTime {
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + self.0.load(Ordering::Relaxed)).unwrap()
    }

    pub fn pass(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    pub fn clock(&self) -> ServiceClock {
        let time = self.clone();
        ServiceClock::follow(move || time.now())
    }
}

/// A record as Redis has it: its revision and its text.
pub type StoredText = Option<(u64, String)>;

/// The server that replicas share. There is one user.
#[derive(Default)]
pub struct SharedServer {
    /// The record.
    pub text: Mutex<StoredText>,
    /// How far the server's clock is from the true time, in milliseconds.
    pub offset: AtomicI64,
}

/// A part of the rule that is left out, to show that the histories find it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// Admissions that count against no list are forgotten.
    Admissions,
    /// Blocks are forgotten.
    Blocks,
    /// A list replaces every listing.
    LastListWins,
    /// Several pages are one moment.
    Pages,
}

/// The store of a replica.
pub struct OracleStore {
    pub weakness: Option<Weakness>,
    pub server: Option<Arc<SharedServer>>,
    pub cut_off: AtomicBool,
    pub time: TrueTime,
    pub memory: Memory,
}

impl OracleStore {
    fn working(&self) -> Option<&SharedServer> {
        self.server.as_deref().filter(|_| !self.cut_off.load(Ordering::Relaxed))
    }

    fn shared(&self, server: &SharedServer) -> Versioned {
        let text = server.text.lock().unwrap();
        let record = text.as_ref().map_or_else(Record::default, |(_, text)| serde_json::from_str(text).unwrap());
        let at = Timestamp::from_millisecond(self.time.now().as_millisecond() + server.offset.load(Ordering::Relaxed));
        Versioned { record: Arc::new(record), now: StoreTime { at: at.unwrap(), clock: Clock::Shared, mark: 0 } }
    }
}

impl Store for OracleStore {
    async fn read(&self, user: &UserKey) -> Versioned {
        match self.working() {
            Some(server) => self.shared(server),
            None => self.memory.read(user).await,
        }
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        match self.weakness {
            Some(Weakness::Admissions) => next.admissions.retain(|entry| entry.kept_until < entry.pending_until()),
            Some(Weakness::Blocks) => next.blocked.clear(),
            _ => {}
        }
        match (expected.now.clock, self.working()) {
            (Clock::Shared, Some(server)) => {
                let stored = self.shared(server);
                if stored.record.revision != expected.record.revision {
                    return Err(stored);
                }
                let text = serde_json::to_string(next).unwrap();
                *server.text.lock().unwrap() =
                    (!next.lasts(expected.now.at).is_zero()).then_some((next.revision, text));
                self.memory.put(user, std::mem::take(next).moved_by(self.memory.now().duration_since(expected.now.at)));
                Ok(())
            }
            (Clock::Local, None) => self.memory.compare_exchange(user, expected, next).await,
            _ => Err(self.read(user).await),
        }
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        if self.server.is_none() {
            return Cow::Borrowed(sid);
        }
        let hash = digest::digest(&digest::SHA256, sid.as_bytes());
        let bits = u128::from_be_bytes(hash.as_ref()[..16].try_into().unwrap());
        Cow::Owned(format!("{bits:032x}"))
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }
}
