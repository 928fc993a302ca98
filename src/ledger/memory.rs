//! The ledger in this process's memory: maps in shards, each behind a lock that is never held across an await.
//!
//! The number of entries and their bytes are bounded. Entries that have ended are swept every few seconds, by writers and by the
//! process's sweep; where that is not enough, the records that were written longest ago are forgotten and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::codec::Encoded;
use super::key::{HashedTable, KeyHash, UserKey, shrink};
use super::record::Record;
use super::store::{Clock, Stats, Store, StoreTime, Versioned};
use crate::clock::ServiceClock;

/// How many admissions and revocations a replica keeps: more than 4,000 logins a second leave behind, in about 20 MB.
pub const DEFAULT_CAPACITY: usize = 100_000;

/// The most bytes of a process's records: those of [`DEFAULT_CAPACITY`] entries take 20 MB with the ids that Auth0 makes, and ids
/// that are several times as long leave room for fewer.
pub const MAX_BYTES: usize = 32 << 20;

/// What a record takes beside its bytes: the hash that stands for the user, two links and a pointer with a length, in tables that
/// are half empty at worst, and what the allocator adds.
const RECORD_OVERHEAD: usize = 128;

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
    shard_bytes: usize,
    clock: ServiceClock,
    started: (Timestamp, Instant),
    forgotten: AtomicU64,
}

struct Shard {
    /// The least recently written first.
    records: HashedTable<Encoded>,
    /// The sum of the records' numbers of entries.
    size: usize,
    /// The sum of the records' bytes.
    bytes: usize,
    swept_at: Timestamp,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(DEFAULT_CAPACITY)
    }
}

impl Memory {
    /// Keeps at most `capacity` admissions and revocations, at least one, in at most [`MAX_BYTES`].
    pub fn new(capacity: usize) -> Self {
        Self::with_clock(capacity, ServiceClock::default())
    }

    /// The same, by this clock in place of the system's.
    pub fn with_clock(capacity: usize, clock: ServiceClock) -> Self {
        let shards = (capacity / MIN_SHARD_CAPACITY).clamp(1, MAX_SHARDS);
        let started = (clock.timestamp(), clock.instant());
        let shard = || Mutex::new(Shard { records: HashedTable::default(), size: 0, bytes: 0, swept_at: started.0 });
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            shard_capacity: (capacity / shards).max(1),
            shard_bytes: MAX_BYTES / shards,
            clock,
            started,
            forgotten: AtomicU64::new(0),
        }
    }

    /// The wall clock of the start, advanced by the monotonic clock: it never jumps.
    pub(super) fn now(&self) -> Timestamp {
        let (at, instant) = self.started;
        SignedDuration::try_from(self.clock.instant().duration_since(instant))
            .ok()
            .and_then(|elapsed| at.checked_add(elapsed).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// Stores a record, whatever is stored.
    pub(super) fn put(&self, user: &UserKey, record: Record) {
        let (now, user) = (self.now(), user.hash());
        self.put_in_shard(&mut self.shard(user), user, record, now);
    }

    fn shard(&self, user: KeyHash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[user.number() % self.shards.len()])
    }

    fn put_in_shard(&self, shard: &mut Shard, user: KeyHash, mut record: Record, now: Timestamp) {
        let mut forgotten = record.shorten(self.shard_capacity);
        let mut encoded = Encoded::new(&record);
        while bytes(&encoded) > self.shard_bytes && !record.is_empty() {
            let fitting = record.len() * self.shard_bytes / bytes(&encoded);
            forgotten += record.shorten(fitting);
            encoded = Encoded::new(&record);
        }
        let before = if record.is_empty() {
            shard.records.remove(&user)
        } else {
            shard.size += record.len();
            shard.bytes += bytes(&encoded);
            shard.records.insert(user, encoded)
        };
        if let Some(before) = before {
            shard.subtract(&before);
        }

        let interval = if self.is_over(shard) { FULL_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if now.duration_since(shard.swept_at) >= interval {
            shard.sweep(now);
        }
        while self.is_over(shard)
            && let Some((_, oldest)) = shard.records.pop_front()
        {
            shard.subtract(&oldest);
            forgotten += oldest.len();
        }
        self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
    }

    fn is_over(&self, shard: &Shard) -> bool {
        shard.size > self.shard_capacity || shard.bytes > self.shard_bytes
    }

    fn versioned(&self, record: Option<&Encoded>, now: Timestamp) -> Versioned {
        /// Most users have no record.
        static EMPTY: LazyLock<Arc<Record>> = LazyLock::new(Arc::default);
        let record = record.map_or_else(|| Arc::clone(&EMPTY), |record| Arc::new(record.decode()));
        Versioned { record, now: StoreTime { at: now, clock: Clock::Local } }
    }
}

impl Shard {
    fn subtract(&mut self, record: &Encoded) {
        self.size -= record.len();
        self.bytes -= bytes(record);
    }

    fn sweep(&mut self, now: Timestamp) {
        let (mut size, mut total_bytes) = (0, 0);
        self.records.retain(|_, encoded| {
            let mut record = encoded.decode();
            if record.is_stale(now) {
                record.expire(now);
                *encoded = Encoded::new(&record);
            }
            if record.is_empty() {
                return false;
            }
            size += record.len();
            total_bytes += bytes(encoded);
            true
        });
        shrink(&mut self.records);
        (self.size, self.bytes) = (size, total_bytes);
        self.swept_at = now;
    }
}

impl Store for Memory {
    async fn read(&self, user: &UserKey) -> Versioned {
        let (now, user) = (self.now(), user.hash());
        self.versioned(self.shard(user).records.get(&user), now)
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        let (now, user) = (self.now(), user.hash());
        let mut shard = self.shard(user);
        let stored = shard.records.get(&user);
        if stored.map_or(0, Encoded::revision) != expected.record.revision {
            return Err(self.versioned(stored, now));
        }
        self.put_in_shard(&mut shard, user, next, now);
        Ok(())
    }

    fn sweep(&self) {
        let now = self.now();
        self.shards.iter().for_each(|shard| lock(shard).sweep(now));
    }

    fn stats(&self) -> Stats {
        let now = self.now();
        let mut stats = Stats { forgotten: self.forgotten.load(Ordering::Relaxed), ..Stats::default() };
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.sweep(now);
            stats.size += shard.size;
            stats.bytes += shard.bytes;
        }
        stats
    }
}

/// The bytes that a record takes, with its place in the map.
fn bytes(record: &Encoded) -> usize {
    record.bytes() + RECORD_OVERHEAD
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
