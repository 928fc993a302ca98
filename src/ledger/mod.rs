//! The ledger: what makes a limit true when logins come at once.
//!
//! Auth0 adds an application to a session only when the login completes, so two logins at once do not see each other
//! in its list. The ledger remembers, for each user, which logins were let in, and makes deciding and remembering one
//! step:
//!
//! ```text
//!   open     the store's time T, and whether the session was revoked ─┐
//!                                                                     │  before the list is requested
//!   list     the user's sessions, requested after T                   │
//!                                                                     ▼
//!   admit    ┌▶ read the record ─▶ decide ─▶ exchange it, if it still stands as read ─▶ answer
//!            └──────────── no: somebody else was faster, on another replica
//! ```
//!
//! A [`Store`] knows nothing of this. It keeps one [`Record`] for each user, exchanges it as a whole when the revision
//! that was read still stands, and has a clock. What a record means is in `record`, the protocol is here, each once, for
//! every store.
//!
//! # Why it holds
//!
//! *Nothing is counted too little.* Let X be a login that was let in. A check whose record was read before X's exchange
//! cannot commit after it without reading again. A check that reads X's entry counts it, unless the entry is over for its
//! list, in one of two ways. Either T is later than X's window: then a login that completed within it is in a list that was
//! requested after T. Or T is later than X's mark: a mark is the store's time after a list that shows X had arrived, so X
//! had completed before the mark, and a list that was requested after T shows it too, or X has been logged out since. Both
//! compare T, not the time of the commit: a slow list cannot outlive what it has to be counted with, and an entry is kept
//! until the slowest check with such a list is done (`kept_until`).
//!
//! *A mark changes no decision that is under way.* It is later than the T of every check that has read the record before
//! it, and those count the entry with or without it. A mark does write a new revision; who meets it decides again, to the same
//! end, and no mark is ever lost.
//!
//! *Two evicting logins do not share a victim.* The newcomer's entry and the reservation of its victims are one exchange.
//! Whoever decides after it does not count the victims and cannot choose them, but counts the newcomer, who cannot be chosen
//! before it is listed. So each place that is freed is taken once. When a revocation fails, its victim is released and counts
//! again; with the newcomer refused and withdrawn, that is as many as before. Only what was let in between, at the cost of
//! the newcomer or of one of its several victims, may then be one too many: the failure policy answered, and that is where the
//! promise ends. A reservation whose replica died ends by itself.
//!
//! # Times
//!
//! Every time in a record is the store's. The `now` that a decision works with is the caller's wall clock, which is compared
//! with Auth0's dates; the two meet in one place, where `activeWithin` takes an admission for a sign of life, and there the
//! difference of two clocks that are kept in step does not matter.

mod codec;
mod failover;
mod holders;
mod memory;
pub mod metrics;
mod record;
mod redis;
mod store;
mod user_locks;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Instant, timeout_at};

use crate::policy::{Admission, Decision, Failure, SessionList, Verdict};

pub use failover::{DEFAULT_BOUND, Failover};
pub use holders::{DEFAULT_CAPACITY as HOLDERS, Holders, Holding};
pub use memory::{DEFAULT_CAPACITY, Memory};
pub use record::{AdmissionEntry, MAX_LIST_AGE, REVOKED_FOR, Record, RevocationEntry, Terms};
pub use redis::{Granted, Redis};
pub use store::{Backend, Store, StoreTime, Versioned};

/// The most that is remembered of one user. No limit is above 1,000: more could only matter to somebody who logs in to
/// several applications a thousand times within one window.
const MAX_PER_USER: usize = 4_000;

/// A user of a tenant: whom records are about.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct User(Arc<str>);

/// The ledger of a replica.
pub struct Ledger<S = Backend> {
    store: S,
    user_locks: user_locks::UserLocks,
    conflicts: AtomicU64,
    forgotten: AtomicU64,
}

/// What a check knows before it lists the sessions.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The ledger's time: a list that is requested from now on knows everything since.
    pub since: StoreTime,
    /// Whether this service revoked the login's own session within the last minute.
    pub revoked: bool,
}

/// A login on its way through a check.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Who logs in.
    pub user: &'a User,
    /// The session.
    pub sid: &'a str,
    /// The application.
    pub client_id: &'a str,
    /// For how long it is remembered if it is let in.
    pub terms: Terms,
    /// Whether the decision has effect. Under an auditing policy every login is let in, and nothing is revoked.
    pub enforced: bool,
}

/// A user's sessions, and since when the list knows everything.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The sessions.
    pub sessions: &'a SessionList,
    /// [`Opened::since`] of the check for which the list was requested; a list that is shared keeps it.
    pub since: StoreTime,
}

/// What can be counted about a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Admissions and revocations in this process's memory.
    pub size: usize,
    /// How many were forgotten before their time because the memory is bounded. Never falls.
    pub forgotten: u64,
    /// How often another replica was faster, and the decision was made again. Never falls.
    pub conflicts: u64,
    /// How often the memory stood in for the shared store. Never falls.
    pub fallbacks: u64,
    /// Whether it does so now.
    pub degraded: bool,
}

/// A name for a state of a record that no other has.
fn new_revision() -> u64 {
    rand::random_range(1..=u64::MAX)
}

impl User {
    /// The user of a tenant, which is named by its canonical domain.
    pub fn new(tenant: &str, user_id: &str) -> Self {
        // A domain has no slash, so no two users have the same key.
        Self(format!("{tenant}/{user_id}").into())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User")
    }
}

impl<S: Store> Ledger<S> {
    /// A ledger that is kept in a store.
    pub fn new(store: S) -> Self {
        Self {
            store,
            user_locks: user_locks::UserLocks::default(),
            conflicts: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// What it is kept in.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Opens the ledger for a check, before the sessions are listed.
    pub async fn open(&self, user: &User, sid: Option<&str>) -> Opened {
        let read = self.store.read(user).await;
        let since = read.now;
        let revoked = !read.record.is_empty()
            && sid.is_some_and(|sid| {
                let sid = self.store.pseudonym(sid);
                read.record.dead(since.at).any(|dead| dead == sid)
            });
        Opened { since, revoked }
    }

    /// Decides with what is remembered, and remembers what was decided, in one step. `decide` is handed the admissions
    /// that count for the list and the sessions that are dead to it; it is called again when another replica was faster.
    ///
    /// A login that is let in is remembered, unless the list shows it already; with it, the sessions that have to give way
    /// are reserved: once they are revoked, or could not be, [`settle`](Self::settle) has to be told. A login that is refused is
    /// withdrawn.
    ///
    /// # Errors
    /// [`Verdict::SessionRevoked`] when the session was chosen to give way to another in the meantime, and
    /// [`Failure::Overloaded`] when it was not this check's turn, or others were always faster, until the deadline. The answer of
    /// the failure policy then has to be told by [`remember`](Self::remember) or [`withdraw`](Self::withdraw).
    pub async fn admit(
        &self,
        attempt: &Attempt<'_>,
        list: Listed<'_>,
        deadline: Instant,
        mut decide: impl FnMut(&[Admission], &HashSet<String>) -> Decision,
    ) -> Result<Decision, Verdict> {
        let sid = self.store.pseudonym(attempt.sid);
        let overloaded = Verdict::Failed { failure: Failure::Overloaded, count: None, revoked: None };
        let mut reserved = Vec::new();
        let step = |read: &Versioned, next: &mut Record| {
            reserved.clear();
            // A timer alone would let through what is ready when it is looked at late.
            if Instant::now() >= deadline {
                return Err(overloaded);
            }
            let (since, now) = (list.since.on_clock_of(read.now), read.now.at);
            let names = self.names(&read.record, attempt, list.sessions);
            let name = |sid: &str| names.get(sid).map_or_else(|| sid.to_owned(), |name| (*name).to_owned());
            let dead: HashSet<String> = read.record.dead(since).map(name).collect();
            if dead.contains(attempt.sid) {
                return Err(Verdict::SessionRevoked);
            }
            let admissions: Vec<Admission> = read
                .record
                .counting(since)
                .map(|entry| Admission {
                    sid: name(&entry.sid),
                    client_id: entry.client_id.clone(),
                    admitted_at: entry.admitted_at,
                })
                .collect();
            let decision = decide(&admissions, &dead);

            next.mark_seen(now, |entry| list.sessions.shows(&name(&entry.sid), &entry.client_id));
            if attempt.enforced && matches!(decision, Decision::Exceeded { .. }) {
                next.withdraw(&sid, attempt.client_id);
            } else if !list.sessions.shows(attempt.sid, attempt.client_id) {
                next.admit(&sid, attempt.client_id, attempt.terms, since, now);
            }
            if let Decision::Evict { victims, .. } = &decision
                && attempt.enforced
            {
                for victim in victims {
                    next.reserve(&self.store.pseudonym(victim), now);
                }
                reserved.clone_from(victims);
            }
            Ok(decision)
        };
        if let Ok(outcome) = timeout_at(deadline, self.edit(attempt.user, step)).await {
            return outcome;
        }
        // The exchange may have been done although its answer came too late.
        if !reserved.is_empty() {
            self.settle(attempt.user, &[], &reserved).await;
        }
        Err(overloaded)
    }

    /// Remembers a login that the failure policy lets in.
    pub async fn remember(&self, attempt: &Attempt<'_>) {
        let sid = self.store.pseudonym(attempt.sid);
        self.edit(attempt.user, |read, next| {
            next.admit(&sid, attempt.client_id, attempt.terms, read.now.at, read.now.at);
        })
        .await;
    }

    /// Takes out a login that is refused in the end, and nothing else.
    pub async fn withdraw(&self, attempt: &Attempt<'_>) {
        let sid = self.store.pseudonym(attempt.sid);
        self.edit(attempt.user, |_, next| next.withdraw(&sid, attempt.client_id)).await;
    }

    /// Says what became of the sessions that had to give way: those that were revoked or already gone are dead for a
    /// minute from now, and what was remembered of them ends; those that could not be revoked count again.
    pub async fn settle(&self, user: &User, revoked: &[String], alive: &[String]) {
        self.edit(user, |read, next| {
            for sid in revoked {
                next.revoke(&self.store.pseudonym(sid), read.now.at);
            }
            for sid in alive {
                next.release(&self.store.pseudonym(sid));
            }
        })
        .await;
    }

    /// What can be counted.
    pub fn stats(&self) -> Stats {
        let stats = self.store.stats();
        Stats {
            conflicts: self.conflicts.load(Ordering::Relaxed),
            forgotten: stats.forgotten + self.forgotten.load(Ordering::Relaxed),
            ..stats
        }
    }

    /// Changes a user's record in the user's turn, as often as it takes: an exchange fails only when another succeeded.
    /// A step that changes nothing rests on what was just read, and there is nothing to exchange.
    async fn edit<T>(&self, user: &User, mut step: impl FnMut(&Versioned, &mut Record) -> T) -> T {
        let _turn = self.user_locks.take(user).await;
        let mut read = self.store.read(user).await;
        loop {
            let mut next = Record::clone(&read.record);
            let outcome = step(&read, &mut next);
            if next == *read.record {
                return outcome;
            }
            next.expire(read.now.at);
            let forgotten = next.shorten(MAX_PER_USER);
            let revision = new_revision();
            next.revision = revision;
            match self.store.compare_exchange(user, &read, next).await {
                Err(moved) if moved.record.revision != revision => {
                    self.conflicts.fetch_add(1, Ordering::Relaxed);
                    read = moved;
                }
                // An exchange that is refused by what it wrote itself had been done, and was sent again because its answer was
                // lost: deciding again would take the sessions that this very check reserved for those of another.
                Ok(()) | Err(_) => {
                    self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
                    return outcome;
                }
            }
        }
    }

    /// What the store's names for sessions mean, as far as a check can know: the sessions that are listed, and its own. Any
    /// other is only remembered, and its name is as good as another. Empty where a store calls sessions by their ids.
    fn names<'a>(&self, record: &Record, attempt: &Attempt<'a>, list: &'a SessionList) -> HashMap<String, &'a str> {
        if record.is_empty() {
            return HashMap::new();
        }
        let named = |sid: &'a str| match self.store.pseudonym(sid) {
            std::borrow::Cow::Owned(name) => Some((name, sid)),
            std::borrow::Cow::Borrowed(_) => None,
        };
        list.ids().chain([attempt.sid]).filter_map(named).collect()
    }
}
