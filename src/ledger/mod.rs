//! The ledger: it makes a limit exact when logins come at the same time.
//!
//! Auth0 adds an application to a session only when the login completes, so two logins at the same time do not see each other
//! in its list. The ledger keeps, for each user, the logins that were allowed, and makes deciding and recording one step:
//!
//! ```text
//!   begin    the store's time T, and whether the session was revoked ─┐
//!                                                                     │  before the list is requested
//!   list     the user's sessions, requested after T                   │
//!                                                                     ▼
//!   admit    ┌▶ read the record ─▶ decide ─▶ exchange it, if its revision is the one that was read
//!            └──────────── no: another replica was faster
//!
//!   finish   which sessions were revoked and which were not, and whether the login is allowed
//! ```
//!
//! The four steps are an [`Attempt`]. A [`Store`] knows nothing of them. It keeps one [`Record`] for each user, exchanges it as
//! a whole when its revision is the one that was read, and has a clock. The meaning of a record is in `record` and the protocol
//! is here, each once for all stores.
//!
//! # Why it holds
//!
//! *No allowed login is missed.* Let X be a login that was allowed. A check that read the record before X's exchange cannot
//! commit after it without reading again. A check that reads X's entry counts it, unless the entry has ended for the check's
//! list. An entry ends for a list in one of two ways:
//!
//! * T is later than X's window. If X completed within its window, a list that was requested after T shows it.
//! * T is later than X's mark. A mark is the store's time after a list that shows X had arrived. So X had completed before the
//!   mark, and a list that was requested after T shows X too, or X has been logged out since.
//!
//! Both compare T, not the time of the commit: a slow list cannot outlast the entries that it has to be counted with, because an
//! entry is kept until the slowest check with such a list is done (`kept_until`).
//!
//! *A mark changes no decision that is under way.* It is later than the T of every check that read the record before it was
//! written, and those checks count the entry with the mark or without it. A mark does write a new revision; a check that meets
//! it decides again, with the same result, and no mark is lost.
//!
//! *Two evicting logins do not share a victim.* The newcomer's entry and the reservation of its victims are one exchange. A
//! check that decides after it does not count the victims and cannot choose them; it counts the newcomer, which cannot be chosen
//! before it is listed. So each place that is freed is taken once. When a revocation fails, its victim is released and counts
//! again; with the newcomer blocked and withdrawn, that is as many as before. Only a login that was allowed in between, in place
//! of the newcomer or of one of its several victims, may then be one too many: the failure policy answered, and there the promise
//! ends. A reservation whose replica died ends by itself.
//!
//! *A dropped attempt leaves nothing that was not there before.* No answer was given, so no login was allowed by it: the
//! attempt withdraws the entry that it added, and no other. Its victims are released and count again, also those that are revoked
//! by then: that is too strict until a list no longer shows them, never too lax.
//!
//! # Times
//!
//! Every time in a record is the store's. The `now` of a decision is this process's wall clock, which is compared with Auth0's
//! dates. The two meet in one place, where an admission counts as a use for `activeWithin`; there the difference of two clocks
//! that are synchronized does not matter.

mod codec;
mod failover;
mod holders;
mod key;
mod memory;
pub mod metrics;
mod record;
mod store;
mod user_locks;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::policy::{Admission, Decision, Failure, SessionList, Verdict};
use record::new_revision;
use user_locks::UserLocks;

pub use failover::Failover;
pub use holders::{DEFAULT_CAPACITY as DEFAULT_HOLDERS, RecentHolders};
pub use key::{SessionKey, UserKey};
pub use memory::{DEFAULT_CAPACITY, Memory};
pub use record::{AdmissionEntry, MAX_LIST_AGE, REVOKED_FOR, Record, RevocationEntry, Terms};
pub use store::{Stats, Store, StoreTime, Versioned};

/// The most entries of one user. No limit is above 1,000, so more matter only to a user who logs in to several applications a
/// thousand times within one window.
const MAX_ENTRIES_PER_USER: usize = 4_000;

/// The most writes that go on after their checks have ended: four times the checks that wait for one tenant by default. A write
/// takes a few operations of the store, so that many are under way only when the store hangs.
const MAX_BACKGROUND_WRITES: usize = 4_096;

/// The ledger of a replica.
pub struct Ledger<S = Failover> {
    store: S,
    user_locks: UserLocks,
    background: Arc<Semaphore>,
    conflicts: AtomicU64,
    forgotten: AtomicU64,
}

/// A login on its way through a check: it begins before the list is requested and ends with [`finish`](Self::finish). One that
/// is dropped before undoes what it wrote, in the background.
#[must_use = "an attempt that is dropped undoes itself"]
pub struct Attempt<S: Store = Failover> {
    ledger: Arc<Ledger<S>>,
    key: SessionKey,
    terms: Terms,
    since: StoreTime,
    was_revoked: bool,
    written: Written,
}

/// What an attempt wrote, or may have written when its exchange was not answered in time.
#[derive(Default)]
struct Written {
    /// Whether the decision allows the login; `None` = there is none.
    allowed: Option<bool>,
    /// Whether the login has an entry that it did not have before.
    added: bool,
    /// The sessions that it reserved.
    reserved: Vec<String>,
}

/// What happened to the sessions that a decision evicts.
#[derive(Debug, Default)]
pub struct Eviction {
    /// Revoked, or already gone.
    pub revoked: Vec<String>,
    /// Not revoked.
    pub alive: Vec<String>,
}

/// A write that is completed also when its check no longer waits for it.
struct Completion<'a> {
    background: &'a Arc<Semaphore>,
    write: Option<BoxFuture<'static, ()>>,
}

impl<S: Store> Ledger<S> {
    /// A ledger that is kept in a store.
    pub fn new(store: S) -> Self {
        Self {
            store,
            user_locks: UserLocks::default(),
            background: Arc::new(Semaphore::new(MAX_BACKGROUND_WRITES)),
            conflicts: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Begins an attempt, before the sessions are listed.
    pub async fn begin(self: &Arc<Self>, key: SessionKey, terms: Terms) -> Attempt<S> {
        let read = self.store.read(&key.user).await;
        let was_revoked = !read.record.is_empty() && {
            let sid = self.store.pseudonym(&key.sid);
            read.record.dead(read.now.at).any(|dead| dead == sid)
        };
        let written = Written::default();
        Attempt { ledger: Arc::clone(self), key, terms, since: read.now, was_revoked, written }
    }

    /// What the ledger and its store count.
    pub fn stats(&self) -> Stats {
        let stats = self.store.stats();
        Stats {
            conflicts: self.conflicts.load(Ordering::Relaxed),
            forgotten: stats.forgotten + self.forgotten.load(Ordering::Relaxed),
            ..stats
        }
    }

    /// Records what happened to evicted sessions: the revoked are dead for a minute from now, and their admissions end; the
    /// others count again.
    async fn settle(&self, user: &UserKey, eviction: &Eviction) {
        self.edit(user, |read, next| {
            for sid in &eviction.revoked {
                next.revoke(&self.store.pseudonym(sid), read.now.at);
            }
            for sid in &eviction.alive {
                next.release(&self.store.pseudonym(sid));
            }
        })
        .await;
    }

    /// Adds a login that the failure policy allows.
    async fn remember(&self, key: &SessionKey, terms: Terms) {
        let sid = self.store.pseudonym(&key.sid);
        self.edit(&key.user, |read, next| next.admit(&sid, &key.client_id, terms, read.now.at, read.now.at)).await;
    }

    /// Removes a login that is blocked in the end, and nothing else.
    async fn withdraw(&self, key: &SessionKey) {
        let sid = self.store.pseudonym(&key.sid);
        self.edit(&key.user, |_, next| next.withdraw(&sid, &key.client_id)).await;
    }

    /// Undoes what an attempt wrote.
    async fn undo(&self, key: &SessionKey, written: &Written) {
        self.edit(&key.user, |_, next| {
            for sid in &written.reserved {
                next.release(&self.store.pseudonym(sid));
            }
            if written.added {
                next.withdraw(&self.store.pseudonym(&key.sid), &key.client_id);
            }
        })
        .await;
    }

    /// Changes a user's record under the user's lock, as often as it takes: an exchange fails only when another succeeded.
    /// A step that changes nothing rests on what was just read, and there is nothing to exchange.
    async fn edit<T>(&self, user: &UserKey, mut step: impl FnMut(&Versioned, &mut Record) -> T) -> T {
        let _lock = self.user_locks.lock(user).await;
        let mut read = self.store.read(user).await;
        loop {
            let mut next = Record::clone(&read.record);
            let outcome = step(&read, &mut next);
            if next == *read.record {
                return outcome;
            }
            next.expire(read.now.at);
            let forgotten = next.shorten(MAX_ENTRIES_PER_USER);
            let revision = new_revision();
            next.revision = revision;
            match self.store.compare_exchange(user, &read, next).await {
                Err(stored) if stored.record.revision != revision => {
                    self.conflicts.fetch_add(1, Ordering::Relaxed);
                    read = stored;
                }
                // An exchange that fails because of what it wrote itself was done, and was sent again because its answer was
                // lost. A second decision would find the sessions that this very check reserved, and would take them for those
                // of another.
                Ok(()) | Err(_) => {
                    self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
                    return outcome;
                }
            }
        }
    }

    /// The session ids behind the store's pseudonyms, as far as a check can know them: those of the listed sessions and its own.
    /// For any other session the pseudonym serves as the id. Empty where a store has no pseudonyms.
    fn ids<'a>(&self, record: &Record, key: &'a SessionKey, list: &'a SessionList) -> HashMap<String, &'a str> {
        if record.is_empty() {
            return HashMap::new();
        }
        let pseudonym = |sid: &'a str| match self.store.pseudonym(sid) {
            Cow::Owned(pseudonym) => Some((pseudonym, sid)),
            Cow::Borrowed(_) => None,
        };
        list.ids().chain([&*key.sid]).filter_map(pseudonym).collect()
    }
}

impl<S: Store> Attempt<S> {
    /// The login.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The store's time when the attempt began: a list that is requested from now on is complete since then.
    pub fn since(&self) -> StoreTime {
        self.since
    }

    /// Whether this service revoked the login's own session within the last minute.
    pub fn was_revoked(&self) -> bool {
        self.was_revoked
    }

    /// Decides with what the ledger knows, and records the decision, in one step. `since` is the time that belongs to the list:
    /// a list that another check requested has that check's. `decide` gets the admissions that count for the list and the
    /// sessions that are dead to it; it is called again when another replica was faster.
    ///
    /// An allowed login gets an entry, unless the list shows it already; with it, the sessions that it evicts are reserved. A
    /// blocked login is withdrawn.
    ///
    /// # Errors
    /// [`Verdict::SessionRevoked`] when another login chose the session for eviction in the meantime, and
    /// [`Failure::Overloaded`] when the user's lock was not free, or other replicas were always faster, until the deadline.
    pub async fn admit(
        &mut self,
        sessions: &SessionList,
        since: StoreTime,
        deadline: Instant,
        mut decide: impl FnMut(&[Admission], &HashSet<String>) -> Decision,
    ) -> Result<Decision, Verdict> {
        let Self { ledger, key, terms, written, .. } = self;
        let sid = ledger.store.pseudonym(&key.sid);
        let overloaded = Verdict::failed(Failure::Overloaded);
        let step = |read: &Versioned, next: &mut Record| {
            *written = Written::default();
            // A timer alone would allow what is ready when it is polled late.
            if Instant::now() >= deadline {
                return Err(overloaded);
            }
            let (since, now) = (since.on_clock_of(read.now), read.now.at);
            let ids = ledger.ids(&read.record, key, sessions);
            let id = |sid: &str| ids.get(sid).map_or_else(|| sid.to_owned(), |id| (*id).to_owned());
            let dead: HashSet<String> = read.record.dead(since).map(id).collect();
            if dead.contains(&*key.sid) {
                return Err(Verdict::SessionRevoked);
            }
            let admissions: Vec<Admission> = read
                .record
                .counting(since)
                .map(|entry| Admission {
                    sid: id(&entry.sid),
                    client_id: entry.client_id.clone(),
                    admitted_at: entry.admitted_at,
                })
                .collect();
            let decision = decide(&admissions, &dead);
            if decision == Decision::Undecided {
                return Err(Verdict::from(&decision));
            }

            let allowed = !(terms.enforced && matches!(decision, Decision::Exceeded { .. }));
            next.mark_seen(now, |entry| sessions.shows(&id(&entry.sid), &entry.client_id));
            if !allowed {
                next.withdraw(&sid, &key.client_id);
            } else if !sessions.shows(&key.sid, &key.client_id) {
                next.admit(&sid, &key.client_id, *terms, since, now);
            }
            written.allowed = Some(allowed);
            written.added = next.has(&sid, &key.client_id) && !read.record.has(&sid, &key.client_id);
            if let Decision::Evict { victims, .. } = &decision
                && terms.enforced
            {
                for victim in victims {
                    next.reserve(&ledger.store.pseudonym(victim), now);
                }
                written.reserved.clone_from(victims);
            }
            Ok(decision)
        };
        match timeout_at(deadline, ledger.edit(&key.user, step)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // The exchange may have been done although its answer was late: what it wrote stays known, the decision does not.
                written.allowed = None;
                Err(overloaded)
            }
        }
    }

    /// Ends the attempt: with what happened to the sessions that the decision evicts, and whether the answer allows the login.
    /// Reserved sessions that `eviction` does not name were not revoked.
    ///
    /// The ledger records it in any case and is waited for until the deadline: no answer is late because other checks of the
    /// user are before it.
    pub async fn finish(mut self, eviction: Eviction, stays: bool, deadline: Instant) {
        let Written { allowed, reserved, .. } = take(&mut self.written);
        let Eviction { revoked, mut alive } = eviction;
        let named: HashSet<&str> = revoked.iter().chain(&alive).map(String::as_str).collect();
        let unnamed: Vec<String> = reserved.into_iter().filter(|sid| !named.contains(sid.as_str())).collect();
        alive.extend(unnamed);
        let carried_out = alive.is_empty() && allowed == Some(stays);
        if carried_out && revoked.is_empty() {
            return;
        }
        let (ledger, key, terms) = (Arc::clone(&self.ledger), self.key.clone(), self.terms);
        let write = async move {
            let eviction = Eviction { revoked, alive };
            if !(eviction.revoked.is_empty() && eviction.alive.is_empty()) {
                ledger.settle(&key.user, &eviction).await;
            }
            match (carried_out, stays) {
                (true, _) => {}
                (false, true) => ledger.remember(&key, terms).await,
                (false, false) => ledger.withdraw(&key).await,
            }
        };
        let mut completion = Completion { background: &self.ledger.background, write: Some(Box::pin(write)) };
        completion.run(deadline).await;
    }
}

impl<S: Store> Drop for Attempt<S> {
    fn drop(&mut self) {
        let written = take(&mut self.written);
        if !written.added && written.reserved.is_empty() {
            return;
        }
        let (ledger, key) = (Arc::clone(&self.ledger), self.key.clone());
        let write = async move { ledger.undo(&key, &written).await };
        drop(Completion { background: &self.ledger.background, write: Some(Box::pin(write)) });
    }
}

impl Completion<'_> {
    /// Waits for the write until the deadline.
    async fn run(&mut self, deadline: Instant) {
        if let Some(write) = &mut self.write
            && timeout_at(deadline, write).await.is_ok()
        {
            self.write = None;
        }
    }
}

impl Drop for Completion<'_> {
    /// Completes the write in the background. Without a runtime or a permit, or after a minute, it is given up: by then what it
    /// would change has ended by itself.
    fn drop(&mut self) {
        let Some(write) = self.write.take() else { return };
        if let (Ok(runtime), Ok(permit)) = (Handle::try_current(), Arc::clone(self.background).try_acquire_owned()) {
            runtime.spawn(async move {
                let _ = timeout(REVOKED_FOR, write).await;
                drop(permit);
            });
        }
    }
}
