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
mod evaluation;
mod explain;
mod index;
mod limit_check;
mod limits;
mod login;
mod messages;
mod model;
mod name;
mod offer;
mod origin;
mod policy_set;
mod precedence;
mod remembered;
mod secrets;
mod sentences;
mod session;
mod stop_rule;
mod tenant;
#[cfg(test)]
mod tests;
mod time;
mod warnings;
mod written;

pub use answer::{Answer, Failure, Reason, Verdict};
pub(crate) use compile::nearest;
pub use compile::{FallbackPolicy, compile, compile_stored, fallback, fallback_stored, validate};
pub use condition::{
    ActiveVersion, CallersReport, Condition, ConditionStatus, ConditionType, CredentialReport, LogStreamReport,
    PolicyReport, SecretProblem,
};
pub use condition_reason::ConditionReason;
pub use enforcing::LoginEvidence;
pub use explain::SessionRole;
pub use index::Index;
pub use limit_check::{Admission, LimitCheck, LimitInputs};
pub use limits::{Count, Decision, LimitScope, Limits};
pub use login::{InvalidField, Login, LoginContext};
pub use messages::LanguageMessages;
pub use model::{
    Actors, AllowDeny, AskTerms, EXPLAIN_SCOPE, Enforcement, MAX_TIMEOUT, Mode, Override, Policy, PolicyScope, Reentry,
    Selector, Strategy,
};
pub use name::ObjectName;
pub use offer::{MAX_OFFERED, Offer, OfferedSession};
pub use origin::{Origin, Origins};
pub use policy_set::{
    ActivePolicy, CallerAccess, CallerView, LogStreams, PolicySet, PolicyVersion, Resolution, TenantProof, TokenDigest,
};
pub use precedence::{Extent, Overshadowing};
pub use remembered::{RememberedCount, RememberedLimits};
pub use secrets::{CredentialKey, CredentialState, ProbeResult, ProbeTarget, SecretManifest};
pub use sentences::MessageKind;
pub use session::{Completeness, ListedSession, SessionList, SessionView};
pub use stop_rule::StopRule;
pub use tenant::Tenant;
pub use time::parse_rfc3339;
pub use warnings::warnings;
pub use written::{Manifest, SpecError};
pub(crate) use written::{as_stored, is_label};
