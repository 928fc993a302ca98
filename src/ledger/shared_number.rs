//! A random number in the shared ledger, by which monitoring sees whether replicas share one.
//!
//! Replicas whose ledgers are different ones all work, and none of them can notice the other: a Secret has another URL or key and
//! one Pod restarted, or a partition has left two primaries. Replicas with one ledger show one number. With two ledgers they show
//! two, also where one began as a copy of the other, because each ledger replaces its number every few minutes.

use std::convert::Infallible;
use std::time::Duration;

use prometheus::IntGauge;
use redis::Script;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics::MetricRegistry;
use crate::redis::Redis;

/// The name of the number. No user is named like it.
const NAME: &str = "/ledger-number";
/// How long the ledger keeps a number.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How often a replica reads it. Replicas differ for at most this time after a replacement, far less than a number is kept.
const READ_INTERVAL: Duration = Duration::from_secs(15);
/// The time limit of a read. No check waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest number: a Prometheus sample, which is a float, holds it exactly.
const MAX: i64 = (1 << 48) - 1;

/// Reads the number, and makes one where there is none, or where somebody else wrote something.
const READ_SCRIPT: &str = r"
local number = redis.pcall('GET', KEYS[1])
if type(number) ~= 'string' or not string.match(number, '^[1-9]%d*$') or #number > 15 then
  number = ARGV[1]
  redis.call('SET', KEYS[1], number, 'PX', ARGV[2])
end
return tonumber(number)
";

/// Registers the gauge, which is 0 until a number is read.
pub fn register(registry: &MetricRegistry) -> IntGauge {
    registry.gauge(
        "ledger_number",
        "A random number that the shared ledger keeps and replaces every five minutes. Replicas that share a ledger show the same number; 0 without a shared ledger, and until it has answered.",
    )
}

/// Shows the number of the ledger.
pub struct SharedNumber {
    redis: Redis,
    script: Script,
    gauge: IntGauge,
}

impl SharedNumber {
    /// Reads the number from `redis`.
    pub fn new(redis: Redis, gauge: IntGauge) -> Self {
        Self { redis, script: Script::new(READ_SCRIPT), gauge }
    }

    /// Shows the number from now on. While the ledger does not answer, the last one stays.
    pub async fn follow(self) -> Infallible {
        let mut ticks = interval(READ_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(number) = self.read().await {
                self.gauge.set(number);
            }
        }
    }

    /// The number; `None` when the ledger does not answer.
    pub async fn read(&self) -> Option<i64> {
        let mut invocation = self.script.key(format!("session-checker:{{{}}}", self.redis.hash(NAME)));
        invocation.arg(rand::random_range(1..=MAX)).arg(KEPT_FOR.as_millis() as u64);
        self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await
    }
}
