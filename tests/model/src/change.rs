//! What the steps change: the rule itself, written for sets instead of times.

use crate::rule::{Clause, Rule, Setup};
use crate::state::{
    EvictionUnderWay, LeaseState, ModelState, Pair, Pairs, Phase, RememberedListing, RememberedRecord, RequestedList,
    Second, Sessions, pairs_of, pairs_of_all,
};
use crate::steps::{ModelOutcome, RevocationEnd};

/// A state that is being changed.
pub struct Change<'a> {
    pub state: ModelState,
    pub setup: &'a Setup,
    pub rule: &'a Rule,
}

impl ModelState {
    /// Whether a replica decides with the second replica's memory.
    pub fn is_local(&self, by_second: bool) -> bool {
        by_second && self.second == Second::CutOff
    }

    /// The record by which a replica decides.
    pub fn record(&self, by_second: bool) -> &RememberedRecord {
        if self.is_local(by_second) { &self.local } else { &self.shared }
    }

    /// The logins whose hour is not over.
    pub fn young(&self) -> Pairs {
        let young = |record: &RememberedRecord| record.kept() & !record.old | record.forgotten;
        self.pending | young(&self.shared) | young(&self.previous) | young(&self.local)
    }

    /// The sessions that a complete list shows.
    pub fn listed(&self, setup: &Setup) -> Sessions {
        let shown = |session: &u8| {
            self.ended & (1 << session) == 0 && (!setup.listed_late || self.clients & pairs_of(*session) != 0)
        };
        (0..setup.sessions).filter(shown).fold(0, |sessions, session| sessions | 1 << session)
    }
}

impl Change<'_> {
    pub fn has(&self, clause: Clause) -> bool {
        self.rule.has(clause)
    }

    fn record_mut(&mut self, is_local: bool) -> &mut RememberedRecord {
        if is_local { &mut self.state.local } else { &mut self.state.shared }
    }

    /// The lists that are committed to a record.
    pub fn lists_of(&mut self, is_local: bool) -> impl Iterator<Item = &mut RequestedList> {
        let cut_off = self.state.second == Second::CutOff;
        self.state
            .lists
            .iter_mut()
            .filter(move |list| list.phase != Phase::None && (list.by_second && cut_off) == is_local)
    }

    pub fn request(&mut self, free: usize, by_second: bool) {
        let is_local = self.state.is_local(by_second);
        let record = *self.state.record(by_second);
        // Without the clause, a later list takes away whatever it does not show.
        let old = if self.has(Clause::KeepsWhatLaterListLacks) { record.old } else { record.kept() };
        let before_epoch = if is_local { self.state.before_old_epoch } else { self.state.before_epoch };
        self.state.spent.logins += 1;
        self.state.lists[free] = RequestedList {
            phase: Phase::Requested,
            by_second,
            has_mark: record.listing.is_some(),
            overlapped: !is_local && self.state.is_listing_new,
            old,
            is_of_epoch: !is_local || self.setup.split,
            is_early: before_epoch != 0,
            is_barred: record.forgotten != 0,
            ..RequestedList::default()
        };
    }

    pub fn read(&mut self, index: usize, omitted: Option<u8>, unknown: Option<u8>) {
        let sessions = self.state.listed(self.setup) & !omitted.map_or(0, |session| 1 << session);
        let unknown = unknown.map_or(0, |session| 1 << session);
        let clients = self.state.clients & pairs_of_all(sessions & !unknown);
        let list = &mut self.state.lists[index];
        list.phase = if omitted.is_some() { Phase::Incomplete } else { Phase::Complete };
        (list.sessions, list.clients, list.unknown) = (sessions, clients, unknown);
        self.state.spent.incomplete += u8::from(omitted.is_some());
        self.state.spent.unknown += u8::from(unknown != 0);
    }

    pub fn commit(&mut self, index: usize, pair: Pair, outcome: ModelOutcome, ignored: Option<u8>) {
        let list = self.state.lists[index];
        let is_local = self.state.is_local(list.by_second);
        self.remove_list(index);
        self.before_write(is_local);
        let is_stored = if list.phase == Phase::Complete || !self.has(Clause::StoresCompleteOnly) {
            let may_store = self.may_store(&list);
            if may_store {
                self.store(&list, index, is_local, ignored);
            }
            may_store
        } else {
            self.take_incomplete_list(list.clients, is_local);
            false
        };
        if !is_stored && !self.has(Clause::LeavesOnlyByStoredListing) {
            self.remove_logins(list.clients, is_local);
        }
        let shown = match is_stored {
            true => self.record_mut(is_local).shown(),
            false if self.has(Clause::RecordsUnlessStoredListingShows) => 0,
            false => list.clients,
        };
        let is_shown = shown & pair.bit() != 0;
        match outcome {
            ModelOutcome::Block => self.block(pair, is_local, is_shown),
            ModelOutcome::Allow | ModelOutcome::Evict(_) => {
                if !is_shown && self.has(Clause::RecordsWhateverWindow) {
                    self.admit(pair, is_local);
                }
            }
        }
        if let ModelOutcome::Evict(victim) = outcome {
            self.state.spent.evictions += 1;
            self.state.eviction = EvictionUnderWay { victim: Some(victim), pair: pair.bit() };
            if !self.has(Clause::SubtractsNoReserved) {
                self.purge(victim);
            }
        }
        self.log_in(pair, is_local);
        self.after_write(list.by_second);
    }

    pub fn decide_without_list(&mut self, by_second: bool, pair: Pair, is_allowed: bool) {
        let is_local = self.state.is_local(by_second);
        self.state.spent.logins += 1;
        self.before_write(is_local);
        let is_shown = self.state.record(by_second).shown() & pair.bit() != 0;
        if !is_allowed {
            self.block(pair, is_local, is_shown);
        } else if !is_shown && self.has(Clause::RecordsWhateverReason) {
            self.admit(pair, is_local);
        }
        self.log_in(pair, is_local);
        self.after_write(by_second);
    }

    pub fn allow_from_memory(&mut self, pair: Pair, is_local: bool) {
        self.state.spent.logins += 1;
        self.before_write(is_local);
        if self.has(Clause::RecordsNewcomer) {
            self.admit(pair, is_local);
        }
        self.log_in(pair, is_local);
        self.after_write(is_local);
    }

    pub fn before_write(&mut self, is_local: bool) {
        if !is_local && self.state.spent.failovers < self.setup.failovers {
            self.keep_previous();
        }
    }

    fn keep_previous(&mut self) {
        self.state.previous = self.state.shared;
        self.state.is_listing_new = false;
        self.lists_of(false).for_each(|list| {
            (list.overlapped, list.was_behind_removal) = (list.overlaps, list.is_behind_removal);
        });
    }

    /// The second replica keeps a copy of what it writes.
    fn after_write(&mut self, by_second: bool) {
        if by_second && self.state.second != Second::CutOff {
            self.state.local = self.state.shared;
        }
    }

    pub fn remove_list(&mut self, index: usize) {
        let lists = &mut self.state.lists;
        lists[index..].rotate_left(1);
        lists[lists.len() - 1] = RequestedList::default();
    }

    fn may_store(&self, list: &RequestedList) -> bool {
        let is_gone = list.has_mark && self.state.record(list.by_second).listing.is_none();
        let is_foreign = list.is_foreign && self.has(Clause::NotFromAnotherStore);
        let is_removed = list.is_behind_removal && self.has(Clause::RemovalKeepsItsTime);
        !(is_foreign || is_removed || is_gone && self.has(Clause::NotWhenItsListingIsGone))
    }

    /// Stores a list that was at `index` of the lists under way.
    fn store(&mut self, list: &RequestedList, index: usize, is_local: bool, ignored: Option<u8>) {
        let has_epoch = !is_local || self.setup.split;
        let is_of_epoch = has_epoch && (list.is_of_epoch || !self.has(Clause::EpochReadBeforeRequest));
        let mut listing = RememberedListing {
            sessions: list.sessions,
            clients: list.clients,
            unknown: list.unknown,
            is_of_epoch,
            is_early: list.is_early,
            is_barred: list.is_barred,
        };
        if let Some(ignored) = ignored {
            listing.sessions &= !(1 << ignored);
            listing.clients &= !pairs_of(ignored);
        }
        let by_request = !self.has(Clause::JoinsNotLaterRequest);
        let record = *self.record_mut(is_local);
        let stored_before = record.listing;
        if let Some(stored) = record.listing.filter(|_| list.overlaps && self.has(Clause::JoinsNotLastCommit)) {
            if by_request {
                return;
            }
            listing = RememberedListing {
                sessions: listing.sessions | stored.sessions,
                clients: listing.clients | stored.clients,
                unknown: listing.unknown | stored.unknown,
                is_of_epoch: listing.is_of_epoch && stored.is_of_epoch,
                is_early: listing.is_early || stored.is_early,
                is_barred: listing.is_barred || stored.is_barred,
            };
        }
        let shown = listing.shown();
        let too_old = if self.has(Clause::KeepsWhatLaterListLacks) { list.old & record.old } else { list.old };
        let record = self.record_mut(is_local);
        record.listing = Some(listing);
        record.admissions &= !(shown | too_old);
        record.blocked &= !(shown | too_old);
        // A list that added nothing leaves the mark.
        if stored_before != Some(listing) || !list.overlaps {
            let has_times = !self.has(Clause::ComparesNoTimes);
            let mut later = 0;
            self.lists_of(is_local).for_each(|list| {
                // "The later request wins" asks for the order of the requests alone.
                list.overlaps = !(list.is_ahead && has_times) && (!by_request || later < index);
                later += 1;
            });
            self.state.is_listing_new |= !is_local;
        }
        if is_local {
            self.state.unseen_by_second &= !shown;
        } else {
            self.state.lost &= !shown;
            self.state.split &= !shown;
            self.state.unseen &= !shown;
        }
    }

    /// A list that is never stored removes the listing, and the logins that it shows from the record.
    fn take_incomplete_list(&mut self, shown: Pairs, is_local: bool) {
        let record = self.record_mut(is_local);
        let is_needed = record.listing.is_some() || record.kept() & shown != 0;
        self.remove_logins(shown, is_local);
        if is_needed && self.has(Clause::IncompleteRemovesListing) {
            self.remove_listing(is_local);
        }
    }

    fn remove_logins(&mut self, shown: Pairs, is_local: bool) {
        let record = self.record_mut(is_local);
        record.admissions &= !shown;
        record.blocked &= !shown;
    }

    fn admit(&mut self, pair: Pair, is_local: bool) {
        let record = self.record_mut(is_local);
        record.admissions |= pair.bit();
        record.blocked &= !pair.bit();
        record.old &= !pair.bit();
        self.lists_of(is_local).for_each(|list| list.old &= !pair.bit());
    }

    fn block(&mut self, pair: Pair, is_local: bool, is_shown: bool) {
        let keeps = !is_shown && self.has(Clause::RecordsBlocked);
        let most = u32::from(self.setup.most_blocked);
        let record = self.record_mut(is_local);
        record.admissions &= !pair.bit();
        if !keeps {
            return;
        }
        let others = record.blocked & !pair.bit();
        record.blocked |= pair.bit();
        record.old &= !pair.bit();
        self.lists_of(is_local).for_each(|list| list.old &= !pair.bit());
        if most > 0 && others.count_ones() >= most {
            let oldest = 1 << others.trailing_zeros();
            let record = self.record_mut(is_local);
            record.blocked &= !oldest;
            record.forgotten |= oldest;
            if self.has(Clause::ListingEndsWithBlocked) {
                self.remove_listing(is_local);
            }
        }
    }

    /// The login may complete from now on, whatever was answered.
    fn log_in(&mut self, pair: Pair, is_local: bool) {
        let state = &mut self.state;
        begin_after_requests(state, pair);
        if state.clients & pair.bit() != 0 {
            return;
        }
        state.pending |= pair.bit();
        state.before_epoch &= !pair.bit();
        state.before_old_epoch &= !pair.bit();
        if is_local {
            state.split |= pair.bit();
        }
        // Each half of a split store takes the other's lease for valid at first.
        if state.second == Second::CutOff && state.lease == LeaseState::Valid {
            if is_local {
                state.unseen |= pair.bit();
            } else if self.setup.split {
                state.unseen_by_second |= pair.bit();
            }
        }
    }

    pub fn remove_listing(&mut self, is_local: bool) {
        let had_one = self.record_mut(is_local).listing.take().is_some();
        self.state.is_listing_new |= had_one && !is_local;
        self.lists_of(is_local).for_each(|list| list.is_behind_removal = true);
    }

    fn purge(&mut self, session: u8) {
        let record = &mut self.state.shared;
        record.admissions &= !pairs_of(session);
        record.blocked &= !pairs_of(session);
        if let Some(listing) = &mut record.listing {
            listing.sessions &= !(1 << session);
            listing.clients &= !pairs_of(session);
        }
    }

    pub fn hour_ends(&mut self, pair: Pair) {
        self.state.pending &= !pair.bit();
        // A write from an hour ago has reached the other servers.
        if self.state.shared.kept() & !self.state.previous.known() & pair.bit() != 0 {
            self.keep_previous();
        }
        let state = &mut self.state;
        for record in [&mut state.shared, &mut state.previous, &mut state.local] {
            record.old |= record.kept() & pair.bit();
        }
    }

    pub fn revocation_ends(&mut self, end: RevocationEnd) {
        let EvictionUnderWay { victim: Some(victim), pair } = std::mem::take(&mut self.state.eviction) else { return };
        self.before_write(false);
        if end == RevocationEnd::Failed {
            let record = &mut self.state.shared;
            if record.admissions & pair != 0 {
                record.admissions &= !pair;
                record.blocked |= pair;
            }
        } else if !self.has(Clause::SubtractsNoRevoked) {
            self.purge(victim);
        }
        if end == RevocationEnd::Done {
            self.state.ended |= 1 << victim;
        }
    }

    pub fn log_in_unasked(&mut self, pair: Pair) {
        let state = &mut self.state;
        state.spent.unasked += 1;
        begin_after_requests(state, pair);
        state.pending |= pair.bit();
        state.before_epoch &= !pair.bit();
        state.before_old_epoch &= !pair.bit();
        state.lost |= pair.bit();
        state.ever_lost |= pair.bit();
        state.unseen |= pair.bit();
        if self.setup.split && state.second == Second::CutOff {
            state.unseen_by_second |= pair.bit();
        }
    }

    /// Drops what no longer matters, so that states that differ in it alone are one.
    pub fn settle(&mut self) {
        let ended = pairs_of_all(self.state.ended);
        let state = &mut self.state;
        state.pending &= !ended;
        state.clients &= !ended;
        let live = state.pending | state.clients;
        state.before_epoch &= state.pending;
        state.before_old_epoch &= state.pending;
        if state.second != Second::CutOff {
            (state.before_old_epoch, state.unseen_by_second) = (0, 0);
        }
        for pairs in
            [&mut state.lost, &mut state.ever_lost, &mut state.split, &mut state.unseen, &mut state.unseen_by_second]
        {
            *pairs &= live;
        }
        if state.spent.failovers == self.setup.failovers {
            (state.previous, state.is_listing_new) = (RememberedRecord::default(), false);
            state.lists.iter_mut().for_each(|list| (list.overlapped, list.was_behind_removal) = (false, false));
        }
        let may_be_cut = state.spent.cut_off < self.setup.cut_off && state.second == Second::Connected;
        // With one half of the store, the second replica begins with that half's record.
        let begins_with_copy = may_be_cut && !self.setup.split;
        if !begins_with_copy && !matches!(state.second, Second::CutOff | Second::Returning) {
            state.local = RememberedRecord::default();
        }
        if state.previous.listing.is_none() {
            state.lists.iter_mut().for_each(|list| list.overlapped = false);
        }
        for is_local in [false, true] {
            self.settle_record(is_local);
        }
        let young = self.state.young();
        self.state.lists.iter_mut().for_each(|list| list.begun_since &= young);
    }

    fn settle_record(&mut self, is_local: bool) {
        let pending = self.state.pending;
        let spent = &self.state.spent;
        let may_lose = spent.failovers < self.setup.failovers || spent.lost_keys < self.setup.lost_keys;
        // Whoever removes a listing stops the lists that were requested before. The mark says no more than that.
        let needs_mark = may_lose || !self.has(Clause::RemovalKeepsItsTime);
        let later_lists = self.has(Clause::KeepsWhatLaterListLacks);
        let waits = self.has(Clause::HourAndLongestCheck);
        // What was old at the request of every list under way.
        let under_way = self.state.lists.iter().filter(|list| list.phase != Phase::None);
        let old_for_all = under_way.fold(Pairs::MAX, |old, list| old & list.old);
        let record = self.record_mut(is_local);
        record.forgotten &= pending;
        if record.listing.is_none() {
            let over = if waits { record.old & old_for_all } else { record.old };
            record.admissions &= !over;
            record.blocked &= !over;
        }
        record.old &= record.kept();
        let (old, kept) = (record.old, record.kept());
        if record.listing.is_none() {
            self.lists_of(is_local).for_each(|list| list.overlaps = false);
        } else if !needs_mark {
            self.lists_of(is_local).for_each(|list| list.has_mark = false);
        }
        self.lists_of(is_local).for_each(|list| list.old &= if later_lists { old } else { kept });
    }
}

/// Notes a login that begins while lists are under way.
fn begin_after_requests(state: &mut ModelState, pair: Pair) {
    state.lists.iter_mut().filter(|list| list.phase != Phase::None).for_each(|list| list.begun_since |= pair.bit());
}
