//! What is wrong between resources: names that are used twice, Secrets that do not fit the policies that name them, and
//! policies that select the same logins.

use std::collections::{BTreeMap, HashMap};

use super::secrets::key_path;
use super::{FileResource, Problem, ProblemKind, ResourceContent, Severity};
use crate::policy::{CallerAccess, Extent, Index, ObjectName, Policy, SecretManifest};
use crate::secret::{CALLERS_TYPE, CREDENTIALS_TYPE, Credentials, LOG_STREAM_TYPE, LogStreamTokens, SecretError};

/// The Secrets of the files, by their names.
type FileSecrets<'a> = HashMap<&'a ObjectName, (&'a FileResource<'a>, &'a SecretManifest)>;

/// The problems between resources.
pub(super) fn problems(all: &[FileResource<'_>]) -> Vec<Problem> {
    let mut problems = duplicates(all);
    let secrets: FileSecrets<'_> = all
        .iter()
        .filter_map(|resource| match &resource.content {
            ResourceContent::Secret(secret) => Some((&secret.name, (resource, secret))),
            ResourceContent::Policy { .. } | ResourceContent::Other => None,
        })
        .collect();
    for resource in all {
        if let ResourceContent::Policy { policy: Some(policy), .. } = &resource.content {
            problems.extend(references(resource, policy, &secrets));
        }
    }
    problems.extend(conflicts(all));
    problems
}

fn duplicates(all: &[FileResource<'_>]) -> Vec<Problem> {
    let mut first: HashMap<String, &FileResource<'_>> = HashMap::new();
    let mut problems = Vec::new();
    for resource in all {
        let Some(title) = resource.title() else { continue };
        match first.get(&title) {
            None => drop(first.insert(title, resource)),
            Some(first) => {
                let place = first.place("metadata.name");
                let message = format!(
                    "{title} is also in {} at line {}: give each its own name, or remove one",
                    first.file, place.line
                );
                problems.push(resource.error(ProblemKind::Duplicate, "metadata.name", message));
            }
        }
    }
    problems
}

/// The problems of a policy with the Secrets that it names. A Secret that is in none of the files may be in the cluster.
fn references(resource: &FileResource<'_>, policy: &Policy, secrets: &FileSecrets<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let scope = &policy.scope;
    for (field, name, type_) in [
        ("spec.tenant.credentialsSecretRef.name", Some(&scope.credentials), CREDENTIALS_TYPE),
        ("spec.callerSecretRef.name", scope.callers.as_ref(), CALLERS_TYPE),
        ("spec.tenant.logStreamSecretRef.name", scope.log_stream.as_ref(), LOG_STREAM_TYPE),
    ] {
        let Some(name) = name else { continue };
        let Some((written, secret)) = secrets.get(name) else {
            if !secrets.is_empty() {
                let elsewhere = secrets.keys().find(|other| other.name() == name.name());
                let hint = elsewhere.map_or_else(
                    || "add it, or ignore this when the cluster has it".to_owned(),
                    |other| format!("{other} is in another namespace than the policy"),
                );
                let message = format!("the files have no Secret {name}: {hint}");
                problems.push(resource.problem(ProblemKind::Reference, Severity::Warning, field, message));
            }
            continue;
        };
        if secret.kind != type_ {
            let error = SecretError::Type { expected: type_, found: secret.kind.clone() };
            let message = format!("Secret {name}: {error}");
            problems.push(resource.error(ProblemKind::Reference, field, message));
            continue;
        }
        if let Some(error) = wrong_domain(policy, secret, type_) {
            let key = if matches!(error, SecretError::OtherCustomDomain { .. }) { "customDomain" } else { "domain" };
            let message = format!("{error} (policy {})", scope.name);
            problems.push(written.error(ProblemKind::Reference, &key_path(written, key), message));
        }
    }
    problems
}

/// Whether a Secret is for another tenant than the policy that names it.
fn wrong_domain(policy: &Policy, secret: &SecretManifest, type_: &str) -> Option<SecretError> {
    let data: &BTreeMap<String, Vec<u8>> = secret.data.as_ref().ok()?;
    let tenant = &policy.scope.tenant;
    match type_ {
        CREDENTIALS_TYPE => {
            Credentials::from_secret(type_, data).ok()?.allows(tenant.domain(), tenant.custom_domain()).err()
        }
        LOG_STREAM_TYPE => {
            let stream = LogStreamTokens::from_secret(type_, data).ok()?;
            let domain = tenant.domain().to_owned();
            (stream.domain != domain).then_some(SecretError::OtherDomain { domain })
        }
        _ => None,
    }
}

/// The policies that others take precedence over.
fn conflicts(all: &[FileResource<'_>]) -> Vec<Problem> {
    let mut index = Index::default();
    let mut policies: HashMap<&ObjectName, &FileResource<'_>> = HashMap::new();
    for resource in all {
        if let ResourceContent::Policy { manifest, policy: Some(policy) } = &resource.content {
            if policies.contains_key(&manifest.name) {
                continue;
            }
            index.apply_compiled(manifest, Policy::clone(policy));
            policies.insert(&manifest.name, resource);
        }
    }
    let (_, reports) = index.publish(&CallerAccess::default());
    let problems = reports.iter().filter_map(|report| {
        let (resource, overshadowing) = (policies.get(&report.name)?, report.overshadowing.as_ref()?);
        let other = policies.get(&overshadowing.policy).map_or_else(String::new, |other| {
            format!(" ({} at line {})", other.file, other.place("").line)
        });
        match overshadowing.extent {
            Extent::Conflict => {
                let message = format!("{}{other}", report.accepted().message);
                Some(resource.error(ProblemKind::Conflict, "spec.selector", message))
            }
            Extent::All => {
                let message = format!(
                    "{} takes precedence for every login that this policy selects, so this policy applies to none: change \
                     the selector or the priority{other}",
                    overshadowing.policy
                );
                Some(resource.problem(ProblemKind::Conflict, Severity::Warning, "spec.selector", message))
            }
            Extent::Part => None,
        }
    });
    problems.collect()
}
