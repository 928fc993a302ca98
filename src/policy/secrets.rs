//! The Secrets that a source has shown, and which version of a credential a policy uses.
//!
//! A new credential replaces the one before it when the tenant accepts it and it permits what the policy does. Until then
//! the one before serves; where there is none, the new one is used unproven. What a tenant said is kept beside the Secrets
//! as a fact about a credential and a tenant, so that which version a policy uses follows from what is known, whatever
//! order it became known in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::answer::Failure;
use super::compiled::{Policy, PolicyScope};
use super::condition::{CallersReport, CredentialReport, SecretProblem};
use super::name::ObjectName;
use super::policy_set::{CallerAccess, TokenDigest};
use super::tenant::Tenant;
use crate::secret::{CALLERS_TYPE, CREDENTIALS_TYPE, CallerTokens, Credentials, Fingerprint, SecretError};

/// A Secret as its source holds it.
pub struct SecretManifest {
    /// The Secret.
    pub name: ObjectName,
    /// `metadata.uid`, where the source has one: it tells a Secret from another one that had its name before.
    pub uid: Option<String>,
    /// `type`.
    pub kind: String,
    /// `data`, decoded; or why it cannot be.
    pub data: Result<BTreeMap<String, Vec<u8>>, SecretError>,
}

/// A credential towards a tenant: what a tenant's word is about, and what a client of it is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialKey {
    /// The credential.
    pub credential: Fingerprint,
    /// Where it is sent.
    pub tenant: Tenant,
}

/// What a tenant said of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It gave a token, with these scopes when it said which.
    Granted(Option<BTreeSet<String>>),
    /// It does not accept the credential.
    Rejected,
    /// It could not be asked, and has not accepted the credential before.
    Unreachable(Failure),
}

/// A credential whose proof a policy depends on.
#[derive(Clone)]
pub struct ProbeTarget {
    /// The credential.
    pub credentials: Arc<Credentials>,
    /// Its tenant.
    pub tenant: Tenant,
    /// What is known of it.
    pub state: CredentialState,
}

/// What is known of a credential, for those who prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// Nothing.
    Unknown,
    /// The tenant accepts it, and it permits what every policy that it is for does.
    Sufficient,
    /// The tenant accepts it, and some policy needs more than its token permits.
    Lacking,
    /// The tenant does not accept it.
    Rejected,
    /// The tenant could not be asked.
    Unreachable,
}

#[derive(Default)]
pub(super) struct Secrets {
    entries: HashMap<ObjectName, Entry>,
    probe_results: HashMap<CredentialKey, ProbeResult>,
}

#[derive(Default)]
struct Entry {
    uid: Option<String>,
    /// What can be used of it: the newest good version.
    content: Option<Content>,
    /// What is the matter with the newest version.
    trouble: Option<SecretProblem>,
    /// Values that are refused, alone.
    refused: Vec<SecretError>,
}

enum Content {
    /// Versions of a credential, the newest first; older ones only as long as a policy uses them.
    Credentials(Vec<Arc<Credentials>>),
    Callers(HashSet<TokenDigest>),
}

impl Secrets {
    /// Waits for the source's word on a Secret of which nothing is known.
    pub fn await_secret(&mut self, name: &ObjectName) -> bool {
        let trouble = || Entry { trouble: Some(SecretProblem::Awaited(name.clone())), ..Entry::default() };
        let is_new = !self.entries.contains_key(name);
        self.entries.entry(name.clone()).or_insert_with(trouble);
        is_new
    }

    /// Takes the newest version of a Secret; whether it changes anything.
    pub fn apply(&mut self, secret: &SecretManifest) -> bool {
        let last = self.entries.entry(secret.name.clone()).or_default();
        let replaced = last.uid.is_some() && last.uid != secret.uid;
        if replaced {
            // It was deleted while nobody looked: nothing of it stays in use.
            *last = Entry::default();
        }
        last.uid.clone_from(&secret.uid);
        match Content::read(secret) {
            Ok((content, refused)) => {
                let changed = replaced
                    || last.trouble.is_some()
                    || last.refused != refused
                    || !content.is_current(last.content.as_ref());
                if changed {
                    let content = Some(content.after(last.content.take()));
                    *last = Entry { uid: last.uid.take(), content, trouble: None, refused };
                }
                changed
            }
            Err(error) => {
                let kept = if last.content.is_some() { "; its last good version stays in use" } else { "" };
                last.trouble(SecretProblem::Invalid(format!("Secret {}: {error}{kept}", secret.name))) || replaced
            }
        }
    }

    /// Takes note that the source does not show a Secret. What was seen of it stays in use.
    pub fn forbid(&mut self, name: &ObjectName) -> bool {
        self.entries.entry(name.clone()).or_default().trouble(SecretProblem::Forbidden(name.clone()))
    }

    /// Stops the use of a Secret that is not there.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.entries.remove(name).is_some()
    }

    /// The Secrets there are.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.entries.keys()
    }

    /// The tokens of each callers' Secret.
    pub fn callers(&self) -> HashMap<&ObjectName, &HashSet<TokenDigest>> {
        let callers = |(name, entry)| match entry {
            &Entry { content: Some(Content::Callers(ref tokens)), .. } => Some((name, tokens)),
            _ => None,
        };
        self.entries.iter().filter_map(callers).collect()
    }

    /// Takes a tenant's word on a credential. That it cannot be asked now takes nothing back that it said before.
    pub fn probed(&mut self, key: CredentialKey, result: ProbeResult) -> bool {
        let last = self.probe_results.get(&key);
        let known = matches!(
            (last, &result),
            (Some(ProbeResult::Granted(_) | ProbeResult::Rejected), ProbeResult::Unreachable(_))
        );
        if known || last == Some(&result) {
            return false;
        }
        self.probe_results.insert(key, result);
        true
    }

    /// The credential that a policy uses, and what there is to say about it.
    pub fn credential(&self, policy: &Policy) -> (Option<&Arc<Credentials>>, CredentialReport) {
        let scope = &policy.scope;
        let name = &scope.credentials;
        let Some(entry) = self.entries.get(name) else {
            return (None, CredentialReport::Secret(SecretProblem::Missing(name.clone())));
        };
        let invalid = |error: &dyn std::fmt::Display| SecretProblem::Invalid(format!("Secret {name}: {error}"));
        let versions = match &entry.content {
            Some(Content::Credentials(versions)) => versions,
            Some(Content::Callers(_)) => {
                let problem = format!("it holds callers' tokens, its type must be {CREDENTIALS_TYPE}");
                return (None, CredentialReport::Secret(invalid(&problem)));
            }
            None => {
                let trouble = entry.trouble.clone().unwrap_or_else(|| SecretProblem::Awaited(name.clone()));
                return (None, CredentialReport::Secret(trouble));
            }
        };
        // Its owner's newest word on where it may be sent holds for all versions.
        if let Err(error) = versions[0].allows(scope.tenant.domain(), scope.tenant.custom_domain()) {
            return (None, CredentialReport::Secret(invalid(&error)));
        }
        let chosen = versions.iter().position(|version| self.suffices(version, policy)).unwrap_or(0);
        let state = match &entry.trouble {
            Some(trouble) => CredentialReport::Secret(trouble.clone()),
            None => self.state(&versions[0], policy, chosen > 0),
        };
        (Some(&versions[chosen]), state)
    }

    fn result(&self, credentials: &Credentials, scope: &PolicyScope) -> Option<&ProbeResult> {
        self.probe_results.get(&CredentialKey { credential: credentials.fingerprint(), tenant: scope.tenant.clone() })
    }

    /// Whether a policy can rely on a credential.
    fn suffices(&self, credentials: &Credentials, policy: &Policy) -> bool {
        let result = self.result(credentials, &policy.scope);
        let allowed = credentials.allows(policy.scope.tenant.domain(), policy.scope.tenant.custom_domain()).is_ok();
        allowed && matches!(result, Some(ProbeResult::Granted(scopes)) if missing(scopes.as_ref(), policy).is_empty())
    }

    fn state(&self, newest: &Credentials, policy: &Policy, kept: bool) -> CredentialReport {
        match self.result(newest, &policy.scope) {
            None => CredentialReport::Unproven { kept },
            Some(ProbeResult::Rejected) => CredentialReport::Rejected { kept },
            Some(ProbeResult::Unreachable(failure)) => CredentialReport::Unreachable { failure: *failure, kept },
            Some(ProbeResult::Granted(scopes)) => match missing(scopes.as_ref(), policy) {
                missing if missing.is_empty() => CredentialReport::Proven,
                missing => CredentialReport::InsufficientScope { missing, kept },
            },
        }
    }

    /// What there is to say about the callers that a policy names.
    pub fn callers_of(&self, name: Option<&ObjectName>, caller_access: &CallerAccess) -> CallersReport {
        let Some(name) = name else {
            let closed = caller_access.tokens.is_empty() && !caller_access.allow_anonymous;
            return if closed { CallersReport::Nobody } else { CallersReport::Ready };
        };
        let Some(entry) = self.entries.get(name) else {
            return CallersReport::Secret(SecretProblem::Missing(name.clone()));
        };
        let invalid =
            |problem: &str| CallersReport::Secret(SecretProblem::Invalid(format!("Secret {name}: {problem}")));
        match (&entry.trouble, &entry.content) {
            (Some(trouble), _) => CallersReport::Secret(trouble.clone()),
            (None, Some(Content::Callers(_))) if entry.refused.is_empty() => CallersReport::Ready,
            (None, Some(Content::Callers(_))) => {
                let refused: Vec<String> = entry.refused.iter().map(ToString::to_string).collect();
                invalid(&refused.join("; "))
            }
            (None, _) => invalid(&format!("it holds a credential, its type must be {CALLERS_TYPE}")),
        }
    }

    /// The credentials whose proof these policies depend on: the newest version for each.
    pub fn probe_targets<'a>(&self, policies: impl Iterator<Item = &'a Policy>) -> HashMap<CredentialKey, ProbeTarget> {
        let mut probe_targets: HashMap<CredentialKey, ProbeTarget> = HashMap::new();
        for policy in policies {
            let scope = &policy.scope;
            let Some(Entry { content: Some(Content::Credentials(versions)), .. }) =
                self.entries.get(&scope.credentials)
            else {
                continue;
            };
            let newest = &versions[0];
            if newest.allows(scope.tenant.domain(), scope.tenant.custom_domain()).is_err() {
                continue;
            }
            let state = match self.result(newest, scope) {
                None => CredentialState::Unknown,
                Some(ProbeResult::Rejected) => CredentialState::Rejected,
                Some(ProbeResult::Unreachable(_)) => CredentialState::Unreachable,
                Some(ProbeResult::Granted(scopes)) if missing(scopes.as_ref(), policy).is_empty() => {
                    CredentialState::Sufficient
                }
                Some(ProbeResult::Granted(_)) => CredentialState::Lacking,
            };
            let key = CredentialKey { credential: newest.fingerprint(), tenant: scope.tenant.clone() };
            let target = || ProbeTarget { credentials: Arc::clone(newest), tenant: scope.tenant.clone(), state };
            let target = probe_targets.entry(key).or_insert_with(target);
            // Policies can differ only in what they need.
            if state == CredentialState::Lacking {
                target.state = state;
            }
        }
        probe_targets
    }

    /// Forgets versions that no policy uses any more, and what was known of them.
    pub fn forget<'a>(&mut self, policies: impl Iterator<Item = &'a Policy>) {
        if self.entries.values().any(Entry::has_older_versions) {
            let used: HashSet<Fingerprint> =
                policies.filter_map(|policy| Some(self.credential(policy).0?.fingerprint())).collect();
            for entry in self.entries.values_mut() {
                if let Some(Content::Credentials(versions)) = &mut entry.content {
                    let newest = versions[0].fingerprint();
                    versions.retain(|version| version.fingerprint() == newest || used.contains(&version.fingerprint()));
                }
            }
        }
        let versions = self.entries.values().filter_map(|entry| match &entry.content {
            Some(Content::Credentials(versions)) => Some(versions),
            _ => None,
        });
        let known: HashSet<Fingerprint> = versions.flatten().map(|version| version.fingerprint()).collect();
        self.probe_results.retain(|key, _| known.contains(&key.credential));
    }
}

/// What a policy does that a token does not permit. A tenant that does not say is believed to permit it.
fn missing(scopes: Option<&BTreeSet<String>>, policy: &Policy) -> Vec<&'static str> {
    let needed = policy.scopes().iter().copied();
    scopes.map(|scopes| needed.filter(|scope| !scopes.contains(*scope)).collect()).unwrap_or_default()
}

impl Entry {
    fn has_older_versions(&self) -> bool {
        matches!(&self.content, Some(Content::Credentials(versions)) if versions.len() > 1)
    }

    fn trouble(&mut self, trouble: SecretProblem) -> bool {
        let changed = self.trouble.as_ref() != Some(&trouble);
        self.trouble = Some(trouble);
        self.refused.clear();
        changed
    }
}

impl Content {
    fn read(secret: &SecretManifest) -> Result<(Self, Vec<SecretError>), SecretError> {
        let data = secret.data.as_ref().map_err(Clone::clone)?;
        if secret.kind == CALLERS_TYPE {
            let callers = CallerTokens::from_secret(&secret.kind, data)?;
            let tokens = callers.callers.iter().map(|caller| TokenDigest::of(caller.token.expose_secret())).collect();
            return Ok((Self::Callers(tokens), callers.refused));
        }
        let credentials = Credentials::from_secret(&secret.kind, data)?;
        Ok((Self::Credentials(vec![Arc::new(credentials)]), Vec::new()))
    }

    /// Whether it says what the last version says.
    fn is_current(&self, last: Option<&Self>) -> bool {
        match (self, last) {
            (Self::Credentials(new), Some(Self::Credentials(last))) => new[0].fingerprint() == last[0].fingerprint(),
            (Self::Callers(new), Some(Self::Callers(last))) => new == last,
            _ => false,
        }
    }

    /// Puts the new version before those that may still be in use. One that comes back is the same as before, so that what
    /// was learned with it is not lost.
    fn after(self, last: Option<Self>) -> Self {
        match (self, last) {
            (Self::Credentials(mut new), Some(Self::Credentials(last))) => {
                if let Some(same) = last.iter().find(|version| version.fingerprint() == new[0].fingerprint()) {
                    new[0] = Arc::clone(same);
                }
                let newest = new[0].fingerprint();
                new.extend(last.into_iter().filter(|version| version.fingerprint() != newest));
                Self::Credentials(new)
            }
            (new, _) => new,
        }
    }
}
