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
use crate::policy::{Acceptance, Failure, Proof, ProofKey};

/// How long a tenant has for its answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often a credential in use is proven again.
const AGAIN: Duration = Duration::from_secs(60);
/// The pauses after a tenant that could not be asked.
const UNREACHABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The pauses after a no. The first is as long as a credential that was refused is not shown again.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// How many are proven at the same time.
const AT_ONCE: usize = 16;

/// What was done about a credential so far.
struct Plan {
    asked: Option<Instant>,
    /// How often in a row it was asked for without the hoped for answer.
    setbacks: u32,
    under_way: bool,
    /// Stretches pauses a little: replicas that began together do not go on together.
    stretch: f64,
}

/// What became of one.
struct Outcome {
    key: ProofKey,
    client: TenantClient,
    proof: Proof,
}

/// Proves the credentials of what is in force, for as long as the process lives.
///
/// # Errors
/// When a task was torn down.
pub async fn prove_credentials(publisher: Arc<Publisher>) -> Result<Infallible, JoinError> {
    let mut changes = publisher.changes();
    let mut plans: HashMap<ProofKey, Plan> = HashMap::new();
    let mut proofs: JoinSet<Outcome> = JoinSet::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        changes.mark_unchanged();
        let trials = spawn_blocking({
            let publisher = Arc::clone(&publisher);
            move || publisher.trials()
        })
        .await?;
        plans.retain(|key, _| trials.contains_key(key));
        let now = Instant::now();
        let mut next = now + AGAIN;
        for (key, trial) in trials {
            let plan = plans.entry(key.clone()).or_insert_with(Plan::new);
            if plan.under_way {
                continue;
            }
            let due = plan.due(trial.candidate.acceptance).unwrap_or(now);
            if due > now {
                next = next.min(due);
                continue;
            }
            plan.under_way = true;
            let client = match trial.candidate.acceptance {
                Acceptance::Lacking => publisher.fresh_client(&trial),
                _ => trial.client,
            };
            proofs.spawn(prove(key, client, Arc::clone(&places)));
        }
        tokio::select! {
            // The publisher lives as long as this does.
            _ = changes.changed() => {}
            () = sleep_until(next) => {}
            Some(first) = proofs.join_next() => {
                let mut landed = vec![first?];
                // What lands together is put in force together.
                while let Some(more) = proofs.try_join_next() {
                    landed.push(more?);
                }
                let now = Instant::now();
                for outcome in &landed {
                    if let Some(plan) = plans.get_mut(&outcome.key) {
                        plan.landed(now);
                    }
                }
                let publisher = Arc::clone(&publisher);
                let proofs = landed.into_iter().map(|Outcome { key, client, proof }| (key, proof, client)).collect();
                spawn_blocking(move || publisher.proved(proofs)).await?;
            }
        }
    }
}

async fn prove(key: ProofKey, client: TenantClient, places: Arc<Semaphore>) -> Outcome {
    let _place = places.acquire().await.expect("never closed");
    let proof = match client.prove(Instant::now() + DEADLINE).await {
        Ok(scopes) => Proof::Granted(scopes),
        Err(error) if error.failure == Failure::CredentialsRejected => Proof::Rejected,
        Err(error) => Proof::Unreachable(error.failure),
    };
    Outcome { key, client, proof }
}

impl Plan {
    fn new() -> Self {
        Self { asked: None, setbacks: 0, under_way: false, stretch: rand::random_range(1.0..1.2) }
    }

    fn landed(&mut self, now: Instant) {
        self.asked = Some(now);
        self.setbacks += 1;
        self.under_way = false;
    }

    /// When the tenant is asked next; nothing when it was not asked yet.
    fn due(&mut self, acceptance: Acceptance) -> Option<Instant> {
        let (first, longest) = match acceptance {
            Acceptance::Unknown | Acceptance::Sufficient => {
                self.setbacks = 0;
                (AGAIN, AGAIN)
            }
            Acceptance::Unreachable => UNREACHABLE,
            Acceptance::Lacking | Acceptance::Rejected => REFUSED,
        };
        let doubled = first.saturating_mul(1 << self.setbacks.saturating_sub(1).min(16)).min(longest);
        Some(self.asked? + doubled.mul_f64(self.stretch))
    }
}
