//! The Secrets of log streams: which tokens may report the logins of which tenant, and what is said of a wrong Secret.

use std::collections::BTreeSet;

use super::*;
use crate::secret::{CREDENTIALS_TYPE, LOG_STREAM_TYPE};

const TENANT: &str = "acme.eu.auth0.com";
/// The keys and values of a Secret.
type Data<'a> = &'a [(&'a str, &'a str)];

const FIRST: &str = "0123456789abcdef";
const SECOND: &str = "fedcba9876543210";

fn secret(namespace: &str, name: &str, kind: &str, data: &[(&str, &str)]) -> SecretManifest {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    SecretManifest { name: ObjectName::new(namespace, name), kind: kind.to_owned(), data: Ok(data.collect()) }
}

fn stream(namespace: &str, data: &[(&str, &str)]) -> SecretManifest {
    secret(namespace, "stream", LOG_STREAM_TYPE, data)
}

/// Adds a policy for a tenant whose Secrets are in its namespace, with a credential that is not proven yet.
fn add(index: &mut Index, namespace: &str, domain: &str) {
    let spec = json!({
        "tenant": {
            "domain": domain,
            "credentialsSecretRef": { "name": "auth0" },
            "logStreamSecretRef": { "name": "stream" },
        },
        "limits": { "perUser": 1 },
    });
    index.apply_policy(&Manifest { name: ObjectName::new(namespace, "seats"), generation: 1, created_at: None, spec });
    let data = [("domain", domain), ("clientId", "id"), ("clientSecret", namespace)];
    index.apply_secret(&secret(namespace, "auth0", CREDENTIALS_TYPE, &data));
}

/// Proves the credentials of every policy of a namespace: each credential is named after its own.
fn prove(index: &mut Index, namespace: &str) {
    let targets = index.probe_targets();
    for (key, target) in targets {
        let crate::secret::ClientAuth::ClientSecret(value) = &target.credentials.client_auth else { continue };
        if secrecy::ExposeSecret::expose_secret(value) == namespace {
            index.probed(key, ProbeResult::Granted(None));
        }
    }
}

fn tenant_of(index: &Index, token: &str) -> Option<String> {
    let (policy_set, _) = index.publish(&CallerAccess::default());
    policy_set.log_stream(token).map(ToString::to_string)
}

/// Status, reason and message of `Ready` for the policy of a namespace.
fn ready(index: &Index, namespace: &str) -> (ConditionStatus, ConditionReason, String) {
    let access = CallerAccess { allow_anonymous: true, ..CallerAccess::default() };
    let (_, reports) = index.publish(&access);
    let ready = reports.iter().find(|report| report.name.namespace() == namespace).unwrap().ready();
    (ready.status, ready.reason, ready.message)
}

fn one() -> Index {
    let mut index = Index::default();
    add(&mut index, "team", TENANT);
    prove(&mut index, "team");
    index
}

#[test]
fn log_stream_secret_is_among_the_named_ones() {
    let index = one();
    let names: BTreeSet<String> = index.named_secrets().into_iter().map(ToString::to_string).collect();
    assert!(names.contains("team/stream"), "{names:?}");
}

#[test]
fn token_reports_the_tenant_of_its_secret() {
    let mut index = one();
    assert_eq!(tenant_of(&index, FIRST), None);
    index.apply_secret(&stream("team", &[("domain", "ACME.eu.auth0.com"), ("token", FIRST), ("note", SECOND)]));
    assert_eq!(tenant_of(&index, FIRST).as_deref(), Some(TENANT));
    assert_eq!(tenant_of(&index, SECOND), None, "the value of another key is no token");
    assert_eq!(ready(&index, "team").0, ConditionStatus::True);
}

#[test]
fn rotated_token_is_followed() {
    let mut index = one();
    index.apply_secret(&stream("team", &[("domain", TENANT), ("token", FIRST)]));
    index.apply_secret(&stream("team", &[("domain", TENANT), ("token-1", FIRST), ("token-2", SECOND)]));
    assert!(tenant_of(&index, FIRST).is_some() && tenant_of(&index, SECOND).is_some());
    index.apply_secret(&stream("team", &[("domain", TENANT), ("token", SECOND)]));
    assert_eq!((tenant_of(&index, FIRST), tenant_of(&index, SECOND).is_some()), (None, true));
    index.apply_secret(&stream("team", &[("token", SECOND)]));
    assert!(tenant_of(&index, SECOND).is_some(), "the last good version stays in use");
    index.remove_secret(&ObjectName::new("team", "stream"));
    assert_eq!(tenant_of(&index, SECOND), None);
}

#[test]
fn wrong_secret_of_a_log_stream_is_reported() {
    let cases: [(&str, Data<'_>, &str); 6] = [
        (CREDENTIALS_TYPE, &[("domain", TENANT), ("clientId", "id"), ("clientSecret", FIRST)], "has the type"),
        (LOG_STREAM_TYPE, &[("token", FIRST)], "the key \"domain\" is missing"),
        (LOG_STREAM_TYPE, &[("domain", TENANT), ("action", FIRST)], "holds no usable token"),
        (LOG_STREAM_TYPE, &[("domain", TENANT), ("token", "short")], "fewer than 16 characters"),
        (
            LOG_STREAM_TYPE,
            &[("domain", TENANT), ("token", FIRST), ("token-2", "with white space in it")],
            "white space",
        ),
        (LOG_STREAM_TYPE, &[("domain", "other.eu.auth0.com"), ("token", FIRST)], "is not for acme.eu.auth0.com"),
    ];
    for (kind, data, text) in cases {
        let mut index = one();
        index.apply_secret(&secret("team", "stream", kind, data));
        let (status, reason, message) = ready(&index, "team");
        assert_eq!((status, reason), (ConditionStatus::False, ConditionReason::SecretInvalid), "{message}");
        assert!(message.contains(text), "{message}");
    }
    let mut index = one();
    assert_eq!(ready(&index, "team").1, ConditionReason::SecretMissing);
    index.forbid_secret(&ObjectName::new("team", "stream"));
    assert_eq!(ready(&index, "team").1, ConditionReason::SecretForbidden);
}

#[test]
fn token_of_two_tenants_reports_neither() {
    let mut index = one();
    add(&mut index, "other", "other.eu.auth0.com");
    prove(&mut index, "other");
    index.apply_secret(&stream("team", &[("domain", TENANT), ("token", FIRST)]));
    index.apply_secret(&stream("other", &[("domain", "other.eu.auth0.com"), ("token", FIRST), ("next", SECOND)]));
    assert_eq!(tenant_of(&index, FIRST), None);
    assert_eq!(tenant_of(&index, SECOND).as_deref(), Some("other.eu.auth0.com"));
    for namespace in ["team", "other"] {
        let (_, reason, message) = ready(&index, namespace);
        assert_eq!(reason, ConditionReason::SecretInvalid);
        assert!(message.contains("also in a Secret of another tenant"), "{message}");
    }
}

#[test]
fn unproven_policy_cannot_report_logins_of_a_proven_tenant() {
    let mut index = one();
    add(&mut index, "stranger", TENANT);
    index.apply_secret(&stream("team", &[("domain", TENANT), ("token", FIRST)]));
    index.apply_secret(&stream("stranger", &[("domain", TENANT), ("token", SECOND)]));
    assert_eq!((tenant_of(&index, FIRST).as_deref(), tenant_of(&index, SECOND)), (Some(TENANT), None));
    prove(&mut index, "stranger");
    assert_eq!(tenant_of(&index, SECOND).as_deref(), Some(TENANT));
}

#[test]
fn log_stream_needs_a_secret_of_its_own() {
    for (field, callers) in [("auth0", "callers"), ("callers", "callers")] {
        let errors = compile(&manifest(json!({
            "tenant": { "domain": TENANT, "credentialsSecretRef": { "name": "auth0" }, "logStreamSecretRef": { "name": field } },
            "callerSecretRef": { "name": callers },
            "limits": { "perUser": 1 },
        })))
        .unwrap_err();
        assert!(errors[0].to_string().contains("tenant.logStreamSecretRef.name"), "{errors:?}");
    }
}
