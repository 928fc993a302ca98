//! Reports on policies: for status conditions, Events, `/debug/policies`, the log and the metrics. A condition has a reason
//! out of a closed set, and a message for people that says what to do.

use std::borrow::Cow;
use std::sync::Arc;

use super::answer::Failure;
use super::condition_reason::ConditionReason;
use super::name::ObjectName;
use super::policy_set::PolicyVersion;
use super::precedence::{Extent, Overshadowing};
use super::written::SpecError;
use crate::secret::{CALLERS_TYPE, CREDENTIALS_TYPE, LOG_STREAM_TYPE};

/// How much of the cause of a failure a message quotes, in characters. A cause of the API server may quote others.
const MAX_CAUSE_CHARS: usize = 400;

/// A report on one policy.
#[derive(Clone, Debug)]
pub struct PolicyReport {
    /// The policy's name.
    pub name: ObjectName,
    /// `metadata.generation` of its newest version. Where the source has none, the number of versions that this process saw.
    pub generation: i64,
    /// `metadata.generation` of its newest version; 0 when the source has none. Replicas compare it.
    pub source_generation: i64,
    /// The active version; `None` when not even the tenant can be read, or when the selector of a first version cannot.
    pub version: Option<Arc<PolicyVersion>>,
    /// The errors of its newest version.
    pub errors: Vec<SpecError>,
    /// What its newest version has that this program does not know, and ignores.
    pub unknown: Vec<SpecError>,
    /// Which version is active.
    pub active_version: ActiveVersion,
    /// The policy that takes precedence over it, when there is one.
    pub overshadowing: Option<Overshadowing>,
    /// The state of its credential.
    pub credential: CredentialReport,
    /// The state of its callers.
    pub callers: CallersReport,
    /// The state of the log stream that it names.
    pub log_stream: LogStreamReport,
    /// What forces the policy to audit, whatever its mode says; `None` when nothing does.
    pub forced_audit: Option<String>,
    /// What somebody should know although the policy is active as written.
    pub warnings: Vec<String>,
    /// The keys of the credential's Secret whose values look wrong. They matter when the tenant rejects the credential.
    pub suspect_keys: Vec<&'static str>,
}

/// Which version of a policy is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveVersion {
    /// The newest version.
    Newest,
    /// An earlier version, because the newest does not compile.
    LastGood,
    /// No version compiles: its failure policy answers.
    FailurePolicy,
    /// Not even its tenant can be read, or its selector cannot: it governs no login.
    Nothing,
}

/// The state of a policy's credential. `previous_in_use` is whether the previous version of the credential is still used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialReport {
    /// The tenant accepts it, and it has the OAuth scopes that the policy needs.
    Proven,
    /// The tenant has not accepted it yet.
    Unproven {
        /// Whether the previous version is still used.
        previous_in_use: bool,
    },
    /// The tenant does not accept it.
    Rejected {
        /// Whether the previous version is still used.
        previous_in_use: bool,
    },
    /// The tenant accepts it, but its token lacks OAuth scopes that the policy needs.
    InsufficientScope {
        /// The OAuth scopes that it lacks.
        missing: Vec<&'static str>,
        /// Whether the previous version is still used.
        previous_in_use: bool,
    },
    /// The tenant did not respond to the probe.
    Unreachable {
        /// The reason that a check would answer with.
        failure: Failure,
        /// What happened.
        detail: Cow<'static, str>,
        /// What the owner of the policy has to change, where that is known.
        remedy: Option<String>,
        /// Whether the previous version is still used.
        previous_in_use: bool,
    },
    /// Its Secret has a problem.
    Secret(SecretProblem),
    /// The policy does not compile and needs no credential.
    Unneeded,
}

/// The state of the callers that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallersReport {
    /// They can use the policy.
    Ready,
    /// The policy names none, and the service accepts no other callers.
    Nobody,
    /// Their Secret has a problem.
    Secret(SecretProblem),
}

/// The state of the log stream that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogStreamReport {
    /// The policy names none.
    Unnamed,
    /// Its tokens can be presented.
    Ready,
    /// Its Secret has a problem.
    Secret(SecretProblem),
}

/// The problem of a Secret that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretProblem {
    /// The API server has not yet reported whether it exists.
    Awaited(ObjectName),
    /// The API server fails to answer about it, and the service never read it. The text is the cause.
    Unreadable(ObjectName, String),
    /// It does not exist.
    Missing(ObjectName),
    /// The service may not read it.
    Forbidden(ObjectName),
    /// It cannot be used, or only a part of it, or only its last good version; the text says why.
    Invalid(String),
}

impl CallersReport {
    /// Whether their Secret may exist and was never read.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Secret(SecretProblem::Awaited(_) | SecretProblem::Unreadable(..)))
    }
}

/// A condition of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What the condition is about.
    pub kind: ConditionType,
    /// Whether the condition holds.
    pub status: ConditionStatus,
    /// Why the status is what it is.
    pub reason: ConditionReason,
    /// The reason in words for people, and what to do about it.
    pub message: String,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// The spec compiles and does not conflict with another policy.
    Accepted,
    /// The credential's Secret exists, is complete, is for this tenant, and Auth0 accepts it.
    CredentialsReady,
    /// Accepted, with a usable credential and callers: the policy is active as written.
    Ready,
    /// The logins that the policy selects are checked, as far as a log stream shows it.
    Enforcing,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
}

impl PartialEq for PolicyReport {
    fn eq(&self, other: &Self) -> bool {
        let same_version = match (&self.version, &other.version) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        same_version
            && (&self.name, self.generation, self.source_generation, self.active_version)
                == (&other.name, other.generation, other.source_generation, other.active_version)
            && (&self.errors, &self.unknown, &self.overshadowing)
                == (&other.errors, &other.unknown, &other.overshadowing)
            && (&self.credential, &self.callers, &self.log_stream)
                == (&other.credential, &other.callers, &other.log_stream)
            && (&self.forced_audit, &self.warnings, &self.suspect_keys)
                == (&other.forced_audit, &other.warnings, &other.suspect_keys)
    }
}

impl ActiveVersion {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::Newest, Self::LastGood, Self::FailurePolicy, Self::Nothing];

    /// The value in metrics, logs and `/debug/policies`; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::LastGood => "last_good",
            Self::FailurePolicy => "failure_policy",
            Self::Nothing => "nothing",
        }
    }
}

impl ConditionType {
    /// Every type that a report decides, in the order in which conditions are listed. `Enforcing` depends on what was seen of
    /// logins, and comes last.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::CredentialsReady, Self::Ready];

    /// The `type` of the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::CredentialsReady => "CredentialsReady",
            Self::Ready => "Ready",
            Self::Enforcing => "Enforcing",
        }
    }
}

impl ConditionStatus {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::True, Self::False, Self::Unknown];

    /// The text in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl Condition {
    fn new(kind: ConditionType, status: ConditionStatus, reason: ConditionReason, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }

    /// The message, unless the condition holds.
    pub fn problem(&self) -> Option<&str> {
        (self.status != ConditionStatus::True).then_some(&self.message)
    }
}

impl PolicyReport {
    /// The tenant's canonical domain; empty when it cannot be read.
    pub fn tenant(&self) -> &str {
        self.version.as_deref().map_or("", |version| version.scope().tenant.domain())
    }

    /// The conditions, in the order of [`ConditionType::ALL`].
    pub fn conditions(&self) -> [Condition; 3] {
        [self.accepted(), self.credentials_ready(), self.ready()]
    }

    /// The condition `Accepted`: the spec compiles and does not conflict with another policy.
    pub fn accepted(&self) -> Condition {
        if !self.errors.is_empty() {
            let errors: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
            let rest = match self.active_version {
                ActiveVersion::Newest | ActiveVersion::LastGood => "the last good version stays active",
                ActiveVersion::FailurePolicy => "failurePolicy applies to its logins until you correct the spec",
                ActiveVersion::Nothing => "the policy applies to no login until then",
            };
            let message = format!("{}; {rest}", errors.join("; "));
            return Condition::new(ConditionType::Accepted, ConditionStatus::False, ConditionReason::Invalid, message);
        }
        let (status, reason, message) = match &self.overshadowing {
            None => (ConditionStatus::True, ConditionReason::Accepted, "the policy is accepted".to_owned()),
            Some(Overshadowing { policy, extent: Extent::All }) => (
                ConditionStatus::True,
                ConditionReason::Accepted,
                format!("the policy is accepted; {policy} takes precedence for every login that this policy selects"),
            ),
            Some(Overshadowing { policy, extent: Extent::Part }) => (
                ConditionStatus::True,
                ConditionReason::Accepted,
                format!(
                    "the policy is accepted; {policy} takes precedence for some of the logins that this policy selects"
                ),
            ),
            Some(Overshadowing { policy, extent: Extent::Conflict }) => (
                ConditionStatus::False,
                ConditionReason::Conflicted,
                format!(
                    "the policy conflicts with {policy}, which takes precedence: both select the same logins for the \
                     same callers with the same priority. Change the selector or the priority, or delete one of them"
                ),
            ),
        };
        let unknown = self.unknown.iter().map(|unknown| format!("; {unknown}"));
        Condition::new(ConditionType::Accepted, status, reason, message + &unknown.collect::<String>())
    }

    /// The condition `CredentialsReady`: the Secret exists, is complete, is for this tenant, and Auth0 accepts it.
    pub fn credentials_ready(&self) -> Condition {
        let (status, reason, mut message) = self.credential.describe(self.tenant());
        if matches!(self.credential, CredentialReport::Rejected { .. }) {
            for key in &self.suspect_keys {
                message += &format!("; the value of \"{key}\" has white space or quotes, which Auth0 does not issue");
            }
        }
        Condition::new(ConditionType::CredentialsReady, status, reason, message)
    }

    /// The condition `Ready`: the policy is active as written. When it is not, it copies the worst of `Accepted`, the
    /// states of the callers and of the log stream, and `CredentialsReady`.
    pub fn ready(&self) -> Condition {
        let (status, reason, message) = self.callers.describe();
        let callers = Condition::new(ConditionType::Ready, status, reason, message);
        let (status, reason, message) = self.log_stream.describe();
        let log_stream = Condition::new(ConditionType::Ready, status, reason, message);
        let worst = [self.accepted(), callers, log_stream, self.credentials_ready()]
            .into_iter()
            .min_by_key(|condition| match condition.status {
                ConditionStatus::False => 0,
                ConditionStatus::Unknown => 1,
                ConditionStatus::True => 2,
            })
            .filter(|worst| worst.status != ConditionStatus::True);
        let forced_audit = self.forced_audit.as_ref().map(|by| {
            format!("forced audit is on ({by}): no login is blocked and no session is revoked, whatever the mode says")
        });
        if let Some(worst) = worst {
            let message = [Some(worst.message), forced_audit].into_iter().flatten().collect::<Vec<_>>().join("; ");
            return Condition { kind: ConditionType::Ready, message, ..worst };
        }
        let (reason, message) = match forced_audit {
            None => (ConditionReason::Ready, "the policy is active as written".to_owned()),
            Some(message) => (ConditionReason::ForcedAudit, message),
        };
        let message = [&[message], &self.warnings[..]].concat().join("; ");
        Condition::new(ConditionType::Ready, ConditionStatus::True, reason, message)
    }

    /// Whether the policy is active as written.
    pub fn is_ready(&self) -> bool {
        self.ready().status == ConditionStatus::True
    }
}

impl CredentialReport {
    /// What is wrong with the Secret itself, when something is.
    pub fn secret_problem(&self) -> Option<String> {
        match self {
            Self::Secret(problem) => Some(problem.describe("credential", CREDENTIALS_TYPE).2),
            _ => None,
        }
    }

    fn describe(&self, tenant: &str) -> (ConditionStatus, ConditionReason, String) {
        let rest = if self.previous_in_use() { "; the previous credential stays in use" } else { "" };
        match self {
            // A probe of a new credential while the previous one is in use needs no attention and ends within seconds.
            Self::Proven | Self::Unproven { previous_in_use: true } => {
                (ConditionStatus::True, ConditionReason::Proven, format!("{tenant} accepts the credential"))
            }
            Self::Unproven { previous_in_use: false } => (
                ConditionStatus::Unknown,
                ConditionReason::Unproven,
                format!("the credential is in use, but {tenant} has not accepted it yet"),
            ),
            Self::Rejected { previous_in_use } => (
                ConditionStatus::False,
                if *previous_in_use {
                    ConditionReason::NewCredentialsRejected
                } else {
                    ConditionReason::CredentialsRejected
                },
                format!(
                    "{tenant} does not accept the credential: write the application's clientId and its clientSecret or \
                     privateKey into the Secret, and authorize the application for the Management API{rest}"
                ),
            ),
            Self::InsufficientScope { missing, previous_in_use } => (
                ConditionStatus::False,
                if *previous_in_use {
                    ConditionReason::NewCredentialsRejected
                } else {
                    ConditionReason::InsufficientScope
                },
                format!(
                    "the credential lacks {}: grant the missing scopes to the application for the Management API of \
                     {tenant}{rest}",
                    missing.join(" and ")
                ),
            ),
            Self::Unreachable { failure, detail, remedy, .. } => (
                ConditionStatus::Unknown,
                ConditionReason::TenantUnreachable,
                match remedy {
                    Some(remedy) => format!("{remedy} ({failure}); the service retries{rest}"),
                    None => format!(
                        "{tenant} did not respond to the credential check ({failure}: {detail}); the service retries{rest}"
                    ),
                },
            ),
            Self::Secret(problem) => problem.describe("credential", CREDENTIALS_TYPE),
            Self::Unneeded => (
                ConditionStatus::Unknown,
                ConditionReason::Pending,
                "the policy is invalid, so its credential is not checked".to_owned(),
            ),
        }
    }

    fn previous_in_use(&self) -> bool {
        match self {
            Self::Unproven { previous_in_use }
            | Self::Rejected { previous_in_use }
            | Self::InsufficientScope { previous_in_use, .. }
            | Self::Unreachable { previous_in_use, .. } => *previous_in_use,
            Self::Proven | Self::Secret(_) | Self::Unneeded => false,
        }
    }
}

impl CallersReport {
    fn describe(&self) -> (ConditionStatus, ConditionReason, String) {
        match self {
            Self::Ready => (ConditionStatus::True, ConditionReason::Ready, "callers can use the policy".to_owned()),
            Self::Nobody => (
                ConditionStatus::False,
                ConditionReason::NoCallers,
                "no caller may use this policy: set callerSecretRef, or start the service with --caller-token-file or \
                 --allow-anonymous"
                    .to_owned(),
            ),
            Self::Secret(problem) => problem.describe("callers", CALLERS_TYPE),
        }
    }

    /// The problem in words for people; `None` when the callers can use the policy.
    pub fn problem(&self) -> Option<String> {
        let (status, _, message) = self.describe();
        (status != ConditionStatus::True).then_some(message)
    }
}

impl LogStreamReport {
    pub(super) fn describe(&self) -> (ConditionStatus, ConditionReason, String) {
        match self {
            Self::Unnamed | Self::Ready => {
                (ConditionStatus::True, ConditionReason::Ready, "the log stream can be received".to_owned())
            }
            Self::Secret(problem) => problem.describe("log stream", LOG_STREAM_TYPE),
        }
    }
}

impl SecretProblem {
    /// `use_of` is what the policy needs the Secret for, and `kind` the type that the Secret must have.
    fn describe(&self, use_of: &str, kind: &str) -> (ConditionStatus, ConditionReason, String) {
        let (status, reason) = match self {
            Self::Awaited(_) => (ConditionStatus::Unknown, ConditionReason::Pending),
            Self::Unreadable(..) => (ConditionStatus::Unknown, ConditionReason::SecretUnreadable),
            Self::Missing(_) => (ConditionStatus::False, ConditionReason::SecretMissing),
            Self::Forbidden(_) => (ConditionStatus::False, ConditionReason::SecretForbidden),
            Self::Invalid(_) => (ConditionStatus::False, ConditionReason::SecretInvalid),
        };
        let message = match self {
            Self::Awaited(name) => format!("{use_of} Secret {name} is not read yet"),
            Self::Unreadable(name, cause) => format!(
                "{use_of} Secret {name} was never read, because the API server fails to answer about it: look at the API \
                 server, its load, and its encryption of Secrets at rest; the service retries ({})",
                cut(cause)
            ),
            Self::Missing(name) => format!("{use_of} Secret {name} does not exist: create it with type {kind}"),
            Self::Forbidden(name) => format!(
                "{use_of} Secret {name} cannot be read: allow the service's ServiceAccount to list and watch it (chart \
                 value rbac)"
            ),
            Self::Invalid(problem) => problem.clone(),
        };
        (status, reason, message)
    }
}

/// The part of a cause that a message quotes.
fn cut(cause: &str) -> String {
    match cause.char_indices().nth(MAX_CAUSE_CHARS) {
        Some((end, _)) => format!("{}…", &cause[..end]),
        None => cause.to_owned(),
    }
}
