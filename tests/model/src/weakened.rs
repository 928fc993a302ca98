//! The rule without one of its clauses. Each has to have a counterexample: so the check can fail, and each clause is needed.

use std::sync::{LazyLock, OnceLock};

use crate::rule::{Clause, Rule, Setup};
use crate::search::search;

/// A clause, and a setup in which the rule fails without it.
pub struct Weakened {
    /// What the rule is without: one clause, or the ones in whose place something else is tried.
    pub clauses: &'static [Clause],
    /// The section of the page that the clause belongs to.
    pub section: &'static str,
    /// What the rule says.
    pub words: &'static str,
    /// Where it fails without the clause.
    pub setup: Setup,
    /// The history that was found.
    found: OnceLock<Vec<String>>,
}

impl Weakened {
    /// The shortest history in which the weakened rule fails, in words.
    pub fn history(&self) -> &[String] {
        self.found.get_or_init(|| {
            let found = search(&self.setup, &Rule::without(self.clauses));
            found.counterexample.expect("without the clause the rule fails").words()
        })
    }
}

macro_rules! weakened {
    ($($section:literal { $($name:ident: $($clause:ident)|+, $setup:expr, $words:literal;)+ })+) => {
        /// All of them, in the order of the page.
        pub static WEAKENED: LazyLock<Vec<Weakened>> = LazyLock::new(|| vec![$($(
            Weakened { clauses: &[$(Clause::$clause),+], section: $section, words: $words, setup: $setup, found: OnceLock::new() },
        )+)+]);

        $($(
            #[test]
            fn $name() {
                let weakened = WEAKENED.iter().find(|it| it.clauses == [$(Clause::$clause),+]).unwrap();
                println!("{}", weakened.history().join("\n"));
            }
        )+)+
    };
}

const SMALL: Setup = Setup::SMALL;
const LATE: Setup = Setup { listed_late: true, ..SMALL };
const INCOMPLETE: Setup = Setup { incomplete: 1, ..SMALL };
const UNKNOWN: Setup = Setup { unknown: 1, ..SMALL };
const EVICTING: Setup = Setup { evictions: 1, ..SMALL };
const FORGETFUL: Setup = Setup { forgotten: 1, ..SMALL };
const FEW_BLOCKED: Setup = Setup { most_blocked: 1, ..SMALL };
const FAILOVER: Setup = Setup { failovers: 1, ..SMALL };
const LOST_KEYS: Setup = Setup { lost_keys: 1, ..SMALL };
const LATER_LOST_KEYS: Setup = Setup { clients: 1, logins: 4, ..LOST_KEYS };
const CUT: Setup = Setup { cut_off: 1, ..SMALL };
const LATER_CUT: Setup = Setup { clients: 1, logins: 4, incomplete: 1, newcomers: false, ..CUT };
const UNASKED: Setup = Setup { unasked: 1, ..SMALL };

weakened! {
    "The record" {
        every_reason_is_recorded: RecordsWhateverReason, SMALL,
            "Every allow is recorded, whatever its reason.";
        every_window_is_recorded: RecordsWhateverWindow, SMALL,
            "Every allow is recorded, whatever `admissionWindow` says.";
        newcomer_from_memory_is_recorded: RecordsNewcomer, SMALL,
            "An allow from memory writes an admission for a newcomer.";
        blocked_login_is_recorded: RecordsBlocked, SMALL,
            "A blocked login is recorded: it may complete all the same.";
        admission_outlives_a_list_that_lacks_it: KeepsWhatLaterListLacks, SMALL,
            "An admission outlives a later list that does not show it, for the hour of a login.";
        admission_leaves_by_a_stored_list_alone: LeavesOnlyByStoredListing, LATER_LOST_KEYS,
            "A complete list that is not stored takes no admission away.";
        login_is_recorded_unless_the_stored_listing_shows_it: RecordsUnlessStoredListingShows, LATER_LOST_KEYS,
            "A login is recorded unless the listing that is *stored* shows it.";
        last_commit_does_not_win: JoinsNotLastCommit, SMALL,
            "Lists that overlap are joined: the last commit does not win.";
        later_request_does_not_win: JoinsNotLaterRequest, SMALL,
            "Lists that overlap are joined: the later request does not win.";
        incomplete_list_is_never_stored: StoresCompleteOnly, INCOMPLETE,
            "An incomplete list is never stored.";
        incomplete_list_removes_the_listing: IncompleteRemovesListing, INCOMPLETE,
            "An incomplete list takes the logins that it shows from the record, and removes the listing.";
        listing_ends_with_an_admission: ListingEndsWithAdmission, FORGETFUL,
            "Whatever forgets an admission forgets the listing too.";
        listing_ends_with_a_blocked_login: ListingEndsWithBlocked, FEW_BLOCKED,
            "One blocked login more than a record holds removes the listing.";
        inactive_session_is_in_the_listing: IncludesInactive, SMALL,
            "The listing has idle-expired and inactive sessions too: they may be used again.";
        revoked_session_is_in_the_bound: SubtractsNoRevoked, EVICTING,
            "What the service revoked is not subtracted: a revocation may be lost.";
        reserved_session_is_in_the_bound: SubtractsNoReserved, EVICTING,
            "What the service reserved for revocation is not subtracted: a revocation may fail.";
        unknown_applications_count_for_every_limit: UnknownCountsForAll, UNKNOWN,
            "A session with unknown applications counts towards every limit.";
    }
    "Holders" {
        holder_counts_older_sessions: HolderCountsOlder, SMALL,
            "A holder counts the older sessions of the limit: one of them may have come later.";
        holder_counts_sessions_that_are_not_listed: HolderCountsNotListed, LATE,
            "A holder counts the sessions that are not in the listing at all.";
        fallback_counts_every_older_session: FallbackCountsAllOlder, CUT,
            "Without the shared store a holder counts every older session of the listing.";
        unknown_applications_make_no_holder: UnknownIsNoHolder, UNKNOWN,
            "A session with unknown applications is no holder.";
        count_others_has_no_holders: OffWithCountOthers, SMALL,
            "Under `reentry: CountOthers` nobody is a holder.";
    }
    "Newcomers" {
        epoch_is_read_before_the_request: EpochReadBeforeRequest, LOST_KEYS,
            "A listing has the epoch that was read *before* its request.";
        failover_begins_an_epoch: EpochOnFailover, FAILOVER,
            "Another `run_id` begins an epoch.";
        epoch_is_read_with_the_record: EpochReadWithRecord, FAILOVER,
            "The epoch is read with each record, and not from time to time.";
        lost_keys_begin_an_epoch: EpochOnLostKeys, LOST_KEYS,
            "Evicted keys and an absent epoch begin one.";
        first_hour_serves_no_newcomer: NotInFirstHour, LOST_KEYS,
            "Listings of the first hour of *any* epoch serve no newcomer.";
        missing_lease_stops_newcomers: NotWithoutLease, CUT,
            "While a lease is missing, nobody allows newcomers from memory.";
        lost_replica_begins_an_epoch: EpochAfterTenMinutes, CUT,
            "When a lease has been missing for ten minutes, an epoch begins.";
        replica_that_returns_writes_its_admissions: ReturnWritesAdmissions, CUT,
            "A replica that was cut off writes what it allowed into the shared record.";
        replica_that_returns_begins_an_epoch: ReturnBeginsEpoch, CUT,
            "Then it begins an epoch.";
        replica_that_returns_serves_last: ReturnServesLast, CUT,
            "Then, and not before, it has a lease and serves.";
        new_process_is_not_the_missing_one: RestartIsNoReturn, CUT,
            "A process that starts after a kill is not the replica that was missing.";
        replica_signs_off_after_its_drain: DrainsBeforeSignOff, Setup { sign_off: true, ..CUT },
            "A replica signs off after its drain.";
        own_memory_serves_no_newcomer: FallbackLists, CUT,
            "With the memory of one of several replicas, newcomers always list.";
        unasked_login_begins_an_epoch: EpochOnUnasked, UNASKED,
            "`unasked: true` begins an epoch.";
    }
    "What the model added" {
        forgotten_login_bars_listings_for_an_hour: ForgettingBarsAnHour, FORGETFUL,
            "A listing that was requested within an hour after the record forgot a login serves nobody.";
        removed_listing_leaves_its_time: RemovalKeepsItsTime, FORGETFUL,
            "A list that was requested before a listing was removed is not stored.";
        admission_stays_an_hour_and_the_longest_check: HourAndLongestCheck, SMALL,
            "Without a listing an admission stays for one hour *and the longest check*.";
        no_times_order_lists: ComparesNoTimes, Setup { clients: 1, failovers: 1, clock_behind: true, logins: 4, ..SMALL },
            "A list replaces the listing that its check read, by a mark. No times order lists.";
        list_whose_listing_is_gone_is_not_stored: NotWhenItsListingIsGone, LATER_LOST_KEYS,
            "A list is not stored when the listing that its check read is gone.";
        list_of_another_store_is_not_stored: NotFromAnotherStore, LATER_CUT,
            "A list is not stored in another store than the one that its check read.";
        cut_off_replica_stops_in_time: CutOffStopsInTime, CUT,
            "A replica that is cut off stops serving before the others do without its lease.";
        replica_starts_with_the_store: StartsWithStore, CUT,
            "With newcomers from memory, a replica serves only after it had a lease.";
    }
    "What does not close the last two" {
        blocking_does_not_replace_the_stop: CutOffStopsInTime | CutOffDecides, CUT,
            "A replica that is cut off does not stop. It blocks every login from the end of its lease on.";
        endless_wait_does_not_replace_the_start: StartsWithStore | LeaseIsMissedTenMinutes, Setup { sign_off: true, ..CUT },
            "A replica may start without the store. A lease is missed until its replica returns or signs off.";
    }
}
