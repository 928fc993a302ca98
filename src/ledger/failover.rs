//! The shared ledger with the memory behind it: a check never fails because Redis does.
//!
//! The first operation that fails or takes too long switches to the memory, at once and for everybody; from then on nobody
//! waits for Redis but one task, which tries until it works again. The memory starts from what this replica wrote
//! itself. While it stands in, each replica limits by what it knows, and for one window after a switch a limit may be
//! exceeded by what the other store remembers.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::memory::Memory;
use super::record::Record;
use super::redis::{Granted, Redis, RedisFailure};
use super::store::{Clock, Store, Versioned};
use super::{Stats, User, new_revision};

/// What an operation on Redis may cost a check when nobody says otherwise.
pub const DEFAULT_BOUND: Duration = Duration::from_millis(50);

/// How long to wait before Redis is tried again, and how long that may take.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Records in Redis, or for the time being in memory. Clones are the same.
#[derive(Clone)]
pub struct Failover(Arc<Inner>);

struct Inner {
    redis: Redis,
    memory: Memory,
    bound: Duration,
    degraded: AtomicBool,
    fallbacks: AtomicU64,
}

impl Failover {
    /// Shares records through Redis, each operation taking at most `bound`. Waits a moment for the connection; without one
    /// the memory stands in from the start.
    pub async fn start(redis: Redis, memory: Memory, bound: Duration) -> Self {
        let fallbacks = AtomicU64::new(0);
        let inner = Arc::new(Inner { redis, memory, bound, degraded: AtomicBool::new(false), fallbacks });
        if let Err(failure) = inner.probe().await {
            inner.degrade(&failure);
        }
        Self(inner)
    }

    /// Whether the memory stands in for Redis now.
    pub fn is_degraded(&self) -> bool {
        self.0.is_degraded()
    }

    /// Takes up to `want` requests out of a tenant's bucket, into which as many flow in a second as it holds, and leaves the
    /// reserve in. Nothing when Redis does not say: there is no bucket for as long as the memory stands in.
    pub async fn take(&self, tenant: &str, requests_per_second: u32, want: u32, reserve: u32) -> Option<Granted> {
        let inner = &self.0;
        if inner.is_degraded() {
            return None;
        }
        let granted = inner.redis.take(tenant, requests_per_second, want, reserve, inner.bound).await;
        granted.map_err(|failure| inner.degrade(&failure)).ok()
    }
}

impl Inner {
    /// Does what checks do, for a user that nobody is: a server that is full, or a replica of one, can be read and not written.
    async fn probe(&self) -> Result<(), RedisFailure> {
        let nobody = User::new("", "");
        let mut expected = self.redis.read(&nobody, RETRY_INTERVAL).await?;
        let mut next = Record { revision: new_revision(), ..Record::default() };
        next.revoke("", expected.now.at);
        // A replica that tries at the same time may be faster, which shows as much. Nothing is left behind.
        if self.redis.compare_exchange(&nobody, &expected, &next, RETRY_INTERVAL).await?.is_ok() {
            expected.record = Arc::new(next);
            let _ = self.redis.compare_exchange(&nobody, &expected, &Record::default(), RETRY_INTERVAL).await?;
        }
        Ok(())
    }

    fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    fn degrade(self: &Arc<Self>, failure: &RedisFailure) {
        if self.degraded.swap(true, Ordering::Relaxed) {
            return;
        }
        warn!(error = %failure, "the shared ledger failed: this replica limits by its own memory until it is back");
        // Only a reference that does not keep the store: it ends with the ledger.
        let store = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(RETRY_INTERVAL).await;
                let Some(store) = store.upgrade() else { return };
                if store.probe().await.is_ok() {
                    store.degraded.store(false, Ordering::Relaxed);
                    info!("the shared ledger is back");
                    return;
                }
            }
        });
    }
}

impl Store for Failover {
    async fn read(&self, user: &User) -> Versioned {
        let inner = &self.0;
        if !inner.is_degraded() {
            match inner.redis.read(user, inner.bound).await {
                Ok(read) => return read,
                Err(failure) => inner.degrade(&failure),
            }
        }
        inner.fallbacks.fetch_add(1, Ordering::Relaxed);
        inner.memory.read(user).await
    }

    async fn compare_exchange(&self, user: &User, expected: &Versioned, next: Record) -> Result<(), Versioned> {
        let inner = &self.0;
        match (expected.now.clock, inner.is_degraded()) {
            (Clock::Shared, false) => match inner.redis.compare_exchange(user, expected, &next, inner.bound).await {
                Ok(Ok(())) => {
                    inner.memory.put(user, next.moved_by(inner.memory.now().duration_since(expected.now.at)));
                    Ok(())
                }
                Ok(Err(moved)) => Err(moved),
                Err(failure) => {
                    inner.degrade(&failure);
                    Err(self.read(user).await)
                }
            },
            (Clock::Local, true) => inner.memory.compare_exchange(user, expected, next).await,
            // What stood in one store says nothing of the other: what stands there is read, and decided on.
            (Clock::Shared, true) | (Clock::Local, false) => Err(self.read(user).await),
        }
    }

    fn pseudonym<'a>(&self, sid: &'a str) -> Cow<'a, str> {
        Cow::Owned(self.0.redis.hash(sid))
    }

    fn stats(&self) -> Stats {
        Stats {
            fallbacks: self.0.fallbacks.load(Ordering::Relaxed),
            degraded: self.0.is_degraded(),
            ..self.0.memory.stats()
        }
    }
}
