//! The status of policies on the API server, and Events: their content, their writer, and the number of writes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use session_checker::controller::Namespaces;
use session_checker::crd::SessionPolicy;
use simulator::{Application, Fault, Operation, Simulator};

use super::{apply_all, replica, start_with, team_with_policy, team_with_replica};
use crate::common::{DOMAIN, Running, callers, credentials, eventually, policy, tenant};
use crate::control_plane::{Namespace, Rbac, shared};

/// The conditions of a policy by type, each as `status reason`, and their messages.
async fn conditions(team: &Namespace<'_>, policy: &str) -> (BTreeMap<String, String>, String) {
    let policy = team.admin::<SessionPolicy>().get(policy).await.unwrap();
    let conditions = policy.status.unwrap_or_default().conditions;
    assert!(conditions.iter().all(|condition| condition.observed_generation == policy.metadata.generation));
    let messages: Vec<&str> = conditions.iter().map(|condition| condition.message.as_str()).collect();
    let messages = messages.join("\n");
    let text = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        (condition.type_.clone(), format!("{} {}", condition.status, condition.reason))
    };
    (conditions.iter().map(text).collect(), messages)
}

/// Waits until `Accepted`, `CredentialsReady` and `Ready` are as expected; returns the messages. Without a log stream
/// `Enforcing` says so.
async fn becomes(team: &Namespace<'_>, policy: &str, expected: [&str; 3]) -> String {
    let kinds = ["Accepted", "CredentialsReady", "Ready", "Enforcing"].map(str::to_owned);
    let [accepted, credentials, ready] = expected;
    let expected = [accepted, credentials, ready, "Unknown NoStream"];
    let expected: BTreeMap<String, String> = kinds.into_iter().zip(expected.map(str::to_owned)).collect();
    eventually(&format!("{policy} {expected:?}"), async || {
        let generation = team.admin::<SessionPolicy>().get(policy).await.unwrap().metadata.generation;
        let status = team.admin::<SessionPolicy>().get(policy).await.unwrap().status.unwrap_or_default();
        if status.observed_generation != generation {
            return false;
        }
        let conditions = conditions(team, policy).await.0;
        expected.iter().all(|(kind, state)| conditions.get(kind) == Some(state))
    })
    .await;
    conditions(team, policy).await.1
}

const READY: [&str; 3] = ["True Accepted", "True Proven", "True Ready"];

/// The Events about a policy, oldest first, each as `type reason`.
pub(super) async fn events(team: &Namespace<'_>, policy: &str) -> Vec<String> {
    let events: Api<Event> = team.admin();
    let mut events = events.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(policy)));
    events.sort_by_key(|event| event.event_time.clone());
    events.into_iter().map(|event| format!("{} {}", event.type_.unwrap(), event.reason.unwrap())).collect()
}

/// A policy for one client, so that it conflicts with no other.
fn separate(name: &str, mut more: Value) -> Value {
    if more["selector"].is_null() {
        more["selector"] = json!({ "clientIds": [name] });
    }
    policy(name, more)
}

fn with_credentials(name: &str, secret: &str) -> Value {
    separate(name, json!({ "tenant": { "domain": DOMAIN, "credentialsSecretRef": { "name": secret } } }))
}

fn credentials_named(name: &str, data: Value) -> Value {
    let mut secret = credentials();
    secret["metadata"]["name"] = json!(name);
    for (key, value) in data.as_object().unwrap() {
        secret["stringData"][key] = value.clone();
    }
    secret
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_has_a_remedy_and_makes_one_event() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    tenant.add_application(Application::with_secret("reader", "checker-secret").scopes(["read:sessions"]));
    let mut tokens = callers();
    tokens["metadata"]["name"] = json!("tokens");
    for secret in [
        credentials(),
        callers(),
        tokens,
        credentials_named("elsewhere", json!({ "domain": "other.eu.auth0.com" })),
        credentials_named("unknown", json!({ "clientId": "unknown" })),
        credentials_named("reader", json!({ "clientId": "reader" })),
    ] {
        team.apply(secret).await;
    }
    let unreachable = "silent.eu.auth0.com";
    team.apply(credentials_named("silent", json!({ "domain": unreachable }))).await;
    // No process listens on port 1.
    let endpoint = format!("{unreachable}=http://127.0.0.1:1");
    let options = ["--auth0-endpoint", &endpoint];
    let replica = start_with(&team, &tenant, Namespaces::Own, &options).await;
    let revoking = json!({ "strategy": "RevokeOldest", "tenant": with_credentials("", "reader")["spec"]["tenant"] });
    let unreadable = json!([{ "name": "a", "users": ["u"], "exempt": true, "expiresAt": "2027-01-01T00:00:00+99:00" }]);
    let silent = json!({ "tenant": { "domain": unreachable, "credentialsSecretRef": { "name": "silent" } } });
    let cases = [
        (separate("fine", json!({})), READY, "active as written"),
        (
            separate("late", json!({ "selector": { "clientIds": ["fine"] } })),
            ["False Conflicted", "True Proven", "False Conflicted"],
            "Change the selector or the priority",
        ),
        (
            separate("unreadable", json!({ "overrides": unreadable })),
            ["False Invalid", "Unknown Pending", "False Invalid"],
            "spec.overrides[0].expiresAt",
        ),
        (
            with_credentials("missing", "absent"),
            ["True Accepted", "False SecretMissing", "False SecretMissing"],
            "absent does not exist: create it with type sessionchecker.dev/",
        ),
        (
            with_credentials("mistyped", "tokens"),
            ["True Accepted", "False SecretInvalid", "False SecretInvalid"],
            r#"create a new Secret of type "sessionchecker.dev/credentials" (the type of a Secret cannot be changed)"#,
        ),
        (
            with_credentials("elsewhere", "elsewhere"),
            ["True Accepted", "False SecretInvalid", "False SecretInvalid"],
            "domain",
        ),
        (
            with_credentials("rejected", "unknown"),
            ["True Accepted", "False CredentialsRejected", "False CredentialsRejected"],
            "write the application's clientId",
        ),
        (
            separate("narrow", revoking),
            ["True Accepted", "False InsufficientScope", "False InsufficientScope"],
            "lacks delete:sessions and delete:refresh_tokens: grant",
        ),
        (
            separate("silent", silent),
            ["True Accepted", "Unknown TenantUnreachable", "Unknown TenantUnreachable"],
            "(upstream_unreachable: ",
        ),
        (
            separate("closed", json!({ "callerSecretRef": null })),
            ["True Accepted", "True Proven", "False NoCallers"],
            "set callerSecretRef",
        ),
        (
            separate("lonely", json!({ "callerSecretRef": { "name": "absent" } })),
            ["True Accepted", "True Proven", "False SecretMissing"],
            "absent does not exist: create it with type sessionchecker.dev/",
        ),
    ];
    for (policy, expected, remedy) in cases {
        let name = policy["metadata"]["name"].as_str().unwrap().to_owned();
        team.apply(policy).await;
        let messages = becomes(&team, &name, expected).await;
        assert!(messages.contains(remedy), "{name}: {messages}");
        // One Event for the reason, although two conditions may have it.
        let reason = expected.iter().find_map(|condition| {
            condition
                .strip_prefix("False ")
                .or(condition.strip_prefix("Unknown ").filter(|reason| reason.starts_with("Tenant")))
        });
        let warnings: Vec<String> = reason.into_iter().map(|reason| format!("Warning {reason}")).collect();
        eventually(&format!("{name} {warnings:?}"), async || events(&team, &name).await == warnings).await;
    }
    let limits = team.admin::<SessionPolicy>().get("fine").await.unwrap().status.unwrap().limits;
    assert_eq!(limits.as_deref(), Some("client=1"));
    assert_eq!(replica.metric("session_checker_leader").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_secret_is_reported_only_by_its_policy() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Named).await, tenant().await);
    let mut tokens = callers();
    tokens["metadata"]["name"] = json!("demo-callers");
    for secret in [credentials_named("demo-tenant", json!({})), credentials(), tokens] {
        team.apply(secret).await;
    }
    for (name, secret) in [("allowed", "demo-tenant"), ("forbidden", "tenant")] {
        let mut policy = with_credentials(name, secret);
        policy["spec"]["callerSecretRef"]["name"] = json!("demo-callers");
        team.apply(policy).await;
    }
    let _replica = replica(&team, &tenant).await;
    becomes(&team, "allowed", READY).await;
    let messages =
        becomes(&team, "forbidden", ["True Accepted", "False SecretForbidden", "False SecretForbidden"]).await;
    assert!(messages.contains("allow the service's ServiceAccount to list and watch it"), "{messages}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_new_credential_and_its_recovery_make_events() {
    let Some(plane) = shared().await else { return };
    let (team, _tenant, _replica) = team_with_replica(plane).await;
    becomes(&team, "one", READY).await;
    let secrets: Api<Secret> = team.admin();
    let rotate = async |secret: &str| {
        let patch = json!({ "stringData": { "clientSecret": secret } });
        secrets.patch("tenant", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    rotate("wrong").await;
    let rejected = ["True Accepted", "False NewCredentialsRejected", "False NewCredentialsRejected"];
    let messages = becomes(&team, "one", rejected).await;
    assert!(messages.contains("the previous credential stays in use"), "{messages}");
    rotate("checker-secret").await;
    becomes(&team, "one", READY).await;
    let expected = ["Warning NewCredentialsRejected", "Normal Recovered"];
    eventually("both Events are written", async || events(&team, "one").await == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_policy_has_conditions_before_the_tenant_answers() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let replica = replica(&team, &tenant).await;
    let fault = tenant.fault(Operation::Token, Fault::Hang);
    apply_all(&team).await;
    becomes(&team, "one", ["True Accepted", "Unknown Unproven", "Unknown Unproven"]).await;
    fault.clear();
    becomes(&team, "one", READY).await;
    assert_eq!(events(&team, "one").await, Vec::<String>::new());
    drop(replica);
}

async fn leads(replica: &Running) -> bool {
    replica.metric("session_checker_leader").await == Some(1.0)
}

/// Two replicas; the first leads.
async fn two(team: &Namespace<'_>, tenant: &Simulator, lease_duration: &str) -> [Running; 2] {
    let options = ["--lease-duration", lease_duration];
    let first = start_with(team, tenant, Namespaces::Own, &options).await;
    eventually("the first leads", async || leads(&first).await).await;
    let second = start_with(team, tenant, Namespaces::Own, &options).await;
    second.becomes_ready().await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leader_is_replaced_and_status_writes_continue() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let [first, second] = two(&team, &tenant, "3s").await;
    becomes(&team, "one", READY).await;
    assert!(!leads(&second).await);
    first.kill();
    team.apply(super::one(json!({ "limits": { "perUser": 3 } }))).await;
    becomes(&team, "one", READY).await;
    assert!(leads(&second).await);
    let limits = team.admin::<SessionPolicy>().get("one").await.unwrap().status.unwrap().limits;
    assert_eq!(limits.as_deref(), Some("client=1 user=3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leader_hands_over_status_writes_at_once() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    // Much longer than the test waits: a handover in time does not come from an expired Lease.
    let [first, second] = two(&team, &tenant, "10m").await;
    first.stop().await.unwrap();
    eventually("the second leads", async || leads(&second).await).await;
    apply_all(&team).await;
    becomes(&team, "one", READY).await;
}

/// The audited writes, except those of the Lease.
pub(super) fn writes(team: &Namespace<'_>) -> Vec<String> {
    let audited = team.audited();
    let written = audited.iter().filter(|event| !["get", "list", "watch"].contains(&event["verb"].as_str().unwrap()));
    let resource = |event: &Value| {
        let about = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}/{}", text(&event["verb"]), text(&about["resource"]), text(&about["subresource"]))
    };
    written.map(resource).filter(|written| !written.ends_with("leases/")).collect()
}

fn renewals(team: &Namespace<'_>) -> usize {
    team.audited()
        .iter()
        .filter(|event| event["objectRef"]["resource"] == "leases" && event["verb"] == "update")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_status_is_not_written_even_by_a_new_leader() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let [first, second] = two(&team, &tenant, "3s").await;
    becomes(&team, "one", READY).await;
    let written = writes(&team);
    assert!(!written.is_empty() && written.iter().all(|write| write == "patch sessionpolicies/status"), "{written:?}");
    let quiet = async |replica: &Running| {
        let (before, since) = (team.audited().len(), renewals(&team));
        eventually("the Lease is renewed", async || renewals(&team) >= since + 3).await;
        assert!(leads(replica).await);
        assert_eq!(writes(&team), written);
        before
    };
    // The second replica is ready before its watches of the Secrets begin.
    let watches_a_secret = |event: &Value| event["verb"] == "watch" && event["objectRef"]["resource"] == "secrets";
    let watches = || team.audited().into_iter().filter(watches_a_secret).count();
    eventually("both replicas watch both Secrets", async || watches() == 4).await;
    let before = quiet(&first).await;
    // All requests during that time were about the Lease.
    let audited = team.audited();
    let others = audited[before..].iter().filter(|event| event["objectRef"]["resource"] != "leases");
    assert_eq!(others.collect::<Vec<_>>(), [&json!(null); 0]);
    first.stop().await.unwrap();
    eventually("the second leads", async || leads(&second).await).await;
    quiet(&second).await;
    second.stop().await.unwrap();
    let third = start_with(&team, &tenant, Namespaces::Own, &["--lease-duration", "3s"]).await;
    eventually("the third leads", async || leads(&third).await).await;
    third.condition_becomes(&format!("{}/one", team.name), "Ready", "Ready").await;
    quiet(&third).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_status_is_restored_and_foreign_condition_stays() {
    let Some(plane) = shared().await else { return };
    let (team, _tenant, _replica) = team_with_replica(plane).await;
    becomes(&team, "one", READY).await;
    let policies: Api<SessionPolicy> = team.admin();
    let theirs = json!({ "status": { "limits": "none", "conditions": [{
        "type": "Reviewed", "status": "True", "reason": "ByHand", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    policies.patch_status("one", &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
    eventually("the status is restored", async || {
        let status = policies.get("one").await.unwrap().status.unwrap();
        let kinds: Vec<String> = status.conditions.into_iter().map(|condition| condition.type_).collect();
        let has = |kind: &str| kinds.iter().any(|one| one == kind);
        status.limits.as_deref() == Some("client=1") && ["Ready", "Stalled", "Reviewed"].into_iter().all(has)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_owns_only_the_status() {
    let Some(plane) = shared().await else { return };
    let (team, _tenant, _replica) = team_with_replica(plane).await;
    becomes(&team, "one", READY).await;
    let policy = team.admin::<SessionPolicy>().get("one").await.unwrap();
    let entries: Vec<_> = policy.metadata.managed_fields.unwrap();
    let manager = format!("session-checker/{}/session-checker", team.name);
    let ours: Vec<_> = entries.iter().filter(|entry| entry.manager.as_ref() == Some(&manager)).collect();
    let [entry] = &ours[..] else { panic!("one entry: {ours:?}") };
    assert_eq!((entry.operation.as_deref(), entry.subresource.as_deref()), (Some("Apply"), Some("status")));
    let fields: Vec<&String> = entry.fields_v1.as_ref().unwrap().0.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["f:status"]);
}
