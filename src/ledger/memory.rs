//! The ledger in this process's memory: maps in shards, each behind a lock that is never held across an await.
//!
//! The number of entries and their bytes are bounded. Entries that have ended are swept every few seconds, by writers and by the
//! process's sweep; where that is not enough, the records that were written longest ago are forgotten. Those that change no decision
//! by a list, as those with nothing but a listing, go first: without one a login costs a list. All others are counted.

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
    /// Records that change no decision by a list, the least recently written first.
    remembered: HashedTable<Stored>,
    /// All others.
    records: HashedTable<Stored>,
    /// The sum of the records' numbers of entries.
    size: usize,
    /// The sum of the records' bytes.
    bytes: usize,
    swept_at: Timestamp,
}

struct Stored {
    record: Encoded,
    /// Before this there is nothing to sweep.
    next_change: Timestamp,
    is_only_remembered: bool,
}

impl Stored {
    fn new(record: &Record, now: Timestamp) -> Self {
        let (next_change, is_only_remembered) = (record.next_change(now), record.is_only_remembered(now));
        Self { record: Encoded::new(record), next_change, is_only_remembered }
    }
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
        let shard = || Mutex::new(Shard::new(started.0));
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
    pub(super) fn put(&self, user: &UserKey, mut record: Record) {
        let (now, user) = (self.now(), user.hash());
        self.put_in_shard(&mut self.shard(user), user, &mut record, now);
    }

    fn shard(&self, user: KeyHash) -> MutexGuard<'_, Shard> {
        lock(&self.shards[user.number() % self.shards.len()])
    }

    fn put_in_shard(&self, shard: &mut Shard, user: KeyHash, record: &mut Record, now: Timestamp) {
        let mut forgotten = record.shorten(self.shard_capacity, now);
        let mut stored = Stored::new(record, now);
        while bytes(&stored.record) > self.shard_bytes && !record.is_empty() {
            let fitting = record.len() * self.shard_bytes / bytes(&stored.record);
            forgotten += record.shorten(fitting, now);
            stored = Stored::new(record, now);
        }
        shard.put(user, (!record.is_empty()).then_some(stored));

        let interval = if self.is_over(shard) { FULL_SWEEP_INTERVAL } else { SWEEP_INTERVAL };
        if now.duration_since(shard.swept_at) >= interval {
            shard.sweep(now);
        }
        while self.is_over(shard)
            && let Some(oldest) = shard.pop_oldest()
        {
            forgotten += if oldest.is_only_remembered { 0 } else { oldest.record.len() };
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
        Versioned { record, now: StoreTime { at: now, clock: Clock::Local, mark: 0 } }
    }
}

impl Shard {
    fn new(now: Timestamp) -> Self {
        Self { remembered: HashedTable::default(), records: HashedTable::default(), size: 0, bytes: 0, swept_at: now }
    }

    fn get(&self, user: KeyHash) -> Option<&Encoded> {
        self.records.get(&user).or_else(|| self.remembered.get(&user)).map(|stored| &stored.record)
    }

    /// Replaces the record of a user.
    fn put(&mut self, user: KeyHash, next: Option<Stored>) {
        let before = self.records.remove(&user).or_else(|| self.remembered.remove(&user));
        before.iter().for_each(|before| self.subtract(before));
        let Some(next) = next else { return };
        self.size += next.record.len();
        self.bytes += bytes(&next.record);
        let table = if next.is_only_remembered { &mut self.remembered } else { &mut self.records };
        table.insert(user, next);
    }

    fn pop_oldest(&mut self) -> Option<Stored> {
        let (_, oldest) = self.remembered.pop_front().or_else(|| self.records.pop_front())?;
        self.subtract(&oldest);
        Some(oldest)
    }

    fn subtract(&mut self, stored: &Stored) {
        self.size -= stored.record.len();
        self.bytes -= bytes(&stored.record);
    }

    fn sweep(&mut self, now: Timestamp) {
        let mut stopped = Vec::new();
        for table in [&mut self.records, &mut self.remembered] {
            table.retain(|user, stored| {
                if stored.next_change > now {
                    return true;
                }
                let mut record = stored.record.decode();
                record.expire(now);
                *stored = Stored::new(&record, now);
                if stored.is_only_remembered {
                    stopped.push(*user);
                }
                !record.is_empty()
            });
        }
        for user in stopped {
            if let Some(stored) = self.records.remove(&user) {
                self.remembered.insert(user, stored);
            }
        }
        shrink(&mut self.records);
        shrink(&mut self.remembered);
        let stored = || self.records.values().chain(self.remembered.values());
        self.size = stored().map(|stored| stored.record.len()).sum();
        self.bytes = stored().map(|stored| bytes(&stored.record)).sum();
        self.swept_at = now;
    }
}

impl Store for Memory {
    async fn read(&self, user: &UserKey) -> Versioned {
        let (now, user) = (self.now(), user.hash());
        self.versioned(self.shard(user).get(user), now)
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        let (now, user) = (self.now(), user.hash());
        let mut shard = self.shard(user);
        let stored = shard.get(user);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{RevocationEntry, UserKey};

    #[tokio::test]
    async fn user_has_as_many_entries_as_a_shard_holds() {
        let memory = Memory::default();
        let until = memory.now() + SignedDuration::from_secs(60);
        let entry = |number: usize| RevocationEntry { sid: number.to_string(), until };
        let user = UserKey::new("t", "u");
        memory.put(&user, Record { revoked: (0..4_000).map(entry).collect(), ..Record::default() });
        // Decision 5.13 names this figure.
        assert_eq!((memory.read(&user).await.record.len(), memory.stats().forgotten), (1_562, 2_438));
    }
}
