//! The policies and Secrets that a source has shown so far, and the snapshot that they make.
//!
//! Every source feeds the same index: a folder, the environment, Kubernetes. It is the one place that keeps the last good
//! version of what went wrong later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::compile::{Manifest, SpecError, compile, salvage};
use super::compiled::{Claim, Selector};
use super::name::ObjectName;
use super::snapshot::{Doors, Governor, Rule, Snapshot, TokenDigest};
use secrecy::ExposeSecret;

use crate::secret::{CALLERS_TYPE, CREDENTIALS_TYPE, Callers, Credentials, SecretError};

/// A Secret as its source holds it.
pub struct SecretManifest {
    /// The Secret.
    pub name: ObjectName,
    /// `type`.
    pub kind: String,
    /// `data`, decoded; or why it cannot be.
    pub data: Result<BTreeMap<String, Vec<u8>>, SecretError>,
}

/// What a source has shown so far.
#[derive(Default)]
pub struct Index {
    policies: BTreeMap<ObjectName, PolicyEntry>,
    secrets: HashMap<ObjectName, SecretEntry>,
}

struct PolicyEntry {
    manifest: Manifest,
    /// `None` when not even a tenant can be read.
    rule: Option<Arc<Rule>>,
    errors: Vec<SpecError>,
}

struct SecretEntry {
    /// The last good version.
    content: Option<SecretContent>,
    /// What is wrong with the newest version.
    error: Option<SecretError>,
    /// Values that are refused, alone.
    refused: Vec<SecretError>,
}

enum SecretContent {
    Credentials(Arc<Credentials>),
    Callers(HashSet<TokenDigest>),
}

/// What there is to say about one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyReport {
    /// The policy.
    pub name: ObjectName,
    /// `metadata.generation` of its newest version.
    pub generation: i64,
    /// What is wrong with its newest version.
    pub errors: Vec<SpecError>,
    /// Which version is in force.
    pub in_force: InForce,
    /// The older policy that claims exactly the same logins.
    pub conflicts_with: Option<ObjectName>,
    /// Why there is no credential, in words for people.
    pub credentials_error: Option<String>,
    /// What is wrong with its callers' Secret, in words for people.
    pub callers_error: Option<String>,
}

impl PolicyReport {
    /// Whether the policy is in force as written, with everything that it needs.
    pub fn is_ready(&self) -> bool {
        let problems = [&self.credentials_error, &self.callers_error];
        self.in_force == InForce::Newest
            && self.conflicts_with.is_none()
            && problems.iter().all(|problem| problem.is_none())
    }
}

/// Which version of a policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The newest.
    Newest,
    /// An earlier one, because the newest does not compile.
    LastGood,
    /// None compiles: its failure policy answers.
    FailurePolicy,
    /// Not even its tenant can be read: it governs nothing.
    Nothing,
}

impl InForce {
    /// Every state, for tables and metrics.
    pub const ALL: [Self; 4] = [Self::Newest, Self::LastGood, Self::FailurePolicy, Self::Nothing];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::LastGood => "last_good",
            Self::FailurePolicy => "failure_policy",
            Self::Nothing => "nothing",
        }
    }
}

impl Index {
    /// Takes the newest version of a policy. One that does not compile leaves the last good version in force.
    pub fn apply_policy(&mut self, manifest: Manifest) {
        if self.policies.get(&manifest.name).is_some_and(|last| last.manifest == manifest) {
            return;
        }
        let last = self.policies.remove(&manifest.name);
        let last_good = last.and_then(|last| last.rule).filter(|rule| matches!(**rule, Rule::Compiled(_)));
        let (rule, errors) = match compile(&manifest) {
            Ok(policy) => (Some(Arc::new(Rule::Compiled(policy))), Vec::new()),
            Err(errors) => {
                let salvaged = || salvage(&manifest).map(|salvage| Arc::new(Rule::Invalid(salvage)));
                (last_good.or_else(salvaged), errors)
            }
        };
        self.policies.insert(manifest.name.clone(), PolicyEntry { manifest, rule, errors });
    }

    /// Forgets a policy that is no longer there.
    pub fn remove_policy(&mut self, name: &ObjectName) {
        self.policies.remove(name);
    }

    /// Takes the newest version of a Secret. One that cannot be read leaves the last good version in use.
    pub fn apply_secret(&mut self, secret: &SecretManifest) {
        let last_good = self.secrets.remove(&secret.name).and_then(|last| last.content);
        let entry = match SecretContent::read(secret) {
            Ok((content, refused)) => SecretEntry { content: Some(content.or_same(last_good)), error: None, refused },
            Err(error) => SecretEntry { content: last_good, error: Some(error), refused: Vec::new() },
        };
        self.secrets.insert(secret.name.clone(), entry);
    }

    /// Stops the use of a Secret that is no longer there.
    pub fn remove_secret(&mut self, name: &ObjectName) {
        self.secrets.remove(name);
    }

    /// The Secrets there are.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectName> {
        self.secrets.keys()
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
                let credentials = matches!(rule, Rule::Compiled(_)).then_some(&rule.claim().credentials);
                credentials.into_iter().chain(&rule.claim().callers)
            })
            .collect()
    }

    /// What all of it makes.
    pub fn snapshot(&self, doors: &Doors) -> Snapshot {
        let governors = self.policies.values().filter_map(|entry| entry.rule.as_ref()).map(|rule| {
            let credentials = self.credentials(rule.claim()).ok().cloned();
            Arc::new(Governor { rule: Arc::clone(rule), credentials })
        });
        let callers = self.secrets.iter().filter_map(|(name, entry)| match &entry.content {
            Some(SecretContent::Callers(tokens)) => Some((name, tokens)),
            _ => None,
        });
        Snapshot::new(governors.collect(), &callers.collect(), doors)
    }

    /// The credential that a policy may use.
    fn credentials(&self, claim: &Claim) -> Result<&Arc<Credentials>, String> {
        let name = &claim.credentials;
        let entry = self.secrets.get(name).ok_or_else(|| format!("Secret {name} is not there: create it"))?;
        match &entry.content {
            Some(SecretContent::Credentials(credentials)) => credentials
                .allows(claim.tenant.domain(), claim.tenant.custom_domain())
                .map(|()| credentials)
                .map_err(|error| format!("Secret {name}: {error}")),
            Some(SecretContent::Callers(_)) => {
                Err(format!("Secret {name} holds callers' tokens: its type must be {CREDENTIALS_TYPE}"))
            }
            None => Err(entry.error.as_ref().map_or_else(String::new, |error| format!("Secret {name}: {error}"))),
        }
    }

    /// What there is to say about each policy.
    pub fn reports(&self, doors: &Doors) -> Vec<PolicyReport> {
        let conflicts = self.conflicts();
        let report = |(name, entry): (&ObjectName, &PolicyEntry)| {
            let claim = entry.rule.as_deref().map(Rule::claim);
            PolicyReport {
                name: name.clone(),
                generation: entry.manifest.generation,
                errors: entry.errors.clone(),
                in_force: match entry.rule.as_deref() {
                    Some(Rule::Compiled(_)) if entry.errors.is_empty() => InForce::Newest,
                    Some(Rule::Compiled(_)) => InForce::LastGood,
                    Some(Rule::Invalid(_)) => InForce::FailurePolicy,
                    None => InForce::Nothing,
                },
                conflicts_with: conflicts.get(name).map(|older| (*older).clone()),
                credentials_error: claim.and_then(|claim| self.credentials_error(claim)),
                callers_error: claim.and_then(|claim| self.callers_error(claim.callers.as_ref(), doors)),
            }
        };
        self.policies.iter().map(report).collect()
    }

    fn credentials_error(&self, claim: &Claim) -> Option<String> {
        let newest = self.secrets.get(&claim.credentials).and_then(|entry| entry.error.as_ref());
        let kept =
            newest.map(|error| format!("Secret {}: {error}; its last good version stays in use", claim.credentials));
        self.credentials(claim).err().or(kept)
    }

    fn callers_error(&self, name: Option<&ObjectName>, doors: &Doors) -> Option<String> {
        let Some(name) = name else {
            let closed = doors.tokens.is_empty() && !doors.allow_anonymous;
            return closed.then(|| {
                "nobody may use this policy: name a callerSecretRef, or start the service with --caller-token-file or \
                 --allow-anonymous"
                    .to_owned()
            });
        };
        let Some(entry) = self.secrets.get(name) else {
            return Some(format!("Secret {name} is not there: create it, until then nobody may use this policy"));
        };
        match (&entry.error, &entry.content) {
            (Some(SecretError::Type { found, .. }), _) => {
                let error = SecretError::Type { expected: CALLERS_TYPE, found: found.clone() };
                Some(format!("Secret {name}: {error}"))
            }
            (Some(error), _) => Some(format!("Secret {name}: {error}")),
            (None, Some(SecretContent::Callers(_))) => {
                let refused: Vec<String> = entry.refused.iter().map(ToString::to_string).collect();
                (!refused.is_empty()).then(|| format!("Secret {name}: {}", refused.join("; ")))
            }
            (None, _) => Some(format!("Secret {name} holds a credential: its type must be {CALLERS_TYPE}")),
        }
    }

    /// Policies that claim exactly the same logins for the same callers with the same priority as another that stands
    /// before them, and which.
    fn conflicts(&self) -> HashMap<&ObjectName, &ObjectName> {
        let mut claims: Vec<&Claim> =
            self.policies.values().filter_map(|entry| entry.rule.as_deref()).map(Rule::claim).collect();
        claims.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut first: HashMap<(&str, Option<&ObjectName>, SelectorKey<'_>, i32), &ObjectName> = HashMap::new();
        let mut conflicts = HashMap::new();
        for claim in claims {
            let key = (claim.tenant.domain(), claim.callers.as_ref(), selector_key(&claim.selector), claim.priority);
            match first.get(&key) {
                Some(older) => {
                    conflicts.insert(&claim.name, *older);
                }
                None => {
                    first.insert(key, &claim.name);
                }
            }
        }
        conflicts
    }
}

/// A selector as sorted lists, so that equal ones are found.
type SelectorKey<'a> = [Option<Vec<&'a str>>; 3];

fn selector_key(selector: &Selector) -> SelectorKey<'_> {
    [&selector.clients, &selector.organizations, &selector.connections].map(|list| {
        list.as_ref().map(|list| {
            let mut list: Vec<&str> = list.iter().map(String::as_str).collect();
            list.sort_unstable();
            list
        })
    })
}

impl SecretContent {
    fn read(secret: &SecretManifest) -> Result<(Self, Vec<SecretError>), SecretError> {
        let data = secret.data.as_ref().map_err(Clone::clone)?;
        if secret.kind == CALLERS_TYPE {
            let callers = Callers::from_secret(&secret.kind, data)?;
            let tokens = callers.callers.iter().map(|caller| TokenDigest::of(caller.token.expose_secret())).collect();
            return Ok((Self::Callers(tokens), callers.refused));
        }
        let credentials = Credentials::from_secret(&secret.kind, data)?;
        Ok((Self::Credentials(Arc::new(credentials)), Vec::new()))
    }

    /// Keeps the last version when nothing changed, so that what was learned with a credential is not lost.
    fn or_same(self, last: Option<Self>) -> Self {
        match (self, last) {
            (Self::Credentials(new), Some(Self::Credentials(last))) if new.fingerprint() == last.fingerprint() => {
                Self::Credentials(last)
            }
            (new, _) => new,
        }
    }
}
