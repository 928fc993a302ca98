//! Redis or Valkey, as replicas share it: one connection, keyed hashes for names, and registers. A register is one hash with a
//! revision and a text, exchanged by a small script with the server's clock.
//!
//! A check never fails because Redis does. The first operation that fails or takes too long marks Redis as degraded, at once and
//! for all who share it; each of them then uses what it has in this process. From then on only one task waits for Redis: it
//! probes until Redis works again.
//!
//! The names of registers and buckets are written as keyed hashes only. Each is its own hash tag, so a cluster may put it
//! anywhere. Every key has a time to live.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Client, FromRedisValue, IntoConnectionInfo, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// Reads a register, and exchanges it when its revision is the expected one. A read expects a revision that no register has.
const EXCHANGE_SCRIPT: &str = r"
local time = redis.call('TIME')
local stored = redis.call('HMGET', KEYS[1], 'revision', 'record')
local exchanged = 0
if ARGV[1] == (stored[1] or '0') then
  exchanged = 1
  if ARGV[4] == '0' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
return {exchanged, tonumber(time[1]), tonumber(time[2]), stored[1] or '0', stored[2] or ''}
";

/// How long connecting may take. No check waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait before the next probe, and how long each of its operations may take: often enough that an outage ends
/// within a second or two for the checks, seldom enough to be no load.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The register that probes write to and delete again. No user is named like it.
const PROBE_REGISTER: &str = "/";

/// Redis, and whether it works. Clones share the connection and the state.
#[derive(Clone)]
pub struct Redis(Arc<Server>);

struct Server {
    connection: Connection,
    exchange: Script,
    key: hmac::Key,
    operation_timeout: Duration,
    degraded: AtomicBool,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// A register's content when it was read.
#[derive(Debug)]
pub struct Register {
    /// The server's time.
    pub at: Timestamp,
    /// The revision; 0 when the register is absent.
    pub revision: u64,
    /// The text; empty when the register is absent.
    pub text: String,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
enum RedisFailure {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("the server's clock shows no time: {0}")]
    Clock(String),
}

impl Redis {
    /// Connects to `redis://`, `rediss://`, `valkey://` or `unix:` URLs, with `user:password@` for an ACL user; several URLs
    /// with commas between them are the first nodes of a cluster. `key` keys the hashes of names: the same on all replicas.
    /// Each operation takes at most `operation_timeout`. Waits a moment for the connection; without one it starts degraded.
    ///
    /// # Errors
    /// A URL that cannot be read. The message does not repeat it.
    pub async fn connect(url: &SecretString, key: &[u8], operation_timeout: Duration) -> Result<Self, RedisError> {
        let urls: Vec<&str> = url.expose_secret().split(',').map(str::trim).collect();
        let connection = match urls[..] {
            [url] => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(CONNECT_TIMEOUT))
                    .set_number_of_retries(0);
                let client = Client::open(url.into_connection_info()?)?;
                Connection::Single(ConnectionManager::new_lazy_with_config(client, config)?)
            }
            _ => {
                let config =
                    ClusterConfig::new().set_connection_timeout(CONNECT_TIMEOUT).set_response_timeout(CONNECT_TIMEOUT);
                let client = ClusterClient::new(urls)?;
                Connection::Cluster(client.get_pending_async_connection_with_config(config))
            }
        };
        let server = Arc::new(Server {
            connection,
            exchange: Script::new(EXCHANGE_SCRIPT),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            operation_timeout,
            degraded: AtomicBool::new(false),
        });
        if let Err(failure) = server.probe().await {
            server.degrade(&failure);
        }
        Ok(Self(server))
    }

    /// Whether Redis failed and was not found to work again yet.
    pub fn is_degraded(&self) -> bool {
        self.0.degraded.load(Ordering::Relaxed)
    }

    /// The hash that stands for a name: 128 bits of its HMAC, in hex.
    pub fn hash(&self, name: &str) -> String {
        self.0.hash(name)
    }

    /// Reads a register. `None` when Redis fails, which is then degraded, or is degraded already.
    pub async fn read(&self, name: &str) -> Option<Register> {
        let timeout = self.0.operation_timeout;
        self.checked(async || self.0.read(name, timeout).await).await
    }

    /// Replaces a register whose revision is still `expected`; a `ttl` of zero deletes it. `None` as for [`read`](Self::read).
    ///
    /// # Errors
    /// The register, when it has another revision.
    pub async fn compare_exchange(
        &self,
        name: &str,
        expected: u64,
        revision: u64,
        text: &str,
        ttl: Duration,
    ) -> Option<Result<(), Register>> {
        let timeout = self.0.operation_timeout;
        self.checked(async || self.0.compare_exchange(name, expected, revision, text, ttl, timeout).await).await
    }

    /// Runs a script. `None` as for [`read`](Self::read).
    pub async fn run<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Option<T> {
        let timeout = self.0.operation_timeout;
        self.checked(async || self.0.run(invocation, timeout).await).await
    }

    async fn checked<T>(&self, operation: impl AsyncFnOnce() -> Result<T, RedisFailure>) -> Option<T> {
        if self.is_degraded() {
            return None;
        }
        operation().await.map_err(|failure| self.0.degrade(&failure)).ok()
    }
}

impl Server {
    fn hash(&self, name: &str) -> String {
        let tag = hmac::sign(&self.key, name.as_bytes());
        tag.as_ref()[..16].iter().fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}"))
    }

    async fn read(&self, name: &str, limit: Duration) -> Result<Register, RedisFailure> {
        let (_, register) = self.exchange(name, "", "", "", Duration::ZERO, limit).await?;
        Ok(register)
    }

    async fn compare_exchange(
        &self,
        name: &str,
        expected: u64,
        revision: u64,
        text: &str,
        ttl: Duration,
        limit: Duration,
    ) -> Result<Result<(), Register>, RedisFailure> {
        let (expected, revision) = (expected.to_string(), revision.to_string());
        let (exchanged, register) = self.exchange(name, &expected, &revision, text, ttl, limit).await?;
        Ok(if exchanged { Ok(()) } else { Err(register) })
    }

    async fn exchange(
        &self,
        name: &str,
        expected: &str,
        revision: &str,
        text: &str,
        ttl: Duration,
        limit: Duration,
    ) -> Result<(bool, Register), RedisFailure> {
        let mut invocation = self.exchange.key(format!("session-checker:{{{}}}", self.hash(name)));
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        invocation.arg(expected).arg(revision).arg(text).arg(ttl_ms);
        let (exchanged, seconds, micros, revision, text): (bool, i64, i32, u64, String) =
            self.run(&invocation, limit).await?;
        let at = Timestamp::new(seconds, micros * 1_000).map_err(|error| RedisFailure::Clock(error.to_string()))?;
        Ok((exchanged, Register { at, revision, text }))
    }

    async fn run<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
        limit: Duration,
    ) -> Result<T, RedisFailure> {
        let answer = async {
            match self.connection.clone() {
                Connection::Single(mut connection) => invocation.invoke_async(&mut connection).await,
                Connection::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
            }
        };
        Ok(timeout(limit, answer).await.map_err(|_| RedisFailure::Timeout)??)
    }

    /// Reads and writes as checks do: a server that is full, or a replica of one, can be read and not written.
    async fn probe(&self) -> Result<(), RedisFailure> {
        let before = self.read(PROBE_REGISTER, PROBE_INTERVAL).await?;
        let revision = rand::random_range(1..=u64::MAX);
        let write =
            self.compare_exchange(PROBE_REGISTER, before.revision, revision, "", PROBE_INTERVAL, PROBE_INTERVAL);
        // Another replica that probes at the same time may be faster, which proves as much. Nothing is left behind.
        if write.await?.is_ok() {
            let _ = self.compare_exchange(PROBE_REGISTER, revision, 0, "", Duration::ZERO, PROBE_INTERVAL).await?;
        }
        Ok(())
    }

    fn degrade(self: &Arc<Self>, failure: &dyn Display) {
        if self.degraded.swap(true, Ordering::Relaxed) {
            return;
        }
        warn!(error = %failure, "Redis failed; this replica uses its own memory until Redis works again");
        // A weak reference does not keep the connection: the task ends with its last user.
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(PROBE_INTERVAL).await;
                let Some(server) = server.upgrade() else { return };
                if server.probe().await.is_ok() {
                    server.degraded.store(false, Ordering::Relaxed);
                    info!("Redis works again; replicas share the ledger");
                    return;
                }
            }
        });
    }
}
