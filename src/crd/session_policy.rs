//! `SessionPolicy`: how many sessions the users of a tenant may hold. The doc comments are what `kubectl explain` prints.

use kube::{CustomResource, KubeSchema};
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GoDuration, SessionPolicyStatus, bounds};

/// What a policy asks for. Write the limit, the tenant and whom it is for; everything else has a default.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sessionchecker.dev",
    version = "v1alpha1",
    kind = "SessionPolicy",
    plural = "sessionpolicies",
    shortname = "sesspol",
    namespaced,
    status = "SessionPolicyStatus",
    derive = "PartialEq",
    doc = "SessionPolicy limits how many sessions a user of an Auth0 tenant may hold at once.",
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy"),
    printcolumn(name = "Limit", type_ = "string", json_path = ".status.limits"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenant.domain", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!has(self.callerSecretRef) || self.callerSecretRef.name != self.tenant.credentialsSecretRef.name")
        .message("callerSecretRef and tenant.credentialsSecretRef name the same Secret: keep the callers' tokens in a Secret of their own"),
    validation = Rule::new("!has(self.limits.perGroup) || has(self.selector.clientIds)")
        .message("limits.perGroup counts over the clients of the selector: name them in selector.clientIds, or use perUser"),
    validation = Rule::new("self.overrides.all(o, !has(o.limits) || !has(o.limits.perGroup) || has(self.selector.clientIds))")
        .message("limits.perGroup of an override counts over the clients of the selector: name them in selector.clientIds, or use perUser")
)]
#[schemars(transform = without_null)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicySpec {
    /// The Auth0 tenant whose logins this policy limits, and how to ask it.
    pub tenant: TenantSpec,
    /// A Secret in the same namespace, of type `sessionchecker.dev/callers`: each of its values, trimmed and at least 16
    /// characters long, is a bearer token that the Auth0 Action may present. Two values allow a rotation without downtime.
    /// Without it, the tokens that the service was started with may use the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_secret_ref: Option<SecretRef>,
    /// Which logins the policy governs. Lists that are left out select every login of the tenant.
    #[serde(default)]
    pub selector: SelectorSpec,
    /// Where several policies match a login, the one with the highest priority governs it.
    // Kubernetes 1.33 takes the format for a remark only: the bounds have to be written.
    #[serde(default)]
    #[schemars(range(min = i32::MIN, max = i32::MAX))]
    pub priority: i32,
    /// How many sessions a user may hold. At least one of the three is needed.
    pub limits: LimitsSpec,
    /// What a session that already has the application means for the limit when it logs in again.
    #[serde(default)]
    pub reentry: ReentrySpec,
    /// What happens to a login over the limit.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// Revoke other sessions only for logins that say `mfa: true`, and refuse the others, so that a stolen password alone
    /// cannot sign its owner out.
    #[serde(default)]
    pub revoke_requires_mfa: bool,
    /// `Audit` lets every login pass and only counts and logs what `Enforce` would have done.
    #[serde(default)]
    pub mode: ModeSpec,
    /// Sessions that were not used for this long do not count, such as `12h`. Unset: all that have not expired count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) > duration('0s')")
        .message("write a duration above zero with its units, such as 30m or 12h (there is no unit for days), or leave activeWithin out"))]
    pub active_within: Option<GoDuration>,
    /// The answer to a login without a session id, as password grants and refresh-token exchanges have none.
    #[serde(default)]
    pub missing_session: AllowDenySpec,
    /// Protocols that are not limited, as `event.transaction.protocol` names them. `[]` limits all.
    #[serde(default = "default_skip_protocols")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = bounds::PROTOCOLS), inner(length(min = 1, max = bounds::PROTOCOL)))]
    pub skip_protocols: Vec<String>,
    /// Exceptions, the first that matches a login wins.
    #[serde(default)]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(o, self.exists_one(p, p.name == o.name))").message("two overrides have the same name: give each its own")
    )]
    #[schemars(length(max = bounds::OVERRIDES))]
    pub overrides: Vec<OverrideSpec>,
    /// The answer when Auth0 cannot be asked within `timeout`.
    #[serde(default)]
    pub failure_policy: AllowDenySpec,
    /// How long a check may take in all, at most `10s`: all Actions of a login together have 20 seconds.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('10s')")
        .message("write a duration above zero and up to 10s, such as 3s or 1500ms"))]
    pub timeout: GoDuration,
    /// How long a login that was let in counts before Auth0's list shows it, at most `10m`; `0s` switches it off. A longer
    /// window also covers logins that need long after the check (MFA, consent); its price is that somebody who logs in, out,
    /// and in elsewhere within it may count twice until it ends.
    #[serde(default = "default_admission_window")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('10m')")
        .message("write a duration up to 10m, such as 10s, or 0s to switch it off"))]
    pub admission_window: GoDuration,
    /// How long a session that was let in as the holder of a place is let in again without asking Auth0, so that silent
    /// renewals do not use up the tenant's requests; `0s` switches it off. With `reentry: CountOthers` it is off.
    #[serde(default = "default_recheck_after")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('24h')")
        .message("write a duration up to 24h, such as 5m, or 0s to switch it off"))]
    pub recheck_after: GoDuration,
    /// What a blocked user reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MESSAGE))]
    pub message: Option<String>,
}

/// An Auth0 tenant, and the credential for its Management API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// The canonical domain of the tenant, such as `acme.eu.auth0.com`, also where a custom domain is used. It cannot be
    /// changed: make a new policy for another tenant.
    #[schemars(length(min = 4, max = bounds::DOMAIN))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$')")
            .message("write the bare domain name of the tenant, such as acme.eu.auth0.com: no scheme, port, path or IP address"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()")
            .message("tenant.domain cannot be changed: create a new SessionPolicy for the other tenant")
    )]
    pub domain: String,
    /// The custom domain, when the tenant has one and tokens and API calls are to go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = bounds::DOMAIN))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$')")
            .message("write the bare custom domain, such as login.acme.com: no scheme, port, path or IP address")
    )]
    pub custom_domain: Option<String>,
    /// A Secret in the same namespace, of type `sessionchecker.dev/credentials`: `domain` (and `customDomain` where the policy
    /// uses one), which must equal the policy's, `clientId`, and either `clientSecret`, or `privateKey` (PEM) with
    /// optional `signingAlgorithm` (RS256, RS384 or PS256) and `keyId`.
    pub credentials_secret_ref: SecretRef,
    /// The most requests a second that all replicas together send to the tenant's Management API, so that its other callers
    /// keep room. Unset: only what Auth0's rate limit headers say. Of several policies of a tenant the lowest holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::REQUESTS_PER_SECOND))]
    pub requests_per_second: Option<i32>,
}

/// A Secret in the namespace of the policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = bounds::SECRET_NAME))]
    pub name: String,
}

/// Which logins a policy governs: those that match every list that is given.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SelectorSpec {
    /// Client ids of applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::CLIENT_IDS), inner(length(min = 1, max = bounds::CLIENT_ID)))]
    pub client_ids: Option<Vec<String>>,
    /// Organization ids (`org_…`). They choose whom the policy governs; sessions carry no organization, so counting spans all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::ORGANIZATIONS), inner(length(min = 1, max = bounds::ORGANIZATION)))]
    pub organizations: Option<Vec<String>>,
    /// Connection names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::ORGANIZATIONS), inner(length(min = 1, max = bounds::ORGANIZATION)))]
    pub connections: Option<Vec<String>>,
}

/// How many sessions a user may hold, from 1 to 1000 each.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.perClient) || has(self.perGroup) || has(self.perUser)")
    .message("write at least one of perClient, perGroup and perUser"))]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Sessions with the application that logs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::LIMIT))]
    pub per_client: Option<i32>,
    /// Sessions with any of the applications of `selector.clientIds`, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::LIMIT))]
    pub per_group: Option<i32>,
    /// Sessions with any application of the tenant, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::LIMIT))]
    pub per_user: Option<i32>,
}

/// An exception for some logins: those that match every list that is given. At least one list is needed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.limits) != self.exempt")
        .message("write either limits or exempt: true, not both and not neither"),
    validation = Rule::new("has(self.users) || has(self.roles) || has(self.organizations) || has(self.connections) || has(self.clientIds)")
        .message("write at least one of users, roles, organizations, connections and clientIds")
)]
#[serde(rename_all = "camelCase")]
pub struct OverrideSpec {
    /// A name of its own within the policy, for logs and for people.
    #[schemars(length(min = 1, max = bounds::OVERRIDE_NAME))]
    pub name: String,
    /// User ids, such as `auth0|507f1f77bcf86cd799439020`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::USERS), inner(length(min = 1, max = bounds::USER)))]
    pub users: Option<Vec<String>>,
    /// Names of roles; one in common is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::ROLES), inner(length(min = 1, max = bounds::ROLE)))]
    pub roles: Option<Vec<String>>,
    /// Organization ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::ORGANIZATIONS), inner(length(min = 1, max = bounds::ORGANIZATION)))]
    pub organizations: Option<Vec<String>>,
    /// Connection names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::ORGANIZATIONS), inner(length(min = 1, max = bounds::ORGANIZATION)))]
    pub connections: Option<Vec<String>>,
    /// Client ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::CLIENT_IDS), inner(length(min = 1, max = bounds::CLIENT_ID)))]
    pub client_ids: Option<Vec<String>>,
    /// The limits that hold instead of the policy's, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// No limit at all.
    #[serde(default)]
    pub exempt: bool,
    /// When the exception ends, as RFC 3339, such as `2027-01-31T00:00:00Z`. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub expires_at: Option<String>,
}

/// What a session that already has the application means for the limit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReentrySpec {
    /// A place once given stays: only sessions that had the application earlier count against it.
    #[default]
    KeepPlace,
    /// Any other session with the application counts, at every login.
    CountOthers,
}

/// What happens to a login over the limit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrategySpec {
    /// The login is refused.
    #[default]
    Deny,
    /// The sessions that began first are revoked.
    RevokeOldest,
    /// The sessions that were not used for longest are revoked.
    RevokeLeastRecentlyUsed,
    /// The sessions that would end first are revoked.
    RevokeNextToExpire,
}

/// Whether the answers have effect.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeSpec {
    /// The limit holds.
    #[default]
    Enforce,
    /// Every login passes; what would have been done is counted and logged.
    Audit,
}

/// Whether a login passes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowDenySpec {
    /// It passes.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

fn default_skip_protocols() -> Vec<String> {
    vec!["oauth2-refresh-token".to_owned()]
}

fn default_timeout() -> GoDuration {
    GoDuration::new("3s")
}

fn default_admission_window() -> GoDuration {
    GoDuration::new("10s")
}

fn default_recheck_after() -> GoDuration {
    GoDuration::new("5m")
}

fn date_time(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time", "maxLength": 64 })
}

/// Makes `null` a value of no field. The API server then takes it for a field that was left out; of a nullable field it
/// would keep it, and `has()` in a CEL rule would be true of it.
fn without_null(schema: &mut Schema) {
    if let Some(types) = schema.get_mut("type")
        && let Some([only]) =
            types.as_array().map(|all| all.iter().filter(|name| *name != "null").collect::<Vec<_>>()).as_deref()
    {
        *types = Value::clone(only);
    }
    transform_subschemas(&mut without_null, schema);
}
