//! The rule: which of a user's sessions count, whether the login is over a limit, and which sessions are revoked for it.
//!
//! [`Policy::pre_checks`](super::Policy::pre_checks) takes the steps that need no list of sessions. [`LimitCheck::decide`] is a
//! pure function of the login, the policy's limits, the listed sessions, what the ledger remembers, and the time.

use std::collections::HashSet;

use jiff::Timestamp;

use super::evaluation::{Evaluation, MeasuredLimit};
use super::limit_check::{LimitCheck, LimitInputs};
use super::limits::{Count, Decision};
use super::model::Reentry;
use super::origin::Origins;
use super::session::{Completeness, SessionList};

impl LimitCheck<'_> {
    /// Decides the login.
    pub fn decide(&self, inputs: LimitInputs<'_>) -> Decision {
        self.decide_by(inputs, |evaluation, measured| {
            evaluation.offer(measured).map(|offer| Decision::Ask { count: offer.count })
        })
    }

    /// Decides the login. `ask` decides when the person is asked; `None` says that no choice is enough.
    pub(super) fn decide_by(
        &self,
        inputs: LimitInputs<'_>,
        ask: impl FnOnce(&Evaluation<'_, '_>, &[MeasuredLimit]) -> Option<Decision>,
    ) -> Decision {
        let evaluation = Evaluation::new(*self, inputs);
        let measured = evaluation.measure();
        let is_whole = inputs.sessions.completeness() == Completeness::Whole;
        match measured.iter().find(|measured| measured.exceeded) {
            None if !is_whole && !measured.iter().all(|measured| measured.safe) => Decision::Undecided,
            None if inputs.sessions.is_of_unknown_user() => Decision::UnknownUser { count: least_room(&measured) },
            None => Decision::Within {
                count: least_room(&measured),
                holder: measured.iter().all(|measured| measured.holder),
            },
            // The device of the web view may be on a page that was not read.
            Some(_) if inputs.sessions.completeness() == Completeness::Enough && evaluation.is_web_view() => {
                Decision::Undecided
            }
            Some(first) => {
                let count = first.count;
                let makes_room = match self.may_evict() {
                    false => None,
                    true if self.asks() => ask(&evaluation, &measured),
                    true => evaluation.victims(&measured).map(|victims| Decision::Evict { count, victims }),
                };
                makes_room.unwrap_or_else(|| Decision::Exceeded {
                    count,
                    revoke_session: self.may_revoke && !first.holder && evaluation.serves_only_this_client(),
                })
            }
        }
    }

    /// Whether the first pages of a list decide the login already: it is blocked, whatever further pages show. That needs the
    /// current session, unless its place does not matter, because it may be listed as a holder on a later page.
    pub(super) fn is_blocked_by(&self, sessions: &SessionList, now: Timestamp) -> bool {
        let (revoked, origins) = (HashSet::new(), Origins::default());
        let inputs = LimitInputs { sessions, admissions: &[], revoked: &revoked, origins: &origins, now };
        let shows_current = || sessions.get(self.sid).is_some();
        !self.may_evict()
            && (self.policy.reentry == Reentry::CountOthers || shows_current())
            && Evaluation::new(*self, inputs).measure().iter().any(|measured| measured.exceeded)
    }
}

/// The limit with the least room left, the first of equals. A policy has at least one limit.
fn least_room(measured: &[MeasuredLimit]) -> Count {
    measured
        .iter()
        .map(|measured| measured.count)
        .min_by_key(|count| i64::from(count.limit) - i64::try_from(count.active).unwrap_or(i64::MAX))
        .expect("a compiled policy has a limit")
}
