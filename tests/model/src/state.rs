//! The state of the model: one user at Auth0, the record in the store, the lists under way, and two replicas.
//!
//! A set of logins is a byte: bit 2 × session + application. A set of sessions is a byte too. Time is not counted. What a rule
//! asks of times is kept as the answer: whether a list overlaps the stored listing, and whether the hour of a login is over.

use crate::rule::Setup;
use crate::search::Fingerprint;

/// A set of (session, application).
pub type Pairs = u8;
/// A set of sessions; the oldest is bit 0.
pub type Sessions = u8;

/// The applications of a session.
pub const fn pairs_of(session: u8) -> Pairs {
    0b11 << (2 * session)
}

/// The applications of several sessions.
pub const fn pairs_of_all(sessions: Sessions) -> Pairs {
    let mut pairs = 0;
    let mut session = 0;
    while session < 3 {
        if sessions & (1 << session) != 0 {
            pairs |= pairs_of(session);
        }
        session += 1;
    }
    pairs
}

/// A login: a session and an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub session: u8,
    pub client: u8,
}

impl Pair {
    pub const fn bit(self) -> Pairs {
        1 << (2 * self.session + self.client)
    }
}

/// A user's record.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RememberedRecord {
    /// The listing, where there is one.
    pub listing: Option<RememberedListing>,
    /// The logins that were allowed.
    pub admissions: Pairs,
    /// The logins that were blocked.
    pub blocked: Pairs,
    /// The admissions and blocked logins whose hour is over: none of them completes any more.
    pub old: Pairs,
    /// The logins that were forgotten less than an hour ago.
    pub forgotten: Pairs,
}

/// A stored listing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RememberedListing {
    pub sessions: Sessions,
    pub clients: Pairs,
    /// The sessions whose applications are unknown.
    pub unknown: Sessions,
    /// Whether the epoch that was read before its request is still the store's.
    pub is_of_epoch: bool,
    /// Whether it was requested within the first hour of an epoch, or of a forgotten login.
    pub is_early: bool,
    /// As `is_early`, for a forgotten login: the listing serves nobody.
    pub is_barred: bool,
}

/// A list that was requested.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestedList {
    pub phase: Phase,
    /// Whether the second replica requested it.
    pub by_second: bool,
    pub sessions: Sessions,
    pub clients: Pairs,
    pub unknown: Sessions,
    /// The logins whose hour was over when it was requested.
    pub old: Pairs,
    /// The logins that began since it was requested: their hour is not over while the list is under way.
    pub begun_since: Pairs,
    /// Whether there was a listing when it was requested: it has the mark of that listing.
    pub has_mark: bool,
    /// Whether the listing has another mark.
    pub overlaps: bool,
    /// The same, before the last write.
    pub overlapped: bool,
    /// Whether the store's clock was set back since it was requested: what is committed now seems to be earlier.
    pub is_ahead: bool,
    /// Whether a listing was removed since it was requested.
    pub is_behind_removal: bool,
    /// The same, before the last write.
    pub was_behind_removal: bool,
    /// Whether another store, or another server of it, has the record now.
    pub is_foreign: bool,
    pub is_of_epoch: bool,
    pub is_early: bool,
    pub is_barred: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    None,
    Requested,
    Complete,
    Incomplete,
}

/// The second replica.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Second {
    #[default]
    Connected,
    /// It does not reach the store, and decides with its own memory.
    CutOff,
    /// It reaches the store again, and its admissions are in the shared record.
    Returning,
    Down,
}

/// The lease of the second replica.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum LeaseState {
    #[default]
    Valid,
    Missing,
    /// It signed off, or ten minutes have passed.
    Ended,
}

/// An eviction whose revocation is under way.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct EvictionUnderWay {
    /// The victim; `None` = there is none.
    pub victim: Option<u8>,
    /// The login that evicts.
    pub pair: Pairs,
}

/// What of the setup has happened.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    pub logins: u8,
    pub logouts: u8,
    pub incomplete: u8,
    pub unknown: u8,
    pub evictions: u8,
    pub forgotten: u8,
    pub failovers: u8,
    pub lost_keys: u8,
    pub cut_off: u8,
    pub unasked: u8,
}

/// Everything.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ModelState {
    /// The sessions that ended. Their logins end with them.
    pub ended: Sessions,
    /// The applications of the sessions: the logins that completed.
    pub clients: Pairs,
    /// The logins that may complete.
    pub pending: Pairs,
    /// Of these, the ones that began before the epoch. While there are some, the epoch's first hour is not over.
    pub before_epoch: Pairs,
    /// The same for the epoch of the half of the store that has the second replica.
    pub before_old_epoch: Pairs,
    pub shared: RememberedRecord,
    /// The shared record before the last write, for a failover.
    pub previous: RememberedRecord,
    /// Whether the last write changed the listing.
    pub is_listing_new: bool,
    /// The record in the memory of the second replica.
    pub local: RememberedRecord,
    pub lists: [RequestedList; 3],
    pub second: Second,
    pub lease: LeaseState,
    /// A failover of which no replica knows.
    pub is_unnoticed: bool,
    pub eviction: EvictionUnderWay,
    /// The logins that holders may miss: the record lost them, or nobody asked.
    pub lost: Pairs,
    /// The same, ever.
    pub ever_lost: Pairs,
    /// The logins that holders may miss: the replica that decided them is cut off.
    pub split: Pairs,
    /// The logins that newcomers may miss: the three seconds of a lease, or nobody asked and the Action has not said so.
    pub unseen: Pairs,
    /// The same at the second replica, of which the other half of the store decided them.
    pub unseen_by_second: Pairs,
    pub spent: Spent,
}

impl RememberedRecord {
    fn word(&self) -> u64 {
        let listing = self.listing.map_or(0, |it| {
            let flags = 1 | u64::from(it.is_of_epoch) << 1 | u64::from(it.is_early) << 2 | u64::from(it.is_barred) << 3;
            flags | u64::from(it.sessions) << 4 | u64::from(it.unknown) << 8 | u64::from(it.clients) << 12
        });
        listing
            | u64::from(self.admissions) << 24
            | u64::from(self.blocked) << 32
            | u64::from(self.old) << 40
            | u64::from(self.forgotten) << 48
    }

    /// The logins that it has beside the listing.
    pub fn kept(&self) -> Pairs {
        self.admissions | self.blocked
    }

    /// The logins that the listing shows.
    pub fn shown(&self) -> Pairs {
        self.listing.map_or(0, |listing| listing.shown())
    }

    /// All its logins.
    pub fn known(&self) -> Pairs {
        self.kept() | self.shown()
    }
}

impl RememberedListing {
    /// The logins that it shows.
    pub fn shown(&self) -> Pairs {
        self.clients & !pairs_of_all(self.unknown)
    }
}

impl RequestedList {
    fn word(&self) -> u64 {
        let flags = [
            self.by_second,
            self.has_mark,
            self.overlaps,
            self.overlapped,
            self.is_ahead,
            self.is_behind_removal,
            self.was_behind_removal,
            self.is_foreign,
            self.is_of_epoch,
            self.is_early,
            self.is_barred,
        ];
        let flags = flags.iter().fold(0, |word, flag| word << 1 | u64::from(*flag));
        self.phase as u64
            | flags << 2
            | u64::from(self.sessions) << 16
            | u64::from(self.unknown) << 20
            | u64::from(self.clients) << 24
            | u64::from(self.old) << 32
            | u64::from(self.begun_since) << 40
    }
}

impl ModelState {
    /// A user without a login, in a service that has run for more than an hour.
    pub fn first() -> Self {
        Self::default()
    }

    /// A number for the state, which other states have with a negligible probability. A state in which the two applications are
    /// exchanged has the same: whatever follows from one follows from the other.
    pub fn fingerprint(&self, setup: &Setup) -> u64 {
        let same = self.hash();
        if setup.clients == 2 { same.min(self.exchanged().hash()) } else { same }
    }

    /// The state with x for y, and y for x.
    fn exchanged(&self) -> Self {
        let mut state = *self;
        let records = [&mut state.shared, &mut state.previous, &mut state.local];
        let record = records.into_iter().flat_map(|record| {
            let RememberedRecord { listing, admissions, blocked, old, forgotten } = record;
            listing.iter_mut().map(|it| &mut it.clients).chain([admissions, blocked, old, forgotten])
        });
        let lists = state.lists.iter_mut().flat_map(|list| [&mut list.clients, &mut list.old, &mut list.begun_since]);
        let rest = [
            &mut state.clients,
            &mut state.pending,
            &mut state.before_epoch,
            &mut state.before_old_epoch,
            &mut state.eviction.pair,
            &mut state.lost,
            &mut state.ever_lost,
            &mut state.split,
            &mut state.unseen,
            &mut state.unseen_by_second,
        ];
        for pairs in record.chain(lists).chain(rest) {
            *pairs = (*pairs & 0b0101_0101) << 1 | *pairs >> 1 & 0b0101_0101;
        }
        state
    }

    fn hash(&self) -> u64 {
        let mut hash = Fingerprint::default();
        let bytes = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
        hash.mix(bytes([
            self.ended,
            self.clients,
            self.pending,
            self.before_epoch,
            self.lost,
            self.ever_lost,
            self.split,
            self.unseen,
        ]));
        hash.mix(self.shared.word());
        hash.mix(self.previous.word());
        hash.mix(self.local.word());
        for list in &self.lists {
            hash.mix(list.word());
        }
        hash.mix(u64::from(self.before_old_epoch));
        let spent = &self.spent;
        let once = [spent.incomplete, spent.unknown, spent.forgotten, spent.lost_keys, spent.cut_off, spent.unasked];
        let once = once.iter().fold(0, |word, count| word << 2 | u64::from(*count));
        hash.mix(
            once | u64::from(spent.logins) << 16
                | u64::from(spent.logouts) << 20
                | u64::from(spent.evictions) << 24
                | u64::from(spent.failovers) << 28
                | (self.second as u64) << 32
                | (self.lease as u64) << 36
                | u64::from(self.is_unnoticed) << 40
                | u64::from(self.is_listing_new) << 41
                | u64::from(self.eviction.victim.map_or(0, |victim| victim + 1)) << 44
                | u64::from(self.eviction.pair) << 48
                | u64::from(self.unseen_by_second) << 56,
        );
        hash.finish()
    }
}
