//! The pure core.

mod answer;
mod compile;
mod compiled;
mod decide;
mod login;
mod name;
mod session;
#[cfg(test)]
mod tests;
mod time;

pub use answer::{Answer, Failure, Reason, Stance, Verdict};
pub use compile::{Manifest, Salvage, SpecError, compile, salvage};
pub use compiled::{Claim, Exception, Limits, Policy, Selector, Tenant};
pub use decide::{Admission, Count, Decision, Evidence, Question, Scope};
pub use login::{Context, InvalidField, Login};
pub use name::ObjectName;
pub use session::{ListedSession, SessionList};
pub use time::parse_rfc3339;
