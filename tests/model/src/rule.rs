//! The rule as clauses that can be weakened one by one, and the setups in which it is explored.

/// What a clause of the rule demands. A search under a rule without the clause has to find a counterexample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Clause {
    // The record (§2).
    RecordsWhateverReason,
    RecordsWhateverWindow,
    RecordsNewcomer,
    RecordsBlocked,
    KeepsWhatLaterListLacks,
    LeavesOnlyByStoredListing,
    RecordsUnlessStoredListingShows,
    JoinsNotLastCommit,
    JoinsNotLaterRequest,
    StoresCompleteOnly,
    IncompleteRemovesListing,
    ListingEndsWithAdmission,
    ListingEndsWithBlocked,
    IncludesInactive,
    SubtractsNoRevoked,
    SubtractsNoReserved,
    UnknownCountsForAll,
    // Holders (§3).
    HolderCountsOlder,
    HolderCountsNotListed,
    FallbackCountsAllOlder,
    UnknownIsNoHolder,
    OffWithCountOthers,
    // Newcomers (§4).
    EpochReadBeforeRequest,
    EpochOnFailover,
    EpochReadWithRecord,
    EpochOnLostKeys,
    NotInFirstHour,
    NotWithoutLease,
    EpochAfterTenMinutes,
    ReturnWritesAdmissions,
    ReturnBeginsEpoch,
    ReturnServesLast,
    RestartIsNoReturn,
    DrainsBeforeSignOff,
    FallbackLists,
    EpochOnUnasked,
    // What the model added.
    ForgettingBarsAnHour,
    RemovalKeepsItsTime,
    HourAndLongestCheck,
    ComparesNoTimes,
    NotWhenItsListingIsGone,
    NotFromAnotherStore,
    CutOffStopsInTime,
    StartsWithStore,
    // What could be instead of the last two.
    CutOffDecides,
    LeaseIsMissedTenMinutes,
}

/// The rule: all clauses but those that were taken away.
#[derive(Clone, Copy, Default)]
pub struct Rule {
    without: u64,
}

impl Rule {
    /// The rule without some clauses.
    pub fn without(clauses: &[Clause]) -> Self {
        Self { without: clauses.iter().fold(0, |without, clause| without | 1 << *clause as u8) }
    }

    /// Whether a clause holds.
    pub fn has(self, clause: Clause) -> bool {
        self.without & (1 << clause as u8) == 0
    }
}

/// How large a model is, and what can happen in it.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Sessions, at most three: the oldest comes first.
    pub sessions: u8,
    /// Applications, at most two.
    pub clients: u8,
    /// Logins that are checked.
    pub logins: u8,
    /// Lists that are requested and not committed at the same time, at most three.
    pub lists: u8,
    /// A session is listed only from its first completed login on.
    pub listed_late: bool,
    /// Logins that are decided without a list: exempt, no policy, skipped protocol, failure policy, Audit.
    pub without_list: bool,
    /// Sessions that the user ends.
    pub logouts: u8,
    /// Lists that are not complete.
    pub incomplete: u8,
    /// Sessions that a list shows without their applications.
    pub unknown: u8,
    /// Evictions, each of which ends its session, fails, or is lost.
    pub evictions: u8,
    /// How often a record forgets an admission because of a bound.
    pub forgotten: u8,
    /// The most blocked logins that a record keeps; 0 = all.
    pub most_blocked: u8,
    /// Failovers of the store that lose the last write.
    pub failovers: u8,
    /// The clock of the server that takes over is behind.
    pub clock_behind: bool,
    /// How often the store loses its keys.
    pub lost_keys: u8,
    /// How often the second replica is cut off from the store. It may die and start again.
    pub cut_off: u8,
    /// It is not cut off alone: a server of the store goes on with it, while another takes over for the first replica.
    pub split: bool,
    /// The second replica may drain and end.
    pub sign_off: bool,
    /// Logins for which nobody asked.
    pub unasked: u8,
    /// Newcomers are allowed from memory.
    pub newcomers: bool,
}

impl Setup {
    /// Two sessions, two applications, three logins and two lists at once, and none of the rest.
    pub const SMALL: Self = Self {
        sessions: 2,
        clients: 2,
        logins: 3,
        lists: 2,
        listed_late: false,
        without_list: true,
        logouts: 0,
        incomplete: 0,
        unknown: 0,
        evictions: 0,
        forgotten: 0,
        most_blocked: 0,
        failovers: 0,
        clock_behind: false,
        lost_keys: 0,
        cut_off: 0,
        split: false,
        sign_off: false,
        unasked: 0,
        newcomers: true,
    };
}
