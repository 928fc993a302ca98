//! The watches that fail: which of them wait for an answer of the API server, and which failures are logged.
//!
//! The time of the last contact is one for all watches of a kind, so it says nothing about one of them that fails while
//! others work. An answer is a frame of a response with status 200: a list, a change, or the bookmark of each minute.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntGaugeVec;
use tokio::time::Instant;

use crate::metrics::MetricRegistry;
use crate::policy::ObjectName;

/// Two failures with more time than this between them are independent. The longest pause is 75 s, and the attempt after
/// it may take another 30 s to fail.
pub(super) const REPEATED_FAILURE_WINDOW: Duration = Duration::from_secs(150);
/// After this time an error that stays the same is logged again, so that a log of the last quarter of an hour has it.
const LOG_INTERVAL: Duration = Duration::from_secs(600);

/// A kind of watched object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watch {
    /// SessionPolicies.
    Policies,
    /// The Secrets that policies name.
    Secrets,
    /// The ConfigMaps that force policies to audit.
    AuditSwitches,
}

/// A watch. Its text is its name in the log and in `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchId {
    /// What is watched.
    pub kind: Watch,
    /// The namespace; `None` for all.
    pub namespace: Option<String>,
    /// The name of the only object, for a Secret.
    pub name: Option<String>,
}

/// The watches that fail.
pub struct WatchFailures {
    failing: Mutex<HashMap<WatchId, WatchFailure>>,
    count: IntGaugeVec,
}

struct WatchFailure {
    error: String,
    at: Instant,
    logged_at: Instant,
    /// Whether the API server has answered since.
    is_answered: bool,
}

impl Watch {
    pub(super) const ALL: [Self; 3] = [Self::Policies, Self::Secrets, Self::AuditSwitches];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::Secrets => "secrets",
            Self::AuditSwitches => "force_audit",
        }
    }
}

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.as_deref();
        match (self.kind, &self.name) {
            (Watch::Secrets, Some(name)) => write!(f, "Secret {}/{name}", namespace.unwrap_or_default()),
            (Watch::Secrets, None) => f.write_str("Secrets"),
            (Watch::Policies, _) => f.write_str("policies"),
            (Watch::AuditSwitches, _) => f.write_str("forced audit"),
        }?;
        match namespace.filter(|_| self.kind != Watch::Secrets) {
            Some(namespace) => write!(f, " of namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl WatchId {
    /// The watch of policies in a namespace, or in all.
    pub fn policies(namespace: Option<&str>) -> Self {
        Self { kind: Watch::Policies, namespace: namespace.map(str::to_owned), name: None }
    }

    /// The watch of the ConfigMaps that force policies to audit, in a namespace or in all.
    pub fn audit_switches(namespace: Option<&str>) -> Self {
        Self { kind: Watch::AuditSwitches, namespace: namespace.map(str::to_owned), name: None }
    }

    /// The watch of a Secret.
    pub fn secret(secret: &ObjectName) -> Self {
        let [namespace, name] = [secret.namespace(), secret.name()].map(|part| Some(part.to_owned()));
        Self { kind: Watch::Secrets, namespace, name }
    }

    /// The watch of a request for a list or for changes; `None` for any other request.
    pub fn of_request(path: &str, query: Option<&str>) -> Option<Self> {
        let mut segments = path.rsplit('/');
        let kind = match segments.next()? {
            "sessionpolicies" => Watch::Policies,
            "secrets" => Watch::Secrets,
            "configmaps" => Watch::AuditSwitches,
            _ => return None,
        };
        let (namespace, parent) = (segments.next(), segments.next());
        let namespace = namespace.filter(|_| parent == Some("namespaces")).map(str::to_owned);
        let selector =
            query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("fieldSelector="));
        // The names of objects have no character that is encoded.
        let name = selector.and_then(|selector| selector.rsplit_once("%3D").or_else(|| selector.rsplit_once('=')));
        let name = name.filter(|_| kind == Watch::Secrets).map(|(_, name)| name.to_owned());
        Some(Self { kind, namespace, name })
    }
}

impl WatchFailures {
    /// Registers the family.
    pub(super) fn new(registry: &MetricRegistry) -> Self {
        let count = registry.gauges(
            "watches_failing",
            "Watches that have failed since the API server last answered them. Changes of what they watch do not apply.",
            &["watch"],
        );
        let failures = Self { failing: Mutex::default(), count };
        failures.show(&failures.failing());
        failures
    }

    /// Records a failure. Returns whether to log it: the error is another one, or was not seen or logged for a while.
    pub(super) fn failed(&self, watch: WatchId, error: String, now: Instant) -> bool {
        let mut failing = self.failing();
        let last = failing.get(&watch).filter(|last| {
            last.error == error
                && now.duration_since(last.at) < REPEATED_FAILURE_WINDOW
                && now.duration_since(last.logged_at) < LOG_INTERVAL
        });
        let logged_at = last.map(|last| last.logged_at);
        let failure = WatchFailure { error, at: now, logged_at: logged_at.unwrap_or(now), is_answered: false };
        failing.insert(watch, failure);
        self.show(&failing);
        logged_at.is_none()
    }

    /// The API server answers a watch.
    pub(super) fn answered(&self, watch: &WatchId) {
        let mut failing = self.failing();
        if let Some(failure) = failing.get_mut(watch).filter(|failure| !failure.is_answered) {
            failure.is_answered = true;
            self.show(&failing);
        }
    }

    /// A watch shows objects, or has ended. Returns whether it had failed before.
    pub(super) fn forget(&self, watch: &WatchId) -> bool {
        let mut failing = self.failing();
        let had_failed = failing.remove(watch).is_some();
        if had_failed {
            self.show(&failing);
        }
        had_failed
    }

    fn show(&self, failing: &HashMap<WatchId, WatchFailure>) {
        for kind in Watch::ALL {
            let count = failing.iter().filter(|(watch, failure)| watch.kind == kind && !failure.is_answered).count();
            self.count.with_label_values(&[kind.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<WatchId, WatchFailure>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policies(namespace: &str) -> WatchId {
        WatchId::policies(Some(namespace))
    }

    fn secret(name: &str) -> WatchId {
        WatchId::secret(&ObjectName::new("team", name))
    }

    fn forbidden() -> String {
        "sessionpolicies is forbidden".to_owned()
    }

    fn failures() -> WatchFailures {
        WatchFailures::new(&MetricRegistry::default())
    }

    fn counts(failures: &WatchFailures) -> [i64; 3] {
        Watch::ALL.map(|kind| failures.count.with_label_values(&[kind.as_str()]).get())
    }

    #[test]
    fn failing_watch_counts_while_others_of_its_kind_work() {
        let (failures, now) = (failures(), Instant::now());
        assert_eq!(counts(&failures), [0, 0, 0]);
        failures.failed(policies("b"), forbidden(), now);
        // The bookmarks of the other namespace.
        failures.answered(&policies("a"));
        failures.forget(&policies("a"));
        assert_eq!(counts(&failures), [1, 0, 0]);
        failures.failed(secret("one"), forbidden(), now);
        failures.failed(secret("two"), forbidden(), now);
        failures.failed(secret("two"), forbidden(), now + SECOND);
        assert_eq!(counts(&failures), [1, 2, 0]);
        failures.answered(&policies("b"));
        assert!(failures.forget(&secret("one")));
        assert_eq!(counts(&failures), [0, 1, 0]);
        failures.failed(policies("b"), forbidden(), now + SECOND);
        assert_eq!(counts(&failures), [1, 1, 0]);
    }

    #[test]
    fn lasting_failure_is_logged_again_after_a_while() {
        let (failures, now) = (failures(), Instant::now());
        // Every minute, for an hour.
        let logged = (0..60).filter(|minute| failures.failed(policies("b"), forbidden(), now + *minute * 60 * SECOND));
        assert_eq!(logged.collect::<Vec<u32>>(), [0, 10, 20, 30, 40, 50]);
        let later = now + 3600 * SECOND;
        assert!(failures.failed(policies("b"), "not installed".to_owned(), later), "another error");
        assert!(!failures.failed(policies("b"), "not installed".to_owned(), later + SECOND));
        let after_a_break = later + SECOND + REPEATED_FAILURE_WINDOW;
        assert!(failures.failed(policies("b"), "not installed".to_owned(), after_a_break));
    }

    #[test]
    fn watch_is_known_by_its_request() {
        let policies_path = "/apis/sessionchecker.dev/v1alpha1/namespaces/b/sessionpolicies";
        let everywhere = WatchId::policies(None);
        let selector = "limit=100&fieldSelector=metadata.name%3Done";
        let switch = WatchId::audit_switches(Some("b"));
        for (path, query, expected) in [
            (policies_path, Some("limit=100"), Some(policies("b"))),
            ("/apis/sessionchecker.dev/v1alpha1/sessionpolicies", None, Some(everywhere)),
            ("/api/v1/namespaces/team/secrets", Some(selector), Some(secret("one"))),
            (
                "/api/v1/namespaces/team/secrets",
                Some("fieldSelector=metadata.name=one&watch=true"),
                Some(secret("one")),
            ),
            ("/api/v1/namespaces/b/configmaps", Some(selector), Some(switch)),
            ("/apis/coordination.k8s.io/v1/namespaces/b/leases/x", None, None),
            ("/apis/sessionchecker.dev/v1alpha1/namespaces/b/sessionpolicies/one/status", None, None),
        ] {
            assert_eq!(WatchId::of_request(path, query), expected, "{path}");
        }
    }
}
