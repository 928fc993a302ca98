//! What a person at the login page may choose: the sessions of which some have to end, and whether a choice is enough.

use jiff::Timestamp;

use super::evaluation::{Evaluation, MeasuredLimit, OtherSession};
use super::limit_check::{LimitCheck, LimitInputs};
use super::limits::{Count, Decision};

/// The most sessions that are offered: more than a person compares.
pub const MAX_OFFERED: usize = 20;

/// The sessions of which a person has to end some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The first limit that is exceeded.
    pub count: Count,
    /// How many of the sessions have to end.
    pub needed: usize,
    /// How many of these have to be marked, where not every choice of `needed` sessions is enough; else 0.
    pub needed_marked: usize,
    /// The sessions, the latest use first; at most [`MAX_OFFERED`].
    pub sessions: Vec<OfferedSession>,
    /// How many more sessions there are.
    pub hidden: usize,
}

/// A session that may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedSession {
    /// The session id.
    pub id: String,
    /// When the session began, if the list says so.
    pub created_at: Option<Timestamp>,
    /// When the session was last used, if that is known.
    pub last_used_at: Option<Timestamp>,
    /// Whether it counts towards the first limit that is exceeded.
    pub is_marked: bool,
}

impl LimitCheck<'_> {
    /// Decides the login. With [`Decision::Ask`], the second value is what the person may choose.
    pub fn decide_with_offer(&self, inputs: LimitInputs<'_>) -> (Decision, Option<Offer>) {
        let mut offered = None;
        let decision = self.decide_by(inputs, |evaluation, measured| {
            let offer = offered.insert(evaluation.offer(measured)?);
            Some(Decision::Ask { count: offer.count })
        });
        (decision, offered)
    }

    /// Decides a login for which a person chose sessions. [`Decision::Ask`] when the chosen sessions are not what is needed now.
    pub fn decide_choice(&self, inputs: LimitInputs<'_>, chosen: &[String]) -> Decision {
        self.decide_by(inputs, |evaluation, measured| {
            let Offer { count, needed, .. } = evaluation.offer(measured)?;
            Some(match evaluation.victims_of(measured, needed, chosen) {
                Some(victims) => Decision::Evict { count, victims },
                None => Decision::Ask { count },
            })
        })
    }
}

impl Evaluation<'_, '_> {
    /// What the person may choose, when any limit is exceeded and a choice can be enough.
    pub(super) fn offer(&self, measured: &[MeasuredLimit]) -> Option<Offer> {
        let first = measured.iter().find(|measured| measured.exceeded)?;
        let is_marked = |other: &OtherSession<'_>| self.fits(other, first.count.limit_scope);
        let mut offered = self.offered(self.candidates(measured));
        let mut needed = self.choose(self.top(&offered), measured)?.len();
        let mut needed_marked = 0;
        if !offered.iter().all(is_marked) {
            // Limits are nested. Where sessions of the first one make up every surplus, only these are offered.
            let marked = self.offered(self.candidates(measured).into_iter().filter(is_marked).collect());
            match self.choose(self.top(&marked), measured) {
                Some(chosen) if chosen.len() == first.surplus() => (offered, needed) = (marked, chosen.len()),
                _ => needed_marked = first.surplus(),
            }
        }
        let hidden = offered.len().saturating_sub(MAX_OFFERED);
        let sessions = offered.iter().take(MAX_OFFERED).map(|other| OfferedSession {
            id: other.id.to_owned(),
            created_at: other.listed.and_then(|listed| listed.created_at),
            last_used_at: other.last_used_at(),
            is_marked: needed_marked > 0 && is_marked(other),
        });
        Some(Offer { count: first.count, needed, needed_marked, sessions: sessions.collect(), hidden })
    }

    /// The candidates in the order in which they are shown: the latest use first.
    fn offered<'o>(&self, mut candidates: Vec<OtherSession<'o>>) -> Vec<OtherSession<'o>> {
        candidates.sort_by(|a, b| b.last_used_at().cmp(&a.last_used_at()).then_with(|| a.id.cmp(b.id)));
        candidates
    }

    /// Copies of the candidates that are shown.
    fn top<'o>(&self, offered: &[OtherSession<'o>]) -> Vec<OtherSession<'o>> {
        offered.iter().take(MAX_OFFERED).copied().collect()
    }

    /// The sessions to revoke for a choice. `None` when the choice is not what is needed: it has not `needed`
    /// sessions, has one that cannot be revoked, or leaves a limit exceeded.
    fn victims_of(&self, measured: &[MeasuredLimit], needed: usize, chosen: &[String]) -> Option<Vec<String>> {
        let chosen: Vec<OtherSession<'_>> =
            self.candidates(measured).into_iter().filter(|other| chosen.iter().any(|id| id == other.id)).collect();
        let is_enough = measured.iter().filter(|measured| measured.exceeded).all(|measured| {
            chosen.iter().filter(|other| self.fits(other, measured.count.limit_scope)).count() >= measured.surplus()
        });
        (chosen.len() == needed && is_enough).then(|| self.with_left_behind(chosen))
    }
}
