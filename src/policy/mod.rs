//! The pure core.

mod answer;
mod session;

pub use answer::{Failure, Reason};
pub use session::{ListedSession, SessionList};
