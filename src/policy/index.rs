//! The policies and Secrets that a source has shown so far, and the policy set that they make.
//!
//! Every source (a folder, the environment, Kubernetes) feeds the same index. Only the index keeps the last good version of
//! a policy or Secret whose newest version is not valid.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;

use super::compile::{self, FallbackPolicy, compile, compile_stored, fallback, fallback_stored};
use super::condition::{ActiveVersion, CredentialReport, LogStreamReport, PolicyReport};
use super::model::{Policy, PolicyScope};
use super::name::ObjectName;
use super::policy_set::{ActivePolicy, CallerAccess, LogStreams, PolicySet, PolicyVersion, TenantProof, TokenDigest};
use super::precedence::overshadowings;
use super::secrets::{ChosenCredential, CredentialKey, ProbeResult, ProbeTarget, SecretManifest, Secrets};
use super::warnings::warnings;
use super::written::{Manifest, SpecError};

/// The policies and Secrets that a source has shown so far.
#[derive(Default)]
pub struct Index {
    policies: BTreeMap<ObjectName, PolicyEntry>,
    secrets: Secrets,
    revision: u64,
}

struct PolicyEntry {
    /// `metadata.generation`; 0 when the source has none.
    source_generation: i64,
    /// The source's generation, or the number of versions seen when it has none.
    generation: i64,
    created_at: Option<Timestamp>,
    /// The SHA-256 of the spec: recognizes a version that is shown again without keeping it.
    spec_digest: [u8; 32],
    /// The SHA-256 of the spec of the active version, which may be an earlier one.
    active_digest: [u8; 32],
    /// The active version; `None` when not even the tenant can be read, or when the selector of a first version cannot.
    version: Option<Arc<PolicyVersion>>,
    /// What a policy without an active version says as far as it can be read. It applies to no login, and the tokens of its
    /// Secrets stay known: its callers get `no_policy`, and are not rejected.
    inactive: Option<PolicyScope>,
    errors: Vec<SpecError>,
    /// What the newest version has that this program does not know, when it compiles.
    unknown: Vec<SpecError>,
    /// What has no effect in the active version.
    warnings: Vec<String>,
}

impl PolicyEntry {
    /// What the active version says, or the newest one when none is active.
    fn scope(&self) -> Option<&PolicyScope> {
        self.version.as_deref().map(PolicyVersion::scope).or(self.inactive.as_ref())
    }
}

impl Index {
    /// The number of changes so far: an update that changes nothing leaves it as it is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn warnings(&self, entry: &PolicyEntry, scope: &PolicyScope) -> Vec<String> {
        let mut all = entry.warnings.clone();
        all.extend(self.secrets.warnings(scope));
        all.extend(entry.unknown.iter().map(ToString::to_string));
        all
    }

    fn changed(&mut self, changed: bool) {
        self.revision += u64::from(changed);
    }

    /// Takes the newest version of a policy as a person wrote it. When it does not compile, the last good version stays
    /// active, unless that was of another policy with the same name.
    pub fn apply_policy(&mut self, manifest: &Manifest) {
        self.take_version(manifest, "", |manifest| Ok((compile(manifest)?, Vec::new())), fallback);
    }

    /// Takes the newest version of a policy that is compiled already.
    pub fn apply_compiled(&mut self, manifest: &Manifest, policy: Policy) {
        self.take_version(manifest, "", |_| Ok((policy, Vec::new())), fallback);
    }

    /// Takes the newest version of a policy as an API server holds it: what this program does not know is ignored,
    /// unless the policy would govern more logins without it.
    pub fn apply_stored_policy(&mut self, manifest: &Manifest) {
        self.take_version(manifest, "", compile_stored, fallback_stored);
    }

    /// Takes a version of a policy that is of a type that this program does not know. It counts as a version that does not
    /// compile.
    pub fn reject_policy(&mut self, manifest: &Manifest, error: SpecError) {
        let text = error.to_string();
        self.take_version(manifest, &text, |_| Err(vec![error]), fallback);
    }

    /// `type_error` distinguishes a version from one with the same spec.
    fn take_version(
        &mut self,
        manifest: &Manifest,
        type_error: &str,
        compile: impl FnOnce(&Manifest) -> Result<(Policy, Vec<SpecError>), Vec<SpecError>>,
        fallback: fn(&Manifest) -> Option<FallbackPolicy>,
    ) {
        let Manifest { generation: source_generation, created_at, .. } = *manifest;
        let mut content = Context::new(&SHA256);
        content.update(manifest.spec.to_string().as_bytes());
        // JSON ends before this, so no spec has the digest of another spec with an error.
        content.update(type_error.as_bytes());
        let spec_digest = content.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
        let last = self.policies.get(&manifest.name);
        if last.is_some_and(|last| {
            (last.source_generation, last.created_at, last.spec_digest) == (source_generation, created_at, spec_digest)
        }) {
            return;
        }
        let generation = match source_generation {
            0 => last.map_or(0, |last| last.generation) + 1,
            known => known,
        };
        let last_good = last
            .filter(|last| last.created_at == created_at)
            .and_then(|last| Some((last.version.clone()?, last.active_digest)))
            .filter(|(version, _)| matches!(**version, PolicyVersion::Compiled(_)));
        let (active, errors, unknown) = match compile(manifest) {
            Ok((policy, unknown)) => {
                let version = Arc::new(PolicyVersion::Compiled(Policy { generation, ..policy }));
                (Some((version, spec_digest)), Vec::new(), unknown)
            }
            Err(errors) => {
                let invalid = || Some((Arc::new(PolicyVersion::Invalid(fallback(manifest)?)), spec_digest));
                (last_good.or_else(invalid), errors, Vec::new())
            }
        };
        let (version, active_digest) = active.map_or((None, spec_digest), |(version, digest)| (Some(version), digest));
        let inactive = match version {
            Some(_) => None,
            None => compile::fallback(manifest).map(|readable| readable.scope),
        };
        let warnings = match version.as_deref() {
            Some(PolicyVersion::Compiled(policy)) => warnings(policy, None),
            Some(PolicyVersion::Invalid(_)) | None => Vec::new(),
        };
        let entry = PolicyEntry {
            source_generation,
            generation,
            created_at,
            spec_digest,
            active_digest,
            version,
            inactive,
            errors,
            unknown,
            warnings,
        };
        self.policies.insert(manifest.name.clone(), entry);
        self.changed(true);
    }

    /// Removes a policy that no longer exists.
    pub fn remove_policy(&mut self, name: &ObjectName) {
        let removed = self.policies.remove(name).is_some();
        self.changed(removed);
    }

    /// Notes that the source has not yet reported whether a Secret exists.
    pub fn await_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.await_secret(name);
        self.changed(changed);
    }

    /// Takes the newest version of a Secret. When it is not valid, the last good version stays in use. A new credential
    /// replaces the previous one only when it is proven.
    pub fn apply_secret(&mut self, secret: &SecretManifest) {
        let changed = self.secrets.apply(secret);
        self.changed(changed);
    }

    /// Notes that the service may not read a Secret. The version that was read before stays in use.
    pub fn forbid_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.forbid(name);
        self.changed(changed);
    }

    /// Notes why a Secret of which nothing is known cannot be read. It changes nothing for a Secret that the source has
    /// reported.
    pub fn fail_secret(&mut self, name: &ObjectName, cause: &str) {
        let changed = self.secrets.fail(name, cause);
        self.changed(changed);
    }

    /// Stops the use of a Secret that no longer exists.
    pub fn remove_secret(&mut self, name: &ObjectName) {
        let changed = self.secrets.remove(name);
        self.changed(changed);
    }

    /// Takes the result of a credential probe.
    pub fn probed(&mut self, key: CredentialKey, result: ProbeResult) {
        let changed = self.secrets.probed(key, result);
        self.changed(changed);
    }

    /// The Secrets that are known.
    pub fn secrets(&self) -> impl Iterator<Item = &ObjectName> {
        self.secrets.names()
    }

    /// The policies that are known.
    pub fn policies(&self) -> impl Iterator<Item = &ObjectName> {
        self.policies.keys()
    }

    /// The Secrets that policies name: the service reads no others.
    pub fn named_secrets(&self) -> BTreeSet<&ObjectName> {
        let credentials = compiled(&self.policies).map(|policy| &policy.scope.credentials);
        let scopes = self.policies.values().filter_map(PolicyEntry::scope);
        let named = credentials.chain(scopes.flat_map(|scope| scope.callers.iter().chain(&scope.log_stream)));
        // Thousands of policies may name the same Secrets: only these few are sorted.
        named.collect::<HashSet<_>>().into_iter().collect()
    }

    /// The credentials to probe: the newest one for each policy.
    pub fn probe_targets(&self) -> HashMap<CredentialKey, ProbeTarget> {
        self.secrets.probe_targets(compiled(&self.policies))
    }

    /// Drops credentials that were replaced.
    pub fn forget_replaced(&mut self) {
        self.secrets.forget(compiled(&self.policies));
    }

    /// Builds the policy set, and a report on each policy in the order of their names.
    pub fn publish(&self, caller_access: &CallerAccess) -> (PolicySet, Vec<PolicyReport>) {
        let stream_tenants = self.stream_tenants();
        let mut active_policies = Vec::with_capacity(self.policies.len());
        let mut reports = Vec::with_capacity(self.policies.len());
        for (name, entry) in &self.policies {
            let version = entry.version.as_ref();
            let credential = match version.map(AsRef::as_ref) {
                Some(PolicyVersion::Compiled(policy)) => self.secrets.credential(policy),
                Some(PolicyVersion::Invalid(_)) | None => ChosenCredential::none(CredentialReport::Unneeded),
            };
            if let Some(version) = version {
                active_policies.push(Arc::new(ActivePolicy {
                    version: Arc::clone(version),
                    credentials: credential.credentials.cloned(),
                    tenant_proof: credential.tenant_proof,
                }));
            }
            reports.push(PolicyReport {
                name: name.clone(),
                generation: entry.generation,
                source_generation: entry.source_generation,
                version: version.cloned(),
                errors: entry.errors.clone(),
                unknown: entry.unknown.clone(),
                active_version: match version.map(AsRef::as_ref) {
                    Some(PolicyVersion::Compiled(_)) if entry.errors.is_empty() => ActiveVersion::Newest,
                    Some(PolicyVersion::Compiled(_)) => ActiveVersion::LastGood,
                    Some(PolicyVersion::Invalid(_)) => ActiveVersion::FailurePolicy,
                    None => ActiveVersion::Nothing,
                },
                overshadowing: None,
                forced_audit: None,
                credential: credential.report,
                warnings: version.map_or_else(Vec::new, |version| self.warnings(entry, version.scope())),
                suspect_keys: version.map_or_else(Vec::new, |version| self.secrets.suspect_keys(version.scope())),
                log_stream: entry.scope().map_or(LogStreamReport::Unnamed, |scope| {
                    let mut tokens = self.secrets.log_stream(scope).into_iter().flatten();
                    let is_shared = tokens.any(|token| stream_tenants[token].len() > 1);
                    self.secrets.log_stream_of(scope, is_shared)
                }),
                callers: self.secrets.callers_of(entry.scope().and_then(|scope| scope.callers.as_ref()), caller_access),
            });
        }
        active_policies.sort_by(|a, b| a.version.scope().rank().cmp(&b.version.scope().rank()));
        let scopes: Vec<&PolicyScope> = active_policies.iter().map(|active| active.version.scope()).collect();
        let mut overshadowings = overshadowings(&scopes);
        for report in &mut reports {
            report.overshadowing = overshadowings.remove(&report.name);
        }
        let log_streams = self.log_streams(&active_policies, &stream_tenants);
        let callers = self.secrets.callers();
        let inactive: Vec<&PolicyScope> = self.inactive_scopes().collect();
        let policy_set = PolicySet::new(active_policies, &inactive, &callers, caller_access);
        let lacks_callers = reports.iter().any(|report| report.callers.is_unread());
        let policy_set = policy_set.with_log_streams(log_streams).with_unread_callers(lacks_callers);
        (policy_set.with_digest(self.digest()), reports)
    }

    /// A number made of the names and specs of the active versions, of 48 bits, so that a float is exact. Replicas
    /// compare it, so it has no part that differs between processes: policies are in the order of their names, and the
    /// fields of a spec too, because `serde_json` sorts them. 0 without an active version, as before the first policy
    /// is read.
    fn digest(&self) -> u64 {
        let active = self.policies.iter().filter_map(|(name, entry)| Some((name, entry, entry.version.as_ref()?)));
        let (mut content, mut is_empty) = (Context::new(&SHA256), true);
        for (name, entry, version) in active {
            is_empty = false;
            content.update(name.as_str().as_bytes());
            // No name has this byte. The same spec may compile in one release, and not in another.
            content.update(&[0, u8::from(matches!(**version, PolicyVersion::Compiled(_)))]);
            content.update(&entry.active_digest);
        }
        let digest = content.finish();
        let bytes = digest.as_ref().iter().take(6);
        if is_empty { 0 } else { bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)) }
    }

    fn inactive_scopes(&self) -> impl Iterator<Item = &PolicyScope> {
        self.policies.values().filter_map(|entry| entry.inactive.as_ref())
    }

    /// The tenants of each token of a log stream: more than one is a mistake, since a token says whose logins are reported.
    fn stream_tenants(&self) -> HashMap<TokenDigest, BTreeSet<&str>> {
        let mut tenants: HashMap<TokenDigest, BTreeSet<&str>> = HashMap::new();
        for scope in self.policies.values().filter_map(PolicyEntry::scope) {
            for token in self.secrets.log_stream(scope).into_iter().flatten() {
                tenants.entry(*token).or_default().insert(scope.tenant.domain());
            }
        }
        tenants
    }

    /// The log streams that are received. Of the policies that name a tenant, those with the best proof count: anybody may name
    /// a tenant, and could report logins that never were.
    fn log_streams(
        &self,
        active_policies: &[Arc<ActivePolicy>],
        stream_tenants: &HashMap<TokenDigest, BTreeSet<&str>>,
    ) -> LogStreams {
        let active = active_policies.iter().map(|active| (active.version.scope(), active.tenant_proof));
        // The credential of a policy without an active version is not tested.
        let inactive = self.inactive_scopes().map(|scope| (scope, TenantProof::Unproven));
        let scopes: Vec<_> = active.chain(inactive).collect();
        let mut best: HashMap<&str, TenantProof> = HashMap::new();
        for (scope, tenant_proof) in &scopes {
            let proof = best.entry(scope.tenant.domain()).or_insert(TenantProof::Unproven);
            *proof = (*proof).max(*tenant_proof);
        }
        let mut log_streams = LogStreams::default();
        for (scope, tenant_proof) in scopes {
            let domain = scope.tenant.domain();
            if tenant_proof < best[domain] {
                continue;
            }
            for token in self.secrets.log_stream(scope).into_iter().flatten() {
                if stream_tenants[token].len() == 1 {
                    log_streams.0.entry(*token).or_insert_with(|| domain.into());
                }
            }
        }
        log_streams
    }
}

fn compiled(policies: &BTreeMap<ObjectName, PolicyEntry>) -> impl Iterator<Item = &Policy> {
    policies.values().filter_map(|entry| match entry.version.as_deref() {
        Some(PolicyVersion::Compiled(policy)) => Some(policy),
        _ => None,
    })
}
