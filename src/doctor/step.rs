//! The steps of an examination.

macro_rules! exam_steps {
    ($($(#[$doc:meta])* $step:ident = $text:literal,)*) => {
        /// A step of an examination. The documentation explains each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ExamStep {
            $($(#[$doc])* $step,)*
        }

        impl ExamStep {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$step,)*];

            /// The name in the lines of an examination.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$step => $text,)* }
            }
        }
    };
}

exam_steps! {
    /// A policy file is read.
    Read = "read",
    /// There are policies.
    Policies = "policies",
    /// No policy is forced to audit.
    ForcedAudit = "forced audit",
    /// The policy is accepted.
    Accepted = "accepted",
    /// The Secret of the callers can be used.
    Callers = "callers",
    /// The Secret of the credential can be used.
    Credential = "credential",
    /// The policy enforces.
    Mode = "mode",
    /// The values of the policy can have an effect.
    Values = "values",
    /// The policy answered a check.
    LastCheck = "last check",
    /// The log stream shows no login without a check.
    LogStream = "log stream",
    /// The tenant's host has an address.
    Name = "name",
    /// The proxy opens a connection.
    Proxy = "proxy",
    /// The tenant accepts connections.
    Connection = "connection",
    /// The TLS handshake succeeds.
    Tls = "TLS",
    /// The tenant accepts the credential.
    Token = "token",
    /// The clock is Auth0's.
    Clock = "clock",
    /// The credential has the OAuth scopes that the policies need.
    Scopes = "scopes",
    /// The tenant's plan has the Management API for sessions.
    Plan = "plan",
    /// The tenant has requests left.
    RateLimit = "rate limit",
    /// The ledger answers within its time limit.
    RoundTrip = "round trip",
}
