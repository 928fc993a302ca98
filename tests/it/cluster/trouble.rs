//! Failures around the service: rights, a missing definition, outages, proxies and tokens.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::crd::SessionPolicy;
use simulator::Simulator;

use super::proxy::{Proxy, RequestKind, broken, forbidden, gone, gone_event, too_many};
use super::{
    Load, apply_all, config, one, replica, replicas, serve, start, start_with, team_with_policy, team_with_replica,
};
use crate::common::{APP, Running, callers, credentials, eventually, eventually_within, policy, tenant};
use crate::control_plane::{Namespace, Rbac, exclusive, own, shared};

/// The resource with another name.
fn named(name: &str, mut resource: Value) -> Value {
    resource["metadata"]["name"] = json!(name);
    resource
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_secret_affects_only_its_policy_and_delays_nothing() {
    let Some(plane) = shared().await else { return };
    // This mode may read only demo-tenant and demo-callers.
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
async fn forbidden_namespace_prevents_readiness_and_is_named() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let namespaces = Namespaces::Named([team.name.clone(), "default".to_owned()].into());
    let replica = start_with(&team, &tenant, namespaces, &[]).await;
    eventually("the cause is named", || async {
        let (ready, pending) = replica.readiness().await;
        assert!(!ready);
        matches!(&pending[..], [one] if one.starts_with("policies of namespace default: ") && one.contains("forbidden"))
    })
    .await;
    let (status, body) = replica.ask(&json!({ "user_id": "u", "client_id": APP })).await;
    assert_eq!((status, &body["error"]), (503, &json!("not_ready")));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_definition_prevents_readiness_and_is_named() {
    let Some(plane) = exclusive().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin().await);
    let name = "sessionpolicies.sessionchecker.dev";
    let mut definition = definitions.get(name).await.unwrap();
    definitions.delete(name, &DeleteParams::default()).await.unwrap();
    eventually("the definition is deleted", || async { definitions.get_opt(name).await.unwrap().is_none() }).await;

    let replica = start(&team, &tenant).await;
    eventually("the cause is named", || async {
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

/// Stops the API server under load for at least this time, and changes policies before a replica can watch again.
async fn outage(at_least: Duration) {
    let Some(plane) = exclusive().await else { return };
    let (team, tenant) = team_with_policy(&plane).await;
    team.apply(policy("two", json!({ "priority": -1, "recheckAfter": "0s" }))).await;
    let replicas = replicas(&team, &tenant).await;
    let name = format!("{}/one", team.name);
    for replica in &replicas {
        replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    }
    let loads: Vec<_> = replicas.iter().map(|replica| Load::start(replica, "load")).collect();
    plane.stop();
    tokio::time::sleep(at_least).await;
    for replica in &replicas {
        let restarts = || async { replica.metric("session_checker_watch_restarts_total{watch=\"policies\"}").await };
        eventually("the watches fail", || async { restarts().await.is_some_and(|count| count >= 2.0) }).await;
        assert!(replica.readiness().await.0);
    }
    plane.restart().await;
    team.apply(one(json!({ "limits": { "perClient": 9 } }))).await;
    team.admin::<SessionPolicy>().delete("two", &DeleteParams::default()).await.unwrap();
    // The longer the outage, the longer the pauses between the attempts.
    let bound = crate::common::PATIENCE;
    for replica in &replicas {
        let rule = json!([name, 9, "within_limit"]);
        eventually_within(bound, "the changed policy is active", async || replica.rule().await == rule).await;
        let gone = async || !replica.admin("/debug/policies").await.contains("/two");
        eventually_within(bound, "the deleted policy is gone", gone).await;
    }
    for load in loads {
        assert!(load.stop().await > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_changes_nothing_and_changes_apply_after_it() {
    outage(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make soak"]
async fn outage_of_a_minute_changes_nothing() {
    outage(Duration::from_secs(60)).await;
}

/// A replica that reaches the API server through a proxy.
async fn behind(proxy: &Proxy, tenant: &Simulator) -> Running {
    serve(proxy.cluster(), tenant, &[]).await
}

/// Changes the policy and waits until the replica answers by it.
async fn follows(team: &Namespace<'_>, replica: &Running, limit: usize) {
    team.apply(one(json!({ "limits": { "perClient": limit } }))).await;
    replica.rule_becomes(json!([format!("{}/one", team.name), limit, "within_limit"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_after_a_hang_up_and_relists_when_expired() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    let (lists, watches) =
        (proxy.count(RequestKind::List, "sessionpolicies"), proxy.count(RequestKind::Watch, "sessionpolicies"));
    proxy.hang_up();
    follows(&team, &replica, 3).await;
    assert_eq!(proxy.count(RequestKind::List, "sessionpolicies"), lists, "the watch resumed");
    assert!(proxy.count(RequestKind::Watch, "sessionpolicies") > watches);
    for (round, response) in [gone, gone_event].into_iter().enumerate() {
        proxy.inject(RequestKind::Watch, "sessionpolicies", 1, response);
        proxy.inject(RequestKind::Watch, "secrets", 2, response);
        proxy.hang_up();
        follows(&team, &replica, 4 + round).await;
        eventually("all responses were sent", async || proxy.is_exhausted()).await;
        follows(&team, &replica, 14 + round).await;
        assert_eq!(proxy.count(RequestKind::List, "sessionpolicies"), lists + 1 + round, "it listed again, once");
    }
    assert!(replica.readiness().await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_requests_are_retried_later() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let proxy = Proxy::start(&team).await;
    for resources in ["sessionpolicies", "secrets"] {
        proxy.inject(RequestKind::List, resources, 2, too_many);
        proxy.inject(RequestKind::Watch, resources, 2, too_many);
    }
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    eventually("all responses were sent", async || proxy.is_exhausted()).await;
    follows(&team, &replica, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_is_not_ready_before_its_secrets_are_known() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let proxy = Proxy::start(&team).await;
    proxy.inject(RequestKind::List, "secrets", 6, broken);
    let replica = behind(&proxy, &tenant).await;
    eventually("the pending Secret is named", async || {
        let (ready, pending) = replica.readiness().await;
        assert!(!ready || proxy.is_exhausted());
        ready || pending.iter().any(|one| one.starts_with("Secret ") && one.contains("etcdserver"))
    })
    .await;
    replica.becomes_ready().await;
    // The first check after that is a decision.
    assert_eq!(replica.check("u", APP, "s").await["reason"], "within_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_right_is_noticed_without_a_change_of_the_secret() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    let name = format!("{}/one", team.name);
    replica.condition_becomes(&name, "Ready", "Ready").await;
    // For both Secrets the list is allowed and the watch is forbidden.
    proxy.inject(RequestKind::Watch, "secrets", usize::MAX, forbidden);
    proxy.hang_up();
    replica.condition_becomes(&name, "CredentialsReady", "SecretForbidden").await;
    let failing =
        async |kind: &str| replica.metric(&format!("session_checker_watches_failing{{watch=\"{kind}\"}}")).await;
    eventually("both watches count as failing", async || failing("secrets").await == Some(2.0)).await;
    eventually("others do not", async || failing("policies").await == Some(0.0)).await;
    proxy.restore();
    replica.condition_becomes(&name, "Ready", "Ready").await;
    eventually("no watch counts as failing", async || failing("secrets").await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secret_that_the_api_server_cannot_read_is_reported() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let proxy = Proxy::start(&team).await;
    // No policy names a Secret, so that this replica is ready and leads.
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    proxy.inject(RequestKind::List, "secrets", usize::MAX, broken);
    apply_all(&team).await;
    let name = format!("{}/one", team.name);
    replica.condition_becomes(&name, "CredentialsReady", "SecretUnreadable").await;
    replica.condition_becomes(&name, "Ready", "SecretUnreadable").await;
    eventually("the status has the cause", async || {
        let policy = team.admin::<SessionPolicy>().get("one").await.unwrap();
        serde_json::to_string(&policy.status).unwrap().contains("etcdserver")
    })
    .await;
    proxy.restore();
    replica.condition_becomes(&name, "Ready", "Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make soak"]
async fn only_replica_without_any_secret_reports_them_and_answers() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    // The callers of this policy are those of the replica itself.
    let own = json!({ "callerSecretRef": null, "failurePolicy": "Deny" });
    team.apply(named("own", one(own))).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    let operator = "an-operators-token-of-some-length";
    std::fs::write(token.path(), operator).unwrap();
    let proxy = Proxy::start(&team).await;
    proxy.inject(RequestKind::List, "secrets", usize::MAX, broken);
    let options = ["--caller-token-file", token.path().to_str().unwrap()];
    let replica = serve(proxy.cluster(), &tenant, &options).await;
    eventually_within(Duration::from_secs(150), "the status has the reason", async || {
        let policy = team.admin::<SessionPolicy>().get("one").await.unwrap();
        serde_json::to_string(&policy.status).unwrap().contains("SecretUnreadable")
    })
    .await;
    let (ready, pending) = replica.readiness().await;
    assert!(!ready && pending.iter().all(|one| one.starts_with("Secret ")), "{pending:?}");
    let check = json!({ "user_id": "u", "client_id": APP, "sid": "s" });
    let answer = replica.ask_as(operator, &check).await;
    assert_eq!(answer.0, 200, "{answer:?}");
    assert_eq!((&answer.1["block"], &answer.1["reason"]), (&json!(true), &json!("credentials_missing")));
    // This caller is in a Secret, so that the replica knows no more about it than that.
    let (status, answer) = replica.ask(&check).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.to_string().contains("a Secret with caller tokens was not read"), "{answer}");
    proxy.restore();
    replica.becomes_ready().await;
    assert_eq!(replica.check("u", APP, "s").await["reason"], "within_limit");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make soak"]
async fn silently_dropped_connection_is_detected() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = team_with_policy(plane).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    proxy.silence();
    team.apply(one(json!({ "limits": { "perClient": 3 } }))).await;
    // There is a bookmark every minute. A connection without one is closed, and the watch starts again.
    let rule = json!([format!("{}/one", team.name), 3, "within_limit"]);
    eventually_within(Duration::from_secs(150), "the change takes effect", async || replica.rule().await == rule).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make soak"]
async fn expired_token_is_replaced_by_the_next_token_in_its_file() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = team_with_policy(&plane).await;
    let binding = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "binding" } });
    team.apply(binding).await;
    let old = team.token_bound_to("binding").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &old).unwrap();
    let mut config = config(&team).await;
    config.auth_info.token = None;
    config.auth_info.token_file = Some(file.path().to_str().unwrap().to_owned());
    let replica = serve(Cluster { config: Some(Box::new(config)), ..Cluster::default() }, &tenant, &[]).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;

    let secrets = team.admin::<Secret>();
    secrets.delete("binding", &DeleteParams::default()).await.unwrap();
    let with_old_token: Api<SessionPolicy> = Api::namespaced(team.client_with(&old).await, &team.name);
    let bound = Duration::from_secs(120);
    let is_rejected =
        async || matches!(with_old_token.get("one").await, Err(kube::Error::Api(status)) if status.code == 401);
    eventually_within(bound, "the old token is rejected", is_rejected).await;
    std::fs::write(&file, team.token(3600).await).unwrap();
    // An open watch outlives its token.
    plane.stop();
    plane.restart().await;
    team.apply(one(json!({ "limits": { "perClient": 3 } }))).await;
    let rule = json!([format!("{}/one", team.name), 3, "within_limit"]);
    eventually_within(bound, "the new token is used", async || replica.rule().await == rule).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_api_server_changes_nothing() {
    let Some(plane) = exclusive().await else { return };
    let (team, _tenant, replica) = team_with_replica(&plane).await;
    let name = format!("{}/one", team.name);
    plane.freeze();
    for _ in 0..20 {
        assert_eq!(replica.rule().await, json!([name, 1, "within_limit"]));
    }
    plane.thaw();
    team.apply(one(json!({ "limits": { "perClient": 9 } }))).await;
    replica.rule_becomes(json!([name, 9, "within_limit"])).await;
    tokio::time::timeout(crate::common::PATIENCE, replica.stop()).await.unwrap().unwrap();
}
