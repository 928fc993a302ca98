//! The store of a replica: Redis where replicas share one, and this process's memory.
//!
//! While Redis works it decides, and the memory gets a copy of what this replica writes. While Redis is degraded the memory
//! decides, starting from these copies: each replica limits by what it knows, and for one window after a switch in either
//! direction a limit may be exceeded by what the other store knows.

use std::borrow::Cow;
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;
use tracing::warn;

use super::key::UserKey;
use super::memory::Memory;
use super::record::Record;
use super::store::{Clock, Stats, Store, StoreTime, Versioned};
use crate::redis::{Redis, Register};

/// Records in Redis, where there is one and it works, and else in memory.
pub struct Failover {
    redis: Option<Redis>,
    memory: Memory,
    fallbacks: AtomicU64,
}

impl Failover {
    /// Keeps records in `redis`, if replicas share one, with `memory` as the fallback.
    pub fn new(memory: Memory, redis: Option<Redis>) -> Self {
        Self { redis, memory, fallbacks: AtomicU64::new(0) }
    }

    /// The memory answers in place of Redis.
    async fn fall_back(&self, user: &UserKey) -> Versioned {
        self.fallbacks.fetch_add(u64::from(self.redis.is_some()), Ordering::Relaxed);
        self.memory.read(user).await
    }

    fn working(&self) -> Option<&Redis> {
        self.redis.as_ref().filter(|redis| !redis.is_degraded())
    }
}

impl Store for Failover {
    async fn read(&self, user: &UserKey) -> Versioned {
        if let Some(redis) = self.working()
            && let Some(register) = redis.read(user.as_str()).await
        {
            return versioned(register);
        }
        self.fall_back(user).await
    }

    async fn read_by(&self, user: &UserKey, deadline: Instant) -> Versioned {
        if let Some(redis) = self.working()
            && let Some(register) = redis.read_by(user.as_str(), deadline).await
        {
            return versioned(register);
        }
        self.fall_back(user).await
    }

    async fn compare_exchange(&self, user: &UserKey, expected: &Versioned, next: &mut Record) -> Result<(), Versioned> {
        match (expected.now.clock, self.working()) {
            (Clock::Shared, Some(redis)) => {
                let text = serde_json::to_string(next).expect("a record has only texts, numbers and times");
                let (before, ttl) = (expected.record.revision, next.lasts(expected.now.at));
                match redis.compare_exchange(user.as_str(), before, next.revision, &text, ttl).await {
                    Some(Ok(())) => {
                        self.memory.put(user, take(next).moved_by(self.memory.now().duration_since(expected.now.at)));
                        Ok(())
                    }
                    Some(Err(stored)) => Err(versioned(stored)),
                    None => Err(self.read(user).await),
                }
            }
            (Clock::Local, None) => self.memory.compare_exchange(user, expected, next).await,
            // A record of one store says nothing of the other: the check reads again and decides on what is stored there.
            (Clock::Shared, None) | (Clock::Local, Some(_)) => Err(self.read(user).await),
        }
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        self.redis.as_ref().map_or(Cow::Borrowed(sid), |redis| Cow::Owned(redis.hash(sid)))
    }

    fn sweep(&self) {
        self.memory.sweep();
    }

    fn stats(&self) -> Stats {
        Stats {
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            degraded: self.redis.as_ref().is_some_and(Redis::is_degraded),
            ..self.memory.stats()
        }
    }
}

fn versioned(register: Register) -> Versioned {
    let Register { at, revision, text } = register;
    let record = match &*text {
        b"" => Record::default(),
        text => serde_json::from_slice(text).unwrap_or_else(|error| {
            // It affects one user and ends with the user's next login. All other records stay shared.
            warn!(%error, "shared ledger: a record in Redis cannot be read; an empty one replaces it");
            Record::default()
        }),
    };
    // Whatever the text says: the exchange compares the revision of the register.
    let record = Record { revision, ..record };
    Versioned { record: Arc::new(record), now: StoreTime { at, clock: Clock::Shared, mark: 0 } }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn revision_is_that_of_the_register_whatever_its_text() {
        for text in [&b""[..], b"of another version", b"\xff", br#"{"revision":5,"admissions":[],"revoked":[]}"#] {
            let register = Register { at: Timestamp::UNIX_EPOCH, revision: 7, text: text.to_vec() };
            let record = versioned(register).record;
            assert_eq!((record.revision, record.is_empty()), (7, true), "{text:?}");
        }
    }
}
