//! Redis or Valkey, as replicas share it: one connection, keyed hashes for names, and registers. A register is one hash with a
//! revision and a text, exchanged by a small script with the server's clock.
//!
//! A check never fails because Redis does. The first operation that fails or takes too long marks Redis as degraded, at once and
//! for all who share it; each of them then uses what it has in this process. From then on only one task waits for Redis. It
//! connects again, which resolves the name again, and probes until Redis works. So an answer of a wrong node (`READONLY`, `MOVED`,
//! `LOADING` and the like) ends the use of its connection, as every other failure does.
//!
//! The names of registers and buckets are written as keyed hashes only. Each is its own hash tag, so a cluster may put it
//! anywhere. Every key has a time to live.

mod address;

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use address::CONNECT_TIMEOUT;
pub use address::{AddressError, RedisAddress};

/// The beginning of each script. `typed` is `redis.call` for the key of the script, but returns nil where the key has another type
/// than the command needs. Somebody else wrote such a key, and its error would end the use of Redis for all users.
const SCRIPT_HEAD: &str = r"
local function typed(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(...)
end
";

/// Reads a register, and exchanges it when its revision is the expected one. A read expects a revision that no register
/// has. A register whose revision no replica wrote, because it is no 64-bit number, counts as absent. So does a key of
/// another type.
const EXCHANGE_SCRIPT: &str = r"
local time = redis.call('TIME')
local stored = typed('HMGET', KEYS[1], 'revision', 'record')
local is_other_type = stored == nil
stored = stored or {}
local revision, record = stored[1] or '0', stored[2] or ''
if not string.match(revision, '^[1-9]%d*$') or #revision > 20
    or (#revision == 20 and revision > '18446744073709551615') then
  revision, record = '0', ''
end
local exchanged = 0
if ARGV[1] == revision then
  exchanged = 1
  if is_other_type or ARGV[4] == '0' then
    redis.call('DEL', KEYS[1])
  end
  if ARGV[4] ~= '0' then
    redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
return {exchanged, tonumber(time[1]), tonumber(time[2]), revision, record}
";

/// How long to wait before the next probe: often enough that an outage ends within a few seconds for the checks, seldom enough to
/// be no load.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How many probes in a row have to succeed. A server that answers half of all operations in time passes three probes of two
/// operations or more once in 64 tries; one probe would let it alternate between working and degraded every few seconds.
const RECOVERY_PROBES: u32 = 3;

/// The key of the hashes when none is configured. It is the same for every replica, whatever its URL: a key made from the URL
/// would split the ledger when a password rotates or a host is spelled differently.
const DEFAULT_HASH_KEY: &[u8] = b"session-checker shared ledger";

/// The register that probes write to and delete again. No user is named like it.
const PROBE_REGISTER: &str = "/";

/// Redis, and whether it works. Clones share the connection and the state.
#[derive(Clone)]
pub struct Redis(Arc<Server>);

struct Server {
    address: RedisAddress,
    /// `None` while Redis is degraded.
    connection: ArcSwapOption<RedisConnection>,
    exchange: Script,
    key: hmac::Key,
    operation_timeout: Duration,
    /// Whether a probe apart from all checks is under way.
    is_examined: AtomicBool,
}

#[derive(Clone)]
enum RedisConnection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A register's content when it was read.
#[derive(Debug)]
pub struct Register {
    /// The server's time.
    pub at: Timestamp,
    /// The revision; 0 when the register is absent.
    pub revision: u64,
    /// The text; empty when the register is absent. Nothing keeps others from writing bytes that are no text.
    pub text: Vec<u8>,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
enum RedisFailure {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("{0}")]
    Address(#[from] AddressError),
    #[error("the server's clock shows no time: {0}")]
    Clock(String),
}

/// A script that can call `typed`.
pub fn script(code: &str) -> Script {
    Script::new(&format!("{SCRIPT_HEAD}{code}"))
}

impl Redis {
    /// Connects to the address. `key` keys the hashes of names: the same on all replicas. Each operation takes at most
    /// `operation_timeout`. Waits a moment for the connection; without one it starts degraded.
    ///
    /// # Errors
    /// A URL or a file that cannot be read, or options that exclude each other.
    pub async fn connect(
        address: RedisAddress,
        key: Option<&[u8]>,
        operation_timeout: Duration,
    ) -> Result<Self, AddressError> {
        Box::pin(address.check()).await?;
        let server = Arc::new(Server {
            address,
            connection: ArcSwapOption::empty(),
            exchange: script(EXCHANGE_SCRIPT),
            key: hmac::Key::new(hmac::HMAC_SHA256, key.unwrap_or(DEFAULT_HASH_KEY)),
            operation_timeout,
            is_examined: AtomicBool::new(false),
        });
        match server.probe(None).await {
            Ok(connection) => server.connection.store(Some(Arc::new(connection))),
            Err(failure) => server.recover(&failure),
        }
        Ok(Self(server))
    }

    /// Reads and writes as checks do, and returns how long that took.
    ///
    /// # Errors
    /// What failed, or took longer than an operation may.
    pub async fn round_trip(&self) -> Result<Duration, String> {
        let connection = self.0.connection.load_full().map(|connection| RedisConnection::clone(&connection));
        let started = Instant::now();
        let probed = self.0.probe(connection).await;
        probed.map(|_| started.elapsed()).map_err(|error| error.to_string())
    }

    /// Whether Redis failed and was not found to work again yet.
    pub fn is_degraded(&self) -> bool {
        self.0.connection.load().is_none()
    }

    /// The hash that stands for a name: 128 bits of its HMAC, in hex.
    pub fn hash(&self, name: &str) -> String {
        self.0.hash(name)
    }

    /// The key of a name: all keys of a name are in one slot of a cluster. `kind` tells apart what is kept under it, such as `budget:`.
    pub fn key(&self, kind: &str, name: &str) -> String {
        self.0.key(kind, name)
    }

    /// Reads a register. `None` when Redis fails, which is then degraded, or is degraded already.
    pub async fn read(&self, name: &str) -> Option<Register> {
        self.checked(async |connection| Box::pin(self.0.read(connection, name)).await).await
    }

    /// The same by a deadline. A read that the deadline ends says nothing of Redis, which may be slow for this check alone.
    pub async fn read_by(&self, name: &str, deadline: Instant) -> Option<Register> {
        let connection = self.0.connection.load_full()?;
        match timeout_at(deadline, Box::pin(self.0.read(&connection, name))).await {
            Ok(Ok(register)) => return Some(register),
            Ok(Err(failure)) => self.0.degrade(&connection, &failure),
            Err(_) => self.0.examine(connection),
        }
        None
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
        let exchange = async |connection: &RedisConnection| {
            Box::pin(self.0.compare_exchange(connection, name, expected, revision, text, ttl)).await
        };
        self.checked(exchange).await
    }

    /// Runs a script. `None` as for [`read`](Self::read).
    pub async fn run<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Option<T> {
        self.checked(async |connection| self.0.run(connection, invocation).await).await
    }

    /// Runs a script for a part of the service that no check waits for: a failure changes nothing for the ledger.
    pub async fn run_apart<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
        operation_timeout: Duration,
    ) -> Option<T> {
        let connection = self.0.connection.load_full()?;
        self.0.run_within(&connection, invocation, operation_timeout).await.ok()
    }

    /// Reads and writes apart from all checks: where nothing else uses the connection, nobody finds out that Redis is away, or
    /// that the server has become a replica. A failure degrades Redis, as that of a check does.
    pub fn examine(&self) {
        if let Some(connection) = self.0.connection.load_full() {
            self.0.examine(connection);
        }
    }

    async fn checked<T>(&self, operation: impl AsyncFnOnce(&RedisConnection) -> Result<T, RedisFailure>) -> Option<T> {
        let connection = self.0.connection.load_full()?;
        operation(&connection).await.map_err(|failure| self.0.degrade(&connection, &failure)).ok()
    }
}

/// The operations. Those of a check are boxed: a replica without Redis would keep room for them in each check.
impl Server {
    fn hash(&self, name: &str) -> String {
        let tag = hmac::sign(&self.key, name.as_bytes());
        tag.as_ref()[..16].iter().fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}"))
    }

    fn key(&self, kind: &str, name: &str) -> String {
        format!("session-checker:{kind}{{{}}}", self.hash(name))
    }

    async fn read(&self, connection: &RedisConnection, name: &str) -> Result<Register, RedisFailure> {
        let (_, register) = self.exchange(connection, name, ["", "", ""], Duration::ZERO).await?;
        Ok(register)
    }

    async fn compare_exchange(
        &self,
        connection: &RedisConnection,
        name: &str,
        expected: u64,
        revision: u64,
        text: &str,
        ttl: Duration,
    ) -> Result<Result<(), Register>, RedisFailure> {
        let (expected, revision) = (expected.to_string(), revision.to_string());
        let (exchanged, register) = self.exchange(connection, name, [&expected, &revision, text], ttl).await?;
        Ok(if exchanged { Ok(()) } else { Err(register) })
    }

    /// Runs the script with the expected revision, the next one and its text.
    async fn exchange(
        &self,
        connection: &RedisConnection,
        name: &str,
        arguments: [&str; 3],
        ttl: Duration,
    ) -> Result<(bool, Register), RedisFailure> {
        let mut invocation = self.exchange.key(self.key("", name));
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        invocation.arg(&arguments[..]).arg(ttl_ms);
        let (exchanged, seconds, micros, revision, text): (bool, i64, i32, u64, Vec<u8>) =
            self.run(connection, &invocation).await?;
        let at = Timestamp::new(seconds, micros * 1_000).map_err(|error| RedisFailure::Clock(error.to_string()))?;
        Ok((exchanged, Register { at, revision, text }))
    }

    async fn run<T: FromRedisValue>(
        &self,
        connection: &RedisConnection,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, RedisFailure> {
        self.run_within(connection, invocation, self.operation_timeout).await
    }

    async fn run_within<T: FromRedisValue>(
        &self,
        connection: &RedisConnection,
        invocation: &ScriptInvocation<'_>,
        operation_timeout: Duration,
    ) -> Result<T, RedisFailure> {
        let answer = async {
            match connection.clone() {
                RedisConnection::Single(mut connection) => invocation.invoke_async(&mut connection).await,
                RedisConnection::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
            }
        };
        Ok(timeout(operation_timeout, answer).await.map_err(|_| RedisFailure::Timeout)??)
    }

    /// Connects, and resolves the name again.
    async fn connect(&self) -> Result<RedisConnection, RedisFailure> {
        // Boxed: the future of three ways to connect is large, and it is part of the future that starts the service.
        let connecting = Box::pin(self.address.connect(self.operation_timeout));
        Ok(timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| RedisFailure::Timeout)??)
    }

    /// Reads and writes as checks do and within the same time: a server that is full, far away, or a replica of another can be
    /// read and not used. Returns the connection, which is a new one when there was none.
    async fn probe(&self, connection: Option<RedisConnection>) -> Result<RedisConnection, RedisFailure> {
        let connection = match connection {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let before = self.read(&connection, PROBE_REGISTER).await?;
        let revision = rand::random_range(1..=u64::MAX);
        let write = self.compare_exchange(&connection, PROBE_REGISTER, before.revision, revision, "", PROBE_INTERVAL);
        // Another replica that probes at the same time may be faster, which proves as much. Nothing is left behind.
        if write.await?.is_ok() {
            let _ = self.compare_exchange(&connection, PROBE_REGISTER, revision, 0, "", Duration::ZERO).await?;
        }
        Ok(connection)
    }

    /// Probes with the time of an operation, apart from all checks and one at a time. Checks that are shorter than an operation may
    /// be would never find out that Redis hangs.
    fn examine(self: &Arc<Self>, connection: Arc<RedisConnection>) {
        if self.is_examined.swap(true, Ordering::Relaxed) {
            return;
        }
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let probed = server.probe(Some(RedisConnection::clone(&connection))).await;
            server.is_examined.store(false, Ordering::Relaxed);
            if let Err(failure) = probed {
                server.degrade(&connection, &failure);
            }
        });
    }

    /// Drops a connection on which an operation failed. One that was replaced in between says nothing of the new one.
    fn degrade(self: &Arc<Self>, failed: &Arc<RedisConnection>, failure: &dyn Display) {
        let before = self.connection.compare_and_swap(&Some(Arc::clone(failed)), None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, failed)) {
            self.recover(failure);
        }
    }

    /// Connects and probes in the background until Redis works.
    fn recover(self: &Arc<Self>, failure: &dyn Display) {
        warn!(
            error = %failure,
            "shared ledger degraded: Redis failed; limits and requestsPerSecond apply per replica until it works again"
        );
        // A weak reference does not keep the server: the task ends with its last user.
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            let (mut connection, mut successes) = (None, 0);
            while successes < RECOVERY_PROBES {
                sleep(PROBE_INTERVAL).await;
                let Some(server) = server.upgrade() else { return };
                // A failure drops the connection.
                connection = server.probe(connection.take()).await.ok();
                successes = if connection.is_some() { successes + 1 } else { 0 };
            }
            let Some(server) = server.upgrade() else { return };
            server.connection.store(connection.map(Arc::new));
            info!("shared ledger works again");
        });
    }
}
