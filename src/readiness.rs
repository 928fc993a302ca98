//! Whether this replica should receive checks: it is ready once every start condition has been met.
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
    /// Pending conditions by name, each with the reason why it is not met yet.
    pending: BTreeMap<String, Option<String>>,
    shutting_down: bool,
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
        let name = name.into();
        self.0.send_modify(|state| _ = state.pending.insert(name.clone(), None));
        Latch { readiness: self.clone(), name }
    }

    /// Whether checks are answered: every start condition is met. Checks are answered during a shutdown as well.
    pub fn is_serving(&self) -> bool {
        self.0.borrow().is_serving()
    }

    /// Waits until checks are answered.
    pub async fn serving(&self) {
        // It cannot fail: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(StartState::is_serving).await;
    }

    /// Whether load balancers should send checks here: serving, and not shutting down.
    pub fn is_ready(&self) -> bool {
        let state = self.0.borrow();
        state.is_serving() && !state.shutting_down
    }

    /// The pending conditions, as texts for people.
    pub fn pending(&self) -> Vec<String> {
        let state = self.0.borrow();
        let pending = state.pending.iter().map(|(name, reason)| match reason {
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
        self.pending.is_empty()
    }
}

impl Latch {
    /// Sets the reason why the condition is not met yet, for people.
    pub fn explain(&self, reason: &str) {
        self.readiness.0.send_modify(|state| _ = state.pending.insert(self.name.clone(), Some(reason.to_owned())));
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
}
