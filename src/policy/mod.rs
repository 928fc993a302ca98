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
mod decide;
mod explain;
mod index;
mod login;
mod name;
mod overlap;
mod report;
mod secrets;
mod session;
mod snapshot;
mod tenant;
#[cfg(test)]
mod tests;
mod time;

pub use answer::{Answer, Failure, Reason, Stance, Verdict};
pub use compile::{Manifest, Salvage, SpecError, compile, salvage};
pub use compiled::{Claim, Exception, Limits, Policy, Selector};
pub use decide::{Admission, Count, Decision, Evidence, Question, Scope};
pub use explain::Standing;
pub use index::Index;
pub use login::{Context, InvalidField, Login};
pub use name::ObjectName;
pub use report::{
    CONDITIONS, Callers, ConditionReason, Credential, Finding, InForce, PolicyReport, Precedent, SecretTrouble, Share,
    Truth,
};
pub use secrets::{Acceptance, Candidate, Proof, ProofKey, SecretManifest};
pub use session::{ListedSession, SessionList, SessionView};
pub use snapshot::{Doors, Governance, Governor, Rule, Snapshot, TokenDigest, UnknownCaller, View};
pub use tenant::{InvalidDomain, Tenant};
pub use time::parse_rfc3339;
