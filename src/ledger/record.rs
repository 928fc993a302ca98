//! What is remembered of one user, and every rule about it as a pure function: what counts for which list, what a login
//! adds, what takes it out again, and when it ends.
//!
//! All times are the ledger's own. A check has one of them from the start: the time since which its list knows everything,
//! called `since` here and T in the essay of the parent module.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long a session that this service revoked is neither counted nor revoked again: Auth0 deletes asynchronously.
pub const REVOKED_FOR: Duration = Duration::from_secs(60);

/// The greatest age of a list that may be used again for a user who asks too often.
pub const MAX_LIST_AGE: Duration = Duration::from_secs(10);

/// What is remembered of one user. An absent record is the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Names this very state of the record: random, new with every write, 0 = nothing was ever written.
    pub revision: u64,
    /// Logins that were let in and that Auth0's list may not show yet, at most one for each session and application.
    pub admissions: Vec<AdmissionEntry>,
    /// Sessions that this service revoked or is about to revoke, each once.
    pub revoked: Vec<RevocationEntry>,
}

/// A login that was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// The application.
    pub client_id: String,
    /// When it was first let in.
    pub admitted_at: Timestamp,
    /// It counts for lists that know everything only since before this.
    pub counts_until: Timestamp,
    /// It is kept until this, because a check with such a list may take until then to commit.
    pub kept_until: Timestamp,
    /// When a list was first seen to show it: lists that know everything since later are believed without it.
    pub seen_at: Option<Timestamp>,
}

/// A session that was revoked, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationEntry {
    /// The session, as the store writes it.
    pub sid: String,
    /// It is dead to every list that knows everything only since before this.
    pub until: Timestamp,
}

/// For how long a login that is let in is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The policy's `admissionWindow`; zero = not at all.
    pub window: Duration,
    /// The longest `timeout` of the tenant's policies: no check takes longer from its list to its commit.
    pub longest_check: Duration,
}

impl Record {
    /// The admissions that count for a list that knows everything since `since`.
    pub fn counting(&self, since: Timestamp) -> impl Iterator<Item = &AdmissionEntry> {
        self.admissions.iter().filter(move |entry| entry.counts_for(since))
    }

    /// The sessions that are dead to such a list.
    pub fn dead(&self, since: Timestamp) -> impl Iterator<Item = &str> {
        self.revoked.iter().filter(move |revoked| revoked.until > since).map(|revoked| revoked.sid.as_str())
    }

    /// Whether nothing at all is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many admissions and revocations are remembered.
    pub fn len(&self) -> usize {
        self.admissions.len() + self.revoked.len()
    }

    /// The same on a clock that shows so much more. Marks are left behind: they have to be exact.
    pub fn moved_by(mut self, offset: SignedDuration) -> Self {
        let moved = |at: Timestamp| at.checked_add(offset).unwrap_or(at);
        for entry in &mut self.admissions {
            entry.admitted_at = moved(entry.admitted_at);
            entry.counts_until = moved(entry.counts_until);
            entry.kept_until = moved(entry.kept_until);
            entry.seen_at = None;
        }
        for revoked in &mut self.revoked {
            revoked.until = moved(revoked.until);
        }
        self
    }

    /// How long the record has to be kept after `now`.
    pub fn lasts(&self, now: Timestamp) -> Duration {
        let ends = self.admissions.iter().map(|entry| entry.kept_until).chain(self.revoked.iter().map(|it| it.until));
        ends.max().map_or(Duration::ZERO, |end| Duration::try_from(end.duration_since(now)).unwrap_or_default())
    }

    /// Whether anything in it has ended.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.admissions.iter().any(|entry| entry.kept_until <= now)
            || self.revoked.iter().any(|revoked| revoked.until <= now)
    }

    /// Forgets what has ended.
    pub fn expire(&mut self, now: Timestamp) {
        self.admissions.retain(|entry| entry.kept_until > now);
        self.revoked.retain(|revoked| revoked.until > now);
    }

    /// Forgets the oldest until no more than `most` are left; says how many had to go.
    pub fn shorten(&mut self, most: usize) -> usize {
        let surplus = self.len().saturating_sub(most);
        let admissions = surplus.min(self.admissions.len());
        self.admissions.drain(..admissions);
        self.revoked.drain(..surplus - admissions);
        surplus
    }

    /// Remembers a login that is let in now. One that is remembered already keeps its time: asking again does not extend
    /// it. Only one that no longer says anything to a list since `since` begins anew.
    pub fn admit(&mut self, sid: &str, client_id: &str, terms: Terms, since: Timestamp, now: Timestamp) {
        if terms.window.is_zero() {
            return;
        }
        if let Some(known) = self.position(sid, client_id) {
            let known_entry = &self.admissions[known];
            if known_entry.counts_until > now && known_entry.seen_at.is_none_or(|seen| seen >= since) {
                return;
            }
            self.admissions.remove(known);
        }
        let counts_until = later(now, terms.window.max(terms.longest_check));
        self.admissions.push(AdmissionEntry {
            sid: sid.to_owned(),
            client_id: client_id.to_owned(),
            admitted_at: now,
            counts_until,
            kept_until: later(counts_until, terms.longest_check + MAX_LIST_AGE),
            seen_at: None,
        });
    }

    /// Takes out exactly this login.
    pub fn withdraw(&mut self, sid: &str, client_id: &str) {
        if let Some(known) = self.position(sid, client_id) {
            self.admissions.remove(known);
        }
    }

    /// Marks what a list shows that came before `now`. The first mark stays.
    pub fn mark_seen(&mut self, now: Timestamp, shows: impl Fn(&AdmissionEntry) -> bool) {
        for entry in self.admissions.iter_mut().filter(|entry| entry.seen_at.is_none()) {
            if shows(entry) {
                entry.seen_at = Some(now);
            }
        }
    }

    /// Takes sessions that are about to be revoked: nobody counts them or chooses them again. What is remembered of them is
    /// silent meanwhile and speaks again if they are [released](Self::release).
    pub fn reserve(&mut self, sid: &str, now: Timestamp) {
        self.release(sid);
        self.revoked.push(RevocationEntry { sid: sid.to_owned(), until: later(now, REVOKED_FOR) });
    }

    /// Gives back a session that could not be revoked.
    pub fn release(&mut self, sid: &str) {
        self.revoked.retain(|revoked| revoked.sid != sid);
    }

    /// Remembers that a session is revoked: what was remembered of it ends at once.
    pub fn revoke(&mut self, sid: &str, now: Timestamp) {
        self.reserve(sid, now);
        self.admissions.retain(|entry| entry.sid != sid);
    }

    fn position(&self, sid: &str, client_id: &str) -> Option<usize> {
        self.admissions.iter().position(|entry| entry.sid == sid && entry.client_id == client_id)
    }
}

impl AdmissionEntry {
    fn counts_for(&self, since: Timestamp) -> bool {
        self.counts_until > since && self.seen_at.is_none_or(|seen| seen >= since)
    }
}

/// Saturates at the end of time, which only a clock far beyond it could ask for.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}
