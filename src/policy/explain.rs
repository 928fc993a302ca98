//! Why the rule decides as it does, session by session, for the people who ask. It looks at each session with the eyes of
//! [`decide`](super::decide) and has no rule of its own.

use jiff::Timestamp;

use super::decide::{Case, Evidence, Question, Scope};

/// A listed session, and what it means for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedSession<'a> {
    /// The session's id.
    pub id: &'a str,
    /// What it means for the login.
    pub standing: Standing,
    /// When it began; `None` when the list does not say, as for all that follows.
    pub created_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// When it ends.
    pub ends_at: Option<Timestamp>,
    /// The applications that completed a login on it.
    pub clients: Option<Vec<&'a str>>,
}

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
    pub fn explain<'e>(&self, evidence: Evidence<'e>) -> Vec<ExplainedSession<'e>> {
        let case = Case::new(*self, evidence);
        let sessions = evidence.sessions;
        let explained = sessions.iter().map(|(id, session)| ExplainedSession {
            id,
            standing: if case.is_current(session) {
                Standing::Current
            } else if session.ends_at.is_some_and(|at| at <= evidence.now) {
                Standing::Ended
            } else if case.was_revoked(id) {
                Standing::Revoked
            } else {
                // What is left out for no other reason was not used for too long.
                let other = case.other(id, session);
                other.map_or(Standing::Inactive, |other| Standing::Counts(case.counts_towards(&other)))
            },
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            ends_at: session.ends_at,
            clients: sessions.clients_of(session).map(Iterator::collect),
        });
        explained.collect()
    }
}
