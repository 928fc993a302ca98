//! Why the rule decides as it does, session by session, for the people who ask. It looks at each session with the eyes of
//! [`decide`](super::decide) and has no rule of its own.

use super::decide::{Case, Evidence, Question, Scope};

/// What a session means for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the session that logs in.
    Current,
    /// It has ended, though it is still listed.
    Ended,
    /// This service revoked it a moment ago.
    Revoked,
    /// It was not used within `activeWithin`.
    Inactive,
    /// It counts towards these limits; towards none when it belongs to none, or came after a place that is kept.
    Counts(Vec<Scope>),
}

impl Question<'_> {
    /// What each listed session means for the login, in the order of the list.
    pub fn explain(&self, evidence: Evidence<'_>) -> Vec<Standing> {
        let case = Case::new(*self, evidence);
        let explained = evidence.sessions.iter().map(|(id, session)| {
            if case.is_current(session) {
                Standing::Current
            } else if session.ends_at.is_some_and(|at| at <= evidence.now) {
                Standing::Ended
            } else if case.was_revoked(id) {
                Standing::Revoked
            } else {
                // What is left out for no other reason was not used for too long.
                let other = case.other(id, session);
                other.map_or(Standing::Inactive, |other| Standing::Counts(case.counts_towards(&other)))
            }
        });
        explained.collect()
    }
}
