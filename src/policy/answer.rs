//! What a check answers: the verdict under a policy, the policy's stance towards it, the answer, and the closed set of
//! words that say why.

use std::fmt;

use super::decide::{Count, Decision};
use super::name::ObjectName;
use crate::crd::{AllowDeny, Mode};

/// Why a check could not be decided from the tenant's list: the policy's `failurePolicy` answers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The deadline of the check passed.
    UpstreamTimeout,
    /// Auth0 could not be reached: name, connection, TLS, a reset, an answer cut short.
    UpstreamUnreachable,
    /// Auth0 answered 5xx, or something that its API does not document.
    UpstreamError,
    /// Auth0 answered 429, or its budget is known to be empty.
    RateLimited,
    /// Auth0 does not accept the credential or its token.
    CredentialsRejected,
    /// The token lacks a scope that the call needs.
    InsufficientScope,
    /// The tenant's plan does not have the endpoint.
    NotEntitled,
    /// The tenant failed too often lately and is left alone for a moment.
    CircuitOpen,
    /// This service has more checks under way than it may have.
    Overloaded,
    /// The credential Secret or its keys are not there, or not permitted.
    CredentialsMissing,
    /// The policy does not compile and has no last good version.
    PolicyInvalid,
}

/// Why an answer is what it is: the `reason` of an answer, and the label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Within every limit.
    WithinLimit,
    /// Over a limit, and refused.
    LimitExceeded,
    /// Over a limit, and let in at the cost of other sessions.
    Evicted,
    /// An override exempts the login.
    Exempt,
    /// No policy governs the login.
    NoPolicy,
    /// Policies of more than one tenant match, and the request does not say which tenant it is.
    TenantAmbiguous,
    /// The login has no session.
    NoSession,
    /// The protocol is not limited by the policy.
    SkippedProtocol,
    /// This very session was revoked a moment ago to make room for another.
    SessionRevoked,
    /// The policy only audits; `audited_reason` says what it would have answered.
    Audit,
    /// It could not be decided.
    Failed(Failure),
}

impl Failure {
    /// Every failure, for tables and metrics.
    pub const ALL: [Self; 11] = [
        Self::UpstreamTimeout,
        Self::UpstreamUnreachable,
        Self::UpstreamError,
        Self::RateLimited,
        Self::CredentialsRejected,
        Self::InsufficientScope,
        Self::NotEntitled,
        Self::CircuitOpen,
        Self::Overloaded,
        Self::CredentialsMissing,
        Self::PolicyInvalid,
    ];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamError => "upstream_error",
            Self::RateLimited => "rate_limited",
            Self::CredentialsRejected => "credentials_rejected",
            Self::InsufficientScope => "insufficient_scope",
            Self::NotEntitled => "not_entitled",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::CredentialsMissing => "credentials_missing",
            Self::PolicyInvalid => "policy_invalid",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Reason {
    /// Every reason, for tables and metrics.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::WithinLimit,
            Self::LimitExceeded,
            Self::Evicted,
            Self::Exempt,
            Self::NoPolicy,
            Self::TenantAmbiguous,
            Self::NoSession,
            Self::SkippedProtocol,
            Self::SessionRevoked,
            Self::Audit,
        ]
        .into_iter()
        .chain(Failure::ALL.into_iter().map(Self::Failed))
    }

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithinLimit => "within_limit",
            Self::LimitExceeded => "limit_exceeded",
            Self::Evicted => "evicted",
            Self::Exempt => "exempt",
            Self::NoPolicy => "no_policy",
            Self::TenantAmbiguous => "tenant_ambiguous",
            Self::NoSession => "no_session",
            Self::SkippedProtocol => "skipped_protocol",
            Self::SessionRevoked => "session_revoked",
            Self::Audit => "audit",
            Self::Failed(failure) => failure.as_str(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to a check, without what belongs to HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the login is to be refused.
    pub block: bool,
    /// Why.
    pub reason: Reason,
    /// What the user reads, exactly when `block` is true.
    pub message: Option<String>,
    /// Whether the Action should end the login's session rather than only deny access.
    pub revoke_session: bool,
    /// The policy that governs the login.
    pub policy: Option<ObjectName>,
    /// The limit that the answer is about, whenever sessions were counted.
    pub count: Option<Count>,
    /// How many other sessions were revoked, when that was tried.
    pub revoked_sessions: Option<usize>,
    /// What the answer would have been, when the policy only audits.
    pub audited_reason: Option<Reason>,
}

impl Answer {
    /// Lets the login pass, with nothing else to say.
    pub fn allow(reason: Reason) -> Self {
        Self {
            block: false,
            reason,
            message: None,
            revoke_session: false,
            policy: None,
            count: None,
            revoked_sessions: None,
            audited_reason: None,
        }
    }
}

/// Everything that a check can come to under a policy, before the policy's mode is applied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An override exempts the login.
    Exempt,
    /// The protocol is not limited.
    SkippedProtocol,
    /// There is no session, and this is what the policy says to that.
    NoSession(AllowDeny),
    /// This very session was revoked a moment ago.
    SessionRevoked,
    /// Within every limit; without a count when it was answered from memory.
    Within(Option<Count>),
    /// Over a limit, and refused.
    Exceeded {
        /// The limit.
        count: Count,
        /// Whether the Action should end the session.
        revoke_session: bool,
    },
    /// Over a limit, and others gave way.
    Evicted {
        /// The limit.
        count: Count,
        /// How many sessions gave way.
        revoked: usize,
    },
    /// It could not be decided, or not be carried out.
    Failed {
        /// Why.
        failure: Failure,
        /// The limit, when sessions were counted before.
        count: Option<Count>,
        /// How many sessions were revoked before it failed, when that was tried.
        revoked: Option<usize>,
    },
}

impl Verdict {
    /// It could not be decided, and nothing was counted.
    pub const fn failed(failure: Failure) -> Self {
        Self::Failed { failure, count: None, revoked: None }
    }
}

impl From<&Decision> for Verdict {
    /// What is answered once the decision is carried out.
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Within { count, .. } => Self::Within(Some(*count)),
            Decision::Exceeded { count, revoke_session } => {
                Self::Exceeded { count: *count, revoke_session: *revoke_session }
            }
            Decision::Evict { count, victims } => Self::Evicted { count: *count, revoked: victims.len() },
        }
    }
}

/// How a policy answers once it is known what there is to say.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// The policy.
    pub policy: ObjectName,
    /// Whether answers have effect.
    pub mode: Mode,
    /// The answer when it cannot be decided.
    pub failure_policy: AllowDeny,
    /// What a blocked user reads.
    pub message: Option<String>,
}

/// What a blocked user reads when the policy says nothing.
const BLOCKED: &str = "You are already signed in elsewhere. Sign out there and try again.";
/// The same, when it could not be decided.
const UNDECIDED: &str = "Your sessions could not be checked. Please try again in a moment.";

impl Enforcement {
    /// Turns a verdict into the answer: failures are answered by the failure policy, and an auditing policy (or
    /// `force_audit`) takes the effect away and says what it would have been.
    pub fn answer(&self, verdict: Verdict, force_audit: bool) -> Answer {
        let enforced = self.enforced(verdict);
        if !force_audit && self.mode == Mode::Enforce {
            return enforced;
        }
        let plain = !enforced.block && !matches!(enforced.reason, Reason::Evicted);
        Answer {
            block: false,
            reason: if plain { enforced.reason } else { Reason::Audit },
            audited_reason: (!plain).then_some(enforced.reason),
            message: None,
            revoke_session: false,
            revoked_sessions: None,
            ..enforced
        }
    }

    fn enforced(&self, verdict: Verdict) -> Answer {
        let allow = |reason| Answer { policy: Some(self.policy.clone()), ..Answer::allow(reason) };
        let block = |reason, fallback: &str| Answer {
            block: true,
            message: Some(self.message.as_deref().unwrap_or(fallback).to_owned()),
            ..allow(reason)
        };
        match verdict {
            Verdict::Exempt => allow(Reason::Exempt),
            Verdict::SkippedProtocol => allow(Reason::SkippedProtocol),
            Verdict::NoSession(AllowDeny::Allow) => allow(Reason::NoSession),
            Verdict::NoSession(AllowDeny::Deny) => block(Reason::NoSession, BLOCKED),
            Verdict::SessionRevoked => block(Reason::SessionRevoked, BLOCKED),
            Verdict::Within(count) => Answer { count, ..allow(Reason::WithinLimit) },
            Verdict::Exceeded { count, revoke_session } => {
                Answer { count: Some(count), revoke_session, ..block(Reason::LimitExceeded, BLOCKED) }
            }
            Verdict::Evicted { count, revoked } => {
                Answer { count: Some(count), revoked_sessions: Some(revoked), ..allow(Reason::Evicted) }
            }
            Verdict::Failed { failure, count, revoked } => {
                let answer = match self.failure_policy {
                    AllowDeny::Allow => allow(Reason::Failed(failure)),
                    AllowDeny::Deny => block(Reason::Failed(failure), UNDECIDED),
                };
                Answer { count, revoked_sessions: revoked, ..answer }
            }
        }
    }
}
