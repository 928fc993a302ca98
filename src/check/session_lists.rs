//! One list for several checks: those of one user share what is asked of Auth0, as far as that opens no door.
//!
//! ```text
//!   check ──▶ asks too often, and there is a young list? ──▶ that one              remembered
//!               │
//!               ├──▶ a flight is gathering ──▶ joins it                            coalesced
//!               ▼
//!             gathers a flight ──▶ the one before has landed ──▶ leaves ──▶ lands
//!                                  (or half a second has passed)
//! ```
//!
//! # Why neither opens a door
//!
//! A list says who had a session when it was requested; what happened since, the ledger knows. Every list keeps its own
//! time T, which the ledger told before it was requested, and a check is decided by the list and by all that the ledger
//! counts for T. So what is between T and the check is never missed: a login that was let in since T counts by its entry, and
//! the ledger keeps an entry for longer than the oldest list there is may be used.
//!
//! *Joining.* A check joins a flight only before its request leaves. It gets a list that was requested after it arrived, as
//! if it had asked itself, with a T that is older than its own: more of the ledger counts, never less.
//!
//! *Remembering.* A user whose checks need a list more than five times in ten seconds is decided by the last one, while it
//! is younger than [`MAX_LIST_AGE`](crate::ledger::MAX_LIST_AGE) and than the shortest `admissionWindow` of the tenant's
//! policies; where one of them writes no entries (`0s`), no list is used again. Logins that are let in count for at least that long by their entries, log-outs are
//! believed that much later, and what this service revoked is dead to the list for longer. What is missed is only a login that
//! no policy looks at, as it would be if it came just after the list.
//!
//! Whoever loops on purpose is refused again and again, at the cost of one list every few seconds. What is counted and kept is
//! this replica's.
//!
//! A flight is a task of its own: it ends for those who stay when others leave, and goes on until the latest of their
//! deadlines. A check waits until its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hashlink::LinkedHashMap;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::auth0::{CallContext, Error, TenantClient};
use crate::ledger::{StoreTime, User};
use crate::policy::SessionList;

/// So many lists in a [`HISTORY_SPAN`] a user gets for the asking.
const FRESH_LISTS_PER_SPAN: usize = 5;
/// What counts for that is this young.
const HISTORY_SPAN: Duration = Duration::from_secs(10);
/// How long a flight waits for the one before it, which may hang.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_millis(500);
/// How many users are known at the same time.
const MAX_USERS: usize = 100_000;

/// A user's sessions, and since when they are known.
pub struct SessionListing {
    /// The sessions.
    pub sessions: SessionList,
    /// The ledger's time before they were requested: whatever was before is in the list.
    pub since: StoreTime,
    /// The same on this process's clock.
    requested_at: Instant,
}

/// How a check came by its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrigin {
    /// It was asked for.
    Own,
    /// Another check had asked for it, and its request had not left.
    Coalesced,
    /// It is the last one of a user who asks too often.
    Remembered,
}

impl ListOrigin {
    /// The stable machine word; only of those that are shared.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Coalesced => "coalesced",
            Self::Remembered => "remembered",
        }
    }
}

/// What a check asks for.
pub struct Request<'a> {
    /// Whom to ask.
    pub client: &'a TenantClient,
    /// Whose sessions.
    pub user: &'a User,
    /// The same as Auth0 knows them.
    pub user_id: &'a str,
    /// The ledger's time when the check opened it, a moment ago.
    pub since: StoreTime,
    /// How old a list may be that is used again; zero = none is.
    pub reusable_for: Duration,
    /// On whose behalf, and until when.
    pub call: &'a CallContext,
}

/// The lists under way and the last ones of those who ask often.
pub struct SessionLists {
    /// In the order of their last asks.
    users: Mutex<LinkedHashMap<Key, UserHistory>>,
}

/// A user, as one credential sees them: what is wrong with one is not told to another.
type Key = (usize, User);

type ListResult = Result<Arc<SessionListing>, Error>;

type PendingList = Shared<BoxFuture<'static, ListResult>>;

#[derive(Default)]
struct UserHistory {
    /// The latest asks, oldest first.
    asks: VecDeque<Instant>,
    /// The last flight to be gathered, and the one that it waits for.
    request_in_flight: Option<SharedRequest>,
    before: Option<PendingList>,
    last: Option<Arc<SessionListing>>,
}

#[derive(Clone)]
struct SharedRequest {
    pending: PendingList,
    waiters: Arc<Mutex<Waiters>>,
}

/// Who is on a flight.
struct Waiters {
    /// For all of them: it makes sense until the last of their deadlines, and is silent when all are.
    call: CallContext,
    /// Whether it has left, and nobody joins any more.
    sent: bool,
}

impl SessionLists {
    /// Knows nobody yet.
    pub fn new() -> Self {
        Self { users: Mutex::new(LinkedHashMap::new()) }
    }

    /// The user's sessions, by the errand's deadline.
    ///
    /// # Errors
    /// They could not be had.
    pub async fn get(&self, request: Request<'_>) -> (ListOrigin, ListResult) {
        let key = (request.client.id(), request.user.clone());
        let now = Instant::now();
        let (source, request_in_flight) = {
            let mut users = self.lock();
            let mut history = users.remove(&key).unwrap_or_default();
            history.settle();
            let often = history.asks_often(now);
            let young = |list: &&Arc<SessionListing>| now.duration_since(list.requested_at) < request.reusable_for;
            let remembered = history.last.as_ref().filter(|_| often).filter(young).map(Arc::clone);
            let outcome = match remembered {
                Some(list) => Err(list),
                None => Ok(history.waiters(&request, now)),
            };
            users.insert(key.clone(), history);
            if users.len() > MAX_USERS {
                users.pop_front();
            }
            match outcome {
                Ok(boarded) => boarded,
                Err(list) => return (ListOrigin::Remembered, Ok(list)),
            }
        };
        let deadline = request.call.deadline;
        let result = match timeout_at(deadline, request_in_flight.pending.clone()).await {
            Ok(result) => result,
            // It ends at this very moment, and knows what it was waiting for.
            Err(_) if lock(&request_in_flight.waiters).call.deadline <= deadline => request_in_flight.pending.await,
            Err(_) => Err(Error::timeout()),
        };
        if let Some(history) = self.lock().get_mut(&key) {
            history.settle();
        }
        (source, result)
    }

    /// Forgets who has not asked for a while; says how many are known.
    pub fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut users = self.lock();
        users.retain(|_, history| history.asks.back().is_some_and(|last| now.duration_since(*last) < HISTORY_SPAN));
        users.len()
    }

    fn lock(&self) -> MutexGuard<'_, LinkedHashMap<Key, UserHistory>> {
        lock(&self.users)
    }
}

impl Default for SessionLists {
    fn default() -> Self {
        Self::new()
    }
}

impl UserHistory {
    /// Takes note of an ask: whether it is one too many.
    fn asks_often(&mut self, now: Instant) -> bool {
        while self.asks.front().is_some_and(|oldest| now.duration_since(*oldest) >= HISTORY_SPAN) {
            self.asks.pop_front();
        }
        let often = self.asks.len() >= FRESH_LISTS_PER_SPAN;
        if often {
            self.asks.pop_front();
        }
        self.asks.push_back(now);
        often
    }

    /// Lets go of flights that have landed. The last list is kept of somebody who may ask too often next.
    fn settle(&mut self) {
        let request_in_flight = self
            .request_in_flight
            .take_if(|request_in_flight| request_in_flight.pending.peek().is_some())
            .map(|request_in_flight| request_in_flight.pending);
        let before = self.before.take_if(|pending| pending.peek().is_some());
        for pending in [before, request_in_flight].into_iter().flatten() {
            if let Some(Ok(list)) = pending.peek()
                && self.asks.len() + 1 >= FRESH_LISTS_PER_SPAN
                && self.last.as_ref().is_none_or(|last| last.requested_at < list.requested_at)
            {
                self.last = Some(Arc::clone(list));
            }
        }
    }

    /// Joins the flight that is gathering, or gathers one.
    fn waiters(&mut self, request: &Request<'_>, now: Instant) -> (ListOrigin, SharedRequest) {
        if let Some(request_in_flight) = &self.request_in_flight
            && request_in_flight.join(request.call)
        {
            return (ListOrigin::Coalesced, request_in_flight.clone());
        }
        self.before = self.request_in_flight.take().map(|request_in_flight| request_in_flight.pending);
        let request_in_flight = SharedRequest::start(request, now, self.before.clone());
        (ListOrigin::Own, self.request_in_flight.insert(request_in_flight).clone())
    }
}

impl SharedRequest {
    fn start(request: &Request<'_>, now: Instant, before: Option<PendingList>) -> Self {
        let waiters = Arc::new(Mutex::new(Waiters { call: request.call.clone(), sent: before.is_none() }));
        let (client, user_id, since) = (request.client.clone(), request.user_id.to_owned(), request.since);
        let first = request.call.deadline;
        let leaving = Arc::clone(&waiters);
        let request_in_flight = async move {
            if let Some(before) = before {
                // Whether it landed or not: waiting is over.
                let _ = timeout_at(first.min(now + PREDECESSOR_TIMEOUT), before).await;
            }
            let call = {
                let mut waiters = lock(&leaving);
                waiters.sent = true;
                waiters.call.clone()
            };
            let sessions = client.list_sessions(&user_id, &call).await?;
            Ok(Arc::new(SessionListing { sessions, since, requested_at: now }))
        };
        let result = tokio::spawn(request_in_flight.in_current_span());
        let pending = result.map(|ended| ended.unwrap_or_else(|_| Err(Error::ended()))).boxed().shared();
        Self { pending, waiters }
    }

    /// Joins it, if it has not left.
    fn join(&self, call: &CallContext) -> bool {
        let mut waiters = lock(&self.waiters);
        if !waiters.sent {
            waiters.call.deadline = waiters.call.deadline.max(call.deadline);
            waiters.call.silent &= call.silent;
        }
        !waiters.sent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held, and each write leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
