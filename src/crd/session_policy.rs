//! The spec of `SessionPolicy`. Its doc comments are the field descriptions of the CRD, which `kubectl explain` prints.

use kube::{CustomResource, KubeSchema};
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{GoDuration, SessionPolicyStatus, bounds};

/// The desired policy. `tenant` and `limits` are required; every other field has a default.
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
    validation = Rule::new("!has(self.tenant.logStreamSecretRef) || (self.tenant.logStreamSecretRef.name != self.tenant.credentialsSecretRef.name && (!has(self.callerSecretRef) || self.tenant.logStreamSecretRef.name != self.callerSecretRef.name))")
        .message("tenant.logStreamSecretRef names the Secret of the credential or of the callers: keep the log stream's tokens in a Secret of their own"),
    validation = Rule::new("!has(self.limits.perGroup) || has(self.selector.clientIds)")
        .message("limits.perGroup counts over the clients of the selector: name them in selector.clientIds, or use perUser"),
    validation = Rule::new("self.overrides.all(o, !has(o.limits) || !has(o.limits.perGroup) || has(self.selector.clientIds))")
        .message("limits.perGroup of an override counts over the clients of the selector: name them in selector.clientIds, or use perUser"),
    validation = Rule::new("self.strategy != 'Ask' || !self.revokeRequiresMfa || !has(self.ask) || self.ask.requireMfa")
        .message("ask.requireMfa is false and revokeRequiresMfa is true: leave one of them out")
)]
#[schemars(transform = without_null)]
#[serde(rename_all = "camelCase")]
pub struct SessionPolicySpec {
    /// The class of this policy, in a cluster: only services with the same `--class-name` (chart value `className`) use it and
    /// write its status. Unset: the class `default`. Two releases that see the same namespaces need different classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MAX_CLASS_CHARS))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')")
        .message("write the name of a class: lower case letters, digits and '-'"))]
    pub class_name: Option<String>,
    /// The Auth0 tenant whose logins this policy limits, and the credential for its Management API.
    pub tenant: TenantSpec,
    /// A Secret in the same namespace, of type `sessionchecker.dev/callers`. The values of its keys `token`, `token-*`,
    /// `action`, `action-*`, `current`, `previous` and `next`, trimmed and at least 16 characters long, are bearer tokens that
    /// the Auth0 Action may present. Two values allow a rotation without downtime.
    /// Unset: the callers that the service is started with may use the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_secret_ref: Option<SecretRef>,
    /// Which logins the policy governs. Without any list it governs every login of the tenant.
    #[serde(default)]
    pub selector: SelectorSpec,
    /// When several policies select a login, the one with the highest priority governs it.
    // Kubernetes 1.33 does not enforce the format `int32`, so the bounds are written out.
    #[serde(default)]
    #[schemars(range(min = i32::MIN, max = i32::MAX))]
    pub priority: i32,
    /// How many sessions a user may hold. At least one of the three limits is required.
    pub limits: LimitsSpec,
    /// How a session that already has the application counts when it logs in again.
    #[serde(default)]
    pub reentry: ReentrySpec,
    /// What happens to a login over a limit.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// How `strategy: Ask` asks. It has no effect with another strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<AskSpec>,
    /// Revoke other sessions only for logins with two factors, and block the others, so that a stolen password alone cannot
    /// sign its owner out.
    #[serde(default)]
    pub revoke_requires_mfa: bool,
    /// Before a session ends for another login, write why into its session metadata at Auth0
    /// (`session_checker_reason: evicted`, or `chosen` where the user chose it), so that the back-channel logout token says it to
    /// the applications. It needs the scope `update:sessions`, a plan with session metadata, and two more requests a session.
    /// A failure does not stop the eviction.
    #[serde(default)]
    pub explain_evictions: bool,
    /// `Enforce` blocks or evicts. `Audit` allows every login, and counts and logs what `Enforce` would have done.
    #[serde(default)]
    pub mode: ModeSpec,
    /// Sessions whose last use is longer ago than this do not count, such as `12h`. Unset: every session that has not expired
    /// counts. A device that only renews its tokens with a refresh token does not use its session, and counts as gone after this
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) > duration('0s')")
        .message("write a duration above zero with its units, such as 30m or 12h (there is no unit for days), or leave activeWithin out"))]
    pub active_within: Option<GoDuration>,
    /// The answer to a login without a session id. Password grants and refresh-token exchanges have none.
    #[serde(default)]
    pub missing_session: AllowDenySpec,
    /// Protocols that are not limited, by their names in `event.transaction.protocol`. `[]` limits all protocols.
    #[serde(default = "default_skip_protocols")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = bounds::MAX_PROTOCOLS), inner(length(min = 1, max = bounds::MAX_PROTOCOL_CHARS)))]
    pub skip_protocols: Vec<String>,
    /// Logins in which somebody else acts as the user, such as a support agent with a delegated session. `Exempt`: they have no
    /// limit, and their sessions do not count and are never revoked. `Count`: they count as the user's own.
    #[serde(default)]
    pub actors: ActorsSpec,
    /// Other limits, or none, for a part of the logins. The first override that matches a login wins.
    #[serde(default)]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("size(self) == 0 || self.map(o, (has(o.users) ? o.users.map(v, size(bytes(v))).sum() : 0) + (has(o.roles) ? o.roles.map(v, size(bytes(v))).sum() : 0) + (has(o.organizations) ? o.organizations.map(v, size(bytes(v))).sum() : 0) + (has(o.connections) ? o.connections.map(v, size(bytes(v))).sum() : 0) + (has(o.clientIds) ? o.clientIds.map(v, size(bytes(v))).sum() : 0)).sum() <= 500000")
            .message("the lists of all overrides have more than 500000 bytes together: put a part of them into another policy"),
        validation = Rule::new("self.all(o, self.exists_one(p, p.name == o.name))").message("two overrides have the same name: give each its own")
    )]
    #[schemars(length(max = bounds::MAX_OVERRIDES))]
    pub overrides: Vec<OverrideSpec>,
    /// The answer when a check cannot be decided within `timeout`, because Auth0 or the credential is not available.
    #[serde(default)]
    pub failure_policy: AllowDenySpec,
    /// The time limit of a check, at most `10s`. Auth0 allows 20 seconds for all Actions of a login together.
    #[serde(default = "default_timeout")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) > duration('0s') && duration(self) <= duration('10s')")
        .message("write a duration above zero and up to 10s, such as 3s or 1500ms"))]
    pub timeout: GoDuration,
    /// How long an allowed login counts before Auth0's list shows it, at most `10m`; `0s` switches this off. A longer window
    /// also covers logins that take long after the check (MFA, consent). In return, a user who logs in, logs out, and logs in
    /// elsewhere within the window may count twice until it ends.
    #[serde(default = "default_admission_window")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('10m')")
        .message("write a duration up to 10m, such as 10s, or 0s to switch it off"))]
    pub admission_window: GoDuration,
    /// A session that holds a place is allowed again without a request to Auth0, by the user's last list while it is younger than
    /// this: silent renewals then do not use up the tenant's rate limit. At most `168h`, `0s` = never. With
    /// `reentry: CountOthers` it is always off. A block or an eviction never rests on it.
    #[serde(default = "default_recheck_after")]
    #[x_kube(validation = Rule::new(r"self.matches('^[+]?(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('168h')")
        .message("write a duration up to 168h, such as 1h, or 0s to switch it off"))]
    pub recheck_after: GoDuration,
    /// The text for a login over a limit, where no language of `messages` fits. Unset: a built-in sentence in the user's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MAX_MESSAGE_CHARS))]
    pub message: Option<String>,
    /// The texts for blocked users in several languages. The request's `locale` chooses: `de-AT` finds `de-AT`, else `de`. Where
    /// no language fits, `message` is the text for a login over a limit, and all others are built-in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(m, self.exists_one(o, o.language.lowerAscii() == m.language.lowerAscii()))")
            .message("two items of messages have the same language: write its texts in one item")
    )]
    #[schemars(length(max = bounds::MAX_MESSAGES))]
    pub messages: Vec<MessagesSpec>,
}

/// The texts for blocked users in one language. At least one text is required; built-in sentences stand for the others.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.limitExceeded) || has(self.unavailable) || has(self.noSession)")
    .message("write at least one of limitExceeded, unavailable and noSession"))]
#[serde(rename_all = "camelCase")]
pub struct MessagesSpec {
    /// The language, as a tag of BCP 47 such as `de` or `pt-BR`.
    #[schemars(length(min = 2, max = bounds::MAX_LANGUAGE_CHARS))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$')")
        .message("write a language tag of BCP 47, such as de or pt-BR"))]
    pub language: String,
    /// The text for a login over a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MAX_MESSAGE_CHARS))]
    pub limit_exceeded: Option<String>,
    /// The text for a login that could not be checked, because Auth0 or the credential is not available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MAX_MESSAGE_CHARS))]
    pub unavailable: Option<String>,
    /// The text for a login without a session, under `missingSession: Deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = bounds::MAX_MESSAGE_CHARS))]
    pub no_session: Option<String>,
}

/// An Auth0 tenant, and the credential for its Management API.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// The canonical domain of the tenant, such as `acme.eu.auth0.com`, also when a custom domain is used. It cannot be
    /// changed: create a new policy for another tenant.
    #[schemars(length(min = 4, max = bounds::MAX_DOMAIN_CHARS))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$')")
            .message("write the bare domain name of the tenant, such as acme.eu.auth0.com: no scheme, port, path or IP address"),
        validation = Rule::new("self.lowerAscii() == oldSelf.lowerAscii()")
            .message("tenant.domain cannot be changed: create a new SessionPolicy for the other tenant")
    )]
    pub domain: String,
    /// The custom domain of the tenant. When it is set, token requests and API calls go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 4, max = bounds::MAX_DOMAIN_CHARS))]
    #[x_kube(
        validation = Rule::new("self.matches('^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$')")
            .message("write the bare custom domain, such as login.acme.com: no scheme, port, path or IP address")
    )]
    pub custom_domain: Option<String>,
    /// Further custom domains of the tenant. A request may name the tenant by any of them. Token requests and API calls do not
    /// go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(name, name.matches('^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$'))")
            .message("write bare custom domains, such as login.acme.com: no scheme, port, path or IP address"),
        validation = Rule::new("self.all(name, !name.lowerAscii().endsWith('.auth0.com') && !name.lowerAscii().endsWith('.auth0app.com'))")
            .message("write custom domains only: a domain of Auth0 belongs to one tenant, and tenant.domain names it")
    )]
    #[schemars(length(max = bounds::MAX_CUSTOM_DOMAINS), inner(length(min = 4, max = bounds::MAX_DOMAIN_CHARS)))]
    pub custom_domains: Vec<String>,
    /// A Secret in the same namespace, of type `sessionchecker.dev/credentials`. Its keys are `domain` (and `customDomain` when
    /// the policy sets one), which must equal the policy's; `clientId`; and either `clientSecret`, or `privateKey` (PEM) with
    /// optional `signingAlgorithm` (RS256, RS384 or PS256) and `keyId`.
    pub credentials_secret_ref: SecretRef,
    /// A Secret in the same namespace, of type `sessionchecker.dev/log-stream`. Its keys are `domain`, which must equal the
    /// policy's, and `token`, `token-*`, `current`, `previous` or `next`: tokens, at least 16 characters long, that Auth0's log
    /// stream presents at `/logs`. The stream shows which logins were not checked (condition `Enforcing`); it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_stream_secret_ref: Option<SecretRef>,
    /// The most requests a second that all replicas together send to the tenant's Management API, to leave a part of the rate
    /// limit to its other users. Unset: only Auth0's rate limit headers count. When policies of a tenant differ, the lowest
    /// value applies. Policies whose credential the tenant has not accepted do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::MAX_REQUESTS_PER_SECOND))]
    pub requests_per_second: Option<i32>,
}

/// A Secret in the namespace of the policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = bounds::MAX_SECRET_NAME_CHARS))]
    pub name: String,
}

/// Which logins a policy governs: those that match every list that is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SelectorSpec {
    /// Client ids of applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_CLIENT_IDS), inner(length(min = 1, max = bounds::MAX_CLIENT_ID_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
    pub client_ids: Option<Vec<String>>,
    /// Organization ids (`org_…`). They select the logins that the policy governs. Sessions have no organization, so the
    /// sessions of all organizations count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(id, id.startsWith('org_'))")
            .message("write the organization's id, which begins with org_, in place of its name")
    )]
    #[schemars(length(min = 1, max = bounds::MAX_ORGANIZATIONS), inner(length(min = 1, max = bounds::MAX_ORGANIZATION_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
    pub organizations: Option<Vec<String>>,
    /// Connection names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_ORGANIZATIONS), inner(length(min = 1, max = bounds::MAX_ORGANIZATION_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
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
    #[schemars(range(min = 1, max = bounds::MAX_LIMIT))]
    pub per_client: Option<i32>,
    /// Sessions with any of the applications of `selector.clientIds`, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::MAX_LIMIT))]
    pub per_group: Option<i32>,
    /// Sessions with any application of the tenant, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = bounds::MAX_LIMIT))]
    pub per_user: Option<i32>,
}

/// Other limits, or none, for the logins that match every list that is set. At least one list is required.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.limits) != self.exempt")
        .message("write either limits or exempt: true, not both and not neither"),
    validation = Rule::new("has(self.users) || has(self.roles) || has(self.organizations) || has(self.connections) || has(self.clientIds)")
        .message("write at least one of users, roles, organizations, connections and clientIds")
)]
#[serde(rename_all = "camelCase")]
pub struct OverrideSpec {
    /// The name of the override, unique within the policy.
    #[schemars(length(min = 1, max = bounds::MAX_OVERRIDE_NAME_CHARS))]
    pub name: String,
    /// User ids, such as `auth0|507f1f77bcf86cd799439020`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_USERS), inner(length(min = 1, max = bounds::MAX_USER_CHARS)))]
    pub users: Option<Vec<String>>,
    /// Role names; one in common with the user is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_ROLES), inner(length(min = 1, max = bounds::MAX_ROLE_CHARS)))]
    pub roles: Option<Vec<String>>,
    /// Organization ids (`org_…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(id, id.startsWith('org_'))")
            .message("write the organization's id, which begins with org_, in place of its name")
    )]
    #[schemars(length(min = 1, max = bounds::MAX_ORGANIZATIONS), inner(length(min = 1, max = bounds::MAX_ORGANIZATION_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
    pub organizations: Option<Vec<String>>,
    /// Connection names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_ORGANIZATIONS), inner(length(min = 1, max = bounds::MAX_ORGANIZATION_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
    pub connections: Option<Vec<String>>,
    /// Client ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(min = 1, max = bounds::MAX_CLIENT_IDS), inner(length(min = 1, max = bounds::MAX_CLIENT_ID_CHARS), regex(pattern = bounds::NO_WHITE_SPACE)))]
    pub client_ids: Option<Vec<String>>,
    /// The limits that replace all limits of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Whether these logins have no limit at all.
    #[serde(default)]
    pub exempt: bool,
    /// When the override ends, in RFC 3339, such as `2027-01-31T00:00:00Z`. Unset: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub expires_at: Option<String>,
}

/// How a session that already has the application counts when it logs in again.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReentrySpec {
    /// The session keeps its place: only sessions that had the application earlier count against it.
    #[default]
    KeepPlace,
    /// Every other session with the application counts, at each login.
    CountOthers,
}

/// What happens to a login over a limit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrategySpec {
    /// The login is blocked.
    #[default]
    Deny,
    /// The sessions that were created first are revoked.
    RevokeOldest,
    /// The sessions whose last use is longest ago are revoked.
    RevokeLeastRecentlyUsed,
    /// The sessions that would expire first are revoked.
    RevokeNextToExpire,
    /// The person at the login page chooses which sessions are revoked.
    Ask,
}

/// How the person at the login page is asked which sessions to end.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AskSpec {
    /// Ask only after a login with two factors. With `false`, a stolen password is enough to see and to end its owner's sessions.
    #[serde(default = "default_require_mfa")]
    pub require_mfa: bool,
    /// What happens to a login over a limit that cannot be asked, such as one without a browser.
    #[serde(default)]
    pub otherwise: OtherwiseSpec,
}

/// What happens to a login over a limit that cannot be asked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherwiseSpec {
    /// The login is blocked.
    #[default]
    Deny,
    /// The sessions that were created first are revoked.
    RevokeOldest,
    /// The sessions whose last use is longest ago are revoked.
    RevokeLeastRecentlyUsed,
    /// The sessions that would expire first are revoked.
    RevokeNextToExpire,
}

impl Default for AskSpec {
    fn default() -> Self {
        Self { require_mfa: default_require_mfa(), otherwise: OtherwiseSpec::default() }
    }
}

/// Whether answers take effect.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeSpec {
    /// Logins over a limit are blocked, or evict other sessions.
    #[default]
    Enforce,
    /// Every login is allowed; what `Enforce` would have done is counted and logged.
    Audit,
}

/// How logins and sessions count in which somebody else acts as the user.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActorsSpec {
    /// They have no limit, do not count, and are never revoked.
    #[default]
    Exempt,
    /// They count as the user's own.
    Count,
}

/// Whether a login is allowed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowDenySpec {
    /// The login is allowed.
    #[default]
    Allow,
    /// The login is blocked.
    Deny,
}

fn default_skip_protocols() -> Vec<String> {
    vec!["oauth2-refresh-token".to_owned()]
}

fn default_require_mfa() -> bool {
    true
}

fn default_timeout() -> GoDuration {
    GoDuration::new("3s")
}

fn default_admission_window() -> GoDuration {
    GoDuration::new("10s")
}

fn default_recheck_after() -> GoDuration {
    GoDuration::new("1h")
}

fn date_time(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "string", "format": "date-time", "maxLength": 64 })
}

/// Removes `null` from the types of every field. The API server then drops a field that is `null`; it would keep it in a
/// nullable field, and `has()` in a CEL rule would be true for it.
fn without_null(schema: &mut Schema) {
    if let Some(types) = schema.get_mut("type")
        && let Some([only]) =
            types.as_array().map(|all| all.iter().filter(|name| *name != "null").collect::<Vec<_>>()).as_deref()
    {
        *types = Value::clone(only);
    }
    transform_subschemas(&mut without_null, schema);
}
