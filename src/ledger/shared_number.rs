//! A number in the shared ledger, by which monitoring sees whether replicas share a ledger, and whether it lost something.
//!
//! Replicas whose ledgers are different ones all work, and none of them can notice the other: a Secret has another URL or key and
//! one Pod restarted, or a partition has left two primaries. Replicas with one ledger show one random number. With two ledgers
//! they show two, also where one began as a copy of the other, because each ledger replaces its number every few minutes.
//!
//! Each read counts up beside the number. A replica that finds a smaller count, or another number before its time, knows that the
//! ledger lost what was written since: it restarted without its data, was emptied, or a server that had not received the last
//! writes took over. The records of logins were lost with it.

use std::convert::Infallible;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use redis::Script;
use tokio::time::{Instant, MissedTickBehavior, interval};

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
/// By how much the clocks of two servers that succeed each other, and ours, may differ within the time of a number.
const CLOCK_ERROR: Duration = Duration::from_secs(30);
/// The largest number: a Prometheus sample, which is a float, holds it exactly.
const MAX: i64 = (1 << 48) - 1;

/// Reads the number, how often it was read, and for how many milliseconds it is kept. Makes one where there is none, its time has
/// ended, or somebody else wrote something. A server's clock may have been set back: no number is kept for longer than `ARGV[2]`.
const READ_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = redis.pcall('GET', KEYS[1])
local number, reads, ends_at = string.match(type(text) == 'string' and text or '', '^([1-9]%d*) (%d+) (%d+)$')
if not number or #number > 15 or #reads > 15 or #ends_at > 15
    or tonumber(ends_at) <= now or tonumber(ends_at) > now + ARGV[2] then
  number, reads, ends_at = ARGV[1], 0, now + ARGV[2]
end
reads = reads + 1
local left = ends_at - now
redis.call('SET', KEYS[1], string.format('%s %d %d', number, reads, ends_at), 'PX', string.format('%d', left))
return {tonumber(number), reads, left}
";

/// What is shown of the number.
#[derive(Clone)]
pub struct NumberMetrics {
    number: IntGauge,
    losses: IntCounter,
}

/// Reads the number of the ledger.
pub struct SharedNumber {
    redis: Redis,
    script: Script,
    metrics: NumberMetrics,
    last: Option<Reading>,
}

/// The number as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    number: i64,
    /// How often replicas had read it, with this read.
    reads: i64,
    /// Until when the ledger keeps it.
    until: Instant,
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
                "How often the shared ledger was found to have lost what was written to it.",
            ),
        }
    }
}

impl SharedNumber {
    /// Reads the number from `redis`.
    pub fn new(redis: Redis, metrics: NumberMetrics) -> Self {
        Self { redis, script: Script::new(READ_SCRIPT), metrics, last: None }
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
        let begun = Instant::now();
        let mut invocation = self.script.key(format!("session-checker:{{{}}}", self.redis.hash(NAME)));
        invocation.arg(rand::random_range(1..=MAX)).arg(KEPT_FOR.as_millis() as u64);
        let read: Option<(i64, i64, i64)> = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await;
        let Some((number, reads, left)) = read else {
            return self.redis.examine();
        };
        let until = begun + Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(KEPT_FOR);
        let next = Reading { number, reads, until };
        if self.last.is_some_and(|last| last.is_lost(next, begun)) {
            tracing::warn!(
                "the shared ledger lost what was written to it: for one admissionWindow, a limit may be exceeded by logins that were lost"
            );
            self.metrics.losses.inc();
        }
        self.metrics.number.set(number);
        self.last = Some(next);
    }
}

impl Reading {
    /// Whether the ledger of this reading cannot have become the one of `next`, which began to be read at `begun`.
    fn is_lost(self, next: Self, begun: Instant) -> bool {
        if next.number == self.number { next.reads <= self.reads } else { begun + CLOCK_ERROR < self.until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ledger_lost_something_when_it_counts_back_or_replaces_its_number_early() {
        let now = Instant::now();
        let reading = |number, reads, seconds| Reading { number, reads, until: now + Duration::from_secs(seconds) };
        let last = reading(7, 10, 200);
        for (next, after, expected) in [
            (reading(7, 11, 200), 15, false),
            (reading(7, 12, 200), 15, false),
            (reading(7, 10, 200), 15, true),
            (reading(7, 3, 200), 15, true),
            (reading(8, 1, 315), 15, true),
            (reading(8, 1, 469), 169, true),
            (reading(8, 1, 471), 171, false),
            (reading(8, 90, 500), 400, false),
        ] {
            assert_eq!(last.is_lost(next, now + Duration::from_secs(after)), expected, "{next:?}");
        }
    }
}
