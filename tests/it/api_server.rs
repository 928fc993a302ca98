//! Tests of the test control plane itself.

use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Config};
use serde_json::json;
use session_checker::crd::SessionPolicy;

use crate::common::policy;
use crate::control_plane::{Rbac, exclusive, own, shared};

#[tokio::test]
async fn restarted_api_server_keeps_its_data_and_leaves_no_files() {
    let Some(plane) = own().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("a", json!({}))).await;
    plane.stop();
    let policies: Api<SessionPolicy> = Api::namespaced(team.client().await, &team.name);
    let all = ListParams::default();
    assert!(policies.list(&all).await.is_err());
    plane.restart().await;
    assert_eq!(policies.list(&all).await.unwrap().items.len(), 1);
    let folder = plane.folder.clone();
    drop(plane);
    assert!(!folder.exists());
}

#[tokio::test]
async fn frozen_api_server_answers_after_thaw() {
    let Some(plane) = exclusive().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("a", json!({}))).await;
    let policies: Api<SessionPolicy> = Api::namespaced(team.client().await, &team.name);
    plane.freeze();
    let all = ListParams::default();
    let list = policies.list(&all);
    tokio::pin!(list);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut list).await.is_err());
    plane.thaw();
    list.await.unwrap();
}

#[tokio::test]
async fn audit_log_is_filtered_by_service_account() {
    let Some(plane) = shared().await else { return };
    let [team, other] = [plane.namespace(Rbac::Namespaced).await, plane.namespace(Rbac::Namespaced).await];
    let policies: Api<SessionPolicy> = Api::namespaced(team.client().await, &team.name);
    policies.list(&ListParams::default()).await.unwrap();
    let events = team.audited();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["verb"], &events[0]["objectRef"]["resource"]), (&json!("list"), &json!("sessionpolicies")));
    assert!(other.audited().is_empty());
}

#[tokio::test]
async fn kubeconfig_is_for_the_service_account_and_namespace() {
    let Some(plane) = shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let read = kube::config::Kubeconfig::read_from(team.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(read, &Default::default()).await.unwrap();
    assert_eq!(config.default_namespace, team.name);
    let policies: Api<SessionPolicy> = Api::default_namespaced(config.try_into().unwrap());
    assert!(policies.list(&ListParams::default()).await.unwrap().items.is_empty());
}
