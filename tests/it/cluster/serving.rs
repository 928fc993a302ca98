//! What is applied is in force on every replica, and what is taken away is not.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use session_checker::crd::SessionPolicy;

use super::{furnish, one, replica, replicas};
use crate::common::{callers, credentials, policy, tenant};
use crate::control_plane::{Rbac, shared};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_changed_and_deleted_is_in_force_on_every_replica() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let replicas = replicas(&team, &tenant).await;
    for replica in &replicas {
        assert_eq!(replica.rule().await, json!([null, null, null]), "ready with nothing, and nobody is known");
    }
    let name = format!("{}/one", team.name);
    furnish(&team).await;
    for replica in &replicas {
        replica.rule_becomes(json!([name, 1, "within_limit"])).await;
        replica.condition_becomes(&name, "Ready", "Ready").await;
    }
    team.apply(one(json!({ "limits": { "perClient": 7 } }))).await;
    for replica in &replicas {
        replica.rule_becomes(json!([name, 7, "within_limit"])).await;
    }
    team.admin::<SessionPolicy>().await.delete("one", &DeleteParams::default()).await.unwrap();
    for replica in &replicas {
        replica.rule_becomes(json!([null, null, null])).await;
        assert!(!replica.admin("/metrics").await.contains(&name), "its series end with it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_stops_its_use_at_once_and_one_that_comes_back_is_used() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let replica = replica(&team, &tenant).await;
    let name = format!("{}/one", team.name);
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    team.admin::<Secret>().await.delete("tenant", &DeleteParams::default()).await.unwrap();
    replica.rule_becomes(json!([name, null, "credentials_missing"])).await;
    replica.condition_becomes(&name, "CredentialsReady", "SecretMissing").await;
    assert!(replica.readiness().await.0, "nothing later makes it unready");
    team.apply(credentials()).await;
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    team.admin::<Secret>().await.delete("callers", &DeleteParams::default()).await.unwrap();
    replica.rule_becomes(json!([null, null, null])).await;
    team.apply(callers()).await;
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_policies_in_conflict_the_older_governs_everywhere_until_it_goes() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    furnish(&team).await;
    let before = replica(&team, &tenant).await;
    // Creation times are whole seconds: within one the name decides.
    team.apply(policy("two", json!({ "limits": { "perClient": 2 }, "recheckAfter": "0s" }))).await;
    let (one, two) = (format!("{}/one", team.name), format!("{}/two", team.name));
    before.condition_becomes(&two, "Accepted", "Conflicted").await;
    let after = replica(&team, &tenant).await;
    for replica in [&before, &after] {
        replica.condition_becomes(&two, "Accepted", "Conflicted").await;
        assert_eq!(replica.condition(&one, "Accepted").await.1, "Accepted");
        assert_eq!(replica.rule().await, json!([one, 1, "within_limit"]));
    }
    team.admin::<SessionPolicy>().await.delete("one", &DeleteParams::default()).await.unwrap();
    for replica in [&before, &after] {
        replica.condition_becomes(&two, "Accepted", "Accepted").await;
        replica.rule_becomes(json!([two, 2, "within_limit"])).await;
    }
}
