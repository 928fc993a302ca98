//! Proves credentials: asks tenants for tokens with them, so that a new one takes the place of an old one only when it works,
//! and so that what is said of each is true.
//!
//! A credential is proven when it is new, again when the tenant could not be asked or said no, with longer and longer
//! pauses, and from time to time while it is in use. The latter costs a request only where no token is held: a token that
//! is held is the proof.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::Publisher;
use crate::auth0::TenantClient;
use crate::policy::{CredentialKey, CredentialState, Failure, ProbeResult};

/// How long a tenant has for its answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a credential in use is proven again.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// The pauses after a tenant that could not be asked.
const UNREACHABLE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The pauses after a no. The first is as long as a credential that was refused is not shown again.
const REJECTED_BACKOFF: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How many are proven at the same time.
const MAX_CONCURRENT_PROBES: usize = 16;

/// What was done about a credential so far.
struct Backoff {
    asked: Option<Instant>,
    /// How often in a row it was asked for without the hoped for answer.
    failures: u32,
    under_way: bool,
    /// Stretches pauses a little: replicas that began together do not go on together.
    jitter: f64,
}

/// What became of one.
struct ProbeOutcome {
    key: CredentialKey,
    client: TenantClient,
    result: ProbeResult,
}

/// Proves the credentials of what is in force, for as long as the process lives.
///
/// # Errors
/// When a task was torn down.
pub async fn probe_credentials(publisher: Arc<Publisher>) -> Result<Infallible, JoinError> {
    let mut changes = publisher.changes();
    let mut backoffs: HashMap<CredentialKey, Backoff> = HashMap::new();
    let mut probe_results: JoinSet<ProbeOutcome> = JoinSet::new();
    let places = Arc::new(Semaphore::new(MAX_CONCURRENT_PROBES));
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
            if backoff.under_way {
                continue;
            }
            let due = backoff.due(probe.target.state).unwrap_or(now);
            if due > now {
                next = next.min(due);
                continue;
            }
            backoff.under_way = true;
            let client = match probe.target.state {
                CredentialState::Lacking => publisher.fresh_client(&probe),
                _ => probe.client,
            };
            probe_results.spawn(run_probe(key, client, Arc::clone(&places)));
        }
        tokio::select! {
            // The publisher lives as long as this does.
            _ = changes.changed() => {}
            () = sleep_until(next) => {}
            Some(first) = probe_results.join_next() => {
                let mut landed = vec![first?];
                // What lands together is put in force together.
                while let Some(more) = probe_results.try_join_next() {
                    landed.push(more?);
                }
                let now = Instant::now();
                for outcome in &landed {
                    if let Some(backoff) = backoffs.get_mut(&outcome.key) {
                        backoff.landed(now);
                    }
                }
                let publisher = Arc::clone(&publisher);
                let probe_results = landed.into_iter().map(|ProbeOutcome { key, client, result }| (key, result, client)).collect();
                spawn_blocking(move || publisher.probed(probe_results)).await?;
            }
        }
    }
}

async fn run_probe(key: CredentialKey, client: TenantClient, places: Arc<Semaphore>) -> ProbeOutcome {
    let _place = places.acquire().await.expect("never closed");
    let result = match client.verify(Instant::now() + PROBE_TIMEOUT).await {
        Ok(scopes) => ProbeResult::Granted(scopes),
        Err(error) if error.failure == Failure::CredentialsRejected => ProbeResult::Rejected,
        Err(error) => ProbeResult::Unreachable(error.failure),
    };
    ProbeOutcome { key, client, result }
}

impl Backoff {
    fn new() -> Self {
        Self { asked: None, failures: 0, under_way: false, jitter: rand::random_range(1.0..1.2) }
    }

    fn landed(&mut self, now: Instant) {
        self.asked = Some(now);
        self.failures += 1;
        self.under_way = false;
    }

    /// When the tenant is asked next; nothing when it was not asked yet.
    fn due(&mut self, state: CredentialState) -> Option<Instant> {
        let (first, longest) = match state {
            CredentialState::Unknown | CredentialState::Sufficient => {
                self.failures = 0;
                (PROBE_INTERVAL, PROBE_INTERVAL)
            }
            CredentialState::Unreachable => UNREACHABLE_BACKOFF,
            CredentialState::Lacking | CredentialState::Rejected => REJECTED_BACKOFF,
        };
        let doubled = first.saturating_mul(1 << self.failures.saturating_sub(1).min(16)).min(longest);
        Some(self.asked? + doubled.mul_f64(self.jitter))
    }
}
