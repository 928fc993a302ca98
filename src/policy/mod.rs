//! The pure core: no Kubernetes, no HTTP, no clock of its own.
//!
//! ```text
//!  Manifest ──compile──▶ Policy ─┐
//!  Secret  ──────────────────────┼─▶ Index ──▶ Snapshot           what a source shows, and what it makes
//!  Proof   ──────────────────────┘         └─▶ PolicyReport       and what there is to say about it
//!
//!  Snapshot ──view(token)──▶ View ──govern(login)──▶ Governor     who may ask, and which policy governs
//!  Policy ──before_asking(login)──▶ Question | Verdict            what needs no list of sessions
//!  Question ──decide(sessions, admissions, revoked, now)──▶ Decision
//!  Stance ──answer(verdict)──▶ Answer                             failure policy, audit, messages
//! ```
//!
//! A test can call each of these a million times; nothing here waits, reads a clock or touches a socket.

mod answer;
mod compile;
mod compiled;
mod condition;
mod decide;
mod explain;
mod index;
mod login;
mod name;
mod policy_set;
mod precedence;
mod secrets;
mod session;
mod tenant;
#[cfg(test)]
mod tests;
mod time;

pub use answer::{Answer, Enforcement, Failure, Reason, Verdict};
pub use compile::{FallbackPolicy, Manifest, SpecError, compile, fallback};
pub use compiled::{Limits, Override, Policy, PolicyScope, Selector};
pub use condition::{
    ActiveVersion, CONDITIONS, CallersReport, Condition, ConditionReason, ConditionStatus, CredentialReport, Extent,
    Overshadowing, PolicyReport, SecretProblem,
};
pub use decide::{Admission, Count, Decision, LimitCheck, LimitInputs, LimitScope};
pub use explain::SessionRole;
pub use index::Index;
pub use login::{InvalidField, Login, LoginContext};
pub use name::ObjectName;
pub use policy_set::{
    ActivePolicy, CallerAccess, CallerView, PolicySet, PolicyVersion, Resolution, TokenDigest, UnknownCaller,
};
pub use secrets::{CredentialKey, CredentialState, ProbeResult, ProbeTarget, SecretManifest};
pub use session::{ListedSession, SessionList, SessionView};
pub use tenant::{InvalidDomain, Tenant};
pub use time::parse_rfc3339;
