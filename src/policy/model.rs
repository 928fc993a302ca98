//! A policy as checks read it: every value is valid, and no type depends on the resource's schema.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::limits::Limits;
use super::login::Login;
use super::messages::LanguageMessages;
use super::name::ObjectName;
use super::tenant::Tenant;

/// The longest time limit of a check: Auth0 allows 20 seconds for all Actions of a login together.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// The OAuth scope with which it is written why a session ends.
pub const EXPLAIN_SCOPE: &str = "update:sessions";

/// A policy that compiled: every value is within its bounds and means what the resource's documentation says.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What the policy governs.
    pub scope: PolicyScope,
    /// How the policy answers.
    pub enforcement: Enforcement,
    /// `metadata.generation` of the version that was compiled.
    pub generation: i64,
    /// The most requests a second that all replicas together send to the tenant's Management API.
    pub requests_per_second: Option<u32>,
    /// The limits for logins that no override matches.
    pub limits: Limits,
    /// How a session that already has the application counts at its next login.
    pub reentry: Reentry,
    /// What happens to a login over a limit.
    pub strategy: Strategy,
    /// How a person is asked, under strategy `Ask`.
    pub ask: AskTerms,
    /// Whether other sessions are revoked only for logins with a second factor.
    pub revoke_requires_mfa: bool,
    /// Whether a session's metadata says why it ends, before it ends for another login.
    pub explain_evictions: bool,
    /// Sessions that were not used for longer than this do not count.
    pub active_within: Option<SignedDuration>,
    /// The answer to a login without a session.
    pub missing_session: AllowDeny,
    /// The protocols that are not limited.
    pub skip_protocols: HashSet<String>,
    /// Whether sessions in which somebody else acts as the user count.
    pub actors: Actors,
    /// The overrides; the first that matches a login wins.
    pub overrides: Vec<Override>,
    /// The time limit of a check.
    pub timeout: Duration,
    /// How long an allowed login counts before Auth0's list shows it.
    pub admission_window: Duration,
    /// How long a session that holds a place is allowed without a request to Auth0.
    pub recheck_after: Duration,
}

/// What a policy governs, and who may use it.
#[derive(Clone, Debug)]
pub struct PolicyScope {
    /// The policy's name.
    pub name: ObjectName,
    /// The tenant whose logins the policy governs.
    pub tenant: Tenant,
    /// The Secret with the tenant's credential.
    pub credentials: ObjectName,
    /// The Secret with the callers' tokens, when the policy names one.
    pub callers: Option<ObjectName>,
    /// The Secret with the tokens of the tenant's log stream, when the policy names one.
    pub log_stream: Option<ObjectName>,
    /// Which of the tenant's logins the policy selects.
    pub selector: Selector,
    /// The policy with the highest priority takes precedence.
    pub priority: i32,
    /// `metadata.creationTimestamp`, when the source has one.
    pub created_at: Option<Timestamp>,
}

/// Which logins a policy selects. A list that is `None` selects every value, also a missing one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Client ids.
    pub clients: Option<HashSet<String>>,
    /// Organization ids.
    pub organizations: Option<HashSet<String>>,
    /// Connection names.
    pub connections: Option<HashSet<String>>,
}

/// Other limits, or none, for the logins that match every list of the override.
#[derive(Clone, Debug)]
pub struct Override {
    /// The override's name within the policy.
    pub name: String,
    /// User ids; `None` when the override does not name users, as for all lists.
    pub users: Option<HashSet<String>>,
    /// Role names; one in common is enough.
    pub roles: Option<HashSet<String>>,
    /// Client ids, organizations and connections.
    pub selector: Selector,
    /// The limits that replace the policy's; `None` exempts the login.
    pub limits: Option<Limits>,
    /// When the override ends.
    pub expires_at: Option<Timestamp>,
}

/// How a policy turns a verdict into an answer.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// The policy's name.
    pub policy: ObjectName,
    /// Whether answers take effect.
    pub mode: Mode,
    /// The answer when the check cannot be decided.
    pub failure_policy: AllowDeny,
    /// The text for a login over a limit, where no language of `messages` fits.
    pub message: Option<String>,
    /// The texts for blocked users, by language.
    pub messages: Vec<LanguageMessages>,
}

/// Whether answers take effect.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Logins over a limit are blocked, or evict other sessions.
    Enforce,
    /// Every login is allowed; the answer says what `Enforce` would have done.
    Audit,
}

/// How logins and sessions count in which somebody else acts as the user.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actors {
    /// They have no limit, do not count, and are never revoked.
    Exempt,
    /// They count as the user's own.
    Count,
}

/// The answer to a login that no list of sessions decides.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowDeny {
    /// The login is allowed.
    Allow,
    /// The login is blocked.
    Deny,
}

/// How a session that already has the application counts when it logs in again.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reentry {
    /// The session keeps its place: only sessions that had the application earlier count against it.
    KeepPlace,
    /// Every other session with the application counts, at each login.
    CountOthers,
}

/// What happens to a login over a limit.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The login is blocked.
    Deny,
    /// The sessions that were created first are revoked.
    RevokeOldest,
    /// The sessions whose last use is longest ago are revoked.
    RevokeLeastRecentlyUsed,
    /// The sessions that would expire first are revoked.
    RevokeNextToExpire,
    /// The person at the login page chooses the sessions that are revoked.
    Ask,
}

/// How a person is asked which sessions to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskTerms {
    /// Whether only a login with two factors is asked, and evicts where it cannot be asked.
    pub require_mfa: bool,
    /// The strategy for a login that cannot be asked. Never `Ask`.
    pub otherwise: Strategy,
}

impl Default for AskTerms {
    fn default() -> Self {
        Self { require_mfa: true, otherwise: Strategy::Deny }
    }
}

impl Policy {
    /// The OAuth scopes that a Management API token needs for this policy. A revoked session's refresh tokens are revoked
    /// too.
    pub fn oauth_scopes(&self) -> &'static [&'static str] {
        self.strategy.oauth_scopes()
    }

    /// The OAuth scopes that the policy uses when the token has them, and works without.
    pub fn optional_scopes(&self) -> &'static [&'static str] {
        if self.explain_evictions && self.strategy != Strategy::Deny { &[EXPLAIN_SCOPE] } else { &[] }
    }
}

impl Strategy {
    /// The OAuth scopes that a Management API token needs for this strategy.
    pub const fn oauth_scopes(self) -> &'static [&'static str] {
        match self {
            Self::Deny => &["read:sessions"],
            Self::RevokeOldest | Self::RevokeLeastRecentlyUsed | Self::RevokeNextToExpire | Self::Ask => {
                &["read:sessions", "delete:sessions", "delete:refresh_tokens"]
            }
        }
    }
}

impl Selector {
    /// Whether the selector selects the login.
    pub fn matches(&self, login: &Login) -> bool {
        let context = login.context();
        selects(self.clients.as_ref(), Some(login.client_id()))
            && selects(self.organizations.as_ref(), context.organization_id.as_deref())
            && selects(self.connections.as_ref(), context.connection.as_deref())
    }

    /// Whether the selector names the application.
    pub fn names_client(&self, client_id: &str) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.contains(client_id))
    }
}

impl Override {
    /// Whether the override has not expired.
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
    }

    pub(super) fn matches(&self, login: &Login, now: Timestamp) -> bool {
        self.is_active(now)
            && selects(self.users.as_ref(), Some(login.user_id()))
            && self.roles.as_ref().is_none_or(|roles| login.context().roles.iter().any(|role| roles.contains(role)))
            && self.selector.matches(login)
    }
}

/// Whether an optional list contains an optional value.
fn selects(list: Option<&HashSet<String>>, value: Option<&str>) -> bool {
    list.is_none_or(|list| value.is_some_and(|value| list.contains(value)))
}
