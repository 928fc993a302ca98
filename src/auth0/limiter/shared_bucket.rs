//! The bucket of `tenant.requestsPerSecond` that all replicas share, in Redis. One script takes requests out of it, with the
//! server's clock. After that was set back, or another server has taken over, the stored time may be far ahead.

use std::sync::Arc;
use std::time::Duration;

use redis::Script;

use crate::redis::{Redis, script};

/// Takes requests out of a bucket that fills by itself. The stored value is when it will be full, in microseconds: at
/// most a second from now. A value that no replica wrote, or of another type, counts as a bucket that is full.
const TAKE_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local rate, want, reserve = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local interval = 1000000 / rate
local value = typed('GET', KEYS[1])
local stored = value and string.match(value, '^%d+%.?%d*$') and tonumber(value) or now
local full_at = math.min(math.max(stored, now), now + 1000000)
local available = rate - reserve - (full_at - now) / interval
local taken = math.max(0, math.min(want, math.floor(available + 0.000001)))
if taken > 0 or stored > full_at then
  full_at = full_at + taken * interval
  redis.call('SET', KEYS[1], string.format('%.3f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1000)
end
return {taken, math.max(0, math.ceil((taken + 1 - available) * interval))}
";

/// The buckets of tenants in Redis. While Redis is degraded there is none, and each replica uses its own.
#[derive(Clone)]
pub(super) struct SharedBucket {
    redis: Redis,
    script: Arc<Script>,
}

/// What was taken out of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// The number of requests.
    pub count: u32,
    /// When the bucket holds one more.
    pub more_in: Duration,
}

impl SharedBucket {
    pub fn new(redis: Redis) -> Self {
        Self { redis, script: Arc::new(script(TAKE_SCRIPT)) }
    }

    pub fn is_degraded(&self) -> bool {
        self.redis.is_degraded()
    }

    /// Takes up to `want` requests out of a tenant's bucket and leaves `reserve` in it. It holds what flows into it in a second.
    /// `None` when Redis does not answer, which is degraded from then on.
    pub async fn take(&self, tenant: &str, requests_per_second: u32, want: u32, reserve: u32) -> Option<Granted> {
        let mut invocation = self.script.key(self.redis.key("budget:", tenant));
        invocation.arg(requests_per_second).arg(want).arg(reserve);
        let (count, micros): (u32, u64) = self.redis.run(&invocation).await?;
        Some(Granted { count, more_in: Duration::from_micros(micros) })
    }
}
