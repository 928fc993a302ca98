//! The record of one user, and every rule about it as a pure function: what counts for which list, what a login adds, what
//! removes it, and when it ends.
//!
//! All times are the store's. A check has one of them from the start: the time since which its list is complete, called `since`
//! here and T in the proof of the parent module.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::listing::{self, Listing};
use super::times::{PENDING_FOR, later};
use crate::policy::Origin;

/// The end of the count of an admission that never counts.
pub(super) const NEVER: Timestamp = Timestamp::UNIX_EPOCH;

/// How long a session that this service revoked is neither counted nor revoked again. Auth0 deletes asynchronously and may
/// list a revoked session for a while.
pub const REVOKED_FOR: Duration = Duration::from_secs(60);

/// The greatest age of a list that is used again for a user who checks too often. Entries are kept that much longer, so that
/// such a list is still counted with them.
pub const MAX_LIST_AGE: Duration = Duration::from_secs(10);

/// How long it is remembered that somebody else acts as the user in a session: Auth0 ends such a session after two hours.
const DELEGATED_FOR: Duration = Duration::from_secs(2 * 3600);

/// How long it is remembered that a session is a web view: the time after which Auth0 ends an unused session by default. A login
/// as a web view on the same session begins it again.
const WEB_VIEW_FOR: Duration = Duration::from_secs(3 * 24 * 3600);

/// The most origins of one user: a device that opens a new web view every hour leaves 72.
const MAX_ORIGINS: usize = 100;

/// The most tickets of one user: a person has a few login pages open. The oldest are forgotten first: a forgotten one can be
/// opened in another browser, which needs its address and its cookie of Auth0.
const MAX_TICKETS: usize = 20;

/// What the ledger knows of one user. An absent record is the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Identifies this state of the record: random, new with every write; 0 = nothing was written.
    pub revision: u64,
    /// Allowed logins that Auth0's list may not show yet, at most one for each session and application.
    pub admissions: Vec<AdmissionEntry>,
    /// Sessions that this service revoked or is about to revoke, each once.
    pub revoked: Vec<RevocationEntry>,
    /// How sessions began, where the list does not say it. A replica of an older version reads a record without it, and writes
    /// it without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginEntry>,
    /// The tickets with which the user was asked to choose sessions. As with `origins`, an older replica drops them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tickets: Vec<TicketEntry>,
    /// Logins that were blocked and may have completed all the same, at most one for each session and application. As with
    /// `origins`, an older replica drops them, and the listing with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<BlockEntry>,
    /// The user's last list.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "listing::deserialize")]
    pub listing: Option<Listing>,
    /// No list that was requested before this becomes the listing: it may lack what a listing showed that was removed, or a login
    /// that was forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_until: Option<Timestamp>,
}

/// A ticket that was opened in a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketEntry {
    /// The ticket.
    pub id: String,
    /// The browser that opened it first, and the state of its login. Nobody else may use it.
    pub browser: String,
    /// What was chosen, once a choice has admitted the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// It is kept until this.
    pub until: Timestamp,
}

/// What the ledger knows of a ticket that a browser opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketState {
    /// The browser may choose.
    Open,
    /// A choice has admitted the login.
    Done(String),
    /// It was opened in another browser, or for another login.
    Elsewhere,
}

/// An allowed login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// The application.
    pub client_id: String,
    /// When it was first allowed.
    pub admitted_at: Timestamp,
    /// It counts for lists whose `since` is before this.
    pub counts_until: Timestamp,
    /// It is kept until this, because a check with such a list may take until then to commit.
    pub kept_until: Timestamp,
    /// The mark: when a list was first seen to show it. It does not count for lists whose `since` is later.
    pub seen_at: Option<Timestamp>,
    /// Whether the next login of the user to this application takes the entry over, whatever its session: a person chose
    /// sessions for it, and its login goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claimable: bool,
    /// Whether a listing has shown the login, or a list that was requested too late for it has not: from then on the listing
    /// alone says whether the user has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// When the login was last allowed or blocked, if that was after the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_again_at: Option<Timestamp>,
}

/// A blocked login that may have completed all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// The application.
    pub client_id: String,
    /// When it was last blocked.
    pub blocked_at: Timestamp,
}

/// A session that was revoked, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// Lists whose `since` is before this do not count it.
    pub until: Timestamp,
}

/// How a session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// How it began.
    pub origin: Origin,
    /// It is remembered until this.
    pub until: Timestamp,
}

/// How the ledger treats a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The policy's `admissionWindow`. An allowed login's entry counts for the longer of it and `longest_check`, and is kept
    /// longer; zero = the entry never counts.
    pub window: Duration,
    /// The longest `timeout` of the tenant's policies: no check takes longer from its list to its commit.
    pub longest_check: Duration,
    /// How long the check's list is kept as the user's listing; zero = it is not.
    pub listing_kept_for: Duration,
    /// Whether the decision has effect. Under an auditing policy every login is allowed, and nothing is revoked.
    pub enforced: bool,
    /// Whether the login may take over a claimable entry. One whose tenant is only assumed may not: it may be another tenant's.
    pub claims: bool,
}

/// A revision that no other state of a record has.
pub(super) fn new_revision() -> u64 {
    rand::random_range(1..=u64::MAX)
}

impl Record {
    /// The admissions that count for a list that is complete since `since`.
    pub fn counting(&self, since: Timestamp) -> impl Iterator<Item = &AdmissionEntry> {
        self.admissions.iter().filter(move |entry| entry.counts_for(since))
    }

    /// The sessions that such a list must not count: revoked, or reserved for it.
    pub fn revoked_or_reserved(&self, since: Timestamp) -> impl Iterator<Item = &str> {
        self.revoked.iter().filter(move |revoked| revoked.until > since).map(|revoked| revoked.sid.as_str())
    }

    /// How the user's sessions began.
    pub fn origins(&self, now: Timestamp) -> impl Iterator<Item = &OriginEntry> {
        self.origins.iter().filter(move |entry| entry.until > now)
    }

    /// Remembers how a session began. The oldest origins make room for it; returns how many were forgotten for that.
    pub fn note(&mut self, sid: &str, origin: &Origin, now: Timestamp) -> usize {
        let lasts = if *origin == Origin::Delegated { DELEGATED_FOR } else { WEB_VIEW_FOR };
        let is_same = |entry: &OriginEntry| entry.sid == sid && entry.origin == *origin;
        // A login that is checked again writes nothing for the first half of the time.
        if self.origins.iter().any(|entry| is_same(entry) && entry.until > later(now, lasts / 2)) {
            return 0;
        }
        self.origins.retain(|entry| !is_same(entry));
        let surplus = (self.origins.len() + 1).saturating_sub(MAX_ORIGINS);
        self.origins.drain(..surplus);
        self.origins.push(OriginEntry { sid: sid.to_owned(), origin: origin.clone(), until: later(now, lasts) });
        surplus
    }

    /// Binds a ticket to the first browser that opens it, until the ticket ends.
    pub fn open_ticket(&mut self, id: &str, browser: &str, until: Timestamp) -> TicketState {
        if let Some(known) = self.tickets.iter().find(|ticket| ticket.id == id) {
            return match &known.choice {
                _ if known.browser != browser => TicketState::Elsewhere,
                Some(choice) => TicketState::Done(choice.clone()),
                None => TicketState::Open,
            };
        }
        let surplus = (self.tickets.len() + 1).saturating_sub(MAX_TICKETS);
        self.tickets.drain(..surplus);
        self.tickets.push(TicketEntry { id: id.to_owned(), browser: browser.to_owned(), choice: None, until });
        TicketState::Open
    }

    /// Notes what a ticket was used for, or that its use came to nothing.
    pub fn set_choice(&mut self, id: &str, choice: Option<&str>) {
        for ticket in self.tickets.iter_mut().filter(|ticket| ticket.id == id) {
            ticket.choice = choice.map(str::to_owned);
        }
    }

    /// Lets the next login of the user to the application take over the login's entry, until `until`.
    pub fn make_claimable(&mut self, sid: &str, client_id: &str, until: Timestamp, longest_check: Duration) {
        if let Some(known) = self.position(sid, client_id) {
            let entry = &mut self.admissions[known];
            if entry.counts_until == NEVER {
                return;
            }
            entry.claimable = true;
            entry.counts_until = entry.counts_until.max(until);
            entry.kept_until = entry.kept_until.max(later(entry.counts_until, longest_check + MAX_LIST_AGE));
        }
    }

    /// The session of the entry that a login takes over: its own first, else the oldest of the application that counts.
    pub fn claimable<'r>(&'r self, sid: &'r str, client_id: &str, since: Timestamp) -> Option<&'r str> {
        let is_claimable =
            |entry: &&AdmissionEntry| entry.claimable && entry.client_id == client_id && entry.counts_for(since);
        let mut entries = self.admissions.iter().filter(is_claimable);
        let has_own = entries.clone().any(|entry| entry.sid == sid);
        if has_own { Some(sid) } else { entries.next().map(|entry| entry.sid.as_str()) }
    }

    /// Gives the claimable entry of a session to the login that claims it. The login that it was made for no longer counts, and may
    /// still complete.
    pub fn claim(&mut self, from: &str, sid: &str, client_id: &str) {
        let Some(known) = self.position(from, client_id) else { return };
        self.admissions[known].claimable = false;
        if from == sid {
            return;
        }
        let claimed = AdmissionEntry { sid: sid.to_owned(), ..self.admissions[known].clone() };
        self.admissions[known].stop_counting();
        match self.position(sid, client_id) {
            Some(own) => self.admissions[own] = claimed,
            None => self.admissions.push(claimed),
        }
    }

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of admissions, revocations, origins, tickets and blocks, and one for a listing.
    pub fn len(&self) -> usize {
        self.admissions.len()
            + self.revoked.len()
            + self.origins.len()
            + self.tickets.len()
            + self.blocked.len()
            + usize::from(self.listing.is_some())
    }

    /// Moves all times by `offset`, to another clock. Marks are dropped, because they have to be exact.
    pub fn moved_by(mut self, offset: SignedDuration) -> Self {
        let moved = |at: Timestamp| at.checked_add(offset).unwrap_or(at);
        for entry in &mut self.admissions {
            entry.admitted_at = moved(entry.admitted_at);
            if entry.counts_until != NEVER {
                entry.counts_until = moved(entry.counts_until);
            }
            entry.kept_until = moved(entry.kept_until);
            entry.allowed_again_at = entry.allowed_again_at.map(moved);
            entry.seen_at = None;
        }
        for revoked in &mut self.revoked {
            revoked.until = moved(revoked.until);
        }
        for entry in &mut self.origins {
            entry.until = moved(entry.until);
        }
        for ticket in &mut self.tickets {
            ticket.until = moved(ticket.until);
        }
        for entry in &mut self.blocked {
            entry.blocked_at = moved(entry.blocked_at);
        }
        self.blind_until = self.blind_until.map(moved);
        self.listing = self.listing.and_then(|listing| listing.moved_by(offset));
        self
    }

    /// How long the record has to be kept after `now`.
    pub fn lasts(&self, now: Timestamp) -> Duration {
        let end = self.ends().max();
        end.map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(now)).unwrap_or_default())
    }

    /// When the first of its entries ends after `now`, or stops counting against any list.
    pub fn next_change(&self, now: Timestamp) -> Timestamp {
        let counting = self.admissions.iter().map(|entry| entry.kept_until);
        self.ends().chain(counting).filter(|end| *end > now).min().unwrap_or(Timestamp::MAX)
    }

    /// Whether nothing in it changes a decision by a list.
    pub fn is_only_remembered(&self, now: Timestamp) -> bool {
        let counts = |entry: &AdmissionEntry| entry.counts_until != NEVER && entry.kept_until > now;
        !self.admissions.iter().any(counts)
            && self.revoked.is_empty()
            && self.origins.is_empty()
            && self.tickets.is_empty()
    }

    /// When each of its entries ends.
    fn ends(&self) -> impl Iterator<Item = Timestamp> {
        let listed_until = self.listing.as_ref().map(|listing| listing.span().1);
        let admissions = self.admissions.iter().map(move |entry| entry.ends_at(listed_until));
        let blocked = self.blocked.iter().map(move |entry| entry.ends_at(listed_until));
        let others = self.revoked.iter().map(|it| it.until).chain(self.origins.iter().map(|it| it.until));
        let others = others.chain(self.tickets.iter().map(|it| it.until)).chain(self.blind_until).chain(listed_until);
        admissions.chain(blocked).chain(others)
    }

    /// Removes what has ended. Admissions and blocks end with the listing, if not later.
    pub fn expire(&mut self, now: Timestamp) {
        // By now no list is in use that was requested before it was.
        self.listing.take_if(|listing| listing.span().1 <= now);
        let listed_until = self.listing.as_ref().map(|listing| listing.span().1);
        self.admissions.retain(|entry| entry.ends_at(listed_until) > now);
        self.blocked.retain(|entry| entry.ends_at(listed_until) > now);
        self.revoked.retain(|revoked| revoked.until > now);
        self.origins.retain(|entry| entry.until > now);
        self.tickets.retain(|ticket| ticket.until > now);
        self.blind_until = self.blind_until.filter(|until| *until > now);
    }

    /// Removes the oldest entries until at most `most` are left, and returns how many it removed. Tickets and origins go first:
    /// without one a limit is too strict, without an admission it is too lax. The listing goes before any admission or block.
    pub fn shorten(&mut self, most: usize, now: Timestamp) -> usize {
        self.bound_pending(now);
        let surplus = self.len().saturating_sub(most);
        let mut left = surplus;
        left -= drain_first(&mut self.tickets, left);
        left -= drain_first(&mut self.origins, left);
        if left > 0 {
            left -= usize::from(self.listing.is_some());
            self.forget_listing(now);
        }
        if left > 0 && self.admissions.len() + self.blocked.len() > 0 {
            self.blind(now, PENDING_FOR);
        }
        left -= drain_first(&mut self.blocked, left);
        left -= drain_first(&mut self.admissions, left);
        drain_first(&mut self.revoked, left);
        surplus
    }

    /// Adds an allowed login. A login that has an entry keeps its times: a repeated check does not extend them. Only an entry
    /// that no longer counts for a list since `since` is replaced. Without a window the entry never counts.
    pub fn admit(&mut self, sid: &str, client_id: &str, terms: Terms, since: Timestamp, now: Timestamp) {
        self.note_allowed(sid, client_id, now);
        if terms.window.is_zero() {
            return;
        }
        let counts_until = later(now, terms.window.max(terms.longest_check));
        let counting = AdmissionEntry {
            sid: sid.to_owned(),
            client_id: client_id.to_owned(),
            admitted_at: now,
            counts_until,
            kept_until: later(counts_until, terms.longest_check + MAX_LIST_AGE),
            seen_at: None,
            claimable: false,
            // The listing shows what has no entry after `note_allowed`.
            settled: true,
            allowed_again_at: None,
        };
        match self.position(sid, client_id) {
            None => self.admissions.push(counting),
            Some(known) => {
                let entry = &mut self.admissions[known];
                if entry.counts_until > now && entry.seen_at.is_none_or(|seen| seen >= since) {
                    return;
                }
                *entry = AdmissionEntry { settled: entry.settled, ..counting };
            }
        }
    }

    /// Ends the count of exactly this login.
    pub fn withdraw(&mut self, sid: &str, client_id: &str) {
        if let Some(known) = self.position(sid, client_id) {
            self.admissions[known].stop_counting();
        }
    }

    /// Marks the admissions that a list shows which arrived before `now`. The first mark stays.
    pub fn mark_seen(&mut self, now: Timestamp, shows: impl Fn(&AdmissionEntry) -> bool) {
        for entry in self.admissions.iter_mut().filter(|entry| entry.seen_at.is_none()) {
            if shows(entry) {
                entry.seen_at = Some(now);
            }
        }
    }

    /// Reserves a session that is about to be revoked: no check counts it or chooses it. Its admissions do not count while it is
    /// reserved, and count again if it is [released](Self::release).
    pub fn reserve(&mut self, sid: &str, now: Timestamp) {
        self.release(sid);
        self.revoked.push(RevocationEntry { sid: sid.to_owned(), until: later(now, REVOKED_FOR) });
    }

    /// Releases a session that could not be revoked.
    pub fn release(&mut self, sid: &str) {
        self.revoked.retain(|revoked| revoked.sid != sid);
    }

    /// Adds a revoked session. Its admissions stop counting at once.
    pub fn revoke(&mut self, sid: &str, now: Timestamp) {
        self.reserve(sid, now);
        self.admissions.iter_mut().filter(|entry| entry.sid == sid).for_each(AdmissionEntry::stop_counting);
        self.origins.retain(|entry| entry.sid != sid);
    }

    /// Whether this login has an entry that may count.
    pub fn has_counting(&self, sid: &str, client_id: &str, now: Timestamp) -> bool {
        self.position(sid, client_id).is_some_and(|known| self.admissions[known].counts_until > now)
    }

    /// Whether this login has an entry of its own that counts for a list since `since`.
    pub fn counts(&self, sid: &str, client_id: &str, since: Timestamp) -> bool {
        let entry = self.position(sid, client_id).map(|known| &self.admissions[known]);
        entry.is_some_and(|entry| !entry.claimable && entry.counts_for(since))
    }

    pub(super) fn position(&self, sid: &str, client_id: &str) -> Option<usize> {
        self.admissions.iter().position(|entry| entry.sid == sid && entry.client_id == client_id)
    }
}

impl AdmissionEntry {
    fn counts_for(&self, since: Timestamp) -> bool {
        self.counts_until != NEVER && self.counts_until > since && self.seen_at.is_none_or(|seen| seen >= since)
    }
}

/// Removes at most `most` items from the front, and returns how many it removed.
fn drain_first<T>(items: &mut Vec<T>, most: usize) -> usize {
    let count = most.min(items.len());
    items.drain(..count);
    count
}

#[cfg(test)]
mod tests;
