//! Faults of the store and of the second replica, and what the rule does about them: epochs and leases.

use crate::change::Change;
use crate::rule::Clause;
use crate::state::{LeaseState, ModelState, Pair, Pairs, Phase, RememberedRecord, Second};

impl Change<'_> {
    pub fn forget(&mut self, pair: Pair) {
        self.state.spent.forgotten += 1;
        self.before_write(false);
        let record = &mut self.state.shared;
        record.admissions &= !pair.bit();
        record.blocked &= !pair.bit();
        record.forgotten |= pair.bit();
        if self.has(Clause::ListingEndsWithAdmission) {
            self.remove_listing(false);
        }
    }

    pub fn begin_epoch(&mut self) {
        let state = &mut self.state;
        for record in [&mut state.shared, &mut state.previous] {
            if let Some(listing) = &mut record.listing {
                listing.is_of_epoch = false;
            }
        }
        // The other half of a split store keeps its epoch.
        let is_apart = self.setup.split && state.second == Second::CutOff;
        let lists = state.lists.iter_mut().filter(|list| !(is_apart && list.by_second));
        lists.for_each(|list| list.is_of_epoch = false);
        state.before_epoch = state.pending;
        state.unseen = 0;
    }

    pub fn fail_over(&mut self) {
        let state = &mut self.state;
        state.spent.failovers += 1;
        let known = |record: &RememberedRecord| record.known() | record.forgotten;
        // An admission whose hour is over was written again.
        let young = |record: &RememberedRecord| known(record) & !(record.old & !record.shown());
        let gone = known(&state.shared) & !known(&state.previous) | young(&state.shared) & !young(&state.previous);
        let gone = gone & (state.pending | state.clients);
        state.shared = state.previous;
        state.lost |= gone;
        state.ever_lost |= gone;
        state.is_listing_new = false;
        let clock_behind = self.setup.clock_behind;
        self.lists_of(false).for_each(|list| {
            (list.overlaps, list.is_behind_removal) = (list.overlapped, list.was_behind_removal);
            list.is_ahead = clock_behind;
        });
        if !self.has(Clause::EpochReadWithRecord) {
            self.state.is_unnoticed = true;
        } else if self.has(Clause::EpochOnFailover) {
            self.begin_epoch();
        }
    }

    pub fn lose_keys(&mut self) {
        self.state.spent.lost_keys += 1;
        // A list whose check read no listing does not notice that one is gone, or that one had been removed.
        let is_unnoticed = self.lists_of(false).any(|list| !list.has_mark && !list.is_foreign);
        let state = &mut self.state;
        let known = if is_unnoticed { Pairs::MAX } else { state.shared.kept() | state.shared.forgotten };
        let gone = known & (state.pending | state.clients);
        state.lost |= gone;
        state.ever_lost |= gone;
        state.shared = RememberedRecord::default();
        (state.previous, state.is_listing_new) = (RememberedRecord::default(), false);
        self.lists_of(false).for_each(|list| {
            (list.is_behind_removal, list.was_behind_removal, list.overlapped) = (false, false, false);
        });
        if self.has(Clause::EpochOnLostKeys) {
            self.begin_epoch();
        }
    }

    pub fn cut_off(&mut self) {
        self.state.spent.cut_off += 1;
        if self.setup.split {
            self.state.local = self.state.shared;
            self.state.second = Second::CutOff;
            self.state.before_old_epoch = self.state.before_epoch;
            self.state.unseen_by_second = self.state.unseen;
            self.begin_epoch();
        } else {
            self.second_changes_store(Second::CutOff);
        }
    }

    /// The lists of the second replica were requested at a time of another store: they overlap whatever is there.
    fn second_changes_store(&mut self, second: Second) {
        self.state.second = second;
        for list in self.state.lists.iter_mut().filter(|list| list.by_second && list.phase != Phase::None) {
            (list.is_foreign, list.overlaps, list.is_of_epoch) = (true, true, false);
        }
    }

    pub fn come_back(&mut self) {
        self.second_changes_store(Second::Returning);
        if self.has(Clause::ReturnServesLast) {
            self.write_local_admissions();
        } else {
            self.state.lease = LeaseState::Valid;
        }
    }

    pub fn serve_again(&mut self) {
        if !self.has(Clause::ReturnServesLast) {
            self.write_local_admissions();
        }
        if self.has(Clause::ReturnBeginsEpoch) {
            self.begin_epoch();
        }
        self.state.lease = LeaseState::Valid;
        self.state.second = Second::Connected;
        self.state.local = self.state.shared;
    }

    fn write_local_admissions(&mut self) {
        self.before_write(false);
        let ModelState { local, shared, .. } = self.state;
        let written = local.admissions & !shared.shown();
        let is_young = written & !local.old;
        if self.has(Clause::ReturnWritesAdmissions) {
            // Of an admission that is in both, the later one stays.
            self.state.shared.old |= written & local.old & !shared.kept();
            self.state.shared.old &= !is_young;
            self.state.shared.admissions |= written;
            // The time of the later one counts for lists that were requested before.
            self.lists_of(false).for_each(|list| list.old &= !written);
        }
        self.state.split &= !local.admissions;
        self.state.unseen &= !is_young;
    }

    pub fn die(&mut self) {
        if self.state.second == Second::Connected {
            self.state.spent.cut_off += 1;
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.state.second = Second::Down;
        self.state.local = RememberedRecord::default();
        for index in (0..self.state.lists.len()).rev() {
            if self.state.lists[index].by_second {
                self.remove_list(index);
            }
        }
    }

    pub fn restart(&mut self, reaches_store: bool) {
        self.state.second = if reaches_store { Second::Connected } else { Second::CutOff };
        let is_return = !self.has(Clause::RestartIsNoReturn);
        if reaches_store && (self.state.lease == LeaseState::Ended || is_return) {
            self.state.lease = LeaseState::Valid;
        }
    }

    pub fn sign_off(&mut self) {
        self.state.lease = LeaseState::Ended;
        if self.state.lists.iter().any(|list| list.by_second) {
            self.second_changes_store(Second::CutOff);
        } else {
            self.stop();
        }
    }

    pub fn ten_minutes(&mut self) {
        if self.has(Clause::EpochAfterTenMinutes) {
            self.begin_epoch();
        }
        let is_new_process = self.state.second == Second::Connected;
        self.state.lease = if is_new_process { LeaseState::Valid } else { LeaseState::Ended };
        if self.state.second == Second::CutOff && self.has(Clause::CutOffStopsInTime) {
            self.stop();
        }
    }
}
