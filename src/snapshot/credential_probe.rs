//! Probes credentials: requests a token from the tenant with each of them.
//!
//! A probe shows whether the tenant accepts a credential, so that a new credential replaces the old one only when it
//! works, and so that the reported state of each credential is true.
//!
//! A credential is probed when it is new, again with increasing pauses while the tenant cannot be reached or rejects it,
//! and once a minute while it is in use. The latter sends a request only when the client holds no valid token: a valid
//! token is proof enough.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::publisher::Publisher;
use crate::auth0::TenantClient;
use crate::backoff::backoff;
use crate::policy::{CredentialKey, CredentialState, Failure, ProbeResult};

/// How long a probe may take. Probes delay no login, so a tenant may answer more slowly than in a check (3 s).
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time between two probes of a credential in use: the state of a credential is at most about a minute old.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// The first and the longest pause after a probe that did not reach the tenant.
const UNREACHABLE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The first and the longest pause after a rejection. The first is as long as the token cache remembers a rejection
/// without sending another request.
const REJECTED_BACKOFF: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How many probes run at the same time. A start with many tenants must not open a connection to all of them at once.
const MAX_CONCURRENT_PROBES: usize = 16;

/// The probes of one credential so far.
struct Backoff {
    last_probe: Option<Instant>,
    /// How many probes in a row left the credential unproven.
    failures: u32,
    is_running: bool,
    /// Stretches the pauses, so that replicas that started together do not probe together.
    jitter: f64,
}

/// Probes the credentials of the active policies for as long as the process runs.
///
/// # Errors
/// When a task was cancelled or panicked.
pub async fn probe_credentials(publisher: Arc<Publisher>) -> Result<Infallible, JoinError> {
    let mut changes = publisher.changes();
    let mut backoffs: HashMap<CredentialKey, Backoff> = HashMap::new();
    let mut running: JoinSet<(CredentialKey, ProbeResult, TenantClient)> = JoinSet::new();
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES));
    loop {
        changes.mark_unchanged();
        let probes = spawn_blocking({
            let publisher = Arc::clone(&publisher);
            move || publisher.probes()
        })
        .await?;
        backoffs.retain(|key, _| probes.contains_key(key));
        let now = Instant::now();
        let mut next = now + PROBE_INTERVAL;
        for (key, probe) in probes {
            let backoff = backoffs.entry(key.clone()).or_insert_with(Backoff::new);
            if backoff.is_running {
                continue;
            }
            let due = backoff.due(probe.target.state).unwrap_or(now);
            if due > now {
                next = next.min(due);
                continue;
            }
            backoff.is_running = true;
            let client = match probe.target.state {
                CredentialState::Lacking => publisher.fresh_client(&probe),
                _ => probe.client,
            };
            running.spawn(run_probe(key, client, Arc::clone(&slots)));
        }
        tokio::select! {
            // The publisher lives as long as this task.
            _ = changes.changed() => {}
            () = sleep_until(next) => {}
            Some(first) = running.join_next() => {
                let mut finished = vec![first?];
                // Probes that finish together are published together.
                while let Some(more) = running.try_join_next() {
                    finished.push(more?);
                }
                let now = Instant::now();
                for (key, _, _) in &finished {
                    if let Some(backoff) = backoffs.get_mut(key) {
                        backoff.record_probe(now);
                    }
                }
                let publisher = Arc::clone(&publisher);
                spawn_blocking(move || publisher.record_probes(finished)).await?;
            }
        }
    }
}

async fn run_probe(
    key: CredentialKey,
    client: TenantClient,
    slots: Arc<Semaphore>,
) -> (CredentialKey, ProbeResult, TenantClient) {
    let _slot = slots.acquire().await.expect("never closed");
    let result = match client.verify(Instant::now() + PROBE_TIMEOUT).await {
        Ok(scopes) => ProbeResult::Granted(scopes),
        Err(error) if error.failure == Failure::CredentialsRejected => ProbeResult::Rejected,
        Err(error) => {
            let remedy = error.remedy().map(str::to_owned);
            ProbeResult::Unreachable { failure: error.failure, detail: error.detail, remedy }
        }
    };
    (key, result, client)
}

impl Backoff {
    fn new() -> Self {
        Self { last_probe: None, failures: 0, is_running: false, jitter: rand::random_range(1.0..1.2) }
    }

    fn record_probe(&mut self, now: Instant) {
        self.last_probe = Some(now);
        self.failures += 1;
        self.is_running = false;
    }

    /// When the next probe is due; `None` before the first.
    fn due(&mut self, state: CredentialState) -> Option<Instant> {
        let pauses = match state {
            CredentialState::Unknown | CredentialState::Sufficient => {
                self.failures = 0;
                (PROBE_INTERVAL, PROBE_INTERVAL)
            }
            CredentialState::Unreachable => UNREACHABLE_BACKOFF,
            CredentialState::Lacking | CredentialState::Rejected => REJECTED_BACKOFF,
        };
        Some(self.last_probe? + backoff(pauses, self.failures.saturating_sub(1)).mul_f64(self.jitter))
    }
}
