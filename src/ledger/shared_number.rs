//! A number in the shared ledger, by which monitoring sees whether replicas share a ledger, and whether it lost something.
//!
//! Replicas whose ledgers are different ones all work, and none of them can notice the other: a Secret has another URL or key and
//! one Pod restarted, or a partition has left two primaries. Replicas with one ledger show one random number. With two ledgers
//! they show two, also where one began as a copy of the other, because each ledger replaces its number every few minutes.
//!
//! With each read a replica writes how often it has read. A replica that finds less than it wrote, or nothing, knows that the
//! ledger lost what was written since: it restarted without its data, was emptied, or a server that had not received the last
//! writes took over. A failover that loses less than the time between two reads is found only if a read is among what was lost. Of
//! a cluster, the server that holds the number is watched.

use std::convert::Infallible;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use redis::Script;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::MetricRegistry;
use crate::redis::{Redis, script};

/// The name of the number. No user is named like it.
const NAME: &str = "/ledger-number";
/// How long the ledger keeps a number.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How long the ledger remembers a replica that does not read any more.
const REPLICAS_KEPT_FOR: Duration = Duration::from_secs(6 * 3_600);
/// How often a replica reads the number. Replicas differ for at most this time after a replacement, far less than a number is
/// kept.
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// The time limit of a read. No check waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest number: a Prometheus sample, which is a float, holds it exactly.
const MAX: i64 = (1 << 48) - 1;

/// Returns the number and how often this replica had read it, as far as the ledger knows, and writes how often it has. Makes a
/// number where there is none, its time has ended, or somebody else wrote something; then it forgets replicas that have ended. The
/// server's clock may have been set back: no number is kept for longer than `ARGV[4]`.
const READ_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local own = 'r:' .. ARGV[1]
local stored = typed('HMGET', KEYS[1], 'number', 'ends_at', own)
if stored == nil then
  redis.call('DEL', KEYS[1])
  stored = {}
end
local number, ends_at = stored[1] or '', tonumber(stored[2] or '')
if not string.match(number, '^[1-9]%d*$') or #number > 15
    or not ends_at or ends_at <= now or ends_at > now + ARGV[4] then
  number = ARGV[3]
  redis.call('HSET', KEYS[1], 'number', number, 'ends_at', string.format('%d', now + ARGV[4]))
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
    if string.sub(all[i], 1, 2) == 'r:' and at + ARGV[5] < now then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
local had_read = tonumber(string.match(stored[3] or '', '^(%d+) ') or '0')
redis.call('HSET', KEYS[1], own, string.format('%d %d', math.max(had_read, ARGV[2]), now))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {tonumber(number), had_read}
";

/// What is shown of the number.
pub struct NumberMetrics {
    number: IntGauge,
    losses: IntCounter,
}

/// Reads the number of the ledger.
pub struct SharedNumber {
    redis: Redis,
    script: Script,
    metrics: NumberMetrics,
    /// Names this process in the ledger.
    replica: String,
    /// How often it has begun to read.
    reads: i64,
    /// The last read that the ledger answered, which it therefore knows.
    known: i64,
}

impl NumberMetrics {
    /// Registers the families. Without a shared ledger they stay 0.
    pub fn new(registry: &MetricRegistry) -> Self {
        Self {
            number: registry.gauge(
                "ledger_number",
                "A random number that the shared ledger keeps and replaces every five minutes. Replicas that share a ledger show the same number; 0 without a shared ledger, and until it has answered.",
            ),
            losses: registry.counter(
                "ledger_losses_total",
                "How often this process found that the shared ledger had lost what was written to it.",
            ),
        }
    }
}

impl SharedNumber {
    /// Reads the number from `redis`.
    pub fn new(redis: Redis, metrics: NumberMetrics) -> Self {
        let replica = uuid::Uuid::new_v4().simple().to_string();
        Self { redis, script: script(READ_SCRIPT), metrics, replica, reads: 0, known: 0 }
    }

    /// Shows the number from now on.
    pub async fn follow(mut self) -> Infallible {
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.show().await;
        }
    }

    /// Reads the number once and shows it. While the ledger does not answer, the last one stays. Then the connection is examined:
    /// without checks nobody else would find out that the ledger is away, and that it is back.
    pub async fn show(&mut self) {
        self.reads += 1;
        let mut invocation = self.script.key(self.redis.key("", NAME));
        invocation.arg(&self.replica).arg(self.reads).arg(rand::random_range(1..=MAX));
        invocation.arg(KEPT_FOR.as_millis() as u64).arg(REPLICAS_KEPT_FOR.as_millis() as u64);
        let read: Option<(i64, i64)> = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await;
        let Some((number, had_read)) = read else { return self.redis.examine() };
        if had_read < self.known {
            tracing::warn!(
                "the shared ledger lost what was written to it: a limit may be exceeded by logins that were lost"
            );
            self.metrics.losses.inc();
        }
        self.metrics.number.set(number);
        self.known = self.reads;
    }
}
