//! The property: no allow from memory that a decision on a fresh list at the same moment would have blocked.
//!
//! It is asked in every state, for a login of every session to every application at both replicas, and for every limit at once. A
//! limit N allows from memory and blocks on a fresh list exactly when memory counts fewer than N others and the list counts N or
//! more. So there is such an N when the list counts more others than memory does. Changed limits need no step of their own.

use crate::rule::{Clause, Rule, Setup};
use crate::state::{LeaseState, ModelState, Pair, Pairs, RememberedListing, RememberedRecord, Second, pairs_of};

/// An allow from memory that a fresh list would have blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The login.
    pub current: Pair,
    /// Whether memory takes it for a holder, and not for a newcomer.
    pub is_holder: bool,
    /// Whether the second replica decides it by its own memory.
    pub is_local: bool,
    /// Whether the limit is that of the user, and not that of the application.
    pub is_of_user: bool,
    /// How many others memory counts.
    pub remembered: u32,
    /// How many others the fresh list counts.
    pub listed: u32,
}

impl ModelState {
    /// A login that would be allowed from memory and blocked on a fresh list, for some limit.
    pub fn violation(&self, setup: &Setup, rule: &Rule) -> Option<Violation> {
        let local = (self.second == Second::CutOff).then_some((&self.local, true));
        let views = [Some((&self.shared, false)), local];
        for (record, is_local) in views.into_iter().flatten() {
            let Some(listing) = record.listing else { continue };
            if listing.is_barred && rule.has(Clause::ForgettingBarsAnHour) {
                continue;
            }
            let serves_newcomers = setup.newcomers && self.serves_newcomers(&listing, is_local, setup, rule);
            for session in (0..setup.sessions).filter(|session| self.ended & (1 << session) == 0) {
                for client in 0..setup.clients {
                    let current = Pair { session, client };
                    let is_unknown = listing.unknown & (1 << session) != 0 && !rule.has(Clause::UnknownIsNoHolder);
                    let is_holder = listing.shown() & current.bit() != 0 || is_unknown;
                    if !is_holder && !serves_newcomers {
                        continue;
                    }
                    let excused = match (is_holder, is_local) {
                        // It may never have heard of an older session that was not listed when it was in use.
                        (true, true) if setup.listed_late => Pairs::MAX,
                        (true, true) => self.ever_lost,
                        (true, false) => self.lost | self.split,
                        (false, true) => self.unseen | self.unseen_by_second,
                        (false, false) => self.unseen,
                    };
                    for is_of_user in [false, true] {
                        let limit = Limit { current, is_of_user };
                        let remembered = limit.remembered(record, &listing, is_holder, is_local, rule);
                        let listed = limit.listed(self, record, excused, setup, rule);
                        if listed > remembered {
                            return Some(Violation { current, is_holder, is_local, is_of_user, remembered, listed });
                        }
                    }
                }
            }
        }
        None
    }

    /// Whether newcomers are allowed by this listing, when it shows fewer others than the limit.
    pub fn serves_newcomers(&self, listing: &RememberedListing, is_local: bool, setup: &Setup, rule: &Rule) -> bool {
        if is_local && !(setup.split && self.lease == LeaseState::Valid) {
            return !rule.has(Clause::FallbackLists);
        }
        let is_late = !rule.has(Clause::NotInFirstHour) || !listing.is_early;
        let has_leases = !rule.has(Clause::NotWithoutLease) || self.lease != LeaseState::Missing;
        listing.is_of_epoch && is_late && has_leases
    }
}

/// A limit for a login.
struct Limit {
    current: Pair,
    is_of_user: bool,
}

impl Limit {
    /// The logins by which a session belongs to the limit.
    fn of(&self, session: u8) -> Pairs {
        if self.is_of_user { pairs_of(session) } else { Pair { session, ..self.current }.bit() }
    }

    fn others(&self) -> impl Iterator<Item = u8> {
        let current = self.current.session;
        (0..3).filter(move |session| *session != current)
    }

    /// How many others memory counts.
    fn remembered(
        &self,
        record: &RememberedRecord,
        listing: &RememberedListing,
        is_holder: bool,
        is_local: bool,
        rule: &Rule,
    ) -> u32 {
        if is_holder && !rule.has(Clause::HolderCountsOlder) {
            return 0;
        }
        let counts = |other: u8| {
            let is_listed = listing.sessions & (1 << other) != 0;
            let is_unknown = listing.unknown & (1 << other) != 0 && rule.has(Clause::UnknownCountsForAll);
            let belongs = (listing.clients | record.kept()) & self.of(other) != 0 || is_unknown;
            if !is_holder {
                return belongs;
            }
            let is_older = other < self.current.session;
            let by_fallback = is_local && is_listed && is_older && rule.has(Clause::FallbackCountsAllOlder);
            let in_order = is_listed && is_older || !is_listed && rule.has(Clause::HolderCountsNotListed);
            by_fallback || belongs && in_order
        };
        self.others().filter(|other| counts(*other)).count() as u32
    }

    /// How many others a list counts that is requested now.
    fn listed(&self, state: &ModelState, record: &RememberedRecord, excused: Pairs, setup: &Setup, rule: &Rule) -> u32 {
        let logins = state.clients & !excused | record.admissions;
        // Under `CountOthers` a list counts all others of a holder.
        let keeps_place = rule.has(Clause::OffWithCountOthers);
        let is_holder = keeps_place && state.clients & self.of(self.current.session) != 0;
        let counts = |other: u8| {
            let belongs = logins & self.of(other) != 0;
            if !is_holder {
                return belongs;
            }
            let is_listed =
                state.ended & (1 << other) == 0 && (!setup.listed_late || state.clients & pairs_of(other) != 0);
            belongs && is_listed && other < self.current.session
        };
        self.others().filter(|other| counts(*other)).count() as u32
    }
}
