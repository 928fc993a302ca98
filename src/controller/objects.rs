//! The objects of the API server as the service keeps them: parsed leniently, and reduced to the parts that it needs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::crd::{SessionPolicy, SessionPolicyStatus};
use crate::policy::{Manifest, ObjectName, SecretManifest};

/// A `SessionPolicy` of which only the metadata must match the schema.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StoredPolicy {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

impl Resource for StoredPolicy {
    type DynamicType = ();
    type Scope = <SessionPolicy as Resource>::Scope;

    fn kind(kind: &()) -> Cow<'_, str> {
        SessionPolicy::kind(kind)
    }

    fn group(kind: &()) -> Cow<'_, str> {
        SessionPolicy::group(kind)
    }

    fn version(kind: &()) -> Cow<'_, str> {
        SessionPolicy::version(kind)
    }

    fn plural(kind: &()) -> Cow<'_, str> {
        SessionPolicy::plural(kind)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The policies as the API server last showed them, without their specs. The status writer compares its reports with
/// them.
#[derive(Debug, Default)]
pub struct ObservedPolicies {
    shown: Mutex<Shown>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Shown {
    policies: HashMap<ObjectName, ObservedPolicy>,
    /// Those that were shown since the status writer took them.
    changed: HashSet<ObjectName>,
}

/// A policy as the API server last showed it, without its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPolicy {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 when there is none.
    pub generation: i64,
    /// `metadata.resourceVersion` as a number: those of one object increase (Kubernetes API concepts). 0 when it is none.
    pub version: u64,
    /// `status`; empty when there is none or it cannot be parsed.
    pub status: SessionPolicyStatus,
    /// The field managers of the status, the one that wrote last first.
    pub status_managers: Vec<String>,
}

impl ObservedPolicies {
    /// A policy as it was last shown; `None` when it was deleted.
    pub fn get(&self, name: &ObjectName) -> Option<ObservedPolicy> {
        self.lock().policies.get(name).cloned()
    }

    /// The policies that were shown since the last call.
    pub fn take_changed(&self) -> HashSet<ObjectName> {
        std::mem::take(&mut self.lock().changed)
    }

    /// Signals each change. A receiver may miss some, but never the last.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes a policy as the watch shows it. An event that is older than a write of this replica is ignored: the event of that
    /// write follows. A list is always taken, since it may be of an API server that was restored from a backup.
    pub(super) fn insert(&self, name: ObjectName, policy: ObservedPolicy, is_listed: bool) {
        let mut shown = self.lock();
        let known = shown.policies.get(&name).filter(|known| known.uid == policy.uid);
        if known.is_some_and(|known| policy.version < known.version) && !is_listed {
            return;
        }
        shown.changed.insert(name.clone());
        shown.policies.insert(name, policy);
        drop(shown);
        self.changes.send_replace(());
    }

    /// Records a status that was written, and the version that it made, until the watch shows it.
    pub(super) fn record_write(&self, name: &ObjectName, uid: &str, status: SessionPolicyStatus, version: u64) {
        let mut shown = self.lock();
        let is_newer = |policy: &&mut ObservedPolicy| policy.uid == uid && policy.version <= version;
        if let Some(policy) = shown.policies.get_mut(name).filter(is_newer) {
            policy.status = status;
            policy.version = version;
        }
    }

    pub(super) fn remove(&self, name: &ObjectName) {
        let mut shown = self.lock();
        shown.policies.remove(name);
        shown.changed.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a policy into the manifest for the index and the rest. Everything else is dropped: the managed fields alone
/// are larger than both together.
pub(super) fn policy(stored: StoredPolicy) -> Box<(Manifest, ObservedPolicy)> {
    let (version, status_managers) = (version(&stored.metadata), status_managers(&stored.metadata));
    let manifest = Manifest {
        name: name(&stored.metadata),
        generation: stored.metadata.generation.unwrap_or_default(),
        created_at: stored.metadata.creation_timestamp.map(|time| time.0),
        spec: stored.spec,
    };
    let observed = ObservedPolicy {
        uid: stored.metadata.uid.unwrap_or_default(),
        generation: manifest.generation,
        version,
        status: SessionPolicyStatus::deserialize(stored.status).unwrap_or_default(),
        status_managers,
    };
    Box::new((manifest, observed))
}

/// The resource version as a number; 0 when it is none. Versions of one object are numbers that increase (Kubernetes API
/// concepts).
pub(super) fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// The field managers of the status, the one that wrote last first.
fn status_managers(metadata: &ObjectMeta) -> Vec<String> {
    let mut entries: Vec<_> = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.subresource.as_deref() == Some("status"))
        .filter_map(|entry| Some((entry.time.as_ref().map(|time| time.0), entry.manager.clone()?)))
        .collect();
    entries.sort_by(|a, b| b.cmp(a));
    entries.into_iter().map(|(_, manager)| manager).collect()
}

/// The manifest of a Secret.
pub(super) fn secret(secret: Secret) -> SecretManifest {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    SecretManifest { name: name(&secret.metadata), kind: secret.type_.unwrap_or_default(), data: Ok(data) }
}

fn name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(version: u64, limits: &str) -> ObservedPolicy {
        let status = SessionPolicyStatus { limits: Some(limits.to_owned()), ..SessionPolicyStatus::default() };
        ObservedPolicy { uid: "a".to_owned(), generation: 1, version, status, ..ObservedPolicy::default() }
    }

    #[test]
    fn event_older_than_an_own_write_is_ignored() {
        let (policies, name) = (ObservedPolicies::default(), ObjectName::new("team", "seats"));
        let limits = || policies.get(&name).unwrap().status.limits.unwrap();
        policies.insert(name.clone(), observed(5, "old"), false);
        assert_eq!(policies.take_changed(), [name.clone()].into());
        policies.record_write(&name, "a", observed(0, "ours").status, 8);
        policies.insert(name.clone(), observed(7, "between"), false);
        assert_eq!(limits(), "ours");
        assert!(policies.take_changed().is_empty(), "neither an own write nor an older event");
        policies.insert(name.clone(), observed(9, "theirs"), false);
        assert_eq!(limits(), "theirs");
        assert_eq!(policies.take_changed(), [name.clone()].into());
        // The answer to a write that came late.
        policies.record_write(&name, "a", observed(0, "ours").status, 8);
        assert_eq!(limits(), "theirs");
        policies.insert(name.clone(), ObservedPolicy { uid: "b".to_owned(), ..observed(2, "another") }, false);
        assert_eq!(limits(), "another");
        policies.insert(name.clone(), ObservedPolicy { uid: "b".to_owned(), ..observed(1, "restored") }, true);
        assert_eq!(limits(), "restored");
        policies.remove(&name);
        assert!(policies.take_changed().is_empty(), "a policy that is gone has no status");
    }
}
