//! The ledger: it makes a limit exact when logins come at the same time.
//!
//! Auth0 adds an application to a session only when the login completes, so two logins at the same time do not see each other
//! in its list. The ledger keeps, for each user, the logins that were allowed, and makes deciding and recording one step:
//!
//! ```text
//!   begin    the store's time T (`since` in code), and whether the session was revoked or reserved ─┐
//!                                                                                                   │  before the request
//!   list     the user's sessions, requested after T                                                 │
//!                                                                                                   ▼
//!   decide   ┌▶ read the record ─▶ decide ─▶ write it if its revision is unchanged
//!            └──────────── no: another replica was faster
//!
//!   finish   one write: which sessions were revoked and which were not, and whether the login is allowed
//! ```
//!
//! Begin, decide and finish belong to an [`Attempt`]; the caller requests the list. A [`Store`] knows nothing of them. It keeps
//! one [`Record`] for each user, writes it as a whole if its revision is unchanged, and has a clock. The meaning of a record is
//! in `record` and the protocol is here, each once for all stores.
//!
//! # Why it holds
//!
//! *No allowed login is missed.* Let X be a login that was allowed. If a check read the record before X was written, its own
//! write fails and it reads again. A check that reads X's entry counts it, unless the entry has ended for the check's list. An
//! entry ends for a list in one of two ways:
//!
//! * T is later than X's window. If X completed within its window, a list that was requested after T shows it.
//! * T is later than X's mark. A mark is the store's time after a list that shows X had arrived. So X had completed before the
//!   mark, and a list that was requested after T shows X too, or X has been logged out since.
//!
//! Both compare T, not the time of the write: a slow list cannot outlast the entries that it has to be counted with. An entry is
//! kept until every check whose list may lack it is done (`kept_until`).
//!
//! *A mark changes no decision in progress.* A mark is later than T of every check in progress, so those checks count the entry
//! either way. A mark does write a new revision; a check that meets it decides again, with the same result, and no mark is lost.
//!
//! *Two evicting logins do not share a victim.* One write has the newcomer's entry and the reservation of its victims. A check
//! that decides after it does not count the victims and cannot choose them; it counts the newcomer, which cannot be chosen
//! before it is listed. So each place that is freed is taken once.
//!
//! *A failed revocation changes no count.* It releases the victim, and one write also withdraws the newcomer that the failure
//! policy blocks. No check sees the victim and the newcomer together, nor neither of them, so a login in between has the same
//! place to take: none. Where the failure policy allows the newcomer, the write keeps its entry, and the limit is exceeded by
//! that login.
//!
//! One newcomer and one victim of the same limits replace each other exactly. Two cases are left in which a blocked newcomer
//! gives back more than it took, and a login that was allowed in between may be one too many: the newcomer reserved several
//! victims, because the user was over the limit before; or the victim also serves another application, whose limit did not
//! count the newcomer. The failure policy answered, so the guarantee does not cover them (decision 5.14). A reservation whose
//! replica died ends by itself.
//!
//! *A dropped attempt leaves nothing that counts and was not there before.* No answer was given, so no login was allowed by it:
//! the attempt withdraws the entry that it added, and no other, and releases its victims, in one write. Sessions already revoked
//! also count again until the list no longer shows them: that is too strict, never too lax.
//!
//! What a record remembers so that a login can be allowed without a list, and why that is safe, is in `ledger/remembered.rs`.
//!
//! # Times
//!
//! Every time in a record is the store's, and is compared with no other clock. A decision gets the age of an admission, and
//! compares Auth0's dates with the time of the tenant. A listing leaves out sessions that had ended a minute before, by both clocks.

mod codec;
mod detached;
mod failover;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
mod listing;
mod memory;
pub mod metrics;
mod number;
#[cfg(test)]
mod oracle;
mod record;
pub(crate) mod remembered;
pub mod shared_number;
mod store;
mod ticket;
mod times;
mod user_locks;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::policy::{Admission, Decision, Failure, Origin, Origins, SessionList, Verdict};
use detached::DetachedWrite;
use listing::SessionCode;
use record::new_revision;
use user_locks::UserLocks;

pub use failover::Failover;
pub use key::{HashedTable, KeyHash, KeyHasher, SessionKey, UserKey, shrink};
pub use listing::Listing;
pub use memory::{DEFAULT_CAPACITY, MAX_BYTES, Memory};
pub use record::{
    AdmissionEntry, BlockEntry, MAX_LIST_AGE, OriginEntry, REVOKED_FOR, Record, RevocationEntry, Terms, TicketEntry,
    TicketState,
};
pub use remembered::{ListNeed, Recalled, listing_kept_for};
pub use store::{Stats, Store, StoreTime, Versioned};
pub use ticket::TicketUse;
pub use times::PENDING_FOR;

/// The most entries of one user. More than this need thousands of logins to several applications within one window. A shard of
/// the memory holds fewer, also of one user.
const MAX_ENTRIES_PER_USER: usize = 4_000;

/// The most writes that continue after their checks have ended: 2 × the default `--max-in-flight`. A write takes a few operations
/// of the store, so that many are in progress only when the store hangs.
const MAX_BACKGROUND_WRITES: usize = 4_096;

/// The ledger of a replica.
pub struct Ledger<S = Failover> {
    store: S,
    user_locks: UserLocks,
    background: Arc<Semaphore>,
    conflicts: AtomicU64,
    forgotten: AtomicU64,
    origins_forgotten: AtomicU64,
}

/// A login on its way through a check: it begins before the list is requested and ends with [`finish`](Self::finish). One that
/// is dropped before undoes what it wrote, in the background.
#[must_use = "an attempt that is dropped undoes itself"]
pub struct Attempt<S: Store = Failover> {
    ledger: Arc<Ledger<S>>,
    key: SessionKey,
    terms: Terms,
    since: StoreTime,
    /// What was remembered then.
    record: Arc<Record>,
    was_revoked: bool,
    /// The ticket with which a person chose sessions for the login.
    ticket: Option<TicketUse>,
    written: Written,
}

/// What an attempt wrote, or may have written when its write was not answered in time.
#[derive(Default)]
struct Written {
    /// Whether the recorded decision allows the login. `None`: no decision was recorded.
    allowed: Option<bool>,
    /// Whether the login counts by the attempt.
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
    pub not_revoked: Vec<String>,
}

/// What a record says for one list.
struct Known {
    admissions: Vec<Admission>,
    /// Revoked or reserved.
    revoked: HashSet<String>,
    origins: Origins,
}

impl Known {
    /// Reads a record for a list that is complete since `since`.
    fn of(read: &Versioned, since: StoreTime, ids: &SessionIds<'_>) -> Self {
        let id = |sid: &str| ids.of(sid);
        let (since, now) = (since.on_clock_of(read.now), read.now.at);
        let admission = |entry: &AdmissionEntry| Admission {
            sid: id(&entry.sid),
            client_id: entry.client_id.clone(),
            age: now.duration_since(entry.admitted_at),
        };
        let mut origins = Origins::default();
        for entry in read.record.origins(now) {
            origins.add(id(&entry.sid), &entry.origin);
        }
        let admissions = read.record.counting(since).map(admission).collect();
        Self { admissions, revoked: read.record.revoked_or_reserved(since).map(&id).collect(), origins }
    }
}

/// The session ids behind the store's pseudonyms, as far as a check can know them. Empty where a store has no pseudonyms.
struct SessionIds<'a>(HashMap<String, &'a str>);

impl SessionIds<'_> {
    /// The id of a session. Where it is not known, the pseudonym serves as the id.
    fn of(&self, pseudonym: &str) -> String {
        self.0.get(pseudonym).copied().unwrap_or(pseudonym).to_owned()
    }
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
            origins_forgotten: AtomicU64::new(0),
        }
    }

    /// Begins an attempt, before the sessions are listed. Does not wait for the store after the deadline.
    pub async fn begin(self: &Arc<Self>, key: SessionKey, terms: Terms, deadline: Instant) -> Attempt<S> {
        let read = self.store.read_by(&key.user, deadline).await;
        let was_revoked = !read.record.is_empty() && {
            let sid = self.store.pseudonym(&key.sid);
            read.record.revoked_or_reserved(read.now.at).any(|revoked| revoked == sid)
        };
        let Versioned { record, now } = read;
        let since = StoreTime { mark: record.mark(), ..now };
        let written = Written::default();
        Attempt { ledger: Arc::clone(self), key, terms, since, record, was_revoked, ticket: None, written }
    }

    /// Remembers how the login's session began, whatever is decided: later checks of the user need it.
    pub async fn note(&self, key: &SessionKey, origin: &Origin) {
        let note =
            |read: &Versioned, next: &mut Record| next.note(&self.store.pseudonym(&key.sid), origin, read.now.at);
        let forgotten = self.edit(&key.user, note).await;
        self.origins_forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
    }

    /// Forgets what has ended, and gives its memory back.
    pub fn sweep(&self) {
        self.store.sweep();
    }

    /// What the ledger and its store count.
    pub fn stats(&self) -> Stats {
        let stats = self.store.stats();
        Stats {
            conflicts: self.conflicts.load(Ordering::Relaxed),
            forgotten: stats.forgotten + self.forgotten.load(Ordering::Relaxed),
            origins_forgotten: self.origins_forgotten.load(Ordering::Relaxed),
            ..stats
        }
    }

    /// Undoes what an attempt wrote.
    async fn undo(&self, key: &SessionKey, ticket: Option<&TicketUse>, written: &Written) {
        self.edit(&key.user, |_, next| {
            ticket.iter().for_each(|ticket| next.set_choice(&ticket.id, None));
            for sid in &written.reserved {
                next.release(&self.store.pseudonym(sid));
            }
            if written.added {
                next.withdraw(&self.store.pseudonym(&key.sid), &key.client_id);
            }
        })
        .await;
    }

    /// Changes a user's record under the user's lock. Retries until the write succeeds; a write fails only when another
    /// succeeded. If the step changes nothing, it writes nothing.
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
            let forgotten = next.shorten(MAX_ENTRIES_PER_USER, read.now.at);
            let revision = new_revision();
            next.revision = revision;
            match self.store.compare_exchange(user, &read, &mut next).await {
                Err(stored) if stored.record.revision != revision => {
                    // After a failure of the shared store, the same record is read again, or one of the other store.
                    let is_conflict =
                        stored.now.clock == read.now.clock && stored.record.revision != read.record.revision;
                    self.conflicts.fetch_add(u64::from(is_conflict), Ordering::Relaxed);
                    read = stored;
                }
                // The store already has our revision: the write succeeded, its answer was lost and it was sent again. Do not
                // decide again: a second decision would take the sessions that this check reserved for those of another.
                Ok(()) | Err(_) => {
                    self.forgotten.fetch_add(forgotten as u64, Ordering::Relaxed);
                    return outcome;
                }
            }
        }
    }

    /// The ids that a check knows: those of the listed sessions and its own.
    fn ids<'a>(&self, record: &Record, key: &'a SessionKey, list: &'a SessionList) -> SessionIds<'a> {
        if record.is_empty() {
            return SessionIds(HashMap::new());
        }
        let pseudonym = |sid: &'a str| match self.store.pseudonym(sid) {
            Cow::Owned(pseudonym) => Some((pseudonym, sid)),
            Cow::Borrowed(_) => None,
        };
        SessionIds(list.ids().chain([&*key.sid]).filter_map(pseudonym).collect())
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

    /// Whether the login's own session was revoked by this service, or reserved for revocation, within the last minute.
    pub fn was_revoked(&self) -> bool {
        self.was_revoked
    }

    /// Decides with what the ledger knows, and records the decision, in one step. `since` is the time that belongs to the list:
    /// a shared list has the T of the check that requested it. `decide` gets the admissions that count for the list, the
    /// sessions that were revoked or reserved, and how sessions began; it is called again when another replica was faster.
    ///
    /// An allowed login gets an entry, unless the list shows it already; with it, the sessions that it evicts are reserved. A
    /// blocked login is withdrawn. The list becomes the user's listing, or is joined to it.
    ///
    /// # Errors
    /// [`Verdict::SessionRevoked`] when another login chose the session for eviction in the meantime, and
    /// [`Failure::Overloaded`] when the user's lock was not free, or other replicas were always faster, until the deadline.
    pub async fn admit(
        &mut self,
        sessions: &SessionList,
        since: StoreTime,
        deadline: Instant,
        mut decide: impl FnMut(&[Admission], &HashSet<String>, &Origins) -> Decision,
    ) -> Result<Decision, Verdict> {
        let Self { ledger, key, terms, ticket, written, .. } = self;
        let sid = ledger.store.pseudonym(&key.sid);
        let overloaded = Verdict::failed(Failure::Overloaded);
        let kept_for = terms.listing_kept_for;
        let list = (!kept_for.is_zero() && sessions.is_of_one_moment())
            .then(|| remembered::entries(sessions, |id| SessionCode::of(&ledger.store.pseudonym(id))));
        let step = |read: &Versioned, next: &mut Record| {
            *written = Written::default();
            // `timeout_at` polls the work before the timer, so a late poll could still succeed.
            if Instant::now() >= deadline {
                return Err(overloaded);
            }
            let (list_since, now) = (since.on_clock_of(read.now), read.now.at);
            let ids = ledger.ids(&read.record, key, sessions);
            let Known { mut admissions, revoked, origins } = Known::of(read, since, &ids);
            if revoked.contains(&*key.sid) {
                return Err(Verdict::SessionRevoked);
            }
            // A login for which a person chose sessions may come back with another session: the entry is its own.
            let has_own =
                || sessions.shows(&key.sid, &key.client_id) || read.record.counts(&sid, &key.client_id, list_since);
            let may_claim = || terms.claims && ticket.is_none() && !has_own();
            let claimed = read.record.claimable(&sid, &key.client_id, list_since).filter(|_| may_claim());
            if let Some(claimed) = claimed {
                let claimed = ids.of(claimed);
                let is_claimed = |it: &&mut Admission| it.sid == claimed && it.client_id == *key.client_id;
                admissions.iter_mut().filter(is_claimed).for_each(|it| it.sid = key.sid.to_string());
            }
            let decision = decide(&admissions, &revoked, &origins);
            let is_stored = match &list {
                // Nobody is allowed by what is remembered.
                _ if kept_for.is_zero() => false,
                // A list of another clock's time is not taken: its mark is from another store.
                Some(_) if since.clock != read.now.clock => false,
                Some(list) => next.take_list(list, since.mark, since.at, kept_for, now),
                None => {
                    next.take_incomplete_list(now, |sid, client_id| sessions.shows(&ids.of(sid), client_id));
                    false
                }
            };
            if decision == Decision::Undecided {
                return Err(Verdict::from(&decision));
            }

            let is_blocking = matches!(decision, Decision::Exceeded { .. } | Decision::Ask { .. });
            let allowed = !(terms.enforced && is_blocking);
            next.mark_seen(now, |entry| sessions.shows(&ids.of(&entry.sid), &entry.client_id));
            if !allowed {
                next.block(&sid, &key.client_id, now);
            } else if !sessions.shows(&key.sid, &key.client_id) {
                claimed.iter().for_each(|claimed| next.claim(claimed, &sid, &key.client_id));
                next.admit(&sid, &key.client_id, *terms, list_since, now);
            } else if !is_stored && next.mark() != 0 {
                // The listing that stays may not show what this list shows.
                next.note_allowed(&sid, &key.client_id, now);
            }
            if let Some(ticket) = ticket.as_ref().filter(|_| allowed) {
                ticket.note(next, &sid, &key.client_id, terms.longest_check, now);
            }
            written.allowed = Some(allowed);
            let counts = |record: &Record| record.has_counting(&sid, &key.client_id, now);
            written.added = counts(&*next) && !counts(&read.record);
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
                // The write may have happened: keep added and reserved, forget allowed.
                written.allowed = None;
                Err(overloaded)
            }
        }
    }

    /// Ends the attempt: with what happened to the sessions that the decision evicts, and whether the answer allows the login.
    /// Reserved sessions that `eviction` does not name were not revoked.
    ///
    /// All of it is one write. For a minute from now the revoked do not count, and their entries end; the others are released. A
    /// login whose answer differs from the decision is added or withdrawn.
    ///
    /// Waits for the write until the deadline, then continues it in the background for up to a minute: no answer is late because
    /// other checks of the user are before it.
    pub async fn finish(mut self, eviction: Eviction, login_allowed: bool, deadline: Instant) {
        let Written { allowed, reserved, .. } = take(&mut self.written);
        let Eviction { revoked, mut not_revoked } = eviction;
        let named: HashSet<&str> = revoked.iter().chain(&not_revoked).map(String::as_str).collect();
        let unnamed: Vec<String> = reserved.into_iter().filter(|sid| !named.contains(sid.as_str())).collect();
        not_revoked.extend(unnamed);
        let as_recorded = allowed == Some(login_allowed);
        if as_recorded && revoked.is_empty() && not_revoked.is_empty() {
            return;
        }
        let (ledger, key, terms) = (Arc::clone(&self.ledger), self.key.clone(), self.terms);
        let ticket = self.ticket.take();
        let write = async move {
            ledger
                .edit(&key.user, |read, next| {
                    let (sid, now) = (ledger.store.pseudonym(&key.sid), read.now.at);
                    for sid in &revoked {
                        next.revoke(&ledger.store.pseudonym(sid), now);
                    }
                    for sid in &not_revoked {
                        next.release(&ledger.store.pseudonym(sid));
                    }
                    if !login_allowed && allowed == Some(true) {
                        ticket.iter().for_each(|ticket| next.set_choice(&ticket.id, None));
                    }
                    match login_allowed {
                        _ if as_recorded => {}
                        true => next.admit(&sid, &key.client_id, terms, now, now),
                        false => next.block(&sid, &key.client_id, now),
                    }
                })
                .await;
        };
        let mut write = DetachedWrite { background: &self.ledger.background, write: Some(Box::pin(write)) };
        write.run(deadline).await;
    }
}

impl<S: Store> Drop for Attempt<S> {
    fn drop(&mut self) {
        let written = take(&mut self.written);
        if !written.added && written.reserved.is_empty() {
            return;
        }
        let (ledger, key, ticket) = (Arc::clone(&self.ledger), self.key.clone(), self.ticket.take());
        let write = async move { ledger.undo(&key, ticket.as_ref(), &written).await };
        drop(DetachedWrite { background: &self.ledger.background, write: Some(Box::pin(write)) });
    }
}
