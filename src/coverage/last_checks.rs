//! When each policy last answered a check in this replica.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{PoisonError, RwLock};

use jiff::Timestamp;

/// The times of the last checks in Unix seconds, by policy.
#[derive(Default)]
pub struct LastChecks(RwLock<HashMap<String, AtomicI64>>);

impl LastChecks {
    /// Notes that a policy answers a check now.
    pub fn note(&self, policy: &str) {
        let now = Timestamp::now().as_second();
        // Almost every check finds its policy, so checks do not wait for each other.
        if let Some(last) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(policy) {
            last.store(now, Ordering::Relaxed);
            return;
        }
        let mut times = self.0.write().unwrap_or_else(PoisonError::into_inner);
        times.entry(policy.to_owned()).or_default().store(now, Ordering::Relaxed);
    }

    /// When a policy last answered a check.
    pub fn get(&self, policy: &str) -> Option<Timestamp> {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_second(times.get(policy)?.load(Ordering::Relaxed)).ok()
    }

    /// The times of all policies, without that of logins that no policy governs.
    pub(super) fn all(&self) -> BTreeMap<String, i64> {
        let times = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let governed = times.iter().filter(|(policy, _)| !policy.is_empty());
        governed.map(|(policy, at)| (policy.clone(), at.load(Ordering::Relaxed))).collect()
    }

    /// Forgets policies.
    pub fn retain(&self, lives: impl Fn(&str) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|policy, _| lives(policy));
    }
}
