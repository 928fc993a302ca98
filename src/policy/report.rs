//! What there is to say about a policy: for its conditions, `/debug/policies`, the log and the metrics alike. Each finding is
//! one word out of a closed set, and a sentence for people that says what to do.

use std::fmt;
use std::sync::Arc;

use super::answer::Failure;
use super::compile::SpecError;
use super::name::ObjectName;
use super::snapshot::Rule;

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
    pub rule: Option<Arc<Rule>>,
    /// What is wrong with its newest version.
    pub errors: Vec<SpecError>,
    /// Which version is in force.
    pub in_force: InForce,
    /// The policy that stands before it, where one does.
    pub precedent: Option<Precedent>,
    /// Its credential.
    pub credential: Credential,
    /// Its callers.
    pub callers: Callers,
}

/// Which version of a policy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
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
pub enum Share {
    /// Both claim exactly the same logins with the same priority: a conflict.
    Conflict,
    /// All of it, by priority.
    All,
    /// A part of it.
    Part,
}

/// A policy of the same tenant and the same callers that stands before another and governs logins that both select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedent {
    /// The first of those that stand before it.
    pub policy: ObjectName,
    /// How much that one takes.
    pub share: Share,
}

/// What is known of a policy's credential. `kept` = the version before serves on, so that nobody notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
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
    Secret(SecretTrouble),
    /// The policy does not compile and needs none.
    Unneeded,
}

/// What is known of the callers that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callers {
    /// They can use it.
    Ready,
    /// It names none, and the service lets in nobody without.
    Nobody,
    /// There is something about its Secret.
    Secret(SecretTrouble),
}

/// What is the matter with a Secret that a policy names, in a closed set and in words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretTrouble {
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
pub struct Finding {
    /// Whether the condition holds.
    pub truth: Truth,
    /// Why, in one word.
    pub reason: ConditionReason,
    /// Why, and what to do about it, in words for people.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
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
            && (&self.name, self.generation, self.in_force) == (&other.name, other.generation, other.in_force)
            && (&self.errors, &self.precedent) == (&other.errors, &other.precedent)
            && (&self.credential, &self.callers) == (&other.credential, &other.callers)
    }
}

impl InForce {
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

impl Truth {
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

impl Finding {
    fn new(truth: Truth, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self { truth, reason, message: message.into() }
    }

    /// The sentence, when the condition does not hold.
    pub fn problem(&self) -> Option<&str> {
        (self.truth != Truth::True).then_some(&self.message)
    }
}

impl PolicyReport {
    /// The tenant's canonical domain; empty when it cannot be read.
    pub fn tenant(&self) -> &str {
        self.rule.as_deref().map_or("", |rule| rule.claim().tenant.domain())
    }

    /// The conditions, each with its type.
    pub fn conditions(&self) -> [(&'static str, Finding); 3] {
        let [accepted, credentials_ready, ready] = CONDITIONS;
        [(accepted, self.accepted()), (credentials_ready, self.credentials_ready()), (ready, self.ready())]
    }

    /// `Accepted`: the spec compiles and does not conflict with another policy.
    pub fn accepted(&self) -> Finding {
        if !self.errors.is_empty() {
            let errors: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
            let rest = match self.in_force {
                InForce::Newest | InForce::LastGood => "its last good version stays in force",
                InForce::FailurePolicy => "until then its failure policy answers",
                InForce::Nothing => "its tenant cannot be read either, so it governs nothing",
            };
            return Finding::new(Truth::False, ConditionReason::Invalid, format!("{}; {rest}", errors.join("; ")));
        }
        let Some(Precedent { policy, share }) = &self.precedent else {
            return Finding::new(Truth::True, ConditionReason::Accepted, "the policy is accepted");
        };
        match share {
            Share::Conflict => Finding::new(
                Truth::False,
                ConditionReason::Conflicted,
                format!(
                    "{policy} claims exactly the same logins for the same callers with the same priority and stands \
                     before this policy: change the selector or the priority, or delete one of the two"
                ),
            ),
            Share::All => Finding::new(
                Truth::True,
                ConditionReason::Accepted,
                format!("the policy is accepted; {policy} stands before it and governs everything that it selects"),
            ),
            Share::Part => Finding::new(
                Truth::True,
                ConditionReason::Accepted,
                format!("the policy is accepted; {policy} stands before it and governs a part of what it selects"),
            ),
        }
    }

    /// `CredentialsReady`: the Secret is there, complete, allowed for this tenant, and accepted by Auth0.
    pub fn credentials_ready(&self) -> Finding {
        self.credential.finding(self.tenant())
    }

    /// `Ready`: the policy is in force as written, with everything that it needs.
    pub fn ready(&self) -> Finding {
        let worst = [self.accepted(), self.callers.finding(), self.credentials_ready()]
            .into_iter()
            .min_by_key(|finding| match finding.truth {
                Truth::False => 0,
                Truth::Unknown => 1,
                Truth::True => 2,
            })
            .filter(|worst| worst.truth != Truth::True);
        worst.unwrap_or_else(|| Finding::new(Truth::True, ConditionReason::Ready, "the policy is in force as written"))
    }

    /// Whether the policy is in force as written, with everything that it needs.
    pub fn is_ready(&self) -> bool {
        self.ready().truth == Truth::True
    }
}

impl Credential {
    fn finding(&self, tenant: &str) -> Finding {
        let old = "; the credential before it stays in use";
        let rejected = |kept| {
            if kept { ConditionReason::NewCredentialsRejected } else { ConditionReason::CredentialsRejected }
        };
        match self {
            // What is being proven while the old one serves is nobody's concern yet, and mostly over in a moment.
            Self::Proven | Self::Unproven { kept: true } => {
                Finding::new(Truth::True, ConditionReason::Proven, format!("{tenant} accepts the credential"))
            }
            Self::Unproven { kept: false } => Finding::new(
                Truth::Unknown,
                ConditionReason::Unproven,
                format!("the credential is used, and {tenant} has not yet said whether it accepts it"),
            ),
            Self::Rejected { kept } => Finding::new(
                Truth::False,
                rejected(*kept),
                format!(
                    "{tenant} does not accept the credential: write the application's clientId and its clientSecret or \
                     privateKey into the Secret, and authorize the application for the Management API{}",
                    if *kept { old } else { "" }
                ),
            ),
            Self::InsufficientScope { missing, kept } => Finding::new(
                Truth::False,
                if *kept { ConditionReason::NewCredentialsRejected } else { ConditionReason::InsufficientScope },
                format!(
                    "the credential lacks {}: grant it to the application for the Management API of {tenant}{}",
                    missing.join(" and "),
                    if *kept { old } else { "" }
                ),
            ),
            Self::Unreachable { failure, kept } => Finding::new(
                Truth::Unknown,
                ConditionReason::TenantUnreachable,
                format!(
                    "the credential cannot be proven, {tenant} gave no token ({failure}): it is asked again{}",
                    if *kept { old } else { "" }
                ),
            ),
            Self::Secret(trouble) => trouble.finding(),
            Self::Unneeded => Finding::new(
                Truth::Unknown,
                ConditionReason::Pending,
                "the policy does not compile, so its credential is not looked at",
            ),
        }
    }
}

impl Callers {
    fn finding(&self) -> Finding {
        match self {
            Self::Ready => Finding::new(Truth::True, ConditionReason::Ready, "its callers can use it"),
            Self::Nobody => Finding::new(
                Truth::False,
                ConditionReason::NoCallers,
                "nobody may use this policy: name a callerSecretRef, or start the service with --caller-token-file or \
                 --allow-anonymous",
            ),
            Self::Secret(trouble) => trouble.finding(),
        }
    }

    /// What is wrong, in words for people.
    pub fn problem(&self) -> Option<String> {
        self.finding().problem().map(str::to_owned)
    }
}

impl SecretTrouble {
    fn finding(&self) -> Finding {
        let (truth, reason) = match self {
            Self::Awaited(_) => (Truth::Unknown, ConditionReason::Pending),
            Self::Missing(_) => (Truth::False, ConditionReason::SecretMissing),
            Self::Forbidden(_) => (Truth::False, ConditionReason::SecretForbidden),
            Self::Invalid(_) => (Truth::False, ConditionReason::SecretInvalid),
        };
        Finding::new(truth, reason, self.to_string())
    }
}

impl fmt::Display for SecretTrouble {
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
