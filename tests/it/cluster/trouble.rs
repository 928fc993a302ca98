//! What goes wrong around the service, and that it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use session_checker::controller::Namespaces;

use super::{begin, begin_with, furnish, one, replica, replicas};
use crate::common::{APP, Running, TOKEN, callers, credentials, eventually, policy, tenant};
use crate::control_plane::{Rbac, own, shared};

/// A resource under another name.
fn named(name: &str, mut resource: Value) -> Value {
    resource["metadata"]["name"] = json!(name);
    resource
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_is_the_trouble_of_its_policy_alone_and_delays_nothing() {
    let Some(plane) = shared().await else { return };
    // Of this mode's Secrets only these two may be read.
    let (team, tenant) = (plane.namespace(Rbac::Named).await, tenant().await);
    let good = json!({
        "tenant": { "credentialsSecretRef": { "name": "demo-tenant" } }, "callerSecretRef": { "name": "demo-callers" },
        "recheckAfter": "0s",
    });
    for resource in [
        named("demo-tenant", credentials()),
        named("demo-callers", callers()),
        policy("good", good),
        credentials(),
        callers(),
        one(json!({ "callerSecretRef": { "name": "demo-callers" }, "selector": { "clientIds": ["other"] } })),
    ] {
        team.apply(resource).await;
    }
    let replica = replica(&team, &tenant).await;
    let (good, one) = (format!("{}/good", team.name), format!("{}/one", team.name));
    replica.condition_becomes(&one, "CredentialsReady", "SecretForbidden").await;
    replica.condition_becomes(&good, "Ready", "Ready").await;
    assert_eq!(replica.rule().await, json!([good, 1, "within_limit"]));
    assert_eq!(replica.check("u", "other", "s").await["reason"], "credentials_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_watched_keeps_a_replica_from_being_ready_and_is_named() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let namespaces = Namespaces::Named([team.name.clone(), "default".to_owned()].into());
    let replica = begin_with(&team, &tenant, namespaces, &[]).await;
    eventually("told", || async {
        let (ready, pending) = replica.readiness().await;
        assert!(!ready);
        matches!(&pending[..], [one] if one.starts_with("policies of namespace default: ") && one.contains("forbidden"))
    })
    .await;
    let (status, refused) = replica.ask(&json!({ "user_id": "u", "client_id": APP })).await;
    assert_eq!((status, &refused["error"]), (503, &json!("not_ready")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_definition_is_waited_for_and_told() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin().await);
    let name = "sessionpolicies.sessionchecker.dev";
    let mut definition = definitions.get(name).await.unwrap();
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("gone", || async { definitions.get_opt(name).await.unwrap().is_none() }).await;

    let replica = begin(&team, &tenant).await;
    eventually("told", || async {
        let (ready, pending) = replica.readiness().await;
        assert!(!ready);
        matches!(&pending[..], [one] if one.contains("sessionpolicies.sessionchecker.dev is not installed"))
    })
    .await;

    definition.metadata.resource_version = None;
    definition.metadata.uid = None;
    definition.status = None;
    definitions.create(&Default::default(), &definition).await.unwrap();
    replica.becomes_ready().await;
}

/// Asks all the time, and gives whether every answer was a decision by the policy.
fn load(replica: &Running) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, http, address) = (Arc::clone(&stop), replica.http.clone(), replica.address);
    let asking = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::Relaxed) {
            count += 1;
            let login = json!({ "user_id": format!("load-{count}"), "client_id": APP, "sid": "s" });
            let request = http.post(format!("http://{address}/check")).bearer_auth(TOKEN).json(&login);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!((&answer["block"], &answer["reason"]), (&json!(false), &json!("within_limit")), "{answer}");
        }
        count
    });
    (stop, asking)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_changes_nothing_and_what_changed_meanwhile_is_in_force_when_it_is_back() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    team.apply(policy("two", json!({ "priority": -1, "recheckAfter": "0s" }))).await;
    let replicas = replicas(&team, &tenant).await;
    let name = format!("{}/one", team.name);
    for replica in &replicas {
        replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    }
    let loads: Vec<_> = replicas.iter().map(load).collect();
    plane.stop();
    for replica in &replicas {
        let failed = || async { replica.metric("session_checker_watch_restarts_total{watch=\"policies\"}").await };
        eventually("the watches fail", || async { failed().await.is_some_and(|count| count >= 2.0) }).await;
        assert!(replica.readiness().await.0);
    }
    plane.restart().await;
    team.apply(one(json!({ "limits": { "perClient": 9 } }))).await;
    team.admin::<session_checker::crd::SessionPolicy>().await.delete("two", &DeleteParams::default()).await.unwrap();
    for replica in &replicas {
        replica.rule_becomes(json!([name, 9, "within_limit"])).await;
        eventually("gone", || async { !replica.admin("/debug/policies").await.contains("/two") }).await;
    }
    for (stop, asking) in loads {
        stop.store(true, Ordering::Relaxed);
        assert!(asking.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_changes_nothing() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let replica = replica(&team, &tenant).await;
    let name = format!("{}/one", team.name);
    plane.freeze();
    for _ in 0..20 {
        assert_eq!(replica.rule().await, json!([name, 1, "within_limit"]));
    }
    plane.thaw();
    team.apply(one(json!({ "limits": { "perClient": 9 } }))).await;
    replica.rule_becomes(json!([name, 9, "within_limit"])).await;
    tokio::time::timeout(Duration::from_secs(10), replica.stop()).await.unwrap().unwrap();
}
