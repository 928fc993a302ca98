//! A compiled policy: what it governs and what it allows.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::answer::{Enforcement, Verdict};
use super::decide::{LimitCheck, LimitScope};
use super::login::Login;
use super::name::ObjectName;
use super::tenant::Tenant;
use crate::crd::{AllowDeny, Reentry, Strategy};

/// A policy that compiled: every value is within its bounds and means what the resource's documentation says.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it governs.
    pub scope: PolicyScope,
    /// How it answers.
    pub enforcement: Enforcement,
    /// `metadata.generation` of the version that was compiled.
    pub generation: i64,
    /// The most requests a second that all replicas together send to the tenant's Management API.
    pub requests_per_second: Option<u32>,
    /// The limits where no override says otherwise.
    pub limits: Limits,
    /// What a session that already has the application means.
    pub reentry: Reentry,
    /// What happens over the limit.
    pub strategy: Strategy,
    /// Whether other sessions are revoked only for logins with a second factor.
    pub revoke_requires_mfa: bool,
    /// Sessions unused for longer do not count.
    pub active_within: Option<SignedDuration>,
    /// The answer to a login without a session.
    pub missing_session: AllowDeny,
    /// Protocols that are not limited.
    pub skip_protocols: HashSet<String>,
    /// Exceptions, in order.
    pub overrides: Vec<Override>,
    /// How long a check may take.
    pub timeout: Duration,
    /// How long an allowed login counts before the list shows it.
    pub admission_window: Duration,
    /// How long a holder is let in from memory.
    pub recheck_after: Duration,
}

/// What a policy governs, and on whose behalf.
#[derive(Clone, Debug)]
pub struct PolicyScope {
    /// The policy.
    pub name: ObjectName,
    /// The tenant.
    pub tenant: Tenant,
    /// The Secret with the tenant's credential.
    pub credentials: ObjectName,
    /// The Secret with the callers' tokens, where the policy names one.
    pub callers: Option<ObjectName>,
    /// Which logins.
    pub selector: Selector,
    /// The higher one governs.
    pub priority: i32,
    /// `metadata.creationTimestamp`, where there is one.
    pub created_at: Option<Timestamp>,
}

/// Which logins a policy governs; `None` = every value, also a missing one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Client ids.
    pub clients: Option<HashSet<String>>,
    /// Organization ids.
    pub organizations: Option<HashSet<String>>,
    /// Connection names.
    pub connections: Option<HashSet<String>>,
}

/// The limits that hold, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([Option<u32>; 3]);

/// An override.
#[derive(Clone, Debug)]
pub struct Override {
    /// Its name.
    pub name: String,
    /// User ids; for all lists `None` = not named.
    pub users: Option<HashSet<String>>,
    /// Names of roles.
    pub roles: Option<HashSet<String>>,
    /// The rest, as a selector has it.
    pub selector: Selector,
    /// What holds instead; `None` = exempt.
    pub limits: Option<Limits>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl Limits {
    /// `None` when there is no limit at all.
    pub fn new(per_client: Option<u32>, per_group: Option<u32>, per_user: Option<u32>) -> Option<Self> {
        let limits = [per_client, per_group, per_user];
        limits.iter().any(Option::is_some).then_some(Self(limits))
    }

    /// The limits there are, in the order in which they are looked at.
    pub fn iter(&self) -> impl Iterator<Item = (LimitScope, u32)> {
        LimitScope::ALL.into_iter().zip(self.0).filter_map(|(scope, limit)| limit.map(|limit| (scope, limit)))
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, (scope, limit)) in self.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{}={limit}", scope.as_str())?;
        }
        Ok(())
    }
}

impl Selector {
    /// Whether the login is one of those selected.
    pub fn matches(&self, login: &Login) -> bool {
        let context = login.context();
        selects(self.clients.as_ref(), Some(login.client_id()))
            && selects(self.organizations.as_ref(), context.organization_id.as_deref())
            && selects(self.connections.as_ref(), context.connection.as_deref())
    }

    /// Whether the application is named.
    pub fn names_client(&self, client_id: &str) -> bool {
        self.clients.as_ref().is_some_and(|clients| clients.contains(client_id))
    }

    /// What makes one selector stand before another: naming the client, then how many other lists are named.
    pub(super) fn specificity(&self) -> (bool, usize) {
        let others = [&self.organizations, &self.connections].into_iter().filter(|list| list.is_some()).count();
        (self.clients.is_some(), others)
    }
}

/// Whether a list that may be left out contains a value that may be missing.
fn selects(list: Option<&HashSet<String>>, value: Option<&str>) -> bool {
    list.is_none_or(|list| value.is_some_and(|value| list.contains(value)))
}

impl Override {
    fn matches(&self, login: &Login, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end > now)
            && selects(self.users.as_ref(), Some(login.user_id()))
            && self.roles.as_ref().is_none_or(|roles| login.context().roles.iter().any(|role| roles.contains(role)))
            && self.selector.matches(login)
    }
}

impl Policy {
    /// The scopes that a token needs for what the policy does. Revoking a session ends its refresh tokens too.
    pub fn scopes(&self) -> &'static [&'static str] {
        match self.strategy {
            Strategy::Deny => &["read:sessions"],
            Strategy::RevokeOldest | Strategy::RevokeLeastRecentlyUsed | Strategy::RevokeNextToExpire => {
                &["read:sessions", "delete:sessions", "delete:refresh_tokens"]
            }
        }
    }

    /// Takes the steps before Auth0 is asked: either the login is answered by one of them, or there is a question left
    /// that only the user's sessions can decide. What depends on the moment (was the session revoked by this service, is
    /// there a credential) is not a policy's to know.
    ///
    /// # Errors
    /// The verdict, when a step before answers.
    pub fn pre_checks<'a>(&'a self, login: &'a Login, now: Timestamp) -> Result<LimitCheck<'a>, Verdict> {
        let chosen_by = self.overrides.iter().position(|policy_override| policy_override.matches(login, now));
        let limits = match chosen_by {
            None => &self.limits,
            Some(position) => self.overrides[position].limits.as_ref().ok_or(Verdict::Exempt)?,
        };
        let context = login.context();
        if context.protocol.as_ref().is_some_and(|protocol| self.skip_protocols.contains(protocol)) {
            return Err(Verdict::SkippedProtocol);
        }
        let sid = login.sid().ok_or(Verdict::NoSession(self.missing_session))?;
        Ok(LimitCheck {
            policy: self,
            limits,
            chosen_by,
            user_id: login.user_id(),
            client_id: login.client_id(),
            sid,
            mfa: context.mfa,
        })
    }
}
