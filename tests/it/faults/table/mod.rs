//! The faults, each with the reason that the specification demands.

mod bodies;
mod connections;
mod frames;
mod limits;
mod lists;
mod statuses;

use std::sync::Arc;

use session_checker::auth0::Operation;

use super::tenant::{Act, Answer, Protocol};

pub const UNREACHABLE: &str = "upstream_unreachable";
pub const TIMED_OUT: &str = "upstream_timeout";
pub const ERROR: &str = "upstream_error";
pub const LIMITED: &str = "rate_limited";
pub const REJECTED: &str = "credentials_rejected";
pub const SCOPE: &str = "insufficient_scope";
pub const NOT_ENTITLED: &str = "not_entitled";
pub const EVICTED: &str = "evicted";
pub const WITHIN: &str = "within_limit";
pub const UNKNOWN: &str = "unknown_user";

/// The reasons that allow a login under `Deny` too: the check did not fail.
pub const ALLOWED: [&str; 3] = [EVICTED, WITHIN, UNKNOWN];

/// One fault of a tenant.
pub struct Fault {
    pub section: &'static str,
    pub name: String,
    pub act: Act,
    /// The only protocol that it can occur in.
    over: Option<Protocol>,
    /// By operation: the expected reason, where the fault can occur.
    reasons: [Option<&'static str>; 3],
    /// Another reason that is right in every operation.
    pub or: Option<&'static str>,
}

impl Fault {
    /// A fault with the same reason in every operation.
    fn new(section: &'static str, name: impl Into<String>, act: Act, reason: &'static str) -> Self {
        Self { section, name: name.into(), act, over: None, reasons: [Some(reason); 3], or: None }
    }

    /// A fault of the answers, all of which are this one.
    fn answer(section: &'static str, name: impl Into<String>, answer: Answer, reason: &'static str) -> Self {
        Self::new(section, name, always(answer), reason)
    }

    fn over(self, protocol: Protocol) -> Self {
        Self { over: Some(protocol), ..self }
    }

    /// Sets the reasons of the operations.
    fn reasons(self, token: &'static str, list: &'static str, revoke: &'static str) -> Self {
        Self { reasons: [Some(token), Some(list), Some(revoke)], ..self }
    }

    /// Occurs in this operation alone.
    fn only(self, operation: Operation) -> Self {
        let mut reasons = [None; 3];
        reasons[operation as usize] = self.reasons[operation as usize];
        Self { reasons, ..self }
    }

    /// May have this reason instead.
    fn or(self, reason: &'static str) -> Self {
        Self { or: Some(reason), ..self }
    }

    pub fn protocols(&self) -> &[Protocol] {
        self.over.as_ref().map_or(&Protocol::ALL, std::slice::from_ref)
    }

    /// The expected reason. `None` where the fault cannot occur.
    pub fn reason(&self, operation: Operation) -> Option<&'static str> {
        self.reasons[operation as usize]
    }
}

fn always(answer: Answer) -> Act {
    Act::Answers(Arc::new(move |_| answer.clone()))
}

/// The first answers, and then the usual one of the operation.
fn first(answers: Vec<Answer>, operation: Operation) -> Act {
    Act::Answers(Arc::new(move |number| answers.get(number).cloned().unwrap_or_else(|| Answer::usual(operation))))
}

/// Every fault, in the order of the page.
pub fn all() -> Vec<Fault> {
    let parts = [
        connections::before_the_answer(),
        connections::in_the_answer(),
        frames::all(),
        statuses::all(),
        bodies::all(),
        lists::all(),
        bodies::of_tokens(),
        limits::all(),
    ];
    parts.into_iter().flatten().collect()
}
