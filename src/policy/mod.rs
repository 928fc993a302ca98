//! The pure core: which policy governs a login, how many sessions count, and what is answered. Nothing here waits, reads a
//! clock or opens a socket; Kubernetes and HTTP are elsewhere.
//!
//! ```text
//!  Manifest ───────compile──▶ Policy ─┐
//!  SecretManifest ────────────────────┼─▶ Index ──publish──▶ PolicySet       what is active
//!  ProbeResult ───────────────────────┘              └─────▶ PolicyReport    what people are shown of each policy
//!
//!  PolicySet ──view(token)──▶ CallerView ──resolve(login)──▶ ActivePolicy    who may use which policy
//!  Policy ──pre_checks(login)──▶ LimitCheck | Verdict                        steps without the list of sessions
//!  LimitCheck ──decide(sessions, admissions, revoked, now)──▶ Decision       the rule
//!  Enforcement ──answer(verdict)──▶ Answer                                   mode, failure policy, message
//! ```

mod answer;
mod compile;
mod condition;
mod condition_reason;
mod decide;
mod enforcing;
mod explain;
mod index;
mod limits;
mod login;
mod model;
mod name;
mod policy_set;
mod precedence;
mod secrets;
mod session;
mod stop_rule;
mod tenant;
#[cfg(test)]
mod tests;
mod time;
mod warnings;
mod written;

pub use answer::{Answer, Failure, Reason, Verdict};
pub use compile::{FallbackPolicy, Manifest, SpecError, compile, fallback};
pub use condition::{
    ActiveVersion, CallersReport, Condition, ConditionStatus, ConditionType, CredentialReport, LogStreamReport,
    PolicyReport, SecretProblem,
};
pub use condition_reason::ConditionReason;
pub use decide::{Admission, LimitCheck, LimitInputs};
pub use enforcing::LoginEvidence;
pub use explain::SessionRole;
pub use index::Index;
pub use limits::{Count, Decision, LimitScope, Limits};
pub use login::{InvalidField, Login, LoginContext};
pub use model::{AllowDeny, Enforcement, Mode, Override, Policy, PolicyScope, Reentry, Selector, Strategy};
pub use name::ObjectName;
pub use policy_set::{
    ActivePolicy, CallerAccess, CallerView, LogStreams, PolicySet, PolicyVersion, Resolution, TenantProof, TokenDigest,
};
pub use precedence::{Extent, Overshadowing};
pub use secrets::{CredentialKey, CredentialState, ProbeResult, ProbeTarget, SecretManifest};
pub use session::{Completeness, ListedSession, SessionList, SessionView};
pub use stop_rule::StopRule;
pub use tenant::Tenant;
pub use time::parse_rfc3339;
pub use warnings::warnings;
