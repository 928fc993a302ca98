//! Why a condition has its status.

macro_rules! condition_reasons {
    ($($(#[$doc:meta])* $reason:ident,)*) => {
        /// The reasons of a policy's conditions.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ConditionReason {
            $($(#[$doc])* $reason,)*
        }

        impl ConditionReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// The text in the condition.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => stringify!($reason),)* }
            }
        }
    };
}

condition_reasons! {
    /// The spec compiles and does not conflict with another policy.
    Accepted,
    /// The spec does not compile.
    Invalid,
    /// An older policy selects exactly the same logins.
    Conflicted,
    /// The tenant accepts the credential.
    Proven,
    /// The credential is used, and the tenant has not accepted it yet.
    Unproven,
    /// A Secret that the policy names does not exist.
    SecretMissing,
    /// The API server fails to answer about a Secret that the policy names and that was never read.
    SecretUnreadable,
    /// The service may not read a Secret that the policy names.
    SecretForbidden,
    /// A Secret that the policy names cannot be used.
    SecretInvalid,
    /// The tenant does not accept the credential.
    CredentialsRejected,
    /// The credential lacks OAuth scopes that the policy needs.
    InsufficientScope,
    /// The tenant does not accept the new credential, and the previous one stays in use.
    NewCredentialsRejected,
    /// The tenant did not respond to the probe.
    TenantUnreachable,
    /// No caller may use the policy.
    NoCallers,
    /// The logins that the log stream reported were checked.
    Checked,
    /// Logins complete without a check.
    NotAsked,
    /// There is no log stream.
    NoStream,
    /// Several replicas share no ledger, so no replica knows the checks of the others.
    NoSharedLedger,
    /// The log stream reported no login in the last hour, or too few to judge by.
    NoLogins,
    /// It is not known whether the reported logins were checked.
    NotKnown,
    /// The status is not known yet.
    Pending,
    /// The policy has everything that it needs, and forced audit makes it audit.
    ForcedAudit,
    /// The policy is active as written.
    Ready,
}

impl ConditionReason {
    /// The reason with this text.
    pub fn of_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }

    /// Whether a condition with this reason leaves nothing to do.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Accepted | Self::Proven | Self::Checked | Self::Ready)
    }

    /// Whether the state is not known yet, as after a start.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Unproven)
    }
}
