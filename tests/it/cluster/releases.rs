//! Two releases in one cluster: each has its class, and those that see the same policies do not write against each other.

use std::time::Duration;

use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::crd::SessionPolicy;
use simulator::Simulator;

use super::status::{events, writes};
use super::{apply_all, cluster, one, serve};
use crate::common::{Running, credentials, eventually, eventually_within, policy, tenant};
use crate::control_plane::{Namespace, Rbac, shared};

/// Longer than the pauses after a few overwrites.
const AFTER_THE_PAUSE: Duration = Duration::from_secs(60);

/// Starts a release in `home` that uses the policies of `team` with this class.
async fn release(
    home: &Namespace<'_>,
    team: &Namespace<'_>,
    tenant: &Simulator,
    class_name: Option<&str>,
    options: &[&str],
) -> Running {
    let cluster = Cluster {
        namespaces: Namespaces::Named([team.name.clone()].into()),
        class_name: class_name.map(str::to_owned),
        ..cluster(home).await
    };
    let running = serve(cluster, tenant, options).await;
    running.becomes_ready().await;
    running
}

/// The reason of `Ready` at the API server, and the managers of the status.
async fn ready(team: &Namespace<'_>, name: &str) -> (String, Vec<String>) {
    let policy = team.admin::<SessionPolicy>().get(name).await.unwrap();
    let managers = policy.metadata.managed_fields.unwrap_or_default();
    let status = managers.into_iter().filter(|entry| entry.subresource.as_deref() == Some("status"));
    let managers = status.filter_map(|entry| entry.manager).collect();
    let conditions = policy.status.unwrap_or_default().conditions;
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    (ready.reason, managers)
}

fn manager(home: &Namespace<'_>) -> String {
    format!("session-checker/{}/session-checker", home.name)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_of_one_class_write_little_and_leave_the_right_status() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let elsewhere = plane.namespace(Rbac::Cluster).await;
    team.apply(credentials()).await;
    team.apply(one(json!({ "callerSecretRef": null }))).await;
    // The second serves callers that the first does not, so they report different states.
    let first = release(&team, &team, &tenant, None, &[]).await;
    eventually("the first writes", async || ready(&team, "one").await.0 == "NoCallers").await;
    let second = release(&elsewhere, &team, &tenant, None, &["--allow-anonymous"]).await;
    eventually_within(AFTER_THE_PAUSE, "an Event says so", async || {
        events(&team, "one").await.contains(&"Warning StatusOverwritten".to_owned())
    })
    .await;
    assert!(first.metric("session_checker_status_overwrites_total").await > Some(0.0));
    for home in [&team, &elsewhere] {
        let written = writes(home).into_iter().filter(|write| write == "patch sessionpolicies/status").count();
        // A few until the states settle, and one for each pause.
        assert!((1..12).contains(&written), "{}: {written}", home.name);
    }
    first.stop().await.unwrap();
    eventually_within(AFTER_THE_PAUSE, "the second's state stays", async || ready(&team, "one").await.0 == "Ready")
        .await;
    let third = release(&team, &team, &tenant, None, &[]).await;
    eventually("the third writes", async || ready(&team, "one").await.0 == "NoCallers").await;
    second.stop().await.unwrap();
    eventually_within(AFTER_THE_PAUSE, "the third's state stays", async || ready(&team, "one").await.0 == "NoCallers")
        .await;
    third.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn release_uses_the_policies_of_its_class() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let elsewhere = plane.namespace(Rbac::Cluster).await;
    apply_all(&team).await;
    let mut blue: Value = policy("blue", json!({ "className": "blue", "limits": { "perClient": 3 } }));
    team.apply(blue.clone()).await;
    let default = release(&team, &team, &tenant, None, &[]).await;
    let other = release(&elsewhere, &team, &tenant, Some("blue"), &[]).await;
    let named = |name: &str| format!("{}/{name}", team.name);
    default.rule_becomes(json!([named("one"), 1, "within_limit"])).await;
    other.rule_becomes(json!([named("blue"), 3, "within_limit"])).await;
    for (name, home) in [("one", &team), ("blue", &elsewhere)] {
        let expected = ("Ready".to_owned(), vec![manager(home)]);
        eventually(name, async || ready(&team, name).await == expected).await;
    }
    // A policy changes its class: one release ends it, the other takes it.
    blue["spec"].as_object_mut().unwrap().remove("className");
    blue["spec"]["priority"] = json!(1);
    team.apply(blue).await;
    default.rule_becomes(json!([named("blue"), 3, "within_limit"])).await;
    eventually("the other class has none", async || other.rule().await[0].is_null()).await;
    eventually("its status has a new writer", async || ready(&team, "blue").await.1.contains(&manager(&team))).await;
    assert_eq!(default.metric("session_checker_status_overwrites_total").await, Some(0.0));
}
