//! Objects of the API server as they are taken in: leniently, and no more of them than is needed.

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

/// A `SessionPolicy` of which only the metadata has to be what the schema says.
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

/// What the API server holds of the policies beside their specs, as it was last seen.
#[derive(Debug, Default)]
pub struct Seen {
    policies: Mutex<HashMap<ObjectName, SeenPolicy>>,
    changes: watch::Sender<()>,
}

/// What the API server holds of a policy beside its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeenPolicy {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`; 0 where there is none.
    pub generation: i64,
    /// `status`; empty when there is none, or none that can be read.
    pub status: SessionPolicyStatus,
}

impl Seen {
    /// What was last seen of a policy; nothing when it is gone.
    pub fn policy(&self, name: &ObjectName) -> Option<SeenPolicy> {
        self.lock().get(name).cloned()
    }

    /// Tells of each change. Some may be passed over, never the last.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn observe(&self, name: ObjectName, policy: SeenPolicy) {
        self.lock().insert(name, policy);
        self.changes.send_replace(());
    }

    /// Takes the status that was written, until the watch shows it.
    pub(super) fn record_write(&self, name: &ObjectName, uid: &str, status: SessionPolicyStatus) {
        if let Some(policy) = self.lock().get_mut(name).filter(|policy| policy.uid == uid) {
            policy.status = status;
        }
    }

    pub(super) fn forget(&self, name: &ObjectName) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectName, SeenPolicy>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A policy as it is taken in.
pub(super) struct PolicyObject {
    /// What the index takes.
    pub manifest: Manifest,
    /// The rest.
    pub seen: SeenPolicy,
}

/// Takes the parts that are needed; the rest, managed fields above all, is more than all of these together.
pub(super) fn policy(stored: StoredPolicy) -> Box<PolicyObject> {
    let manifest = Manifest {
        name: name(&stored.metadata),
        generation: stored.metadata.generation.unwrap_or_default(),
        created_at: stored.metadata.creation_timestamp.map(|time| time.0),
        spec: stored.spec,
    };
    let seen = SeenPolicy {
        uid: stored.metadata.uid.unwrap_or_default(),
        generation: manifest.generation,
        status: SessionPolicyStatus::deserialize(stored.status).unwrap_or_default(),
    };
    Box::new(PolicyObject { manifest, seen })
}

/// A Secret as it is taken in.
pub(super) fn secret(secret: Secret) -> SecretManifest {
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    SecretManifest {
        name: name(&secret.metadata),
        uid: secret.metadata.uid,
        kind: secret.type_.unwrap_or_default(),
        data: Ok(data),
    }
}

fn name(metadata: &ObjectMeta) -> ObjectName {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectName::new(text(&metadata.namespace), text(&metadata.name))
}
