//! A definition of a newer version under this program, as in a rolling upgrade, a rollback, or two releases in one cluster.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use session_checker::crd::SessionPolicy;

use super::{one, replica, team_with_replica};
use crate::common::{eventually, policy};
use crate::control_plane::{ControlPlane, Namespace, exclusive};

const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";

/// The definition of version N+1: a field with a default at each level, one more criterion, and one more word of a field.
fn newer(definition: &Value) -> Value {
    let mut newer = definition.clone();
    let field = json!({ "type": "boolean", "default": true, "description": "x" });
    for place in ["", "/tenant/properties", "/selector/properties", "/limits/properties", "/overrides/items/properties"]
    {
        newer.pointer_mut(&format!("{SPEC}{place}")).unwrap()["later"] = field.clone();
    }
    let roles = json!({ "type": "array", "items": { "type": "string" }, "description": "x" });
    newer.pointer_mut(&format!("{SPEC}/selector/properties")).unwrap()["roles"] = roles;
    newer.pointer_mut(&format!("{SPEC}/strategy/enum")).unwrap().as_array_mut().unwrap().push(json!("RevokeAll"));
    newer
}

/// Replaces the definition and waits until the API server serves it.
async fn replace(plane: &ControlPlane, team: &Namespace<'_>, definition: &Value, has_later: bool) {
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin().await);
    let mut next: CustomResourceDefinition = serde_json::from_value(definition.clone()).unwrap();
    let name = next.metadata.name.clone().unwrap();
    next.metadata.resource_version = definitions.get(&name).await.unwrap().metadata.resource_version;
    definitions.replace(&name, &PostParams::default(), &next).await.unwrap();
    let policies: Api<DynamicObject> =
        Api::namespaced_with(plane.admin().await, &team.name, &ApiResource::erase::<SessionPolicy>(&()));
    eventually("the definition is served", async || {
        policies.get("one").await.unwrap().data["spec"].get("later").is_some() == has_later
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_definition_and_its_rollback_switch_no_limit_off() {
    let Some(plane) = exclusive().await else { return };
    let (team, tenant, before) = team_with_replica(&plane).await;
    let (name, limited) = (format!("{}/one", team.name), json!([format!("{}/one", team.name), 1, "within_limit"]));
    before.rule_becomes(limited.clone()).await;

    let definition: Value = serde_saphyr::from_str(&session_checker::crd::manifest().unwrap()).unwrap();
    replace(&plane, &team, &newer(&definition), true).await;
    // A Pod that starts under the newer definition reads every policy with the new fields.
    let after = replica(&team, &tenant).await;
    for replica in [&before, &after] {
        replica.rule_becomes(limited.clone()).await;
        replica.condition_becomes(&name, "Ready", "Ready").await;
    }
    let vip = json!([{ "name": "vip", "users": ["auth0|vip"], "exempt": true }]);
    team.apply(one(json!({ "strategy": "RevokeAll", "limits": { "perClient": 2 }, "overrides": vip }))).await;
    let policies: Api<DynamicObject> =
        Api::namespaced_with(plane.admin().await, &team.name, &ApiResource::erase::<SessionPolicy>(&()));
    for replica in [&before, &after] {
        replica.rule_becomes(json!([name, 2, "within_limit"])).await;
    }
    // The API server still serves the older definition to watches that began under it, so a field may be missing there.
    let names = ["spec.strategy", "RevokeAll", "spec.later", "spec.tenant.later", "spec.overrides[0].later"];
    eventually("the conditions name what is not known", async || {
        let debug = after.admin("/debug/policies").await;
        names.iter().all(|words| debug.contains(words))
    })
    .await;
    eventually("the status names what is not known", async || {
        let status = policies.get("one").await.unwrap().data["status"].to_string();
        status.contains("spec.strategy") && status.contains("upgrade the service")
    })
    .await;

    // A policy that a field of the newer version narrows governs no login of a Pod that does not know the field.
    let mut narrow = policy("narrow", json!({ "priority": 5, "limits": { "perClient": 9 } }));
    narrow["spec"]["selector"] = json!({ "roles": ["contractor"] });
    team.apply(narrow).await;
    let narrow = format!("{}/narrow", team.name);
    after.condition_becomes(&narrow, "Accepted", "Invalid").await;
    after.rule_becomes(json!([name, 2, "within_limit"])).await;
    // Without the field it would select all logins.
    team.admin::<SessionPolicy>().delete("narrow", &DeleteParams::default()).await.unwrap();

    replace(&plane, &team, &definition, false).await;
    let rolled_back = replica(&team, &tenant).await;
    for replica in [&before, &after, &rolled_back] {
        replica.rule_becomes(json!([name, 2, "within_limit"])).await;
    }
}
