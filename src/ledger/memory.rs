//! The ledger in this process's memory: maps in shards, each behind a lock that is never held across an await.
//!
//! The number of entries is bounded. Writers sweep entries that have ended every few seconds; where that is not enough, the
//! records that were written longest ago are forgotten and counted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LinkedHashMap;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::codec::Encoded;
use super::key::UserKey;
use super::record::Record;
use super::store::{Clock, Stats, Store, StoreTime, Versioned};

/// How many admissions and revocations a replica keeps: more than 4,000 logins a second leave behind, in about 20 MB.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// The smallest capacity of a shard: the oldest record of a larger shard is about the oldest of all.
const MIN_SHARD_CAPACITY: usize = 1_024;
/// More shards than a usual machine has cores: checks seldom wait for each other.
const MAX_SHARDS: usize = 64;
/// How often a shard is swept: an entry lives for a little longer than that by default.
const SWEEP_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// The same for a full shard. A shard that is full of live entries stays full: a sweep at every write would find nothing.
const FULL_SWEEP_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Records in memory.
pub struct Memory {
    shards: Box<[Mutex<Shard>]>,
    shard_capacity: usize,
    hasher: RandomState,
    started: (Timestamp, Instant),
    forgotten: AtomicU64,
}

struct Shard {
    /// The least recently written first.
    records: LinkedHashMap<Box<str>, Encoded>,
    /// The sum of the records' numbers of entries.
    size: usize,
    swept_at: Timestamp,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Memory {
    /// Keeps at most `capacity` admissions and revocations, at least one.
    pub fn new(capacity: usize) -> Self {
        let shards = (capacity / MIN_SHARD_CAPACITY).clamp(1, MAX_SHARDS);
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

    /// The wall clock of the start, advanced by the monotonic clock: it never jumps.
    pub(super) fn now(&self) -> Timestamp {
        let (at, instant) = self.started;
        SignedDuration::try_from(instant.elapsed())
            .ok()
            .and_then(|elapsed| at.checked_add(elapsed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// Stores a record, whatever is stored.
    pub(super) fn put(&self, user: &UserKey, record: Record) {
        let now = self.now();
        self.put_in_shard(&mut self.shard(user), user, record, now);
    }

    fn shard(&self, user: &UserKey) -> MutexGuard<'_, Shard> {
        let position = self.hasher.hash_one(user) as usize % self.shards.len();
        lock(&self.shards[position])
    }

    fn put_in_shard(&self, shard: &mut Shard, user: &UserKey, mut record: Record, now: Timestamp) {
        let mut forgotten = record.shorten(self.shard_capacity);
        shard.size += record.len();
        let before = if record.is_empty() {
            shard.records.remove(user.as_str())
        } else {
            shard.records.insert(user.as_str().into(), Encoded::new(&record))
        };
        shard.size -= before.map_or(0, |before| before.len());

        let interval = if shard.size > self.shard_capacity { FULL_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if now.duration_since(shard.swept_at) >= interval {
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

    fn versioned(&self, record: Option<&Encoded>, now: Timestamp) -> Versioned {
        let record = record.map(|record| Arc::new(record.decode())).unwrap_or_default();
        Versioned { record, now: StoreTime { at: now, clock: Clock::Local } }
    }
}

impl Shard {
    fn sweep(&mut self, now: Timestamp) {
        let mut size = 0;
        self.records.retain(|_, encoded| {
            let mut record = encoded.decode();
            if record.is_stale(now) {
                record.expire(now);
                *encoded = Encoded::new(&record);
            }
            size += record.len();
            !record.is_empty()
        });
        self.size = size;
        self.swept_at = now;
    }
}

impl Store for Memory {
    async fn read(&self, user: &UserKey) -> Versioned {
        let now = self.now();
        self.versioned(self.shard(user).records.get(user.as_str()), now)
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        let now = self.now();
        let mut shard = self.shard(user);
        let stored = shard.records.get(user.as_str());
        if stored.map_or(0, Encoded::revision) != expected.record.revision {
            return Err(self.versioned(stored, now));
        }
        self.put_in_shard(&mut shard, user, next, now);
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
