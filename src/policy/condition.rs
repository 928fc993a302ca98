//! What there is to say about a policy: for its conditions, `/debug/policies`, the log and the metrics alike. Each finding is
//! one word out of a closed set, and a sentence for people that says what to do.

use std::fmt;
use std::sync::Arc;

use super::answer::Failure;
use super::compile::SpecError;
use super::name::ObjectName;
use super::policy_set::PolicyVersion;

/// The types of the conditions, in the order in which people read them.
pub const CONDITIONS: [&str; 3] = ["Accepted", "CredentialsReady", "Ready"];

/// What there is to say about one policy.
#[derive(Clone, Debug)]
pub struct PolicyReport {
    /// The policy.
    pub name: ObjectName,
    /// `metadata.generation` of its newest version.
    pub generation: i64,
    /// The version in force; `None` when not even a tenant can be read.
    pub rule: Option<Arc<PolicyVersion>>,
    /// What is wrong with its newest version.
    pub errors: Vec<SpecError>,
    /// Which version is in force.
    pub active_version: ActiveVersion,
    /// The policy that stands before it, where one does.
    pub overshadowing: Option<Overshadowing>,
    /// Its credential.
    pub credential: CredentialReport,
    /// Its callers.
    pub callers: CallersReport,
}

/// Which version of a policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveVersion {
    /// The newest.
    Newest,
    /// An earlier one, because the newest does not compile.
    LastGood,
    /// None compiles: its failure policy answers.
    FailurePolicy,
    /// Not even its tenant can be read: it governs nothing.
    Nothing,
}

/// How much of what a policy selects another one governs in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Both claim exactly the same logins with the same priority: a conflict.
    Conflict,
    /// All of it, by priority.
    All,
    /// A part of it.
    Part,
}

/// A policy of the same tenant and the same callers that stands before another and governs logins that both select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overshadowing {
    /// The first of those that stand before it.
    pub policy: ObjectName,
    /// How much that one takes.
    pub share: Extent,
}

/// What is known of a policy's credential. `kept` = the version before serves on, so that nobody notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialReport {
    /// The tenant accepts it, and it permits what the policy does.
    Proven,
    /// The tenant has not said yet.
    Unproven {
        /// The version before serves on.
        kept: bool,
    },
    /// The tenant does not accept it.
    Rejected {
        /// The version before serves on.
        kept: bool,
    },
    /// The tenant accepts it, but its token does not permit all that the policy does.
    InsufficientScope {
        /// What is missing.
        missing: Vec<&'static str>,
        /// The version before serves on.
        kept: bool,
    },
    /// The tenant cannot be asked.
    Unreachable {
        /// Why not.
        failure: Failure,
        /// The version before serves on.
        kept: bool,
    },
    /// There is something about its Secret.
    Secret(SecretProblem),
    /// The policy does not compile and needs none.
    Unneeded,
}

/// What is known of the callers that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallersReport {
    /// They can use it.
    Ready,
    /// It names none, and the service lets in nobody without.
    Nobody,
    /// There is something about its Secret.
    Secret(SecretProblem),
}

/// What is the matter with a Secret that a policy names, in a closed set and in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretProblem {
    /// The API server has not said yet whether it is there.
    Awaited(ObjectName),
    /// It is not there.
    Missing(ObjectName),
    /// The API server does not show it to this service.
    Forbidden(ObjectName),
    /// It cannot be used, or only in part, or only as it was before.
    Invalid(String),
}

/// A condition of a policy, by what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: ConditionReason,
    /// Why, and what to do about it, in words for people.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// It cannot be said yet.
    Unknown,
}

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

            /// As conditions write it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => stringify!($reason),)* }
            }
        }
    };
}

condition_reasons! {
    /// The spec compiles and no other policy claims the same.
    Accepted,
    /// The spec does not compile.
    Invalid,
    /// An older policy claims exactly the same logins.
    Conflicted,
    /// The tenant accepts the credential.
    Proven,
    /// The credential is used, and the tenant has not yet said whether it accepts it.
    Unproven,
    /// A Secret that the policy names is not there.
    SecretMissing,
    /// The service may not read a Secret that the policy names.
    SecretForbidden,
    /// A Secret that the policy names cannot be used.
    SecretInvalid,
    /// The tenant does not accept the credential.
    CredentialsRejected,
    /// The credential does not permit what the policy does.
    InsufficientScope,
    /// The tenant does not accept the new credential, and the old one stays in use.
    NewCredentialsRejected,
    /// The tenant cannot be asked.
    TenantUnreachable,
    /// Nobody may use the policy.
    NoCallers,
    /// It cannot be said yet.
    Pending,
    /// All of it.
    Ready,
}

impl PartialEq for PolicyReport {
    fn eq(&self, other: &Self) -> bool {
        let rules = (self.rule.as_ref(), other.rule.as_ref());
        let same_rule = match rules {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same_rule
            && (&self.name, self.generation, self.active_version)
                == (&other.name, other.generation, other.active_version)
            && (&self.errors, &self.overshadowing) == (&other.errors, &other.overshadowing)
            && (&self.credential, &self.callers) == (&other.credential, &other.callers)
    }
}

impl ActiveVersion {
    /// Every state, for tables and metrics.
    pub const ALL: [Self; 4] = [Self::Newest, Self::LastGood, Self::FailurePolicy, Self::Nothing];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::LastGood => "last_good",
            Self::FailurePolicy => "failure_policy",
            Self::Nothing => "nothing",
        }
    }
}

impl ConditionStatus {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    /// As conditions write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    fn new(status: ConditionStatus, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    /// The sentence, when the condition does not hold.
    pub fn problem(&self) -> Option<&str> {
        (self.status != ConditionStatus::True).then_some(&self.message)
    }
}

impl PolicyReport {
    /// The tenant's canonical domain; empty when it cannot be read.
    pub fn tenant(&self) -> &str {
        self.rule.as_deref().map_or("", |rule| rule.scope().tenant.domain())
    }

    /// The conditions, each with its type.
    pub fn conditions(&self) -> [(&'static str, Condition); 3] {
        let [accepted, credentials_ready, ready] = CONDITIONS;
        [(accepted, self.accepted()), (credentials_ready, self.credentials_ready()), (ready, self.ready())]
    }

    /// `Accepted`: the spec compiles and does not conflict with another policy.
    pub fn accepted(&self) -> Condition {
        if !self.errors.is_empty() {
            let errors: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
            let rest = match self.active_version {
                ActiveVersion::Newest | ActiveVersion::LastGood => "its last good version stays in force",
                ActiveVersion::FailurePolicy => "until then its failure policy answers",
                ActiveVersion::Nothing => "its tenant cannot be read either, so it governs nothing",
            };
            return Condition::new(
                ConditionStatus::False,
                ConditionReason::Invalid,
                format!("{}; {rest}", errors.join("; ")),
            );
        }
        let Some(Overshadowing { policy, share }) = &self.overshadowing else {
            return Condition::new(ConditionStatus::True, ConditionReason::Accepted, "the policy is accepted");
        };
        match share {
            Extent::Conflict => Condition::new(
                ConditionStatus::False,
                ConditionReason::Conflicted,
                format!(
                    "{policy} claims exactly the same logins for the same callers with the same priority and stands \
                     before this policy: change the selector or the priority, or delete one of the two"
                ),
            ),
            Extent::All => Condition::new(
                ConditionStatus::True,
                ConditionReason::Accepted,
                format!("the policy is accepted; {policy} stands before it and governs everything that it selects"),
            ),
            Extent::Part => Condition::new(
                ConditionStatus::True,
                ConditionReason::Accepted,
                format!("the policy is accepted; {policy} stands before it and governs a part of what it selects"),
            ),
        }
    }

    /// `CredentialsReady`: the Secret is there, complete, allowed for this tenant, and accepted by Auth0.
    pub fn credentials_ready(&self) -> Condition {
        self.credential.condition(self.tenant())
    }

    /// `Ready`: the policy is in force as written, with everything that it needs.
    pub fn ready(&self) -> Condition {
        let worst = [self.accepted(), self.callers.condition(), self.credentials_ready()]
            .into_iter()
            .min_by_key(|condition| match condition.status {
                ConditionStatus::False => 0,
                ConditionStatus::Unknown => 1,
                ConditionStatus::True => 2,
            })
            .filter(|worst| worst.status != ConditionStatus::True);
        worst.unwrap_or_else(|| {
            Condition::new(ConditionStatus::True, ConditionReason::Ready, "the policy is in force as written")
        })
    }

    /// Whether the policy is in force as written, with everything that it needs.
    pub fn is_ready(&self) -> bool {
        self.ready().status == ConditionStatus::True
    }
}

impl CredentialReport {
    fn condition(&self, tenant: &str) -> Condition {
        let old = "; the credential before it stays in use";
        let rejected = |kept| {
            if kept { ConditionReason::NewCredentialsRejected } else { ConditionReason::CredentialsRejected }
        };
        match self {
            // What is being proven while the old one serves is nobody's concern yet, and mostly over in a moment.
            Self::Proven | Self::Unproven { kept: true } => Condition::new(
                ConditionStatus::True,
                ConditionReason::Proven,
                format!("{tenant} accepts the credential"),
            ),
            Self::Unproven { kept: false } => Condition::new(
                ConditionStatus::Unknown,
                ConditionReason::Unproven,
                format!("the credential is used, and {tenant} has not yet said whether it accepts it"),
            ),
            Self::Rejected { kept } => Condition::new(
                ConditionStatus::False,
                rejected(*kept),
                format!(
                    "{tenant} does not accept the credential: write the application's clientId and its clientSecret or \
                     privateKey into the Secret, and authorize the application for the Management API{}",
                    if *kept { old } else { "" }
                ),
            ),
            Self::InsufficientScope { missing, kept } => Condition::new(
                ConditionStatus::False,
                if *kept { ConditionReason::NewCredentialsRejected } else { ConditionReason::InsufficientScope },
                format!(
                    "the credential lacks {}: grant it to the application for the Management API of {tenant}{}",
                    missing.join(" and "),
                    if *kept { old } else { "" }
                ),
            ),
            Self::Unreachable { failure, kept } => Condition::new(
                ConditionStatus::Unknown,
                ConditionReason::TenantUnreachable,
                format!(
                    "the credential cannot be proven, {tenant} gave no token ({failure}): it is asked again{}",
                    if *kept { old } else { "" }
                ),
            ),
            Self::Secret(trouble) => trouble.condition(),
            Self::Unneeded => Condition::new(
                ConditionStatus::Unknown,
                ConditionReason::Pending,
                "the policy does not compile, so its credential is not looked at",
            ),
        }
    }
}

impl CallersReport {
    fn condition(&self) -> Condition {
        match self {
            Self::Ready => Condition::new(ConditionStatus::True, ConditionReason::Ready, "its callers can use it"),
            Self::Nobody => Condition::new(
                ConditionStatus::False,
                ConditionReason::NoCallers,
                "nobody may use this policy: name a callerSecretRef, or start the service with --caller-token-file or \
                 --allow-anonymous",
            ),
            Self::Secret(trouble) => trouble.condition(),
        }
    }

    /// What is wrong, in words for people.
    pub fn problem(&self) -> Option<String> {
        self.condition().problem().map(str::to_owned)
    }
}

impl SecretProblem {
    fn condition(&self) -> Condition {
        let (status, reason) = match self {
            Self::Awaited(_) => (ConditionStatus::Unknown, ConditionReason::Pending),
            Self::Missing(_) => (ConditionStatus::False, ConditionReason::SecretMissing),
            Self::Forbidden(_) => (ConditionStatus::False, ConditionReason::SecretForbidden),
            Self::Invalid(_) => (ConditionStatus::False, ConditionReason::SecretInvalid),
        };
        Condition::new(status, reason, self.to_string())
    }
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Awaited(name) => write!(f, "Secret {name} is being looked for"),
            Self::Missing(name) => write!(f, "Secret {name} is not there: create it"),
            Self::Forbidden(name) => write!(
                f,
                "Secret {name} cannot be read: let the service's account get, list and watch it (see the chart's rbac \
                 values)"
            ),
            Self::Invalid(problem) => f.write_str(problem),
        }
    }
}
