//! Explains a decision session by session, with the same [`Evaluation`] that [`decide`](super::decide) counts with.

use std::fmt::{self, Display, Formatter};

use super::evaluation::Evaluation;
use super::limit_check::{LimitCheck, LimitInputs};
use super::limits::LimitScope;

/// How a listed session counts for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRole {
    /// It is the session that logs in.
    Current,
    /// It has ended, though it is still listed.
    Ended,
    /// This service revoked it a moment ago.
    Revoked,
    /// Somebody else acts as the user in it.
    Delegated,
    /// It was not used within `activeWithin`.
    Inactive,
    /// It counts towards these limits. There are none when no limit counts its applications, or when it came after a place
    /// that is kept.
    Counts(Vec<LimitScope>),
}

impl SessionRole {
    /// The name in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
            Self::Delegated => "delegated",
            Self::Inactive => "inactive",
            Self::Counts(_) => "other",
        }
    }

    /// The limits that the session counts towards.
    pub fn limit_scopes(&self) -> &[LimitScope] {
        if let Self::Counts(scopes) = self { scopes } else { &[] }
    }

    /// Whether it takes a place of a limit.
    pub fn takes_place(&self) -> bool {
        !self.limit_scopes().is_empty()
    }
}

impl Display for SessionRole {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("is the session of this login"),
            Self::Ended => f.write_str("has ended"),
            Self::Revoked => f.write_str("was revoked"),
            Self::Delegated => f.write_str("belongs to somebody who acts as the user"),
            Self::Inactive => f.write_str("is unused for longer than activeWithin"),
            Self::Counts(scopes) if scopes.is_empty() => f.write_str("does not count towards a limit"),
            Self::Counts(scopes) => {
                let scopes: Vec<&str> = scopes.iter().copied().map(LimitScope::as_str).collect();
                let limits = if scopes.len() == 1 { "limit" } else { "limits" };
                write!(f, "counts towards the {} {limits}", scopes.join(" and "))
            }
        }
    }
}

impl LimitCheck<'_> {
    /// The role of each listed session, in the order of the list.
    pub fn explain(&self, inputs: LimitInputs<'_>) -> Vec<SessionRole> {
        let evaluation = Evaluation::new(*self, inputs);
        let roles = inputs.sessions.iter().map(|(id, session)| {
            if evaluation.is_current(session) {
                SessionRole::Current
            } else if session.ends_at.is_some_and(|at| at <= inputs.now) {
                SessionRole::Ended
            } else if evaluation.was_revoked(id) {
                SessionRole::Revoked
            } else if evaluation.is_exempt(id, Some(session)) {
                SessionRole::Delegated
            } else {
                // Inactivity is the only other cause for a session not to count.
                let other = evaluation.other(id, session);
                other.map_or(SessionRole::Inactive, |other| SessionRole::Counts(evaluation.counts_towards(&other)))
            }
        });
        roles.collect()
    }
}
