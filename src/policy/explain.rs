//! Why the rule decides as it does, session by session, for the people who ask. It looks at each session with the eyes of
//! [`decide`](super::decide) and has no rule of its own.

use super::decide::{Evaluation, LimitCheck, LimitInputs, LimitScope};

/// What a session means for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRole {
    /// It is the session that logs in.
    Current,
    /// It has ended, though it is still listed.
    Ended,
    /// This service revoked it a moment ago.
    Revoked,
    /// It was not used within `activeWithin`.
    Inactive,
    /// It counts towards these limits; towards none when it belongs to none, or came after a place that is kept.
    Counts(Vec<LimitScope>),
}

impl LimitCheck<'_> {
    /// What each listed session means for the login, in the order of the list.
    pub fn explain(&self, inputs: LimitInputs<'_>) -> Vec<SessionRole> {
        let evaluation = Evaluation::new(*self, inputs);
        let explained = inputs.sessions.iter().map(|(id, session)| {
            if evaluation.is_current(session) {
                SessionRole::Current
            } else if session.ends_at.is_some_and(|at| at <= inputs.now) {
                SessionRole::Ended
            } else if evaluation.was_revoked(id) {
                SessionRole::Revoked
            } else {
                // What is left out for no other reason was not used for too long.
                let other = evaluation.other(id, session);
                other.map_or(SessionRole::Inactive, |other| SessionRole::Counts(evaluation.counts_towards(&other)))
            }
        });
        explained.collect()
    }
}
