//! What the service needs of the Secrets that policies name.

use std::collections::BTreeMap;

use super::{FileResource, Problem, ProblemKind, Severity};
use crate::crd;
use crate::policy::{SecretManifest, nearest};
use crate::secret::{
    CALLERS_TYPE, CREDENTIALS_TYPE, CallerTokens, Credentials, LOG_STREAM_TYPE, LogStreamTokens, SecretError,
};

/// The types of Secret that the service reads.
const TYPES: [&str; 3] = [CREDENTIALS_TYPE, CALLERS_TYPE, LOG_STREAM_TYPE];

/// The most errors of a Secret: a credential has seven keys.
const MAX_ERRORS: usize = 8;

/// The keys that a key for tokens may be a misspelling of.
const TOKEN_KEYS: [&str; 5] = ["token", "action", "current", "previous", "next"];

/// A value for a key that is missing, so that the other keys are checked as well.
const PLACEHOLDER: &[u8] = b"placeholder-of-a-value";

/// The problems of a Secret. Those of another type are no concern of the service.
pub(super) fn problems(resource: &FileResource<'_>, secret: &SecretManifest) -> Vec<Problem> {
    let kind = secret.kind.as_str();
    if !TYPES.contains(&kind) {
        return unknown_type(resource, kind).into_iter().collect();
    }
    let report = |error: &SecretError| resource.error(ProblemKind::Secret, &field(resource, error), error.to_string());
    let data = match &secret.data {
        Ok(data) => data,
        Err(error) => return vec![report(error)],
    };
    let warn = |field: &str, message: String| resource.problem(ProblemKind::Secret, Severity::Warning, field, message);
    match kind {
        CREDENTIALS_TYPE => {
            let mut problems: Vec<Problem> = credential_errors(data).iter().map(report).collect();
            if let Ok(credentials) = Credentials::from_secret(kind, data) {
                problems.extend(credentials.suspect_keys().into_iter().map(|key| {
                    let message =
                        "the value has white space or quotes, and Auth0 issues none with them: write it without";
                    warn(&key_path(resource, key), message.to_owned())
                }));
            }
            problems
        }
        CALLERS_TYPE => match CallerTokens::from_secret(kind, data) {
            Ok(tokens) => {
                let mut problems: Vec<Problem> = tokens.rejected.iter().map(report).collect();
                problems.extend(tokens.other_keys.iter().map(|key| {
                    let near = nearest(key, &TOKEN_KEYS).map_or_else(String::new, |near| format!(", such as {near}"));
                    let message = format!(
                        "the key is not for callers' tokens, and a later version ignores it: use token, token-*, action, \
                         action-*, current, previous or next{near}"
                    );
                    warn(&key_path(resource, key), message)
                }));
                problems
            }
            Err(error) => vec![report(&error)],
        },
        _ => match LogStreamTokens::from_secret(kind, data) {
            Ok(tokens) => tokens.rejected.iter().map(report).collect(),
            Err(error) => vec![report(&error)],
        },
    }
}

fn unknown_type(resource: &FileResource<'_>, kind: &str) -> Option<Problem> {
    let is_meant = kind.contains(crd::GROUP) || nearest(kind, &TYPES).is_some();
    let message = match nearest(kind, &TYPES) {
        Some(near) => format!("the service knows no Secret of type {kind:?}: did you mean {near}?"),
        None => format!("the service knows no Secret of type {kind:?}: write one of {}", TYPES.join(", ")),
    };
    is_meant.then(|| resource.error(ProblemKind::Secret, "type", message))
}

/// Every error of a credential: each is replaced by a value that fits, to find the next.
fn credential_errors(data: &BTreeMap<String, Vec<u8>>) -> Vec<SecretError> {
    let mut data = data.clone();
    let mut errors = Vec::new();
    while errors.len() < MAX_ERRORS
        && let Err(error) = Credentials::from_secret(CREDENTIALS_TYPE, &data)
    {
        let mut set = |key: &str| drop(data.insert(key.to_owned(), PLACEHOLDER.to_vec()));
        match &error {
            SecretError::Missing { key, .. } => set(key),
            SecretError::NotText { key } => set(key),
            SecretError::NoClientAuth { .. } => set("clientSecret"),
            SecretError::TwoClientAuths | SecretError::PrivateKey => {
                set("clientSecret");
                data.remove("privateKey");
            }
            SecretError::SigningAlgorithm => drop(data.remove("signingAlgorithm")),
            _ => {
                errors.push(error);
                break;
            }
        }
        errors.push(error);
    }
    errors
}

/// The field of a Secret that an error is about.
fn field(resource: &FileResource<'_>, error: &SecretError) -> String {
    match error {
        SecretError::Type { .. } => "type".to_owned(),
        SecretError::NotText { key } => key_path(resource, key),
        SecretError::ShortToken { name } | SecretError::UnsendableToken { name } => key_path(resource, name),
        SecretError::PrivateKey => key_path(resource, "privateKey"),
        SecretError::SigningAlgorithm => key_path(resource, "signingAlgorithm"),
        SecretError::TwoClientAuths => key_path(resource, "privateKey"),
        SecretError::OtherDomain { .. } => key_path(resource, "domain"),
        SecretError::OtherCustomDomain { .. } => key_path(resource, "customDomain"),
        SecretError::Data(message) => data_path(resource, message),
        SecretError::Missing { key, .. } if has_key(resource, key) => key_path(resource, key),
        SecretError::Missing { .. }
        | SecretError::NoClientAuth { .. }
        | SecretError::NoToken
        | SecretError::NoStreamToken
        | SecretError::SharedStreamToken => map_path(resource),
    }
}

fn has_key(resource: &FileResource<'_>, key: &str) -> bool {
    ["stringData", "data"].iter().any(|map| resource.written[map].get(key).is_some())
}

/// The path of a key: `stringData` wins over `data`, as in Kubernetes.
pub(super) fn key_path(resource: &FileResource<'_>, key: &str) -> String {
    let map = if resource.written["stringData"].get(key).is_some() { "stringData" } else { "data" };
    if has_key(resource, key) { format!("{map}.{key}") } else { map_path(resource) }
}

/// The map that a key would be added to.
fn map_path(resource: &FileResource<'_>) -> String {
    ["stringData", "data"].into_iter().find(|map| resource.written.get(map).is_some()).unwrap_or("").to_owned()
}

/// The path of the key that a message about the data names, or of the map.
fn data_path(resource: &FileResource<'_>, message: &str) -> String {
    let maps = ["data", "stringData"];
    let wrong_map = maps.into_iter().find(|map| message.starts_with(&format!("{map} must")));
    let keys = maps.iter().flat_map(|map| {
        let keys = resource.written[map].as_object().into_iter().flat_map(|fields| fields.keys());
        keys.map(move |key| (map, key))
    });
    let mut named =
        keys.filter(|(_, key)| message.contains(&format!("of key {key} "))).map(|(map, key)| format!("{map}.{key}"));
    wrong_map.map(str::to_owned).or_else(|| named.next()).unwrap_or_else(|| map_path(resource))
}
