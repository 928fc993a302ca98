//! The registers in Redis or Valkey: one hash for each user, exchanged by one small script, with the server's clock. Beside
//! them the buckets of tenants whose requests have a ceiling, emptied by another.
//!
//! Users and sessions are written as keyed hashes only. Each user's key is its own hash tag, so a cluster may put it
//! anywhere. Everything has a time to live.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Client, FromRedisValue, IntoConnectionInfo, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::User;
use super::record::Record;
use super::store::{Clock, StoreTime, Versioned};

/// Reads, and exchanges when the expected revision stands there. A read expects a revision that nobody has.
const EXCHANGE_SCRIPT: &str = r"
local time = redis.call('TIME')
local stands = redis.call('HMGET', KEYS[1], 'revision', 'record')
local exchanged = 0
if ARGV[1] == (stands[1] or '0') then
  exchanged = 1
  if ARGV[4] == '0' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'record', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
end
return {exchanged, tonumber(time[1]), tonumber(time[2]), stands[1] or '0', stands[2] or ''}
";

/// Takes out of a bucket that fills itself: what is written is when it will be full, in microseconds.
const TAKE_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, want, reserve = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local interval = 1000000 / rate
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local there = rate - reserve - (full_at - now) / interval
local taken = math.max(0, math.min(want, math.floor(there + 0.000001)))
if taken > 0 then
  full_at = full_at + taken * interval
  redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1000)
end
return {taken, math.max(0, math.ceil((taken + 1 - there) * interval))}
";

/// How long connecting may take; nobody waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a server or a cluster.
pub struct Redis {
    connection: Connection,
    script: Script,
    bucket: Script,
    key: hmac::Key,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// What was taken out of a tenant's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// So many.
    pub count: u32,
    /// When there is one more.
    pub more_in: Duration,
}

/// Why the shared store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisFailure {
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// It could not be reached, or refused.
    #[error("{0}")]
    Redis(#[from] RedisError),
    /// Its clock shows what is no time.
    #[error("not a time: {0}")]
    Time(String),
    /// What is to be remembered cannot be written down.
    #[error("a record cannot be written: {0}")]
    Unwritable(serde_json::Error),
}

impl Redis {
    /// Prepares a connection to `redis://`, `rediss://`, `valkey://` or `unix:` URLs, with `user:password@` for an ACL user;
    /// several URLs with commas between them are the first nodes of a cluster. `key` keys the hashes that stand for users
    /// and sessions: the same on all replicas. Connecting is done in the background and whenever it is needed again.
    /// Has to be called within a runtime.
    ///
    /// # Errors
    /// A URL that cannot be read. The message does not repeat it.
    pub fn new(url: &SecretString, key: &[u8]) -> Result<Self, RedisError> {
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
        Ok(Self {
            connection,
            script: Script::new(EXCHANGE_SCRIPT),
            bucket: Script::new(TAKE_SCRIPT),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        })
    }

    /// What stands for a text: 128 bits of its HMAC, in hex.
    pub(super) fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.key, text.as_bytes());
        tag.as_ref()[..16].iter().fold(String::with_capacity(32), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// Reads a user's record.
    pub(super) async fn read(&self, user: &User, bound: Duration) -> Result<Versioned, RedisFailure> {
        let (_, read) = self.invoke(user, "", "", "", 0, bound).await?;
        Ok(read)
    }

    /// Exchanges a user's record, or says what stands there instead.
    pub(super) async fn compare_exchange(
        &self,
        user: &User,
        expected: &Versioned,
        next: &Record,
        bound: Duration,
    ) -> Result<Result<(), Versioned>, RedisFailure> {
        let record = serde_json::to_string(next).map_err(RedisFailure::Unwritable)?;
        let lasts = u64::try_from(next.lasts(expected.now.at).as_millis()).unwrap_or(u64::MAX);
        let (expected, revision) = (expected.record.revision.to_string(), next.revision.to_string());
        let (exchanged, read) = self.invoke(user, &expected, &revision, &record, lasts, bound).await?;
        Ok(if exchanged { Ok(()) } else { Err(read) })
    }

    /// Takes up to `want` out of a tenant's bucket.
    pub(super) async fn take(
        &self,
        tenant: &str,
        requests_per_second: u32,
        want: u32,
        reserve: u32,
        bound: Duration,
    ) -> Result<Granted, RedisFailure> {
        let mut invocation = self.bucket.key(format!("session-checker:budget:{{{}}}", self.hash(tenant)));
        invocation.arg(requests_per_second).arg(want).arg(reserve);
        let (count, micros): (u32, u64) = self.run(&invocation, bound).await?;
        Ok(Granted { count, more_in: Duration::from_micros(micros) })
    }

    async fn invoke(
        &self,
        user: &User,
        expected: &str,
        revision: &str,
        record: &str,
        lasts: u64,
        bound: Duration,
    ) -> Result<(bool, Versioned), RedisFailure> {
        let mut invocation = self.script.key(format!("session-checker:{{{}}}", self.hash(&user.0)));
        invocation.arg(expected).arg(revision).arg(record).arg(lasts);
        let (exchanged, seconds, micros, revision, record): (bool, i64, i32, u64, String) =
            self.run(&invocation, bound).await?;
        let at = Timestamp::new(seconds, micros * 1_000).map_err(|error| RedisFailure::Time(error.to_string()))?;
        let record = match record.as_str() {
            "" => Record::default(),
            text => serde_json::from_str(text).unwrap_or_else(|error| {
                // One user's trouble, and over with the next login: the others keep what they share.
                tracing::warn!(%error, "a record in the shared ledger cannot be read and is made anew");
                Record { revision, ..Record::default() }
            }),
        };
        Ok((exchanged, Versioned { record: Arc::new(record), now: StoreTime { at, clock: Clock::Shared } }))
    }

    async fn run<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
        bound: Duration,
    ) -> Result<T, RedisFailure> {
        let answer = async {
            match self.connection.clone() {
                Connection::Single(mut connection) => invocation.invoke_async(&mut connection).await,
                Connection::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
            }
        };
        Ok(timeout(bound, answer).await.map_err(|_| RedisFailure::Timeout)??)
    }
}
