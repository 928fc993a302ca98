//! Verdicts and answers: how a policy's mode and failure policy turn the one into the other, and the reasons for both.

use std::fmt;

use super::limits::{Count, Decision};
use super::messages;
use super::model::{AllowDeny, Enforcement, Mode};
use super::name::ObjectName;
use super::sentences::MessageKind;

/// Why a check could not be decided from the tenant's list of sessions; the policy's `failurePolicy` answers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The check's deadline passed.
    UpstreamTimeout,
    /// Auth0 could not be reached: DNS, connection, TLS, a reset, an incomplete response.
    UpstreamUnreachable,
    /// Auth0 responded with 5xx, or with something that its API does not document.
    UpstreamError,
    /// Auth0 responded with 429, or the request budget is empty.
    RateLimited,
    /// Auth0 rejected the credential or its token.
    CredentialsRejected,
    /// The token lacks an OAuth scope that the call needs.
    InsufficientScope,
    /// The tenant's plan does not have the endpoint.
    NotEntitled,
    /// The tenant failed too often, and the circuit breaker is open.
    CircuitOpen,
    /// This service has more checks in progress than it may have.
    Overloaded,
    /// The credential Secret or one of its keys is missing, or the service may not read it.
    CredentialsMissing,
    /// The policy does not compile and has no last good version.
    PolicyInvalid,
    /// A defect of this service: the check panicked.
    InternalError,
}

/// Why a login was allowed or blocked: the `reason` of the answer, and a label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The login is within every limit.
    WithinLimit,
    /// The login is over a limit and blocked.
    LimitExceeded,
    /// The login is over a limit and allowed, because other sessions were revoked.
    Evicted,
    /// An override exempts the login.
    Exempt,
    /// The tenant does not know the user, so that no session counts.
    UnknownUser,
    /// No policy governs the login.
    NoPolicy,
    /// Policies of more than one tenant match, and the request does not name its tenant.
    TenantAmbiguous,
    /// The request names a tenant that no policy has.
    TenantUnknown,
    /// The login has no session.
    NoSession,
    /// The policy does not limit the protocol.
    SkippedProtocol,
    /// This service revoked the session a moment ago to make room for another.
    SessionRevoked,
    /// The policy only audits; `audited_reason` is what it would have answered.
    Audit,
    /// The check could not be decided.
    Failed(Failure),
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 12] = [
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
        Self::InternalError,
    ];

    /// The value in answers, metrics and logs; it never changes.
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
            Self::InternalError => "internal_error",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Reason {
    /// Every reason.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::WithinLimit,
            Self::LimitExceeded,
            Self::Evicted,
            Self::Exempt,
            Self::UnknownUser,
            Self::NoPolicy,
            Self::TenantAmbiguous,
            Self::TenantUnknown,
            Self::NoSession,
            Self::SkippedProtocol,
            Self::SessionRevoked,
            Self::Audit,
        ]
        .into_iter()
        .chain(Failure::ALL.into_iter().map(Self::Failed))
    }

    /// The value in answers, metrics and logs; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WithinLimit => "within_limit",
            Self::LimitExceeded => "limit_exceeded",
            Self::Evicted => "evicted",
            Self::Exempt => "exempt",
            Self::UnknownUser => "unknown_user",
            Self::NoPolicy => "no_policy",
            Self::TenantAmbiguous => "tenant_ambiguous",
            Self::TenantUnknown => "tenant_unknown",
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

/// The answer to a check, independent of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether the Action has to block the login.
    pub block: bool,
    /// Why the login is allowed or blocked.
    pub reason: Reason,
    /// The message for the user; set exactly when `block` is true.
    pub message: Option<String>,
    /// Whether the Action should end the session instead of only denying access.
    pub revoke_session: bool,
    /// The policy that governs the login, when there is one.
    pub policy: Option<ObjectName>,
    /// The limit that decided; set whenever sessions were counted.
    pub count: Option<Count>,
    /// How many other sessions were revoked; set when a revocation was tried.
    pub revoked_sessions: Option<usize>,
    /// What the reason would have been, when the policy only audits.
    pub audited_reason: Option<Reason>,
    /// Whether the person is asked which sessions to end, or would be if the policy did not only audit.
    pub asks: bool,
    /// The address of the page on which the person is asked.
    pub choose_url: Option<String>,
}

impl Answer {
    /// Allows the login; every other field is empty.
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
            asks: false,
            choose_url: None,
        }
    }
}

/// The outcome of a check, before the policy's mode and failure policy are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An override exempts the login.
    Exempt,
    /// The policy does not limit the protocol.
    SkippedProtocol,
    /// The login has no session; the policy's `missingSession` answers.
    NoSession(AllowDeny),
    /// This service revoked the session a moment ago.
    SessionRevoked,
    /// The login is within every limit; without a count when it was answered from memory.
    Within(Option<Count>),
    /// The tenant does not know the user, and the login is within every limit.
    UnknownUser(Count),
    /// The login is over a limit and is blocked.
    Exceeded {
        /// The first limit that is exceeded.
        count: Count,
        /// Whether the Action should end the session.
        revoke_session: bool,
    },
    /// The login is over a limit, and the person is asked which sessions to end.
    Asked(Count),
    /// The login is over a limit, and other sessions were revoked for it.
    Evicted {
        /// The first limit that is exceeded.
        count: Count,
        /// How many sessions were revoked.
        revoked: usize,
    },
    /// The check could not be decided, or the decision not be carried out.
    Failed {
        /// The cause.
        failure: Failure,
        /// The limit that decided, when sessions were counted.
        count: Option<Count>,
        /// How many sessions were revoked before the failure, when a revocation was tried.
        revoked: Option<usize>,
    },
}

impl Verdict {
    /// A check that failed before any session was counted.
    pub const fn failed(failure: Failure) -> Self {
        Self::Failed { failure, count: None, revoked: None }
    }
}

impl From<&Decision> for Verdict {
    /// The verdict once the decision is carried out.
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Within { count, .. } => Self::Within(Some(*count)),
            Decision::UnknownUser { count } => Self::UnknownUser(*count),
            // A list that was not read to its end is as good as one with a page that failed.
            Decision::Undecided => Self::failed(Failure::UpstreamError),
            Decision::Exceeded { count, revoke_session } => {
                Self::Exceeded { count: *count, revoke_session: *revoke_session }
            }
            Decision::Ask { count } => Self::Asked(*count),
            Decision::Evict { count, victims } => Self::Evicted { count: *count, revoked: victims.len() },
        }
    }
}

/// The kind of text for a login that is blocked with this reason.
const fn message_kind(reason: Reason) -> MessageKind {
    match reason {
        Reason::NoSession => MessageKind::NoSession,
        Reason::SessionRevoked => MessageKind::SessionRevoked,
        Reason::Failed(Failure::InternalError) => MessageKind::InternalError,
        Reason::Failed(_) => MessageKind::Unavailable,
        _ => MessageKind::LimitExceeded,
    }
}

impl Enforcement {
    /// Turns a verdict into the answer. The failure policy answers failures, and `locale` chooses the language of a message. A policy that audits, or `force_audit`, allows
    /// every login and keeps the reason that `Enforce` would have given.
    pub fn answer(&self, verdict: Verdict, locale: Option<&str>, force_audit: bool) -> Answer {
        let enforced = self.enforced(verdict, locale);
        if !force_audit && self.mode == Mode::Enforce {
            return enforced;
        }
        let has_effect = enforced.block || enforced.reason == Reason::Evicted;
        Answer {
            block: false,
            reason: if has_effect { Reason::Audit } else { enforced.reason },
            audited_reason: has_effect.then_some(enforced.reason),
            message: None,
            revoke_session: false,
            revoked_sessions: None,
            ..enforced
        }
    }

    fn enforced(&self, verdict: Verdict, locale: Option<&str>) -> Answer {
        let block = |reason| {
            let text = messages::text(message_kind(reason), self.message.as_deref(), &self.messages, locale);
            let message = Some(text.to_owned());
            Answer { block: true, message, ..self.allow(reason) }
        };
        match verdict {
            Verdict::Exempt => self.allow(Reason::Exempt),
            Verdict::SkippedProtocol => self.allow(Reason::SkippedProtocol),
            Verdict::NoSession(AllowDeny::Allow) => self.allow(Reason::NoSession),
            Verdict::NoSession(AllowDeny::Deny) => block(Reason::NoSession),
            Verdict::SessionRevoked => block(Reason::SessionRevoked),
            Verdict::UnknownUser(count) => Answer { count: Some(count), ..self.allow(Reason::UnknownUser) },
            Verdict::Within(count) => Answer { count, ..self.allow(Reason::WithinLimit) },
            Verdict::Exceeded { count, revoke_session } => {
                Answer { count: Some(count), revoke_session, ..block(Reason::LimitExceeded) }
            }
            Verdict::Asked(count) => Answer { count: Some(count), asks: true, ..block(Reason::LimitExceeded) },
            Verdict::Evicted { count, revoked } => {
                Answer { count: Some(count), revoked_sessions: Some(revoked), ..self.allow(Reason::Evicted) }
            }
            Verdict::Failed { failure, count, revoked } => {
                let answer = match self.failure_policy {
                    AllowDeny::Allow => self.allow(Reason::Failed(failure)),
                    AllowDeny::Deny => block(Reason::Failed(failure)),
                };
                Answer { count, revoked_sessions: revoked, ..answer }
            }
        }
    }

    fn allow(&self, reason: Reason) -> Answer {
        Answer { policy: Some(self.policy.clone()), ..Answer::allow(reason) }
    }
}
