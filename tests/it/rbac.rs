//! The rights of the service account in each of the chart's three modes: what it may do, and what it may not.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use session_checker::crd::SessionPolicy;

use crate::common::policy;
use crate::control_plane::{self, Namespace, Rbac};

fn secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "a": "b" } })
}

/// A namespace with a policy, a Secret that the `named` mode allows, and a Secret that it does not allow.
async fn team(plane: &'static control_plane::ControlPlane, rbac: Rbac) -> Namespace<'static> {
    let team = plane.namespace(rbac).await;
    for resource in [policy("a", json!({})), secret("demo-tenant"), secret("other")] {
        team.apply(resource).await;
    }
    team
}

/// Whether a request failed for lack of rights; panics when it failed for another reason.
fn forbidden<T>(result: Result<T, kube::Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(kube::Error::Api(status)) if status.is_forbidden() => true,
        Err(other) => panic!("neither allowed nor forbidden: {other}"),
    }
}

async fn can_list(secrets: &Api<Secret>, name: Option<&str>) -> bool {
    let selector =
        name.map_or_else(ListParams::default, |name| ListParams::default().fields(&format!("metadata.name={name}")));
    !forbidden(secrets.list(&selector).await)
}

async fn can_watch(secrets: &Api<Secret>, name: &str) -> bool {
    let selector = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(1);
    !forbidden(secrets.watch(&selector, "0").await.map(drop))
}

const MODES: [Rbac; 3] = [Rbac::Namespaced, Rbac::Named, Rbac::Cluster];

#[tokio::test]
async fn named_secret_is_readable_by_field_selector_in_every_mode() {
    let Some(plane) = control_plane::shared().await else { return };
    for mode in MODES {
        let team = team(plane, mode).await;
        let secrets: Api<Secret> = Api::namespaced(team.client().await, &team.name);
        assert!(can_list(&secrets, Some("demo-tenant")).await, "{mode}");
        assert!(can_watch(&secrets, "demo-tenant").await, "{mode}");
        assert!(can_watch(&secrets, "demo-callers").await, "{mode}: also before the Secret exists");
    }
}

#[tokio::test]
async fn named_mode_reads_no_other_secret_and_no_full_list() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = team(plane, Rbac::Named).await;
    let secrets: Api<Secret> = Api::namespaced(team.client().await, &team.name);
    assert!(forbidden(secrets.get("other").await));
    assert!(forbidden(secrets.get("demo-tenant").await), "the service lists and watches, and gets nothing");
    assert!(!can_list(&secrets, Some("other")).await);
    assert!(!can_watch(&secrets, "other").await);
    assert!(!can_list(&secrets, None).await);
}

#[tokio::test]
async fn only_cluster_mode_reads_other_namespaces() {
    let Some(plane) = control_plane::shared().await else { return };
    let other = team(plane, Rbac::Namespaced).await;
    for mode in MODES {
        let team = team(plane, mode).await;
        let client = team.client().await;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &other.name);
        let policies: Api<SessionPolicy> = Api::namespaced(client.clone(), &other.name);
        let everywhere: Api<SessionPolicy> = Api::all(client);
        let allowed = matches!(mode, Rbac::Cluster);
        assert_eq!(can_list(&secrets, Some("demo-tenant")).await, allowed, "{mode}");
        assert_eq!(can_watch(&secrets, "demo-tenant").await, allowed, "{mode}");
        assert_eq!(!forbidden(policies.list(&ListParams::default()).await), allowed, "{mode}");
        assert_eq!(!forbidden(everywhere.list(&ListParams::default()).await), allowed, "{mode}");
    }
}

#[tokio::test]
async fn no_mode_writes_specs_secrets_or_other_kinds() {
    let Some(plane) = control_plane::shared().await else { return };
    for mode in MODES {
        let team = team(plane, mode).await;
        let client = team.client().await;
        let policies: Api<SessionPolicy> = Api::namespaced(client.clone(), &team.name);
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &team.name);
        let maps: Api<ConfigMap> = Api::namespaced(client, &team.name);
        let change = json!({ "metadata": { "labels": { "a": "b" } } });
        let (merge, patch) = (PatchParams::default(), Patch::Merge(change));
        let another: SessionPolicy = serde_json::from_value(policy("b", json!({}))).unwrap();
        assert!(forbidden(policies.patch("a", &merge, &patch).await), "{mode}");
        assert!(forbidden(policies.create(&PostParams::default(), &another).await), "{mode}");
        assert!(forbidden(policies.delete("a", &DeleteParams::default()).await.map(drop)), "{mode}");
        assert!(forbidden(secrets.patch("demo-tenant", &merge, &patch).await), "{mode}");
        assert!(forbidden(secrets.delete("demo-tenant", &DeleteParams::default()).await.map(drop)), "{mode}");
        assert!(forbidden(maps.create(&PostParams::default(), &ConfigMap::default()).await), "{mode}");
        assert!(forbidden(maps.list(&ListParams::default()).await), "{mode}");
    }
}

#[tokio::test]
async fn status_subresource_changes_only_the_status() {
    let Some(plane) = control_plane::shared().await else { return };
    for mode in MODES {
        let team = team(plane, mode).await;
        let policies: Api<SessionPolicy> = Api::namespaced(team.client().await, &team.name);
        let change = json!({
            "metadata": { "labels": { "a": "b" } }, "spec": { "priority": 7, "mode": "Audit" },
            "status": { "limits": "client=1" },
        });
        policies.patch_status("a", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
        let mut before: Value = policy("a", json!({}))["spec"].take();
        // The service has no right to get.
        let policies: Api<SessionPolicy> = team.admin();
        let after = policies.get("a").await.unwrap();
        assert_eq!(after.status.unwrap().limits.as_deref(), Some("client=1"), "{mode}");
        assert_eq!((after.spec.priority, after.metadata.labels), (0, None), "{mode}");
        before["mode"] = json!("Enforce");
        assert_eq!(serde_json::to_value(after.spec).unwrap()["mode"], before["mode"], "{mode}");
    }
}

#[tokio::test]
async fn lease_and_events_are_writable_where_the_service_runs() {
    let Some(plane) = control_plane::shared().await else { return };
    let other = plane.namespace(Rbac::Namespaced).await;
    for mode in MODES {
        let team = team(plane, mode).await;
        let client = team.client().await;
        assert!(!forbidden(lease(&client, &team.name, "session-checker").await), "{mode}");
        assert!(forbidden(lease(&client, &other.name, "session-checker").await), "{mode}");
        assert!(forbidden(lease(&client, &team.name, "another").await), "{mode}: although it may create Leases");
        assert!(!forbidden(event(&client, &team.name).await), "{mode}");
        assert_eq!(forbidden(event(&client, &other.name).await), !matches!(mode, Rbac::Cluster), "{mode}");
    }
}

/// Creates the Lease and writes it again, as an election does.
async fn lease(client: &Client, namespace: &str, name: &str) -> Result<Lease, kube::Error> {
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
    let lease = api.create(&PostParams::default(), &lease).await?;
    api.list(&ListParams::default().fields(&format!("metadata.name={name}"))).await?;
    api.replace(name, &PostParams::default(), &lease).await
}

async fn event(client: &Client, namespace: &str) -> Result<Event, kube::Error> {
    let event = json!({
        "metadata": { "name": "a", "namespace": namespace }, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "sessionchecker.dev/session-checker", "reportingInstance": "a", "action": "Watch",
        "reason": "Ready", "type": "Normal",
        "regarding": { "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy", "name": "a", "namespace": namespace },
    });
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await
}

/// The requests above are a sample; this is the complete list.
#[tokio::test]
async fn rights_are_exactly_these() {
    let Some(plane) = control_plane::shared().await else { return };
    for mode in MODES {
        let team = plane.namespace(mode).await;
        let spec = SelfSubjectRulesReviewSpec { namespace: Some(team.name.clone()) };
        let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
        let api: Api<SelfSubjectRulesReview> = Api::all(team.client().await);
        let status = api.create(&PostParams::default(), &review).await.unwrap().status.unwrap();
        let rules: BTreeSet<String> = status
            .resource_rules
            .iter()
            .flat_map(|rule| {
                let verbs = rule.verbs.join(",");
                let names = rule.resource_names.clone().unwrap_or_default().join(",");
                rule.resources.iter().flatten().map(move |resource| format!("{resource}[{names}] {verbs}"))
            })
            // Every account may ask about its own rights.
            .filter(|rule| !rule.starts_with("selfsubject"))
            .collect();
        let secrets = if matches!(mode, Rbac::Named) { "demo-tenant,demo-callers" } else { "" };
        let expected = [
            "sessionpolicies[] list,watch".to_owned(),
            "sessionpolicies/status[] patch".to_owned(),
            format!("secrets[{secrets}] list,watch"),
            "events[] create,patch".to_owned(),
            "configmaps[session-checker-force-audit] list,watch".to_owned(),
            "leases[] create".to_owned(),
            "leases[session-checker] list,watch,update".to_owned(),
        ];
        assert_eq!(rules, BTreeSet::from(expected), "{mode}");
    }
}
