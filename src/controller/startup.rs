//! What readiness waits for while the watches of a cluster start.
//!
//! A replica that is ready lets Kubernetes end an old one, which knows everything. So a replica waits for an answer about each
//! Secret. One Secret without an answer must not keep it from serving the policies that do not need it: the wait is bounded
//! from the first answer on. While the API server answers about no Secret at all, the replica knows nothing that the old ones
//! do not know better, and the wait has no end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::watch_failures::WatchId;
use crate::policy::ObjectName;
use crate::readiness::{Latch, Readiness};

/// How long readiness waits for the other Secrets after the first answer about one, and for the ConfigMaps that force policies
/// to audit.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The latches that readiness waits for.
pub(super) struct StartupLatches {
    readiness: Readiness,
    /// By the position of the watched namespace.
    policies: HashMap<usize, Latch>,
    /// By the namespace that is watched: a replica that started during a forced audit must not enforce before it knows.
    switches: HashMap<Option<String>, Latch>,
    secrets: HashMap<ObjectName, Latch>,
    /// Until when readiness waits for the ConfigMaps.
    switch_deadline: Option<Instant>,
    /// Until when readiness waits for the Secrets. `None` also before the first answer about one.
    secret_deadline: Option<Instant>,
    /// Whether the API server has answered about a Secret.
    is_secret_known: bool,
}

impl StartupLatches {
    /// Waits for the policies and ConfigMaps of these namespaces; policies are known by their position.
    pub fn new(
        readiness: Readiness,
        policies: &[Option<String>],
        switches: impl IntoIterator<Item = Option<String>>,
        now: Instant,
    ) -> Self {
        let policies = policies.iter().enumerate();
        let policies = policies
            .map(|(at, namespace)| (at, readiness.wait_for(WatchId::policies(namespace.as_deref()).to_string())))
            .collect();
        let switches = switches.into_iter();
        let switches: HashMap<_, _> = switches
            .map(|namespace| {
                let latch = readiness.wait_for(WatchId::audit_switches(namespace.as_deref()).to_string());
                (namespace, latch)
            })
            .collect();
        let switch_deadline = (!switches.is_empty()).then(|| now + TIMEOUT);
        let (secrets, secret_deadline, is_secret_known) = (HashMap::new(), None, false);
        Self { readiness, policies, switches, secrets, switch_deadline, secret_deadline, is_secret_known }
    }

    /// Whether not all policies are listed.
    pub fn waits_for_policies(&self) -> bool {
        !self.policies.is_empty()
    }

    /// Whether readiness waits for Secrets.
    pub fn waits_for_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// The policies at these positions are listed, and the Secrets that they reference are waited for.
    pub fn release_policies(&mut self, positions: &[usize]) {
        positions.iter().filter_map(|position| self.policies.remove(position)).for_each(Latch::release);
    }

    /// There is an answer about the ConfigMap of these namespaces.
    pub fn release_switches(&mut self, namespaces: &[Option<String>]) {
        namespaces.iter().filter_map(|namespace| self.switches.remove(namespace)).for_each(Latch::release);
        if self.switches.is_empty() {
            self.switch_deadline = None;
        }
    }

    /// Waits for a Secret unless all policies are listed: a Secret that is referenced later takes back no readiness.
    pub fn wait_for_secret(&mut self, name: &ObjectName, now: Instant) {
        if !self.policies.is_empty() {
            if self.is_secret_known {
                self.secret_deadline.get_or_insert(now + TIMEOUT);
            }
            self.secrets.insert(name.clone(), self.readiness.wait_for(WatchId::secret(name).to_string()));
        }
    }

    /// There is an answer about these Secrets: their content, that they do not exist, or that they may not be read.
    pub fn secrets_known(&mut self, names: &[ObjectName], now: Instant) {
        if !names.is_empty() && !self.is_secret_known {
            self.is_secret_known = true;
            self.secret_deadline = Some(now + TIMEOUT);
        }
        self.forget_secrets(names);
    }

    /// No policy names these Secrets any more, or readiness has no need to wait for them.
    pub fn forget_secrets(&mut self, names: &[ObjectName]) {
        names.iter().filter_map(|name| self.secrets.remove(name)).for_each(Latch::release);
        if self.secrets.is_empty() {
            self.secret_deadline = None;
        }
    }

    pub fn explain_secret(&self, name: &ObjectName, error: &str) {
        if let Some(latch) = self.secrets.get(name) {
            latch.explain(error);
        }
    }

    pub fn explain_policies(&self, position: usize, error: &str) {
        if let Some(latch) = self.policies.get(&position) {
            latch.explain(error);
        }
    }

    /// When readiness waits no longer for something.
    pub fn deadline(&self) -> Option<Instant> {
        self.switch_deadline.into_iter().chain(self.secret_deadline).min()
    }

    /// Stops to wait for what is overdue.
    pub fn stop_waiting(&mut self, now: Instant) {
        if self.switch_deadline.take_if(|deadline| *deadline <= now).is_some() {
            for (namespace, latch) in self.switches.drain() {
                tracing::warn!(?namespace, "no answer about forced audit within 30 s; becoming ready without it");
                latch.release();
            }
        }
        if self.secret_deadline.take_if(|deadline| *deadline <= now).is_some() {
            for (name, latch) in self.secrets.drain() {
                tracing::warn!(secret = %name, "no answer about this Secret within 30 s; becoming ready without it");
                latch.release();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn secret(name: &str) -> ObjectName {
        ObjectName::new("team", name)
    }

    /// The latches after the policies are listed, which name these Secrets.
    fn listed(readiness: &Readiness, secrets: &[&str], now: Instant) -> StartupLatches {
        let mut latches = StartupLatches::new(readiness.clone(), &[Some("team".to_owned())], [], now);
        secrets.iter().for_each(|name| latches.wait_for_secret(&secret(name), now));
        latches.release_policies(&[0]);
        latches
    }

    /// Lets time pass as the reconciler does: it acts at the deadline alone.
    fn pass(latches: &mut StartupLatches, until: Instant) {
        while let Some(deadline) = latches.deadline().filter(|deadline| *deadline <= until) {
            latches.stop_waiting(deadline);
        }
    }

    #[test]
    fn replica_without_any_secret_never_becomes_ready() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["a", "b"], now);
        latches.explain_secret(&secret("a"), "the API server answered 500: no key");
        pass(&mut latches, now + 3600 * SECOND);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.pending(), ["Secret team/a: the API server answered 500: no key", "Secret team/b"]);
        // A Secret that no policy names any more is no answer.
        latches.forget_secrets(&[secret("a")]);
        pass(&mut latches, now + 7200 * SECOND);
        assert!(!readiness.is_ready());
    }

    #[test]
    fn secrets_after_the_first_answer_have_their_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["a", "b", "c"], now);
        let first = now + 600 * SECOND;
        pass(&mut latches, first);
        latches.secrets_known(&[secret("a")], first);
        pass(&mut latches, first + TIMEOUT - SECOND);
        assert_eq!(readiness.pending(), ["Secret team/b", "Secret team/c"]);
        latches.secrets_known(&[secret("b"), secret("c")], first + TIMEOUT - SECOND);
        assert_eq!((readiness.is_ready(), latches.deadline()), (true, None));
    }

    #[test]
    fn secret_without_an_answer_delays_only_for_a_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["good", "bad"], now);
        latches.secrets_known(&[secret("good")], now);
        latches.secrets_known(&[], now + 20 * SECOND);
        pass(&mut latches, now + TIMEOUT - SECOND);
        assert!(!readiness.is_ready());
        pass(&mut latches, now + TIMEOUT);
        assert!(readiness.is_ready());
    }

    #[test]
    fn secret_of_a_late_namespace_delays_only_for_a_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let namespaces = ["a", "b"].map(|name| Some(name.to_owned()));
        let mut latches = StartupLatches::new(readiness.clone(), &namespaces, [], now);
        latches.wait_for_secret(&secret("good"), now);
        latches.release_policies(&[0]);
        latches.secrets_known(&[secret("good")], now);
        let late = now + 100 * SECOND;
        latches.wait_for_secret(&secret("bad"), late);
        latches.release_policies(&[1]);
        pass(&mut latches, late + TIMEOUT - SECOND);
        assert!(!readiness.is_ready());
        pass(&mut latches, late + TIMEOUT);
        assert!(readiness.is_ready());
    }

    #[test]
    fn replica_without_named_secrets_waits_for_none() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &[], now);
        assert_eq!((readiness.is_ready(), latches.deadline()), (true, None));
        // A Secret that is named later takes nothing back.
        latches.wait_for_secret(&secret("later"), now);
        assert!(readiness.is_ready());
    }

    #[test]
    fn forced_audit_delays_only_for_a_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = StartupLatches::new(readiness.clone(), &[], [None, Some("team".to_owned())], now);
        latches.release_switches(&[None]);
        pass(&mut latches, now + TIMEOUT - SECOND);
        assert_eq!(readiness.pending(), ["forced audit of namespace team"]);
        pass(&mut latches, now + TIMEOUT);
        assert!(readiness.is_ready());
    }
}
