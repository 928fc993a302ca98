//! The objects of the API server as the service keeps them: parsed leniently, and reduced to the parts that it needs.

use std::borrow::Cow;
use std::collections::HashMap;
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
    policies: Mutex<HashMap<ObjectName, ObservedPolicy>>,
    changes: watch::Sender<()>,
}

/// A policy as the API server last showed it, without its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedPolicy {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 when there is none.
    pub generation: i64,
    /// `status`; empty when there is none or it cannot be parsed.
    pub status: SessionPolicyStatus,
}

impl ObservedPolicies {
    /// A policy as it was last shown; `None` when it was deleted.
    pub fn get(&self, name: &ObjectName) -> Option<ObservedPolicy> {
        self.lock().get(name).cloned()
    }

    /// Signals each change. A receiver may miss some, but never the last.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn insert(&self, name: ObjectName, policy: ObservedPolicy) {
        self.lock().insert(name, policy);
        self.changes.send_replace(());
    }

    /// Records a status that was written, until the watch shows it.
    pub(super) fn record_write(&self, name: &ObjectName, uid: &str, status: SessionPolicyStatus) {
        if let Some(policy) = self.lock().get_mut(name).filter(|policy| policy.uid == uid) {
            policy.status = status;
        }
    }

    pub(super) fn remove(&self, name: &ObjectName) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectName, ObservedPolicy>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Splits a policy into the manifest for the index and the rest. Everything else is dropped: the managed fields alone
/// are larger than both together.
pub(super) fn policy(stored: StoredPolicy) -> Box<(Manifest, ObservedPolicy)> {
    let manifest = Manifest {
        name: name(&stored.metadata),
        generation: stored.metadata.generation.unwrap_or_default(),
        created_at: stored.metadata.creation_timestamp.map(|time| time.0),
        spec: stored.spec,
    };
    let observed = ObservedPolicy {
        uid: stored.metadata.uid.unwrap_or_default(),
        generation: manifest.generation,
        status: SessionPolicyStatus::deserialize(stored.status).unwrap_or_default(),
    };
    Box::new((manifest, observed))
}

/// The manifest of a Secret.
pub(super) fn secret(secret: Secret) -> SecretManifest {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    SecretManifest { name: name(&secret.metadata), kind: secret.type_.unwrap_or_default(), data: Ok(data) }
}

fn name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
