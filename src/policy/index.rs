//! The policies and Secrets that a source has shown so far, and the snapshot that they make.
//!
//! Every source feeds the same index: a folder, the environment, Kubernetes. It is the one place that keeps the last good
//! version of what went wrong later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::compile::{Manifest, SpecError, compile, fallback};
use super::compiled::{Policy, PolicyScope};
use super::condition::{ActiveVersion, CredentialReport, PolicyReport};
use super::name::ObjectName;
use super::policy_set::{ActivePolicy, CallerAccess, PolicySet, PolicyVersion};
use super::precedence::overshadowings;
use super::secrets::{CredentialKey, ProbeResult, ProbeTarget, SecretManifest, Secrets};

/// What a source has shown so far.
#[derive(Default)]
pub struct Index {
    policies: BTreeMap<ObjectName, PolicyEntry>,
    secrets: Secrets,
    revision: u64,
}

struct PolicyEntry {
    version: Version,
    /// `None` when not even a tenant can be read.
    rule: Option<Arc<PolicyVersion>>,
    errors: Vec<SpecError>,
}

/// Tells versions of a policy apart without keeping them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    generation: i64,
    created_at: Option<Timestamp>,
    spec: [u8; 32],
}

impl Version {
    fn of(manifest: &Manifest) -> Self {
        let spec = digest(&SHA256, manifest.spec.to_string().as_bytes());
        Self {
            generation: manifest.generation,
            created_at: manifest.created_at,
            spec: spec.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
    }
}

impl Index {
    /// Counts the changes: what leaves it as it is changes nothing that is in force.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn changed(&mut self, changed: bool) {
        self.revision += u64::from(changed);
    }

    /// Takes the newest version of a policy. One that does not compile leaves the last good version in force, unless that
    /// was of another policy with the same name.
    pub fn apply_policy(&mut self, manifest: &Manifest) {
        let version = Version::of(manifest);
        if self.policies.get(&manifest.name).is_some_and(|last| last.version == version) {
            return;
        }
        let last = self.policies.remove(&manifest.name);
        let last_good = last
            .filter(|last| last.version.created_at == version.created_at)
            .and_then(|last| last.rule)
            .filter(|rule| matches!(**rule, PolicyVersion::Compiled(_)));
        let (rule, errors) = match compile(manifest) {
            Ok(policy) => (Some(Arc::new(PolicyVersion::Compiled(policy))), Vec::new()),
            Err(errors) => {
                let salvaged = || fallback(manifest).map(|fallback| Arc::new(PolicyVersion::Invalid(fallback)));
                (last_good.or_else(salvaged), errors)
            }
        };
        self.policies.insert(manifest.name.clone(), PolicyEntry { version, rule, errors });
        self.changed(true);
    }

    /// Forgets a policy that is no longer there.
    pub fn remove_policy(&mut self, name: &ObjectName) {
        let removed = self.policies.remove(name).is_some();
        self.changed(removed);
    }

    /// Says that the source will tell of a Secret, and has not yet.
    pub fn await_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.await_secret(name);
        self.changed(changed);
    }

    /// Takes the newest version of a Secret. One that cannot be read leaves the last good version in use, and so does a new
    /// credential until it is proven.
    pub fn apply_secret(&mut self, secret: &SecretManifest) {
        let changed = self.secrets.apply(secret);
        self.changed(changed);
    }

    /// Takes note that the source does not show a Secret. What was seen of it stays in use.
    pub fn forbid_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.forbid(name);
        self.changed(changed);
    }

    /// Stops the use of a Secret that is not there.
    pub fn remove_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.remove(name);
        self.changed(changed);
    }

    /// Takes a tenant's word on a credential.
    pub fn probed(&mut self, key: CredentialKey, result: ProbeResult) {
        let changed = self.secrets.probed(key, result);
        self.changed(changed);
    }

    /// The Secrets there are.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectName> {
        self.secrets.names()
    }

    /// The policies there are.
    pub fn policies(&self) -> impl Iterator<Item = &ObjectName> {
        self.policies.keys()
    }

    /// The Secrets that policies name: the only ones that are ever read.
    pub fn named_secrets(&self) -> BTreeSet<&ObjectName> {
        let rules = self.policies.values().filter_map(|entry| entry.rule.as_deref());
        rules
            .flat_map(|rule| {
                let credentials = matches!(rule, PolicyVersion::Compiled(_)).then_some(&rule.scope().credentials);
                credentials.into_iter().chain(&rule.scope().callers)
            })
            .collect()
    }

    /// The credentials whose proof policies depend on.
    pub fn probe_targets(&self) -> HashMap<CredentialKey, ProbeTarget> {
        self.secrets.probe_targets(compiled(&self.policies))
    }

    /// Forgets credentials that were replaced.
    pub fn forget_replaced(&mut self) {
        self.secrets.forget(compiled(&self.policies));
    }

    /// What all of it makes, and what there is to say about each policy, in the order of their names.
    pub fn publish(&self, caller_access: &CallerAccess) -> (PolicySet, Vec<PolicyReport>) {
        let mut scopes: Vec<&PolicyScope> =
            self.policies.values().filter_map(|entry| entry.rule.as_deref()).map(PolicyVersion::scope).collect();
        scopes.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut overshadowings = overshadowings(&scopes);
        let mut active_policies = Vec::with_capacity(self.policies.len());
        let mut reports = Vec::with_capacity(self.policies.len());
        for (name, entry) in &self.policies {
            let rule = entry.rule.as_ref();
            let (credentials, credential) = match rule.map(AsRef::as_ref) {
                Some(PolicyVersion::Compiled(policy)) => self.secrets.credential(policy),
                Some(PolicyVersion::Invalid(_)) | None => (None, CredentialReport::Unneeded),
            };
            if let Some(rule) = rule {
                active_policies
                    .push(Arc::new(ActivePolicy { rule: Arc::clone(rule), credentials: credentials.cloned() }));
            }
            reports.push(PolicyReport {
                name: name.clone(),
                generation: entry.version.generation,
                rule: rule.cloned(),
                errors: entry.errors.clone(),
                active_version: match rule.map(AsRef::as_ref) {
                    Some(PolicyVersion::Compiled(_)) if entry.errors.is_empty() => ActiveVersion::Newest,
                    Some(PolicyVersion::Compiled(_)) => ActiveVersion::LastGood,
                    Some(PolicyVersion::Invalid(_)) => ActiveVersion::FailurePolicy,
                    None => ActiveVersion::Nothing,
                },
                overshadowing: overshadowings.remove(name),
                credential,
                callers: self.secrets.callers_of(rule.and_then(|rule| rule.scope().callers.as_ref()), caller_access),
            });
        }
        (PolicySet::new(active_policies, &self.secrets.callers(), caller_access), reports)
    }
}

fn compiled(policies: &BTreeMap<ObjectName, PolicyEntry>) -> impl Iterator<Item = &Policy> {
    policies.values().filter_map(|entry| match entry.rule.as_deref() {
        Some(PolicyVersion::Compiled(policy)) => Some(policy),
        _ => None,
    })
}
