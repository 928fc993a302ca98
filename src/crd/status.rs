//! The status of a policy, which the controller writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The status of a policy that no service has seen yet, as in Gateway API: tools that read conditions would take a policy without
/// any for done.
fn unseen() -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "Unknown", "reason": "Pending",
            "message": "no service of this class has seen the policy yet", "lastTransitionTime": "1970-01-01T00:00:00Z",
        })
    };
    json!({ "conditions": [condition("Accepted"), condition("Ready")] })
}

/// The state of this policy as the leader last saw it. The metrics of each Pod show the Pod's view.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = unseen()))]
pub struct SessionPolicyStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec compiles and does not conflict with another policy. `CredentialsReady`: the credential Secret
    /// exists, is complete, is for this tenant, and Auth0 accepts the credential. `Ready`: both, and callers can use the
    /// policy, which is active as written. `Enforcing`: the logins that Auth0's log stream reported were checked.
    /// `Reconciling`: the policy is expected to be ready without help. `Stalled`: a person has to act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The active limits as one line, such as `client=1 user=5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<String>,
    /// When the policy last answered a check, as far as the leader knows, written at most once an hour. Without a shared ledger
    /// the leader knows its own checks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_time: Option<Time>,
}
