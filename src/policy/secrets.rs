//! The Secrets that a source has shown, and the version of a credential that a policy uses.
//!
//! A new credential replaces the previous one when it is proven: the tenant accepts it, and it has the OAuth scopes that
//! the policy needs. Until then the previous one stays in use; when there is none, the new one is used unproven. Probe
//! results are kept apart from the Secrets, by credential and tenant. The version that a policy uses therefore depends on
//! what is known, and not on the order in which it became known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::answer::Failure;
use super::condition::{CallersReport, CredentialReport, LogStreamReport, SecretProblem};
use super::model::{Policy, PolicyScope};
use super::name::ObjectName;
use super::policy_set::{CallerAccess, TenantProof, TokenDigest};
use super::tenant::Tenant;
use crate::secret::{
    CALLERS_TYPE, CREDENTIALS_TYPE, CallerTokens, Credentials, Fingerprint, LOG_STREAM_TYPE, LogStreamTokens,
    SecretError,
};

/// A Secret as its source holds it.
pub struct SecretManifest {
    /// `metadata.namespace` and `metadata.name`.
    pub name: ObjectName,
    /// `type`.
    pub kind: String,
    /// `data`, decoded, or the reason why it cannot be decoded.
    pub data: Result<BTreeMap<String, Vec<u8>>, SecretError>,
}

/// A credential at a tenant: the subject of a probe, and the key of the tenant's client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialKey {
    credential: Fingerprint,
    /// The canonical domain of the tenant that the credential is sent to.
    domain: Arc<str>,
    /// The custom domain that it is sent to in place of the canonical one.
    custom_domain: Option<Arc<str>>,
}

impl CredentialKey {
    /// A credential at a tenant. The other names of the tenant do not matter: no call goes there.
    pub fn new(credentials: &Credentials, tenant: &Tenant) -> Self {
        let (domain, custom_domain) = tenant.hosts();
        Self { credential: credentials.fingerprint(), domain, custom_domain }
    }
}

/// The outcome of a credential probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The tenant issued a token, with these OAuth scopes when the response names them.
    Granted(Option<BTreeSet<String>>),
    /// The tenant does not accept the credential.
    Rejected,
    /// The tenant did not respond.
    Unreachable {
        /// The reason that a check would answer with.
        failure: Failure,
        /// What happened.
        detail: Cow<'static, str>,
        /// What the owner of the policy has to change, where that is known.
        remedy: Option<String>,
    },
}

/// A credential to probe.
#[derive(Clone)]
pub struct ProbeTarget {
    /// The credential, the newest version of its Secret.
    pub credentials: Arc<Credentials>,
    /// The tenant that has to accept it.
    pub tenant: Tenant,
    /// The result of the last probe.
    pub state: CredentialState,
}

/// The result of the last probe of a credential, compared with what its policies need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// The credential was not probed yet.
    Unknown,
    /// The tenant accepts it, and it has the OAuth scopes that all of its policies need.
    Sufficient,
    /// The tenant accepts it, and one of its policies needs more OAuth scopes.
    Lacking,
    /// The tenant does not accept it.
    Rejected,
    /// The tenant did not respond.
    Unreachable,
}

#[derive(Default)]
pub(super) struct Secrets {
    entries: HashMap<ObjectName, SecretEntry>,
    probe_results: HashMap<CredentialKey, ProbeResult>,
}

#[derive(Default)]
struct SecretEntry {
    /// `type` of the newest version; `None` when it was not seen.
    kind: Option<String>,
    /// The newest good version.
    content: Option<SecretContent>,
    /// The problem of the newest version.
    problem: Option<SecretProblem>,
    /// Values that are rejected; the others are used.
    rejected: Vec<SecretError>,
    /// Keys of a callers' Secret that are not for tokens.
    other_keys: Vec<String>,
}

/// A version of a Secret that can be used.
struct ReadSecret {
    content: SecretContent,
    rejected: Vec<SecretError>,
    other_keys: Vec<String>,
}

enum SecretContent {
    /// Versions of a credential, the newest first; older ones only while a policy uses them.
    Credentials(Vec<Arc<Credentials>>),
    Callers(HashSet<TokenDigest>),
    /// The tokens of a log stream, and the domain of its tenant.
    LogStream(String, HashSet<TokenDigest>),
}

/// The credential that a policy uses.
pub(super) struct ChosenCredential<'a> {
    /// `None` when its Secret has none that may be sent to the policy's tenant.
    pub credentials: Option<&'a Arc<Credentials>>,
    pub report: CredentialReport,
    /// How well it is shown that the owner of the policy may speak for its tenant.
    pub tenant_proof: TenantProof,
}

impl ChosenCredential<'_> {
    pub fn none(report: CredentialReport) -> Self {
        Self { credentials: None, report, tenant_proof: TenantProof::Unproven }
    }
}

impl Secrets {
    /// Notes that the source has not yet reported whether a Secret exists; whether the Secret was unknown.
    pub fn await_secret(&mut self, name: &ObjectName) -> bool {
        let is_new = !self.entries.contains_key(name);
        if is_new {
            let problem = Some(SecretProblem::Awaited(name.clone()));
            self.entries.insert(name.clone(), SecretEntry { problem, ..SecretEntry::default() });
        }
        is_new
    }

    /// Takes the newest version of a Secret; whether that changes anything.
    pub fn apply(&mut self, secret: &SecretManifest) -> bool {
        let last = self.entries.entry(secret.name.clone()).or_default();
        let retyped = last.kind.as_ref() != Some(&secret.kind);
        last.kind = Some(secret.kind.clone());
        match SecretContent::read(secret) {
            Ok(ReadSecret { content, rejected, other_keys }) => {
                let changed = last.problem.is_some()
                    || (&last.rejected, &last.other_keys) != (&rejected, &other_keys)
                    || !content.is_current(last.content.as_ref());
                if changed {
                    last.content = Some(content.after(last.content.take()));
                    (last.problem, last.rejected, last.other_keys) = (None, rejected, other_keys);
                }
                changed
            }
            Err(error) => {
                let last_good = last.last_good();
                let problem = SecretProblem::Invalid(format!("Secret {}: {error}{last_good}", secret.name));
                last.set_problem(problem) || retyped
            }
        }
    }

    /// Notes that the service may not read a Secret. The version that was read before stays in use.
    pub fn forbid(&mut self, name: &ObjectName) -> bool {
        self.entries.entry(name.clone()).or_default().set_problem(SecretProblem::Forbidden(name.clone()))
    }

    /// Notes why a Secret of which nothing is known cannot be read; whether that changes anything. The first cause stays until
    /// there is an answer: an API server may name each failure differently, and every difference would be written.
    pub fn fail(&mut self, name: &ObjectName, cause: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        matches!(entry.problem, Some(SecretProblem::Awaited(_)))
            && entry.set_problem(SecretProblem::Unreadable(name.clone(), cause.to_owned()))
    }

    /// Stops the use of a Secret that no longer exists.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.entries.remove(name).is_some()
    }

    /// The Secrets that are known.
    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.entries.keys()
    }

    /// The tokens of each callers' Secret.
    pub fn callers(&self) -> HashMap<&ObjectName, &HashSet<TokenDigest>> {
        let tokens = self.entries.iter().filter_map(|(name, entry)| match &entry.content {
            Some(SecretContent::Callers(tokens)) => Some((name, tokens)),
            _ => None,
        });
        tokens.collect()
    }

    /// Takes the result of a credential probe. A tenant that does not respond now takes back no earlier result.
    pub fn probed(&mut self, key: CredentialKey, result: ProbeResult) -> bool {
        let last = self.probe_results.get(&key);
        let known = matches!(
            (last, &result),
            (Some(ProbeResult::Granted(_) | ProbeResult::Rejected), ProbeResult::Unreachable { .. })
        );
        if known || last == Some(&result) {
            return false;
        }
        self.probe_results.insert(key, result);
        true
    }

    /// The credential that a policy uses, and what is known of it.
    pub fn credential(&self, policy: &Policy) -> ChosenCredential<'_> {
        let scope = &policy.scope;
        let name = &scope.credentials;
        let Some(entry) = self.entries.get(name) else {
            return ChosenCredential::none(CredentialReport::Secret(SecretProblem::Missing(name.clone())));
        };
        let invalid = |error: &SecretError| SecretProblem::Invalid(format!("Secret {name}: {error}"));
        let problem = entry.problem_as(name, CREDENTIALS_TYPE);
        let Some(SecretContent::Credentials(versions)) = &entry.content else {
            let problem = problem.unwrap_or_else(|| SecretProblem::Awaited(name.clone()));
            return ChosenCredential::none(CredentialReport::Secret(problem));
        };
        // The newest version says to which tenant its owner allows all versions to be sent.
        if let Err(error) = allows(&versions[0], scope) {
            return ChosenCredential::none(CredentialReport::Secret(invalid(&error)));
        }
        let newest = self.probe_result(&versions[0], scope);
        let proven = |version: &&Arc<Credentials>| {
            allows(version, scope).is_ok() && suffices(self.probe_result(version, scope), policy)
        };
        let previous = if suffices(newest, policy) { None } else { versions[1..].iter().find(proven) };
        let report = match problem {
            Some(problem) => CredentialReport::Secret(problem),
            None => report(newest, policy, previous.is_some()),
        };
        // A previous version is used only because the tenant granted it. The scopes do not matter.
        let is_accepted = previous.is_some() || matches!(newest, Some(ProbeResult::Granted(_)));
        let tenant_proof = match scope.tenant.custom_domain() {
            _ if !is_accepted => TenantProof::Unproven,
            None => TenantProof::CanonicalDomain,
            Some(_) => TenantProof::CustomDomain,
        };
        ChosenCredential { credentials: Some(previous.unwrap_or(&versions[0])), report, tenant_proof }
    }

    fn probe_result(&self, credentials: &Credentials, scope: &PolicyScope) -> Option<&ProbeResult> {
        self.probe_results.get(&CredentialKey::new(credentials, &scope.tenant))
    }

    /// A report on the callers that a policy names.
    pub fn callers_of(&self, name: Option<&ObjectName>, caller_access: &CallerAccess) -> CallersReport {
        let Some(name) = name else {
            let has_tokens = !caller_access.tokens.is_empty() || caller_access.signed_tokens.is_some();
            let closed = !has_tokens && !caller_access.allow_anonymous;
            return if closed { CallersReport::Nobody } else { CallersReport::Ready };
        };
        self.tokens_problem(name, CALLERS_TYPE, None).map_or(CallersReport::Ready, CallersReport::Secret)
    }

    /// What is wrong with a Secret of tokens: the Secret itself, or single tokens and `more`.
    fn tokens_problem(
        &self,
        name: &ObjectName,
        type_: &'static str,
        more: Option<&SecretError>,
    ) -> Option<SecretProblem> {
        let Some(entry) = self.entries.get(name) else { return Some(SecretProblem::Missing(name.clone())) };
        if let Some(problem) = entry.problem_as(name, type_) {
            return Some(problem);
        }
        let errors: Vec<String> = entry.rejected.iter().chain(more).map(ToString::to_string).collect();
        (!errors.is_empty()).then(|| SecretProblem::Invalid(format!("Secret {name}: {}", errors.join("; "))))
    }

    /// The tokens of the log stream that a policy names, when the Secret is for the policy's tenant.
    pub fn log_stream(&self, scope: &PolicyScope) -> Option<&HashSet<TokenDigest>> {
        match &self.entries.get(scope.log_stream.as_ref()?)?.content {
            Some(SecretContent::LogStream(domain, tokens)) if domain == scope.tenant.domain() => Some(tokens),
            _ => None,
        }
    }

    /// A report on the log stream that a policy names. `is_shared` is whether another tenant has one of its tokens.
    pub fn log_stream_of(&self, scope: &PolicyScope, is_shared: bool) -> LogStreamReport {
        let Some(name) = &scope.log_stream else { return LogStreamReport::Unnamed };
        let more = match self.log_stream(scope) {
            None => Some(SecretError::OtherDomain { domain: scope.tenant.domain().to_owned() }),
            Some(_) => is_shared.then_some(SecretError::SharedStreamToken),
        };
        self.tokens_problem(name, LOG_STREAM_TYPE, more.as_ref())
            .map_or(LogStreamReport::Ready, LogStreamReport::Secret)
    }

    /// What somebody should know of a policy's Secrets although they work.
    pub fn warnings(&self, scope: &PolicyScope) -> Vec<String> {
        let Some(name) = &scope.callers else { return Vec::new() };
        let Some(entry) = self.entries.get(name).filter(|entry| !entry.other_keys.is_empty()) else {
            return Vec::new();
        };
        vec![format!(
            "Secret {name}: the keys {} are not for callers' tokens; a later version ignores them: write tokens under token, \
             token-*, action, action-*, current, previous or next",
            quoted(&entry.other_keys)
        )]
    }

    /// The keys of the newest version of a policy's credential whose values look wrong.
    pub fn suspect_keys(&self, scope: &PolicyScope) -> Vec<&'static str> {
        match self.entries.get(&scope.credentials).map(|entry| &entry.content) {
            Some(Some(SecretContent::Credentials(versions))) => versions[0].suspect_keys(),
            _ => Vec::new(),
        }
    }

    /// The credentials to probe for these policies: the newest version for each.
    pub fn probe_targets<'a>(&self, policies: impl Iterator<Item = &'a Policy>) -> HashMap<CredentialKey, ProbeTarget> {
        let mut probe_targets: HashMap<CredentialKey, ProbeTarget> = HashMap::new();
        for policy in policies {
            let scope = &policy.scope;
            let Some(SecretEntry { content: Some(SecretContent::Credentials(versions)), .. }) =
                self.entries.get(&scope.credentials)
            else {
                continue;
            };
            let newest = &versions[0];
            if allows(newest, scope).is_err() {
                continue;
            }
            let state = match self.probe_result(newest, scope) {
                None => CredentialState::Unknown,
                Some(ProbeResult::Rejected) => CredentialState::Rejected,
                Some(ProbeResult::Unreachable { .. }) => CredentialState::Unreachable,
                Some(ProbeResult::Granted(granted)) if missing(granted.as_ref(), policy).is_empty() => {
                    CredentialState::Sufficient
                }
                Some(ProbeResult::Granted(_)) => CredentialState::Lacking,
            };
            let key = CredentialKey::new(newest, &scope.tenant);
            let target = || ProbeTarget { credentials: Arc::clone(newest), tenant: scope.tenant.clone(), state };
            let target = probe_targets.entry(key).or_insert_with(target);
            // Policies of one credential differ only in the OAuth scopes that they need.
            if state == CredentialState::Lacking {
                target.state = state;
            }
        }
        probe_targets
    }

    /// Drops versions that no policy uses any more, and their probe results.
    pub fn forget<'a>(&mut self, policies: impl Iterator<Item = &'a Policy>) {
        if self.entries.values().any(SecretEntry::has_older_versions) {
            let used: HashSet<Fingerprint> =
                policies.filter_map(|policy| Some(self.credential(policy).credentials?.fingerprint())).collect();
            for entry in self.entries.values_mut() {
                if let Some(SecretContent::Credentials(versions)) = &mut entry.content {
                    let newest = versions[0].fingerprint();
                    versions.retain(|version| version.fingerprint() == newest || used.contains(&version.fingerprint()));
                }
            }
        }
        let versions = self.entries.values().filter_map(|entry| match &entry.content {
            Some(SecretContent::Credentials(versions)) => Some(versions),
            _ => None,
        });
        let known: HashSet<Fingerprint> = versions.flatten().map(|version| version.fingerprint()).collect();
        self.probe_results.retain(|key, _| known.contains(&key.credential));
    }
}

/// Whether the owner of a credential allows sending it to the tenant of a policy.
fn allows(credentials: &Credentials, scope: &PolicyScope) -> Result<(), SecretError> {
    credentials.allows(scope.tenant.domain(), scope.tenant.custom_domain())
}

/// Whether a credential with this result is proven for a policy.
fn suffices(result: Option<&ProbeResult>, policy: &Policy) -> bool {
    matches!(result, Some(ProbeResult::Granted(granted)) if missing(granted.as_ref(), policy).is_empty())
}

/// A report on a credential with this result of its newest version.
fn report(newest: Option<&ProbeResult>, policy: &Policy, previous_in_use: bool) -> CredentialReport {
    match newest {
        None => CredentialReport::Unproven { previous_in_use },
        Some(ProbeResult::Rejected) => CredentialReport::Rejected { previous_in_use },
        Some(ProbeResult::Unreachable { failure, detail, remedy }) => {
            let (failure, detail, remedy) = (*failure, detail.clone(), remedy.clone());
            CredentialReport::Unreachable { failure, detail, remedy, previous_in_use }
        }
        Some(ProbeResult::Granted(granted)) => match missing(granted.as_ref(), policy) {
            missing if missing.is_empty() => CredentialReport::Proven,
            missing => CredentialReport::InsufficientScope { missing, previous_in_use },
        },
    }
}

/// The OAuth scopes that a policy needs and a token does not have. When the tenant does not name a token's scopes, it is
/// assumed to have all.
fn missing(granted: Option<&BTreeSet<String>>, policy: &Policy) -> Vec<&'static str> {
    let Some(granted) = granted else { return Vec::new() };
    policy.oauth_scopes().iter().copied().filter(|needed| !granted.contains(*needed)).collect()
}

/// Keys, each in quotes.
fn quoted(keys: &[String]) -> String {
    keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ")
}

impl SecretEntry {
    fn has_older_versions(&self) -> bool {
        matches!(&self.content, Some(SecretContent::Credentials(versions)) if versions.len() > 1)
    }

    fn set_problem(&mut self, problem: SecretProblem) -> bool {
        let changed = self.problem.as_ref() != Some(&problem);
        self.problem = Some(problem);
        self.rejected.clear();
        self.other_keys.clear();
        changed
    }

    fn last_good(&self) -> &'static str {
        if self.content.is_some() { "; its last good version stays in use" } else { "" }
    }

    /// The problem for a policy that needs a Secret of this type. The same Secret may be named for the other purpose.
    fn problem_as(&self, name: &ObjectName, expected: &'static str) -> Option<SecretProblem> {
        match &self.kind {
            Some(found) if found != expected && !matches!(self.problem, Some(SecretProblem::Forbidden(_))) => {
                let error = SecretError::Type { expected, found: found.clone() };
                // The content of another type is of no use to this policy.
                let serves = match self.content {
                    Some(SecretContent::Credentials(_)) => expected == CREDENTIALS_TYPE,
                    Some(SecretContent::Callers(_)) => expected == CALLERS_TYPE,
                    Some(SecretContent::LogStream(..)) => expected == LOG_STREAM_TYPE,
                    None => false,
                };
                let last_good = if serves { self.last_good() } else { "" };
                Some(SecretProblem::Invalid(format!("Secret {name}: {error}{last_good}")))
            }
            _ => self.problem.clone(),
        }
    }
}

impl SecretContent {
    fn read(secret: &SecretManifest) -> Result<ReadSecret, SecretError> {
        let data = secret.data.as_ref().map_err(Clone::clone)?;
        if secret.kind == CALLERS_TYPE {
            let callers = CallerTokens::from_secret(&secret.kind, data)?;
            let tokens = callers.callers.iter().map(|caller| TokenDigest::of(caller.token.expose_secret())).collect();
            let CallerTokens { rejected, other_keys, .. } = callers;
            return Ok(ReadSecret { content: Self::Callers(tokens), rejected, other_keys });
        }
        if secret.kind == LOG_STREAM_TYPE {
            let LogStreamTokens { domain, tokens, rejected } = LogStreamTokens::from_secret(&secret.kind, data)?;
            let tokens = tokens.iter().map(|token| TokenDigest::of(token.token.expose_secret())).collect();
            return Ok(ReadSecret { content: Self::LogStream(domain, tokens), rejected, other_keys: Vec::new() });
        }
        let credentials = Credentials::from_secret(&secret.kind, data)?;
        let content = Self::Credentials(vec![Arc::new(credentials)]);
        Ok(ReadSecret { content, rejected: Vec::new(), other_keys: Vec::new() })
    }

    /// Whether it has the same content as the last version.
    fn is_current(&self, last: Option<&Self>) -> bool {
        match (self, last) {
            (Self::Credentials(new), Some(Self::Credentials(last))) => new[0].fingerprint() == last[0].fingerprint(),
            (Self::Callers(new), Some(Self::Callers(last))) => new == last,
            (Self::LogStream(new, tokens), Some(Self::LogStream(last, before))) => (new, tokens) == (last, before),
            _ => false,
        }
    }

    /// Puts the new version before those that may still be in use. A version that comes back is the same object as before, so
    /// that clients that were made with it stay.
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
