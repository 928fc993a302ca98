//! What a check answers, and the closed set of words that say why.

use std::fmt;

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
