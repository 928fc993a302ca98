//! The ledger in this process's memory: maps in shards, each behind a lock that is never held across an await.
//!
//! It is bounded in what is remembered overall. What has ended is swept away every few seconds by whoever writes; where that
//! is not enough, the users written to longest ago are forgotten and counted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LinkedHashMap;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::codec::Encoded;
use super::record::Record;
use super::store::{Clock, Store, StoreTime, Versioned};
use super::{Stats, User};

/// How many admissions and revocations are remembered when nobody says otherwise: what more than 4,000 logins a second
/// leave behind, in some 20 MB.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// A shard has at least this many places, so that the oldest of a shard is old.
const SHARD_USERS: usize = 1_024;
const MAX_SHARDS: usize = 64;
const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(10);
const SWEEP_FULL_EVERY: SignedDuration = SignedDuration::from_secs(1);

/// Records in memory.
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    shard_capacity: usize,
    hasher: RandomState,
    started: (Timestamp, Instant),
    forgotten: AtomicU64,
}

struct Shard {
    /// In the order of their last writing.
    records: LinkedHashMap<Box<str>, Encoded>,
    /// The sum of the records' lengths.
    size: usize,
    swept_at: Timestamp,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Memory {
    /// Remembers at most `capacity` admissions and revocations, at least one.
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / SHARD_USERS).clamp(1, MAX_SHARDS);
        let started = (Timestamp::now(), Instant::now());
        let shard = || Mutex::new(Shard { records: LinkedHashMap::new(), size: 0, swept_at: started.0 });
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            shard_capacity: (capacity / shards).max(1),
            hasher: RandomState::new(),
            started,
            forgotten: AtomicU64::new(0),
        }
    }

    /// The wall clock of the start, moved on by the monotonic one: it never jumps.
    pub(super) fn now(&self) -> Timestamp {
        let (at, instant) = self.started;
        SignedDuration::try_from(instant.elapsed())
            .ok()
            .and_then(|elapsed| at.checked_add(elapsed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// Puts a record in, whatever stands there.
    pub(super) fn put(&self, user: &User, record: Record) {
        let now = self.now();
        self.put_into(&mut self.shard(user), user, record, now);
    }

    fn shard(&self, user: &User) -> MutexGuard<'_, Shard> {
        let position = self.hasher.hash_one(user) as usize % self.shards.len();
        lock(&self.shards[position])
    }

    fn put_into(&self, shard: &mut Shard, user: &User, mut record: Record, now: Timestamp) {
        let mut forgotten = record.shorten(self.shard_capacity);
        shard.size += record.len();
        let before = if record.is_empty() {
            shard.records.remove(&*user.0)
        } else {
            shard.records.insert((&*user.0).into(), Encoded::new(&record))
        };
        shard.size -= before.map_or(0, |before| before.len());

        // A shard that is full of what has not ended stays full: looking through it at every write would find nothing.
        let every = if shard.size > self.shard_capacity { SWEEP_FULL_EVERY } else { SWEEP_EVERY };
        if now.duration_since(shard.swept_at) >= every {
            shard.sweep(now);
        }
        while shard.size > self.shard_capacity
            && let Some((_, oldest)) = shard.records.pop_front()
        {
            shard.size -= oldest.len();
            forgotten += oldest.len();
        }
        self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
    }

    fn read(&self, record: Option<&Encoded>, now: Timestamp) -> Versioned {
        let record = record.map(|record| Arc::new(record.unpack())).unwrap_or_default();
        Versioned { record, now: StoreTime { at: now, clock: Clock::Local } }
    }
}

impl Shard {
    fn sweep(&mut self, now: Timestamp) {
        let mut size = 0;
        self.records.retain(|_, packed| {
            let mut record = packed.unpack();
            if record.is_stale(now) {
                record.expire(now);
                *packed = Encoded::new(&record);
            }
            size += record.len();
            !record.is_empty()
        });
        self.size = size;
        self.swept_at = now;
    }
}

impl Store for Memory {
    async fn read(&self, user: &User) -> Versioned {
        let now = self.now();
        self.read(self.shard(user).records.get(&*user.0), now)
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        let now = self.now();
        let mut shard = self.shard(user);
        let stands = shard.records.get(&*user.0);
        if stands.map_or(0, Encoded::revision) != expected.record.revision {
            return Err(self.read(stands, now));
        }
        self.put_into(&mut shard, user, next, now);
        Ok(())
    }

    fn stats(&self) -> Stats {
        let now = self.now();
        let size = |shard: &Mutex<Shard>| {
            let mut shard = lock(shard);
            shard.sweep(now);
            shard.size
        };
        Stats {
            size: self.shards.iter().map(size).sum(),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
