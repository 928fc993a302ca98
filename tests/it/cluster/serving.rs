//! Applied policies and Secrets take effect on every replica, and deleted ones stop.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use session_checker::crd::SessionPolicy;

use super::{apply_all, one, replica, replicas, team_with_replica};
use crate::common::{callers, credentials, policy, tenant};
use crate::control_plane::{Rbac, shared};

#[tokio::test(flavor = "multi_thread")]
async fn policy_changes_take_effect_on_every_replica() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let replicas = replicas(&team, &tenant).await;
    for replica in &replicas {
        assert_eq!(replica.rule().await, json!([null, null, null]), "ready without policies, and no caller is known");
    }
    let name = format!("{}/one", team.name);
    apply_all(&team).await;
    for replica in &replicas {
        replica.rule_becomes(json!([name, 1, "within_limit"])).await;
        replica.condition_becomes(&name, "Ready", "Ready").await;
    }
    team.apply(one(json!({ "limits": { "perClient": 7 } }))).await;
    for replica in &replicas {
        replica.rule_becomes(json!([name, 7, "within_limit"])).await;
    }
    team.admin::<SessionPolicy>().delete("one", &DeleteParams::default()).await.unwrap();
    for replica in &replicas {
        replica.rule_becomes(json!([null, null, null])).await;
        assert!(!replica.admin("/metrics").await.contains(&name), "the series of a deleted policy end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_secret_is_not_used_and_restored_secret_is_used() {
    let Some(plane) = shared().await else { return };
    let (team, _tenant, replica) = team_with_replica(plane).await;
    let name = format!("{}/one", team.name);
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    team.admin::<Secret>().delete("tenant", &DeleteParams::default()).await.unwrap();
    replica.rule_becomes(json!([name, null, "credentials_missing"])).await;
    replica.condition_becomes(&name, "CredentialsReady", "SecretMissing").await;
    assert!(replica.readiness().await.0, "a ready replica stays ready");
    team.apply(credentials()).await;
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    team.admin::<Secret>().delete("callers", &DeleteParams::default()).await.unwrap();
    replica.rule_becomes(json!([null, null, null])).await;
    team.apply(callers()).await;
    replica.rule_becomes(json!([name, 1, "within_limit"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_of_two_conflicting_policies_takes_precedence() {
    let Some(plane) = shared().await else { return };
    let (team, tenant, before) = team_with_replica(plane).await;
    // Creation times are whole seconds: within a second the name decides.
    team.apply(policy("two", json!({ "limits": { "perClient": 2 }, "recheckAfter": "0s" }))).await;
    let (one, two) = (format!("{}/one", team.name), format!("{}/two", team.name));
    before.condition_becomes(&two, "Accepted", "Conflicted").await;
    let after = replica(&team, &tenant).await;
    for replica in [&before, &after] {
        replica.condition_becomes(&two, "Accepted", "Conflicted").await;
        assert_eq!(replica.condition(&one, "Accepted").await.1, "Accepted");
        assert_eq!(replica.rule().await, json!([one, 1, "within_limit"]));
    }
    team.admin::<SessionPolicy>().delete("one", &DeleteParams::default()).await.unwrap();
    for replica in [&before, &after] {
        replica.condition_becomes(&two, "Accepted", "Accepted").await;
        replica.rule_becomes(json!([two, 2, "within_limit"])).await;
    }
}
