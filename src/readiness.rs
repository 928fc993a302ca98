//! Whether this replica should receive checks: it is ready once every start condition has been met. Some of them also block
//! checks that arrive before.
//!
//! After that only a shutdown ends readiness. An outage of Auth0 must not: it would take all replicas out at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The start conditions that are still pending. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<StartState>>);

#[derive(Debug, Default)]
struct StartState {
    /// Pending conditions by name.
    pending: BTreeMap<String, Pending>,
    shutting_down: bool,
}

#[derive(Debug)]
struct Pending {
    /// Why it is not met yet.
    reason: Option<String>,
    /// Whether no check is answered before it is met.
    blocks_checks: bool,
}

/// One start condition. It is met when this is released.
#[derive(Debug)]
#[must_use = "the service is not ready before this is released"]
pub struct Latch {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// Adds a start condition. `/readyz` lists it under this name while it is pending.
    pub fn wait_for(&self, name: impl Into<String>) -> Latch {
        self.add(name.into(), true)
    }

    /// Adds a start condition that only load balancers wait for: checks are answered before it is met.
    pub fn delay_for(&self, name: impl Into<String>) -> Latch {
        self.add(name.into(), false)
    }

    fn add(&self, name: String, blocks_checks: bool) -> Latch {
        let pending = Pending { reason: None, blocks_checks };
        self.0.send_modify(|state| _ = state.pending.insert(name.clone(), pending));
        Latch { readiness: self.clone(), name }
    }

    /// Whether checks are answered: every start condition that blocks them is met. Checks are answered during a shutdown as well.
    pub fn is_serving(&self) -> bool {
        self.0.borrow().is_serving()
    }

    /// Waits until every start condition is met.
    pub async fn complete(&self) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|state| state.pending.is_empty()).await;
    }

    /// Waits until checks are answered.
    pub async fn serving(&self) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(StartState::is_serving).await;
    }

    /// Whether load balancers should send checks here: serving, and not shutting down.
    pub fn is_ready(&self) -> bool {
        let state = self.0.borrow();
        state.pending.is_empty() && !state.shutting_down
    }

    /// The pending conditions, as texts for people. Those that block checks are met first, so only they are listed while one
    /// of them is pending.
    pub fn pending(&self) -> Vec<String> {
        let state = self.0.borrow();
        let blocks_checks = !state.is_serving();
        let pending = state.pending.iter().filter(|(_, pending)| pending.blocks_checks == blocks_checks);
        let pending = pending.map(|(name, pending)| match &pending.reason {
            Some(reason) => format!("{name}: {reason}"),
            None => name.clone(),
        });
        pending.chain(state.shutting_down.then(|| "shutting down".to_owned())).collect()
    }

    /// Ends readiness for good.
    pub fn shut_down(&self) {
        self.0.send_modify(|state| state.shutting_down = true);
    }
}

impl StartState {
    fn is_serving(&self) -> bool {
        !self.pending.values().any(|pending| pending.blocks_checks)
    }
}

impl Latch {
    /// Sets the reason why the condition is not met yet, for people.
    pub fn explain(&self, reason: &str) {
        self.readiness.0.send_modify(|state| {
            if let Some(pending) = state.pending.get_mut(&self.name) {
                pending.reason = Some(reason.to_owned());
            }
        });
    }

    /// Lets checks be answered before the condition is met: from now on only load balancers wait for it.
    pub fn stop_blocking_checks(&self) {
        self.readiness.0.send_modify(|state| {
            if let Some(pending) = state.pending.get_mut(&self.name) {
                pending.blocks_checks = false;
            }
        });
    }

    /// Meets the condition.
    pub fn release(self) {
        self.readiness.0.send_modify(|state| _ = state.pending.remove(&self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_needs_every_condition_and_no_shutdown() {
        let readiness = Readiness::default();
        let (policies, secret) = (readiness.wait_for("policies"), readiness.wait_for("secret a/b"));
        assert_eq!(readiness.pending(), ["policies", "secret a/b"]);
        policies.release();
        secret.explain("not answered");
        assert_eq!(readiness.pending(), ["secret a/b: not answered"]);
        assert!(!readiness.is_ready());
        tokio::join!(readiness.serving(), async { secret.release() });
        assert!(readiness.is_ready());
        readiness.shut_down();
        assert!(!readiness.is_ready() && readiness.is_serving());
        assert_eq!(readiness.pending(), ["shutting down"]);
    }

    #[test]
    fn condition_that_delays_load_balancers_blocks_no_check() {
        let readiness = Readiness::default();
        let latch = readiness.delay_for("connections");
        assert!(readiness.is_serving() && !readiness.is_ready());
        assert_eq!(readiness.pending(), ["connections"]);
        let policies = readiness.wait_for("policies");
        assert_eq!(readiness.pending(), ["policies"], "connections come after it");
        policies.release();
        latch.release();
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn condition_may_stop_to_block_checks() {
        let readiness = Readiness::default();
        let (secret, other) = (readiness.wait_for("secret a/b"), readiness.wait_for("secret a/c"));
        secret.explain("not answered");
        secret.stop_blocking_checks();
        assert!(!readiness.is_serving());
        other.stop_blocking_checks();
        readiness.serving().await;
        assert_eq!((readiness.is_serving(), readiness.is_ready()), (true, false));
        assert_eq!(readiness.pending(), ["secret a/b: not answered", "secret a/c"]);
        other.release();
        tokio::join!(readiness.complete(), async { secret.release() });
        assert!(readiness.is_ready());
    }
}
