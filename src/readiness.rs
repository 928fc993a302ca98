//! Whether this replica may be sent checks: when everything that it waits for at the start has happened once.
//!
//! Nothing that happens later takes readiness back, Auth0 being down least of all: that would remove all replicas at once.
//! Only a shutdown does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// What is still waited for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By name, with what keeps it from happening.
    pending: BTreeMap<String, Option<String>>,
    shutting_down: bool,
}

/// Something that is waited for; it has happened when this is released.
#[derive(Debug)]
#[must_use = "the service is not ready before this is released"]
pub struct Latch {
    readiness: Readiness,
    name: String,
}

impl Readiness {
    /// Waits for one more thing, by the name that `/readyz` lists while it is pending.
    pub fn wait_for(&self, name: impl Into<String>) -> Latch {
        let name = name.into();
        self.with(|state| state.pending.insert(name.clone(), None));
        Latch { readiness: self.clone(), name }
    }

    /// Whether checks are answered: everything has happened. A shutdown does not change that, checks are answered to
    /// the end.
    pub fn is_serving(&self) -> bool {
        self.with(|state| state.pending.is_empty())
    }

    /// Waits until checks are answered.
    pub async fn serving(&self) {
        loop {
            let released = self.0.released.notified();
            if self.is_serving() {
                return;
            }
            released.await;
        }
    }

    /// Whether new checks should be sent here: serving, and not shutting down.
    pub fn is_ready(&self) -> bool {
        self.with(|state| state.pending.is_empty() && !state.shutting_down)
    }

    /// What is still waited for.
    pub fn pending(&self) -> Vec<String> {
        self.with(|state| {
            let pending = state.pending.iter().map(|(name, why)| match why {
                Some(why) => format!("{name}: {why}"),
                None => name.clone(),
            });
            pending.chain(state.shutting_down.then(|| "shutting down".to_owned())).collect()
        })
    }

    /// Takes readiness back for good.
    pub fn shut_down(&self) {
        self.with(|state| state.shutting_down = true);
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Latch {
    /// Says what keeps it from happening, for people.
    pub fn explain(&self, why: &str) {
        self.readiness.with(|state| state.pending.insert(self.name.clone(), Some(why.to_owned())));
    }

    /// It has happened.
    pub fn release(self) {
        self.readiness.with(|state| state.pending.remove(&self.name));
        self.readiness.0.released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_everything_has_happened_once_and_until_shutdown() {
        let readiness = Readiness::default();
        let (policies, secret) = (readiness.wait_for("policies"), readiness.wait_for("secret a/b"));
        assert_eq!(readiness.pending(), ["policies", "secret a/b"]);
        policies.release();
        secret.explain("not answered");
        assert_eq!(readiness.pending(), ["secret a/b: not answered"]);
        assert!(!readiness.is_ready());
        secret.release();
        assert!(readiness.is_ready());
        readiness.shut_down();
        assert!(!readiness.is_ready() && readiness.is_serving());
        assert_eq!(readiness.pending(), ["shutting down"]);
    }
}
