//! The pure core.

mod answer;
mod compile;
mod compiled;
mod decide;
mod index;
mod login;
mod name;
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
pub use index::{InForce, Index, PolicyReport, SecretManifest};
pub use login::{Context, InvalidField, Login};
pub use name::ObjectName;
pub use session::{ListedSession, SessionList};
pub use snapshot::{Doors, Governance, Governor, Rule, Snapshot, TokenDigest, UnknownCaller, View};
pub use tenant::{InvalidDomain, Tenant};
pub use time::parse_rfc3339;
