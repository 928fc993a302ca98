//! What goes wrong around the service, and that it goes on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::crd::SessionPolicy;
use session_checker::service::Source;
use simulator::Simulator;

use super::proxy::{Asked, Proxy, broken, forbidden, gone, gone_in_the_middle, too_many};
use super::{Load, begin, begin_with, config, furnish, one, replica, replicas};
use crate::common::{
    APP, DOMAIN, Running, callers, credentials, eventually, eventually_within, policy, serve_args, tenant,
};
use crate::control_plane::{Namespace, Rbac, own, shared};

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

/// Stops the API server under load, for at least so long, and changes policies while no replica can know.
async fn outage(at_least: Duration) {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
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
        let failed = || async { replica.metric("session_checker_watch_restarts_total{watch=\"policies\"}").await };
        eventually("the watches fail", || async { failed().await.is_some_and(|count| count >= 2.0) }).await;
        assert!(replica.readiness().await.0);
    }
    plane.restart().await;
    team.apply(one(json!({ "limits": { "perClient": 9 } }))).await;
    team.admin::<SessionPolicy>().await.delete("two", &DeleteParams::default()).await.unwrap();
    // The longer it was away, the longer the pauses between the tries.
    let bound = Duration::from_secs(30);
    for replica in &replicas {
        let rule = json!([name, 9, "within_limit"]);
        eventually_within(bound, "what changed is in force", async || replica.rule().await == rule).await;
        let gone = async || !replica.admin("/debug/policies").await.contains("/two");
        eventually_within(bound, "what was deleted is gone", gone).await;
    }
    for load in loads {
        assert!(load.stop().await > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_changes_nothing_and_what_changed_meanwhile_is_in_force_when_it_is_back() {
    outage(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make soak"]
async fn an_api_server_that_is_away_for_a_minute_changes_nothing() {
    outage(Duration::from_secs(60)).await;
}

/// A replica that reaches the API server through a proxy.
async fn behind(proxy: &Proxy, tenant: &Simulator) -> Running {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    Running::serve(serve_args(&["--auth0-endpoint", &endpoint]), proxy.source()).await.unwrap()
}

/// Changes the policy, and waits until the replica answers by it.
async fn follows(team: &Namespace<'_>, replica: &Running, limit: usize) {
    team.apply(one(json!({ "limits": { "perClient": limit } }))).await;
    replica.rule_becomes(json!([format!("{}/one", team.name), limit, "within_limit"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_hang_up_and_lists_anew_only_when_its_place_is_no_longer_known() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    let (lists, watches) = (proxy.asked(Asked::List, "sessionpolicies"), proxy.asked(Asked::Watch, "sessionpolicies"));
    proxy.hang_up();
    follows(&team, &replica, 3).await;
    assert_eq!(proxy.asked(Asked::List, "sessionpolicies"), lists, "it went on where it was");
    assert!(proxy.asked(Asked::Watch, "sessionpolicies") > watches);
    for (round, response) in [gone, gone_in_the_middle].into_iter().enumerate() {
        proxy.answer(Asked::Watch, "sessionpolicies", 1, response);
        proxy.answer(Asked::Watch, "secrets", 2, response);
        proxy.hang_up();
        follows(&team, &replica, 4 + round).await;
        eventually("all were told", async || proxy.has_answered()).await;
        follows(&team, &replica, 14 + round).await;
        assert_eq!(proxy.asked(Asked::List, "sessionpolicies"), lists + 1 + round, "it listed anew, once");
    }
    assert!(replica.readiness().await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_too_much_to_do_is_asked_again_later() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let proxy = Proxy::start(&team).await;
    for resources in ["sessionpolicies", "secrets"] {
        proxy.answer(Asked::List, resources, 2, too_many);
        proxy.answer(Asked::Watch, resources, 2, too_many);
    }
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    eventually("all were told", async || proxy.has_answered()).await;
    follows(&team, &replica, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_ready_before_it_has_heard_of_its_secrets() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let proxy = Proxy::start(&team).await;
    proxy.answer(Asked::List, "secrets", 6, broken);
    let replica = behind(&proxy, &tenant).await;
    eventually("it says what it waits for", async || {
        let (ready, pending) = replica.readiness().await;
        assert!(!ready || proxy.has_answered());
        ready || pending.iter().any(|one| one.starts_with("Secret ") && one.contains("etcdserver"))
    })
    .await;
    replica.becomes_ready().await;
    // The first check after that is decided.
    assert_eq!(replica.check("u", APP, "s").await["reason"], "within_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_given_back_is_noticed_though_the_secret_does_not_change() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    let name = format!("{}/one", team.name);
    replica.condition_becomes(&name, "Ready", "Ready").await;
    // Of both Secrets: the list is allowed, and the watch is not.
    proxy.answer(Asked::Watch, "secrets", 2, forbidden);
    proxy.hang_up();
    replica.condition_becomes(&name, "CredentialsReady", "SecretForbidden").await;
    replica.condition_becomes(&name, "Ready", "Ready").await;
    assert!(proxy.has_answered());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes: make soak"]
async fn a_proxy_that_forgets_connections_without_a_word_is_found_out() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let proxy = Proxy::start(&team).await;
    let replica = behind(&proxy, &tenant).await;
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;
    proxy.forget();
    team.apply(one(json!({ "limits": { "perClient": 3 } }))).await;
    // There is a bookmark every minute; whoever hears of none asks anew.
    let rule = json!([format!("{}/one", team.name), 3, "within_limit"]);
    let found_out = async || replica.rule().await == rule;
    eventually_within(Duration::from_secs(150), "the change is heard of", found_out).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: make soak"]
async fn a_token_that_is_no_longer_good_is_followed_by_the_one_that_takes_its_place_in_the_file() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let binding = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "binding" } });
    team.apply(binding).await;
    let old = team.token_bound_to("binding").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &old).unwrap();
    let mut config = config(&team).await;
    config.auth_info.token = None;
    config.auth_info.token_file = Some(file.path().to_str().unwrap().to_owned());
    let source = Source::Cluster(Cluster { config: Some(Box::new(config)), namespaces: Namespaces::Own });
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let replica = Running::serve(serve_args(&["--auth0-endpoint", &endpoint]), source).await.unwrap();
    replica.becomes_ready().await;
    follows(&team, &replica, 2).await;

    let secrets = team.admin::<Secret>().await;
    secrets.delete("binding", &DeleteParams::default()).await.unwrap();
    let with_the_old: Api<SessionPolicy> = Api::namespaced(team.client_with(&old).await, &team.name);
    let minutes = Duration::from_secs(120);
    let refused = async || matches!(with_the_old.get("one").await, Err(kube::Error::Api(status)) if status.code == 401);
    eventually_within(minutes, "the old one is refused", refused).await;
    std::fs::write(&file, team.token(3600).await).unwrap();
    // A watch that is under way lasts longer than its token.
    plane.stop();
    plane.restart().await;
    team.apply(one(json!({ "limits": { "perClient": 3 } }))).await;
    let rule = json!([format!("{}/one", team.name), 3, "within_limit"]);
    eventually_within(minutes, "the new one is used", async || replica.rule().await == rule).await;
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
