//! Forced audit through the API server: on every replica, for the whole service or for one namespace, shown and reversible.

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::crd::SessionPolicy;
use simulator::Simulator;

use super::status::events;
use super::{cluster, one, serve, team_with_policy};
use crate::common::{APP, Running, callers, credentials, eventually, policy, tenant};
use crate::control_plane::{Namespace, Rbac, shared};

/// The name of the ConfigMap in the chart.
const SWITCH: &str = "session-checker-force-audit";

async fn start(home: &Namespace<'_>, namespaces: Namespaces, tenant: &Simulator) -> Running {
    let cluster = Cluster { namespaces, audit_switch: Some(SWITCH.to_owned()), ..cluster(home).await };
    let running = serve(cluster, tenant, &[]).await;
    running.becomes_ready().await;
    running
}

/// The answer to the second session of a user who may have one.
async fn second_session(replica: &Running) -> Value {
    let user = uuid::Uuid::new_v4().to_string();
    let ask = async |sid: &str| replica.ask(&json!({ "user_id": user, "client_id": APP, "sid": sid })).await.1;
    ask("first").await;
    let second = ask("second").await;
    json!([second["block"], second["reason"]])
}

async fn annotate(team: &Namespace<'_>, annotation: &str) {
    let output = team.plane.kubectl(&["-n", &team.name, "annotate", "configmap", SWITCH, annotation], "").await;
    assert!(output.is_success, "{}", output.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn annotation_forces_audit_on_every_replica_and_ends_it() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": SWITCH }, "data": { "value": "false" },
    });
    team.apply(map).await;
    let replicas = [start(&team, Namespaces::Own, &tenant).await, start(&team, Namespaces::Own, &tenant).await];
    let (enforced, audited) = (json!([true, "limit_exceeded"]), json!([false, "audit"]));
    let all_answer = async |expected: &Value| {
        for replica in &replicas {
            eventually(&expected.to_string(), async || second_session(replica).await == *expected).await;
        }
    };
    let reason = async || {
        let status = team.admin::<SessionPolicy>().get("one").await.unwrap().status.unwrap_or_default();
        status.conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|ready| ready.reason)
    };
    all_answer(&enforced).await;

    annotate(&team, "sessionchecker.dev/force-audit=true").await;
    all_answer(&audited).await;
    for replica in &replicas {
        assert_eq!(replica.metric("session_checker_force_audit").await, Some(1.0));
        assert_eq!(replica.metric("session_checker_policies_forced_audit").await, Some(1.0));
    }
    eventually("the condition says so", async || reason().await.as_deref() == Some("ForcedAudit")).await;
    eventually("an Event says so", async || events(&team, "one").await == ["Warning ForcedAudit"]).await;
    let written: Api<Event> = team.admin();
    let note = written.list(&ListParams::default()).await.unwrap().items.remove(0).note.unwrap();
    assert!(note.contains(&format!("ConfigMap {}/{SWITCH}, written by kubectl-annotate at 20", team.name)), "{note}");
    let columns = plane.kubectl(&["get", "sesspol", "-n", &team.name], "").await.out;
    assert!(columns.contains("ForcedAudit"), "{columns}");
    // A replica that starts now knows before it serves.
    let started = start(&team, Namespaces::Own, &tenant).await;
    assert_eq!(second_session(&started).await, audited);

    annotate(&team, "sessionchecker.dev/force-audit-").await;
    all_answer(&enforced).await;
    assert_eq!(replicas[0].metric("session_checker_force_audit").await, Some(0.0));
    eventually("the condition says so", async || reason().await.as_deref() == Some("Ready")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switch_of_a_namespace_forces_its_policies_alone() {
    let Some(plane) = shared().await else { return };
    let (home, tenant) = (plane.namespace(Rbac::Cluster).await, tenant().await);
    let teams = [plane.namespace(Rbac::Namespaced).await, plane.namespace(Rbac::Namespaced).await];
    for (team, client) in teams.iter().zip(["first", "second"]) {
        for resource in [credentials(), callers(), policy("one", json!({ "selector": { "clientIds": [client] } }))] {
            team.apply(resource).await;
        }
    }
    let watched = Namespaces::Named(teams.iter().map(|team| team.name.clone()).collect());
    let replica = start(&home, watched, &tenant).await;
    let names = teams.each_ref().map(|team| format!("{}/one", team.name));
    for name in &names {
        replica.condition_becomes(name, "Ready", "Ready").await;
    }
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": SWITCH }, "data": { "value": "true" },
    });
    teams[0].apply(map).await;
    replica.condition_becomes(&names[0], "Ready", "ForcedAudit").await;
    assert_eq!(replica.condition(&names[1], "Ready").await.1, "Ready");
    assert_eq!(replica.metric("session_checker_force_audit").await, Some(0.0));
    assert_eq!(replica.metric("session_checker_policies_forced_audit").await, Some(1.0));
    let output = plane.kubectl(&["-n", &teams[0].name, "delete", "configmap", SWITCH], "").await;
    assert!(output.is_success, "{}", output.err);
    replica.condition_becomes(&names[0], "Ready", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_without_the_right_to_the_switch_serves() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    for resource in [credentials(), callers(), one(json!({}))] {
        team.apply(resource).await;
    }
    let cluster = Cluster { audit_switch: Some("a-name-without-rights".to_owned()), ..cluster(&team).await };
    let replica = serve(cluster, &tenant, &[]).await;
    replica.becomes_ready().await;
    replica.rule_becomes(json!([format!("{}/one", team.name), 1, "within_limit"])).await;
}
