//! A login that only the user's sessions can decide, with everything that the decision depends on.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};

use super::answer::Verdict;
use super::limits::Limits;
use super::login::{Login, LoginContext};
use super::model::{Actors, Policy, Strategy};
use super::origin::Origins;
use super::session::SessionList;

/// A login that the ledger remembers because Auth0's list does not show it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session.
    pub sid: String,
    /// The application of the login.
    pub client_id: String,
    /// How long ago the login was first allowed. The ledger's clock measures it, which may show another time than the others.
    pub age: SignedDuration,
}

/// Everything that a decision depends on beside the login and its policy.
#[derive(Clone, Copy, Debug)]
pub struct LimitInputs<'a> {
    /// The user's sessions as listed.
    pub sessions: &'a SessionList,
    /// The user's admissions that count for this list.
    pub admissions: &'a [Admission],
    /// Sessions that this service revoked within the last minute. Auth0 deletes asynchronously and may still list them.
    pub revoked: &'a HashSet<String>,
    /// How sessions began, as far as the ledger remembers it.
    pub origins: &'a Origins,
    /// The time of the decision on the tenant's clock, which dates the sessions.
    pub now: Timestamp,
}

/// A login that passed the pre-checks and that only the user's sessions can decide.
#[derive(Clone, Copy, Debug)]
pub struct LimitCheck<'a> {
    pub(super) policy: &'a Policy,
    pub(super) limits: &'a Limits,
    chosen_by: Option<usize>,
    user_id: &'a str,
    pub(super) client_id: &'a str,
    pub(super) sid: &'a str,
    mfa: bool,
    /// What happens to the login over a limit.
    pub(super) strategy: Strategy,
    /// The same where there is no page to ask on.
    otherwise: Strategy,
    /// The application of the user's device that opened the login as a web view.
    pub(super) opened_by: Option<&'a str>,
    /// Whether the login may evict, and the Action may end its session.
    pub(super) may_revoke: bool,
}

impl Policy {
    /// Takes the steps that need no request to Auth0. They either answer the login or leave a question that only the user's
    /// sessions can decide. Steps that depend on more than the policy (did this service revoke the session, is there a
    /// credential) are the caller's.
    ///
    /// # Errors
    /// The verdict, when one of the steps answers.
    pub fn pre_checks<'a>(&'a self, login: &'a Login, now: Timestamp) -> Result<LimitCheck<'a>, Verdict> {
        self.pre_checks_by(self.matching_override(login, now), login)
    }

    /// The position of the override that chooses the limits of a login.
    pub fn matching_override(&self, login: &Login, now: Timestamp) -> Option<usize> {
        self.overrides.iter().position(|policy_override| policy_override.matches(login, now))
    }

    /// The [`pre_checks`](Self::pre_checks) of a login whose override is known.
    ///
    /// # Errors
    /// The verdict, when one of the steps answers.
    pub fn pre_checks_by<'a>(&'a self, chosen_by: Option<usize>, login: &'a Login) -> Result<LimitCheck<'a>, Verdict> {
        self.limits_by(chosen_by).ok_or(Verdict::Exempt)?;
        let context = login.context();
        if context.actor && self.actors == Actors::Exempt {
            return Err(Verdict::Exempt);
        }
        if context.protocol.as_ref().is_some_and(|protocol| self.skip_protocols.contains(protocol)) {
            return Err(Verdict::SkippedProtocol);
        }
        let sid = login.sid().ok_or(Verdict::NoSession(self.missing_session))?;
        let limit_check =
            self.limit_check(chosen_by, login.user_id(), login.client_id(), sid, context.is_multi_factor());
        let opened_by = context.opened_by.as_deref();
        let (strategy, otherwise) = self.strategies(context);
        limit_check
            .map(|limit_check| LimitCheck { opened_by, strategy, otherwise, ..limit_check })
            .ok_or(Verdict::Exempt)
    }

    /// The protocols that this policy limits and that the Action of a login does not ask about. Logins with them are not limited.
    pub fn not_asked<'a>(&self, context: &'a LoginContext) -> impl Iterator<Item = &'a str> {
        context.skip_protocols.iter().filter(|protocol| !self.skip_protocols.contains(*protocol)).map(String::as_str)
    }

    /// What happens to a login over a limit, and what does where there is no page to ask on.
    ///
    /// A silent login is never decided by `ask.otherwise`: the application sends the user to the login page, and the login there
    /// is asked. A login that comes back from the page has been asked.
    fn strategies(&self, context: &LoginContext) -> (Strategy, Strategy) {
        if self.strategy != Strategy::Ask {
            return (self.strategy, self.strategy);
        }
        let has_factors = context.is_multi_factor() || !self.ask.require_mfa;
        if context.continued || !has_factors {
            return (Strategy::Deny, Strategy::Deny);
        }
        let otherwise = if context.is_silent() { Strategy::Deny } else { self.ask.otherwise };
        let is_at_tenant = context.hostname.as_deref().is_some_and(|host| self.scope.tenant.is_called(host));
        let can_be_asked = is_at_tenant && (context.can_redirect || context.is_silent());
        (if can_be_asked { Strategy::Ask } else { otherwise }, otherwise)
    }

    /// The check of a login that a person chose sessions for. `None` when the override exempts the login now.
    pub fn asked_check<'a>(
        &'a self,
        chosen_by: Option<usize>,
        user_id: &'a str,
        client_id: &'a str,
        sid: &'a str,
    ) -> Option<LimitCheck<'a>> {
        let limit_check = self.limit_check(chosen_by, user_id, client_id, sid, true)?;
        Some(LimitCheck { strategy: self.strategy, otherwise: Strategy::Deny, ..limit_check })
    }

    /// The check of a login whose limits an override chose, or the policy. `None` when the override exempts the login.
    pub(super) fn limit_check<'a>(
        &'a self,
        chosen_by: Option<usize>,
        user_id: &'a str,
        client_id: &'a str,
        sid: &'a str,
        mfa: bool,
    ) -> Option<LimitCheck<'a>> {
        let limits = self.limits_by(chosen_by)?;
        Some(LimitCheck {
            policy: self,
            limits,
            chosen_by,
            user_id,
            client_id,
            sid,
            mfa,
            // A login that is asked is known by its context.
            strategy: if self.strategy == Strategy::Ask { Strategy::Deny } else { self.strategy },
            otherwise: Strategy::Deny,
            opened_by: None,
            may_revoke: true,
        })
    }

    fn limits_by(&self, chosen_by: Option<usize>) -> Option<&Limits> {
        match chosen_by {
            None => Some(&self.limits),
            Some(position) => self.overrides.get(position)?.limits.as_ref(),
        }
    }
}

impl<'a> LimitCheck<'a> {
    /// The policy that governs the login.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The user who logs in.
    pub fn user_id(&self) -> &'a str {
        self.user_id
    }

    /// The application that logs in.
    pub fn client_id(&self) -> &'a str {
        self.client_id
    }

    /// The session that logs in: the *current* session.
    pub fn sid(&self) -> &'a str {
        self.sid
    }

    /// Whether the user passed a second factor.
    pub fn mfa(&self) -> bool {
        self.mfa
    }

    /// The limits that apply to the login.
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The position of the override that chose the limits; `None` when they are the policy's.
    pub fn chosen_by(&self) -> Option<usize> {
        self.chosen_by
    }

    /// The name of that override.
    pub fn override_name(&self) -> Option<&'a str> {
        self.chosen_by.map(|position| self.policy.overrides[position].name.as_str())
    }

    /// Whether the login is a web view, which takes no place where the device that opened it has one.
    pub(super) fn is_web_view(&self) -> bool {
        self.opened_by.is_some()
    }

    /// The same check as under `Deny`, and without ending the login's own session: for a login that may be another tenant's.
    pub fn without_revoking(self) -> Self {
        Self { may_revoke: false, ..self }
    }

    /// The same check where there is no page to ask on.
    pub fn without_asking(self) -> Self {
        let strategy = if self.asks() { self.otherwise } else { self.strategy };
        Self { strategy, ..self }
    }

    /// Whether the person is asked when the login is over a limit.
    pub fn asks(&self) -> bool {
        self.strategy == Strategy::Ask
    }

    /// Whether sessions may be revoked for the login.
    pub(super) fn may_evict(&self) -> bool {
        self.may_revoke && self.strategy != Strategy::Deny && (self.mfa || !self.policy.revoke_requires_mfa)
    }
}
