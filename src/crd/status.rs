//! The status of a policy: what the controller says of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What the replica that holds the Lease last saw of this policy. Each Pod's own view is in its metrics.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec compiles and does not conflict with another policy. `CredentialsReady`: the credential Secret is
    /// there, complete, allowed for this tenant, and accepted by Auth0. `Ready`: both; the policy is in force as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The limits as one line, such as `client=1 user=5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
}
