//! What readiness waits for while the watches of a cluster start.
//!
//! A replica that is ready lets Kubernetes end an old one, which knows everything. So a replica waits for an answer about each
//! Secret. One Secret without an answer must not hold a rollout: the wait is bounded once the content of another one was read.
//! A Secret that is missing or forbidden begins no such bound, because it shows nothing about the others: one mistake of a
//! tenant would let Kubernetes end the old replicas while the API server cannot read the Secrets of all others.
//!
//! While the API server sends the content of no Secret, readiness waits without a bound. There may be no old replica: after
//! an installation, a loss of nodes, or a restart of all. So checks are answered some time after the policies are listed: the
//! policies that need no Secret work, the others answer by their failure policy, and a replica is elected that reports the
//! Secrets in the status.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::watch::WatchError;
use super::watch_failures::WatchId;
use crate::policy::{ObjectName, SecretManifest};
use crate::readiness::{Latch, Readiness};

/// How long readiness waits for the other Secrets after one was read, and for the ConfigMaps that force policies to audit. How
/// long checks wait for Secrets after the policies are listed.
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
    /// Until when readiness waits for the Secrets. `None` also before one was read.
    secret_deadline: Option<Instant>,
    /// Until when checks wait for the Secrets. `None` also before the policies are listed.
    check_deadline: Option<Instant>,
    /// Whether the API server has sent the content of a Secret.
    is_secret_read: bool,
}

/// What the API server answers about a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretAnswer {
    /// Its content.
    Content,
    /// That it does not exist, or may not be read.
    Absent,
}

impl SecretAnswer {
    /// The answer in an event of a Secret's watch.
    ///
    /// # Errors
    /// When the API server failed to answer.
    pub fn of(event: &Result<Option<SecretManifest>, WatchError>) -> Result<Self, &WatchError> {
        match event {
            Ok(Some(_)) => Ok(Self::Content),
            Ok(None) | Err(WatchError::Forbidden(_)) => Ok(Self::Absent),
            Err(error) => Err(error),
        }
    }
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
        Self {
            readiness,
            policies,
            switches,
            secrets: HashMap::new(),
            switch_deadline,
            secret_deadline: None,
            check_deadline: None,
            is_secret_read: false,
        }
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
    pub fn release_policies(&mut self, positions: &[usize], now: Instant) {
        let listed: Vec<Latch> = positions.iter().filter_map(|position| self.policies.remove(position)).collect();
        if !listed.is_empty() && self.policies.is_empty() && !self.secrets.is_empty() {
            self.check_deadline = Some(now + TIMEOUT);
        }
        listed.into_iter().for_each(Latch::release);
    }

    /// There is an answer about the ConfigMap of these namespaces.
    pub fn release_switches(&mut self, namespaces: &[Option<String>]) {
        namespaces.iter().filter_map(|namespace| self.switches.remove(namespace)).for_each(Latch::release);
        if self.switches.is_empty() {
            self.switch_deadline = None;
        }
    }

    /// Waits for a Secret unless all policies are listed: a Secret that is referenced later takes back no readiness. Those of a
    /// namespace that is listed late have as much time as the first ones; as no Secret is added after the last list, the wait
    /// is bounded.
    pub fn wait_for_secret(&mut self, name: &ObjectName, now: Instant) {
        if !self.policies.is_empty() {
            if self.is_secret_read {
                self.secret_deadline = Some(now + TIMEOUT);
            }
            self.secrets.insert(name.clone(), self.readiness.wait_for(WatchId::secret(name).to_string()));
        }
    }

    /// The API server has answered about these Secrets.
    pub fn secrets_answered(&mut self, answers: &[(ObjectName, SecretAnswer)], now: Instant) {
        if !self.is_secret_read && answers.iter().any(|(_, answer)| *answer == SecretAnswer::Content) {
            self.is_secret_read = true;
            self.secret_deadline = Some(now + TIMEOUT);
        }
        self.forget_secrets(answers.iter().map(|(name, _)| name));
    }

    /// No policy names these Secrets any more, or readiness has no need to wait for them.
    pub fn forget_secrets<'a>(&mut self, names: impl IntoIterator<Item = &'a ObjectName>) {
        names.into_iter().filter_map(|name| self.secrets.remove(name)).for_each(Latch::release);
        if self.secrets.is_empty() {
            (self.secret_deadline, self.check_deadline) = (None, None);
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

    /// When readiness or checks wait no longer for something.
    pub fn deadline(&self) -> Option<Instant> {
        [self.switch_deadline, self.secret_deadline, self.check_deadline].into_iter().flatten().min()
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
            self.check_deadline = None;
        }
        if self.check_deadline.take_if(|deadline| *deadline <= now).is_some() {
            for (name, latch) in &self.secrets {
                tracing::warn!(
                    secret = %name,
                    "no answer about this Secret within 30 s; answering checks without it. The replica is not ready yet."
                );
                latch.stop_blocking_checks();
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
        latches.release_policies(&[0], now);
        latches
    }

    /// The API server answers with the content of these Secrets.
    fn read(latches: &mut StartupLatches, names: &[&str], now: Instant) {
        let content = |name: &&str| {
            let (name, kind) = (secret(name), "x".to_owned());
            let event = Ok(Some(SecretManifest { name: name.clone(), kind, data: Ok([].into()) }));
            (name, SecretAnswer::of(&event).unwrap())
        };
        latches.secrets_answered(&names.iter().map(content).collect::<Vec<_>>(), now);
    }

    /// The API server answers that one Secret does not exist and another may not be read.
    fn miss(latches: &mut StartupLatches, missing: &str, forbidden: &str, now: Instant) {
        let events = [(missing, Ok(None)), (forbidden, Err(WatchError::Forbidden("no right".to_owned())))];
        let answers = events.map(|(name, event)| (secret(name), SecretAnswer::of(&event).unwrap()));
        latches.secrets_answered(&answers, now);
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
    fn replica_without_any_secret_answers_checks_after_a_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["a", "b"], now);
        pass(&mut latches, now + TIMEOUT - SECOND);
        assert!(!readiness.is_serving());
        pass(&mut latches, now + TIMEOUT);
        assert_eq!((readiness.is_serving(), readiness.is_ready(), latches.deadline()), (true, false, None));
        assert!(latches.waits_for_secrets());
        // The first one that is read bounds the wait for the others.
        let first = now + 600 * SECOND;
        read(&mut latches, &["a"], first);
        pass(&mut latches, first + TIMEOUT - SECOND);
        assert_eq!((readiness.is_ready(), readiness.pending()), (false, vec!["Secret team/b".to_owned()]));
        pass(&mut latches, first + TIMEOUT);
        assert!(readiness.is_ready());
    }

    #[test]
    fn checks_wait_for_all_policies_without_a_bound() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let namespaces = ["a", "b"].map(|name| Some(name.to_owned()));
        let mut latches = StartupLatches::new(readiness.clone(), &namespaces, [], now);
        latches.wait_for_secret(&secret("a"), now);
        latches.release_policies(&[0], now);
        pass(&mut latches, now + 3600 * SECOND);
        assert!(!readiness.is_serving());
        let late = now + 3600 * SECOND;
        latches.release_policies(&[1], late);
        // A list that comes again changes nothing.
        latches.release_policies(&[0], late + 20 * SECOND);
        pass(&mut latches, late + TIMEOUT - SECOND);
        assert!(!readiness.is_serving());
        pass(&mut latches, late + TIMEOUT);
        assert!(readiness.is_serving());
    }

    #[test]
    fn missing_secret_does_not_bound_the_wait_for_others() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["missing", "forbidden", "a", "b"], now);
        miss(&mut latches, "missing", "forbidden", now);
        pass(&mut latches, now + 3600 * SECOND);
        assert_eq!((readiness.is_ready(), readiness.pending().len()), (false, 2));
        assert!(SecretAnswer::of(&Err(WatchError::Other("500".to_owned()))).is_err());
    }

    #[test]
    fn replica_is_ready_when_all_secrets_are_missing_or_forbidden() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["missing", "forbidden"], now);
        miss(&mut latches, "missing", "forbidden", now);
        assert_eq!((readiness.is_ready(), latches.deadline()), (true, None));
    }

    #[test]
    fn secrets_after_the_first_one_have_their_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["a", "b", "c"], now);
        let first = now + 600 * SECOND;
        pass(&mut latches, first);
        read(&mut latches, &["a"], first);
        pass(&mut latches, first + TIMEOUT - SECOND);
        assert_eq!(readiness.pending(), ["Secret team/b", "Secret team/c"]);
        read(&mut latches, &["b", "c"], first + TIMEOUT - SECOND);
        assert_eq!((readiness.is_ready(), latches.deadline()), (true, None));
    }

    #[test]
    fn secret_without_an_answer_delays_only_for_a_time() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let mut latches = listed(&readiness, &["good", "bad"], now);
        read(&mut latches, &["good"], now);
        latches.secrets_answered(&[], now + 20 * SECOND);
        pass(&mut latches, now + TIMEOUT - SECOND);
        assert!(!readiness.is_ready());
        pass(&mut latches, now + TIMEOUT);
        assert!(readiness.is_ready());
    }

    #[test]
    fn secret_of_a_late_namespace_has_its_time_and_no_more() {
        let (readiness, now) = (Readiness::default(), Instant::now());
        let namespaces = ["a", "b"].map(|name| Some(name.to_owned()));
        for pending in [&["good"][..], &["good", "bad"]] {
            let mut latches = StartupLatches::new(readiness.clone(), &namespaces, [], now);
            pending.iter().for_each(|name| latches.wait_for_secret(&secret(name), now));
            latches.release_policies(&[0], now);
            read(&mut latches, &["good"], now);
            // Before the time of the first namespace is over.
            let late = now + TIMEOUT - SECOND;
            pass(&mut latches, late);
            latches.wait_for_secret(&secret("late"), late);
            latches.release_policies(&[1], late);
            pass(&mut latches, late + TIMEOUT - SECOND);
            assert!(!readiness.is_ready() && readiness.pending().contains(&"Secret team/late".to_owned()));
            pass(&mut latches, late + TIMEOUT);
            assert!(readiness.is_ready());
        }
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
