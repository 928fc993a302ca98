//! The status of a policy, which the controller writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The state of this policy as the leader last saw it. The metrics of each Pod show the Pod's view.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec compiles and does not conflict with another policy. `CredentialsReady`: the credential Secret
    /// exists, is complete, is for this tenant, and Auth0 accepts the credential. `Ready`: both, and callers can use the
    /// policy, which is active as written. `Enforcing`: the logins that Auth0's log stream reported were checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,
    /// The active limits as one line, such as `client=1 user=5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
    /// When the policy last answered a check, as far as the leader knows, written at most once an hour. Without a shared ledger
    /// the leader knows its own checks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_time: Option<Time>,
}
