//! What a record remembers beyond one list, so that a login can be allowed without one: the user's last list (the *listing*), the
//! logins that were allowed (`admissions`), and those that were blocked (`blocked`).
//!
//! # The bound
//!
//! The *bound* is the listing, with every admission and block that is not settled. It has every session and application that
//! the user has at Auth0, and may have more. So a login that the bound allows, a list of this moment allows, too. Nothing of ours
//! is subtracted from it: neither what was revoked nor what is reserved, since a revocation can fail or be lost.
//!
//! *Nothing is missing.* An application joins a session when a login completes, and a login completes after its check was
//! answered. The answer is written first: an allowed login as an admission, a blocked one as a block, because an Action that
//! gave up waiting may have allowed it. The entry stays until it is settled, by one of two:
//!
//! * A listing shows the login. The entry is not needed: a listing is replaced only by a later one.
//! * A list that was requested [`PENDING_FOR`] after the answer does not show it, and becomes part of the listing. No login takes
//!   that long, so this one did not complete, or its session has ended.
//!
//! *A listing is replaced only by a later one.* Each has a mark. A check reads the record before it requests its list, and the
//! mark that it read goes with the list. A list replaces the listing whose mark it has: it was requested after that one was
//! stored, so it shows all that happened before. Any other list overlaps the listing in time, and neither is later for certain:
//! it is joined to it. No times are compared for this: the clocks of two servers that succeed each other may differ.
//!
//! *A listing that was removed does not come back.* A list that was requested before may lack what it showed. No list becomes
//! the listing that was requested before the removal or in the minute after it, in which two clocks may differ. The same holds
//! where the server lost the listing that the check read: the list has its mark, and there is none. (A full memory forgets whole
//! records, and no trace of them is needed: a replica that decides by its own memory counts every older session for every limit, as
//! said below.)
//!
//! *A listing is of one moment.* A list of several pages, one that was not read to its end, and that of an unknown user never
//! become the listing, and remove it. What they show is settled as well, with the same consequence for older lists.
//!
//! *Whatever forgets an entry early, by a cap, forgets the listing, too.* The login that was forgotten may still complete, so no
//! list that is requested within [`PENDING_FOR`] becomes the listing.
//!
//! What a store loses is not there: a server that forgets a write, or a replica that is cut off and has to write to its own memory.
//! A holder is then allowed until its listing is older than `recheckAfter`. The same is true for logins for which nobody asked.
//!
//! # Holders
//!
//! Under `KeepPlace` only sessions that come before the current one count against it. They existed when it began, so the listing
//! that shows it shows them as well. (Of two that begin in one millisecond the ids decide; a list is requested after the check of
//! the current one has arrived, which takes longer than that.) Which applications they use is what the entries are for. A replica
//! that knows only what it decided itself, because it shares no store or cannot reach it, does not know these: it counts each of
//! them for every limit.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::listing::{Contents, ListedEntry, Listing, SessionCode};
use super::record::{AdmissionEntry, BlockEntry, NEVER, Record, new_revision};
use super::store::{Clock, Store, StoreTime, Versioned};
use super::times::{PENDING_FOR, RENEWED_AFTER, earlier, later};
use super::{Attempt, DetachedWrite, Ledger, SessionKey};
use crate::policy::{LimitCheck, RememberedLimits, SessionList};

/// The most blocks of a user: a person does not try so often in an hour.
const MAX_BLOCKED: usize = 20;

/// The most admissions of a user that only wait to be settled: more are those of a robot, and would make its record long.
const MAX_PENDING: usize = 100;

/// Longer than any list is in use: a check takes ten seconds at most, and the last list of a user who asks too often lasts ten. The
/// clocks of two servers differ by less than the rest. A listing is kept for so much longer than it is used.
const LISTS_LAST: Duration = Duration::from_secs(60);

/// Why a check needs a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListNeed {
    /// The policy allows nobody without one: `recheckAfter: 0s`, or `CountOthers`.
    Off,
    /// There is no listing of the user.
    Unlisted,
    /// The listing is older than `recheckAfter`.
    Old,
    /// The listing does not show the session with the application.
    Newcomer,
    /// As many sessions as a limit allows may come before the login.
    Crowded,
}

/// A login that is allowed by what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The age of the listing.
    pub age: Duration,
}

impl ListNeed {
    /// Every need.
    pub const ALL: [Self; 5] = [Self::Off, Self::Unlisted, Self::Old, Self::Newcomer, Self::Crowded];

    /// The value of the metrics' label `why`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unlisted => "unlisted",
            Self::Old => "old",
            Self::Newcomer => "newcomer",
            Self::Crowded => "crowded",
        }
    }
}

/// How long a listing is kept that is used for `recheck_after`; zero = it is not kept.
pub fn listing_kept_for(recheck_after: Duration) -> Duration {
    if recheck_after.is_zero() { Duration::ZERO } else { recheck_after + LISTS_LAST }
}

/// A list as it becomes a listing: its sessions by their codes, in order.
pub(super) fn entries<'l>(sessions: &'l SessionList, code: impl Fn(&'l str) -> SessionCode) -> Vec<ListedEntry<'l>> {
    let sorted = |clients: Vec<&'l str>| {
        let mut clients = clients;
        clients.sort_unstable();
        clients
    };
    let entries = sessions.lasting().map(|(id, created_at, clients)| ListedEntry {
        code: code(id),
        created_ms: created_at.map(Timestamp::as_millisecond),
        clients: clients.map(|clients| sorted(clients.collect())),
    });
    let mut entries: Vec<ListedEntry<'l>> = entries.collect();
    entries.sort_unstable_by_key(|entry| entry.code);
    entries.dedup_by_key(|entry| entry.code);
    entries
}

impl Record {
    /// Identifies the listing; 0 = there is none.
    pub fn mark(&self) -> u64 {
        self.listing.as_ref().map_or(0, Listing::mark)
    }

    /// Removes the listing.
    pub(super) fn forget_listing(&mut self, now: Timestamp) {
        if self.listing.take().is_some() {
            self.blind(now, LISTS_LAST);
        }
    }

    /// Lets no list become the listing that was requested before now, or within `span`.
    pub(super) fn blind(&mut self, now: Timestamp, span: Duration) {
        self.listing = None;
        self.blind_until = self.blind_until.max(Some(later(now, span)));
    }

    /// Takes a list that is never remembered: it removes the listing. The logins that it shows need no entry, because no list that
    /// was requested before becomes the listing from now on.
    pub(super) fn take_incomplete_list(&mut self, now: Timestamp, shows: impl Fn(&str, &str) -> bool) {
        self.forget_listing(now);
        let mut is_settled = false;
        for entry in self.admissions.iter_mut().filter(|entry| !entry.settled) {
            entry.settled = shows(&entry.sid, &entry.client_id);
            is_settled |= entry.settled;
        }
        let blocked = self.blocked.len();
        self.blocked.retain(|entry| !shows(&entry.sid, &entry.client_id));
        if is_settled || self.blocked.len() < blocked {
            self.blind(now, LISTS_LAST);
            self.remove_settled();
        }
    }

    /// Removes what is settled and never counts.
    fn remove_settled(&mut self) {
        self.admissions.retain(|entry| !entry.settled || entry.counts_until != NEVER);
    }

    /// Removes the oldest entries that only wait to be settled, where there are too many.
    pub(super) fn bound_pending(&mut self, now: Timestamp) {
        let is_pending =
            |entry: &AdmissionEntry| !entry.settled && (entry.counts_until == NEVER || entry.kept_until <= now);
        let mut surplus = self.admissions.iter().filter(|entry| is_pending(entry)).count().saturating_sub(MAX_PENDING);
        if surplus == 0 {
            return;
        }
        self.admissions.retain(|entry| {
            let goes = surplus > 0 && is_pending(entry);
            surplus -= usize::from(goes);
            !goes
        });
        self.blind(now, PENDING_FOR);
    }

    /// Takes a list that was requested at `since` and is kept for `kept_for`: as the listing, joined to it, or not at all. `mark` is
    /// what the record's mark was at `since`. Returns whether the listing has it.
    pub(super) fn take_list(
        &mut self,
        sessions: &[ListedEntry<'_>],
        mark: u64,
        since: Timestamp,
        kept_for: Duration,
        now: Timestamp,
    ) -> bool {
        if self.blind_until.is_some_and(|until| since < until) {
            return false;
        }
        // A listing that the check read has gone without a trace: the server lost the record, or its time ended.
        if mark != 0 && self.listing.is_none() {
            return false;
        }
        let mut next = Contents { mark: new_revision(), since, kept_for, sessions: sessions.to_vec() };
        let before = self.listing.clone();
        if let Some(before) = before.as_ref().filter(|before| before.mark() != mark) {
            let before = before.contents();
            next.join(before.clone());
            if next.sessions == before.sessions && next.since >= before.since {
                next = before;
            }
        }
        let Some(packed) = next.pack() else {
            self.forget_listing(now);
            return false;
        };
        self.listing = Some(packed);
        let is_settled = |sid: &str, client_id: &str, pending_until: Timestamp| {
            since > pending_until || next.shows(SessionCode::of(sid), client_id)
        };
        for entry in self.admissions.iter_mut().filter(|entry| !entry.settled) {
            entry.settled = is_settled(&entry.sid, &entry.client_id, entry.pending_until());
        }
        self.remove_settled();
        self.blocked.retain(|entry| !is_settled(&entry.sid, &entry.client_id, entry.pending_until()));
        true
    }

    fn is_listed(&self, sid: &str, client_id: &str) -> bool {
        self.listing.as_ref().is_some_and(|listing| listing.contents().shows(SessionCode::of(sid), client_id))
    }

    /// Remembers that a login was allowed, unless the listing shows it. What it adds counts against no list.
    pub fn note_allowed(&mut self, sid: &str, client_id: &str, now: Timestamp) {
        if self.is_listed(sid, client_id) {
            return;
        }
        match self.position(sid, client_id) {
            Some(known) => self.admissions[known].renew(now),
            None => self.admissions.push(AdmissionEntry {
                sid: sid.to_owned(),
                client_id: client_id.to_owned(),
                admitted_at: now,
                counts_until: NEVER,
                kept_until: later(now, PENDING_FOR),
                seen_at: None,
                claimable: false,
                settled: false,
                allowed_again_at: None,
            }),
        }
    }

    /// Ends the count of a login that is blocked, and remembers that it was.
    pub fn block(&mut self, sid: &str, client_id: &str, now: Timestamp) {
        self.withdraw(sid, client_id);
        self.note_blocked(sid, client_id, now);
    }

    /// Remembers that a login was blocked, unless the listing shows it. An admission of the login says as much.
    pub fn note_blocked(&mut self, sid: &str, client_id: &str, now: Timestamp) {
        if self.is_listed(sid, client_id) {
            return;
        }
        if let Some(known) = self.position(sid, client_id) {
            return self.admissions[known].renew(now);
        }
        match self.blocked.iter_mut().find(|entry| entry.sid == sid && entry.client_id == client_id) {
            Some(known) if known.blocked_at < earlier(now, RENEWED_AFTER) => known.blocked_at = now,
            Some(_) => {}
            None => {
                if self.blocked.len() >= MAX_BLOCKED {
                    self.blocked.drain(..=self.blocked.len() - MAX_BLOCKED);
                    self.blind(now, PENDING_FOR);
                }
                let (sid, client_id) = (sid.to_owned(), client_id.to_owned());
                self.blocked.push(BlockEntry { sid, client_id, blocked_at: now });
            }
        }
    }

    /// Whether a login is allowed as a holder by what is remembered (decision 1.13). `is_shared`: the record has what every replica
    /// decided.
    pub(super) fn recall(
        &self,
        sid: &str,
        limit_check: &LimitCheck<'_>,
        recheck_after: Duration,
        now: Timestamp,
        is_shared: bool,
    ) -> Result<Recalled, ListNeed> {
        let contents = self.listing.as_ref().ok_or(ListNeed::Unlisted)?.contents();
        // A clock that went back shows a listing of the future. By more than two servers differ, its age is not known.
        let age = Duration::try_from(now.duration_since(contents.since)).unwrap_or_default();
        if age >= recheck_after || contents.since > later(now, LISTS_LAST) {
            return Err(ListNeed::Old);
        }
        let code = SessionCode::of(sid);
        let current = contents.get(code).ok_or(ListNeed::Newcomer)?;
        let clients = current.clients.as_ref().ok_or(ListNeed::Newcomer)?;
        let limits_of = |clients: &[&str]| {
            clients.iter().fold(RememberedLimits::default(), |all, client| all.and(limit_check.limits_of(client)))
        };
        // Without a beginning its place is not known.
        let has_place = clients.binary_search(&limit_check.client_id()).is_ok() && current.created_ms.is_some();
        if !has_place || !limit_check.is_held_by(limits_of(clients)) {
            return Err(ListNeed::Newcomer);
        }
        if limit_check.makes_room() {
            return Ok(Recalled { age });
        }

        let unsettled =
            self.admissions.iter().filter(|entry| !entry.settled).map(|entry| (&entry.sid, &entry.client_id));
        let blocked = self.blocked.iter().map(|entry| (&entry.sid, &entry.client_id));
        let mut pending: Vec<(SessionCode, RememberedLimits)> = unsettled
            .chain(blocked)
            .map(|(sid, client_id)| (SessionCode::of(sid), limit_check.limits_of(client_id)))
            .filter(|(other, _)| *other != code)
            .collect();
        pending.sort_unstable_by_key(|(other, _)| *other);
        pending.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = kept.1.and(next.1);
            }
            is_same
        });

        let mut count = limit_check.remembered_count();
        // A session that began in the same millisecond may come before it: the order of the ids is not known here.
        let is_before = |other: &&ListedEntry<'_>| other.code != code && other.created_ms <= current.created_ms;
        for other in contents.sessions.iter().filter(is_before) {
            let listed = match &other.clients {
                Some(clients) if is_shared => limits_of(clients),
                _ => RememberedLimits::ALL,
            };
            let known = pending.binary_search_by_key(&other.code, |(other, _)| *other).ok();
            count.add(known.map_or(listed, |known| listed.and(pending[known].1)));
        }
        for (_, limits) in pending.iter().filter(|(other, _)| contents.get(*other).is_none()) {
            count.add(*limits);
        }
        if count.has_room() { Ok(Recalled { age }) } else { Err(ListNeed::Crowded) }
    }
}

impl AdmissionEntry {
    /// Ends the count of the login, which may still complete.
    pub(super) fn stop_counting(&mut self) {
        (self.counts_until, self.claimable) = (NEVER, false);
    }

    /// A list that was requested later shows the login if it has completed.
    pub(super) fn pending_until(&self) -> Timestamp {
        later(self.allowed_again_at.unwrap_or(self.admitted_at), PENDING_FOR)
    }

    /// When it ends, while the listing lasts until `listed_until`.
    pub(super) fn ends_at(&self, listed_until: Option<Timestamp>) -> Timestamp {
        let pending = (!self.settled).then(|| listed_until.max(Some(self.pending_until())));
        pending.flatten().map_or(self.kept_until, |until| until.max(self.kept_until))
    }

    /// The login may complete again from now on.
    fn renew(&mut self, now: Timestamp) {
        let last = self.allowed_again_at.unwrap_or(self.admitted_at);
        if self.settled || last < earlier(now, RENEWED_AFTER) {
            self.allowed_again_at = Some(now);
            self.settled = false;
            if self.counts_until == NEVER {
                self.kept_until = later(now, PENDING_FOR);
            }
        }
    }
}

impl BlockEntry {
    /// A list that was requested later shows the login if it has completed.
    pub(super) fn pending_until(&self) -> Timestamp {
        later(self.blocked_at, PENDING_FOR)
    }

    /// When it ends, while the listing lasts until `listed_until`.
    pub(super) fn ends_at(&self, listed_until: Option<Timestamp>) -> Timestamp {
        listed_until.map_or(self.pending_until(), |listed_until| listed_until.max(self.pending_until()))
    }
}

impl<S: Store> Attempt<S> {
    /// Whether the login is allowed as a holder by what was remembered when the attempt began, by a listing that is younger than
    /// `recheck_after`.
    ///
    /// # Errors
    /// Why it needs a list.
    pub fn recall(&self, limit_check: &LimitCheck<'_>, recheck_after: Duration) -> Result<Recalled, ListNeed> {
        let StoreTime { at, clock, .. } = self.since;
        let sid = self.ledger.store.pseudonym(&self.key.sid);
        self.record.recall(&sid, limit_check, recheck_after, at, clock == Clock::Shared)
    }
}

impl<S: Store> Ledger<S> {
    /// Remembers the answer to a login that no list decided: it may complete. Such an entry counts against no list, and takes nothing
    /// from one that does. Waits for the write until the deadline, then continues it in the background.
    pub async fn note_answer(self: &Arc<Self>, key: SessionKey, is_allowed: bool, deadline: Instant) {
        let ledger = Arc::clone(self);
        let write = async move {
            let note = |read: &Versioned, next: &mut Record| {
                let (sid, now) = (ledger.store.pseudonym(&key.sid), read.now.at);
                if is_allowed {
                    next.note_allowed(&sid, &key.client_id, now);
                } else {
                    next.note_blocked(&sid, &key.client_id, now);
                }
            };
            ledger.edit(&key.user, note).await;
        };
        let mut write = DetachedWrite { background: &self.background, write: Some(Box::pin(write)) };
        write.run(deadline).await;
    }
}

#[cfg(test)]
mod tests;
