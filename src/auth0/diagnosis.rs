//! How this service reaches a tenant, for `doctor`.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::client::TenantClient;
use super::pool::ConnectError;

/// An attempt to reach a tenant.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The host that requests go to.
    pub host: String,
    /// The proxy on the way, as HOST:PORT.
    pub proxy: Option<String>,
    /// How long the connection took, or what failed.
    pub connected: Result<Duration, (ReachStep, String)>,
}

/// The steps to a connection, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReachStep {
    /// The address of the host.
    Name,
    /// The proxy.
    Proxy,
    /// TCP.
    Connection,
    /// TLS, and HTTP on it.
    Tls,
}

impl TenantClient {
    /// Opens a connection by `deadline`, or uses one that is open.
    pub async fn reach(&self, deadline: Instant) -> Reach {
        let pool = self.endpoint().pool();
        let started = Instant::now();
        let connected = match timeout_at(deadline, pool.place()).await {
            Ok(Ok(_)) => Ok(started.elapsed()),
            Ok(Err(error)) => Err((step_of(&error), error.to_string())),
            Err(_) => Err((ReachStep::Connection, "there was no connection in time".to_owned())),
        };
        let host = self.endpoint().url("/").host_str().unwrap_or_default().to_owned();
        Reach { host, proxy: pool.proxy(), connected }
    }

    /// How many seconds the tenant's clock is ahead of ours, by its latest answer; 0 before the first.
    pub fn clock_difference(&self) -> i64 {
        self.endpoint().clock_difference()
    }

    /// How many requests the tenant takes now and at most, by its latest answer; `None` where it does not say.
    pub fn rate_limit_left(&self) -> Option<(u64, u64)> {
        self.endpoint().rate_limit_left()
    }
}

fn step_of(error: &ConnectError) -> ReachStep {
    match error {
        ConnectError::NotPublic(_) | ConnectError::Resolve(_) => ReachStep::Name,
        ConnectError::Proxy(_) => ReachStep::Proxy,
        ConnectError::Tcp(_) | ConnectError::TimedOut(_) => ReachStep::Connection,
        ConnectError::Tls(_) | ConnectError::Http(_) => ReachStep::Tls,
    }
}
