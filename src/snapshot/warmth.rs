//! Keeps the tenants of the active policies warm: a login finds a token and an open connection, also the first one after the
//! start and the one after a quiet hour.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::publisher::Publisher;
use crate::auth0::TenantClient;
use crate::readiness::{Latch, Readiness};

/// How long the start waits for the first token and connection of each tenant. A tenant that is slower must not keep the
/// replica from answering for the others.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// How many tenants are contacted at the same time. A start with many must not open a connection to all of them at once.
const MAX_CONCURRENT_TENANTS: usize = 16;

/// Warms up the tenants of the first snapshot that is served, releases `latch`, and keeps the tenants of every later snapshot
/// warm, for as long as the process runs.
pub async fn keep_tenants_warm(publisher: Arc<Publisher>, readiness: Readiness, latch: Latch) -> Infallible {
    let mut changes = publisher.changes();
    // Before that, policies may still be on their way.
    readiness.serving().await;
    changes.mark_unchanged();
    let deadline = Instant::now() + WARM_UP_TIMEOUT;
    let _ = timeout_at(deadline, warm_up(&publisher, deadline)).await;
    latch.release();
    loop {
        warm_up(&publisher, Instant::now() + WARM_UP_TIMEOUT).await;
        // The publisher lives as long as this task.
        let _ = changes.changed().await;
    }
}

/// Warms up the tenants that are not kept warm yet.
async fn warm_up(publisher: &Publisher, deadline: Instant) {
    let mut seen = HashSet::new();
    let clients: Vec<TenantClient> =
        publisher.current().load().clients().filter(|client| seen.insert(client.id())).cloned().collect();
    stream::iter(clients)
        .for_each_concurrent(MAX_CONCURRENT_TENANTS, |client| async move {
            if !client.is_kept_warm() {
                client.warm_up(deadline).await;
                client.keep_warm();
            }
        })
        .await;
}
