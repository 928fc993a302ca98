//! Single flight for lists: the checks of one user share what is requested from Auth0, as far as no check can be allowed by it
//! that a list of its own would block.
//!
//! ```text
//!   check ──▶ over the fresh lists, and the last list is young? ──▶ the last list          remembered
//!               │
//!               ├──▶ a shared request is not sent yet ──▶ joins it                         coalesced
//!               ▼
//!             starts one ──▶ waits until the request before it has ended ──▶ sends it ──▶ the list
//!                            (or half a second has passed)
//! ```
//!
//! # Why sharing is safe
//!
//! A list shows which sessions the user had when it was requested; what happened since, the ledger knows. Every list keeps its own
//! time T, which the ledger gave before the request, and a check decides by the list and by all entries that the ledger counts
//! for T. So nothing between T and the check is missed: a login that was allowed since T counts by its entry, and the ledger
//! keeps an entry for longer than the oldest list may be used.
//!
//! *Joining.* A check joins a request only before it is sent. It gets a list that was requested after the check arrived, as if it
//! had requested one itself, with a T that is older than its own: more of the ledger counts, never less.
//!
//! *Remembering.* A user whose checks need a list more than five times in ten seconds is decided by the last one, while it is
//! younger than [`MAX_LIST_AGE`](crate::ledger::MAX_LIST_AGE) and than the shortest `admissionWindow` of the tenant's policies;
//! where one of them writes no entries (`0s`), no list is used again. Allowed logins count for at least that long by their entries,
//! logouts show that much later, and what this service revoked is dead to the list for longer. Only a login that no policy
//! applies to is missed, as it would be if it came just after the list.
//!
//! A user who loops on purpose is blocked each time, at the cost of one list every few seconds. The counts and lists are
//! those of this replica.
//!
//! The check that starts a request sends it, and the checks that join wait for the same future. When the first one leaves before
//! the end, a task continues the request: it completes for those who wait, and goes on until the latest of their deadlines. A check
//! waits until its own.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout_at};

use crate::auth0::{CallContext, Charge, Error, FirstPage, ReadList, TenantClient, UserAgents};
use crate::clock::ServiceClock;
use crate::continued::Continued;
use crate::ledger::{HashedTable, StoreTime, UserKey, shrink};
use crate::policy::{Completeness, LimitCheck, PolicyVersion, SessionList, StopRule};

/// How many lists a user's checks get freshly requested within a [`HISTORY_SPAN`]: more than a person's logins need.
const MAX_FRESH_LISTS: usize = 5;
/// How far back a user's checks are counted; a user is forgotten after that time.
const HISTORY_SPAN: Duration = Duration::from_secs(10);
/// How long a request waits for the one before it, which may hang. A tenant that works answers well within it.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_millis(500);
/// How many users have a history at the same time: ten thousand checks a second for a [`HISTORY_SPAN`]. A history without its last
/// list takes at most 400 bytes, whatever the length of the user's id, so all take at most 40 MB.
const MAX_USERS: usize = 100_000;
/// The most bytes of the last lists of all users: those of 4,000 users with ten sessions. A list that finds no room is not kept:
/// the user's next check requests one.
const MAX_LISTING_BYTES: usize = 16 << 20;
/// What a session of a list takes beside its id and its clients: four times, an index, and a place in a table.
const SESSION_OVERHEAD: usize = 256;
/// What an application takes in a session's set of them.
const CLIENT_BYTES: usize = 64;

/// A user's sessions, and the times that belong to the list.
pub struct SessionListing {
    /// The sessions.
    pub sessions: SessionList,
    /// The ledger's time before the request: the list shows whatever happened before it.
    pub since: StoreTime,
    /// The time of the request on this process's clock.
    requested_at: Instant,
    /// The memory that the list takes while a check holds it.
    charge: Charge,
    /// The first page as it came, while only checks hold the list.
    first_page: Mutex<Option<FirstPage>>,
}

impl SessionListing {
    /// The user agents of the sessions, as far as they are at hand.
    pub fn user_agents(&self) -> UserAgents {
        lock(&self.first_page).as_ref().map(FirstPage::user_agents).unwrap_or_default()
    }
}

/// How a check got its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrigin {
    /// It requested the list.
    Own,
    /// It joined another check's request before that was sent.
    Coalesced,
    /// It got the last list of a user who checks too often.
    Remembered,
}

impl ListOrigin {
    /// The value of the metrics' label `how`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Coalesced => "coalesced",
            Self::Remembered => "remembered",
        }
    }
}

/// What a check needs a list for.
#[derive(Clone, Copy)]
pub struct ListRequest<'a> {
    /// The client of the policy's credential.
    pub client: &'a TenantClient,
    /// Whose sessions to list.
    pub user: &'a UserKey,
    /// The ledger's time when the check's attempt began, a moment ago.
    pub since: StoreTime,
    /// How old a list may be that is used again; zero = none is.
    pub max_age: Duration,
    /// The policy, the urgency and the deadline of the check.
    pub call: &'a CallContext,
    /// The check, when the pages that decide it are enough.
    pub enough_for: Option<(&'a Arc<PolicyVersion>, LimitCheck<'a>)>,
}

/// The requests under way, and the last lists of users who check often.
#[derive(Default)]
pub struct SessionLists {
    clock: ServiceClock,
    /// By credential and user, because the problem of one credential must not reach checks with another. The least recent checks
    /// come first.
    users: Mutex<HashedTable<UserHistory>>,
    memory: Arc<ListingMemory>,
}

type ListResult = Result<Arc<SessionListing>, Error>;

type PendingList = Shared<BoxFuture<'static, ListResult>>;

/// One user's recent checks and lists.
#[derive(Default)]
struct UserHistory {
    /// When checks needed a list, oldest first.
    checked_at: VecDeque<Instant>,
    /// The last request to be started, which checks may join until it is sent.
    latest: Option<SharedRequest>,
    /// The request that the latest waits for.
    predecessor: Option<PendingList>,
    last_listing: Option<KeptListing>,
}

/// A list that is kept for the user's next check. Its bytes are counted until it is dropped.
struct KeptListing {
    listing: Arc<SessionListing>,
    bytes: usize,
    memory: Arc<ListingMemory>,
}

/// The bytes of all lists that are kept.
#[derive(Default)]
struct ListingMemory {
    held: AtomicUsize,
    /// How many lists found no room. Never falls.
    not_kept: AtomicU64,
}

/// One request for a user's list, and the checks that wait for it.
#[derive(Clone)]
struct SharedRequest {
    pending: PendingList,
    state: Arc<Mutex<RequestState>>,
}

struct RequestState {
    /// For all checks that wait: until the last of their deadlines, and silent when all of them are.
    call: CallContext,
    /// When the pages that were read are enough. `None` when all are needed, as several checks that wait do.
    stop_rule: Option<StopRule>,
    /// Whether it was sent, and no check can join it.
    sent: bool,
}

impl SessionLists {
    /// Lets lists age by this clock in place of the system's.
    pub fn with_clock(clock: ServiceClock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// The user's sessions, by the deadline of the call.
    ///
    /// # Errors
    /// The error of the request, or a timeout at the deadline.
    pub async fn get(&self, request: ListRequest<'_>) -> (ListOrigin, ListResult) {
        let key = request.user.hash().with(request.client.id());
        let now = self.clock.instant();
        let (origin, shared) = {
            let mut users = self.lock();
            let mut history = users.remove(&key).unwrap_or_default();
            history.collect_ended(&self.memory);
            let too_often = history.count_check(now);
            let is_young = |list: &&Arc<SessionListing>| now.duration_since(list.requested_at) < request.max_age;
            let kept = history.last_listing.as_ref().map(|kept| &kept.listing);
            let remembered = kept.filter(|_| too_often).filter(is_young).map(Arc::clone);
            let found = match remembered {
                Some(list) => Err(list),
                None => Ok(history.join_or_start(&request, &self.clock)),
            };
            users.insert(key, history);
            if users.len() > MAX_USERS {
                users.pop_front();
            }
            match found {
                Ok(shared) => shared,
                Err(list) => return (ListOrigin::Remembered, Ok(list)),
            }
        };
        let deadline = request.call.deadline;
        let pending = shared.pending.clone();
        let waited = match origin {
            ListOrigin::Own => timeout_at(deadline, Continued::new(pending)).await,
            ListOrigin::Coalesced | ListOrigin::Remembered => timeout_at(deadline, pending).await,
        };
        let result = match waited {
            Ok(result) => result,
            // The request ends at this very moment, and its error says what it was waiting for.
            Err(_) if lock(&shared.state).call.deadline <= deadline => shared.pending.await,
            Err(_) => Err(Error::timeout()),
        };
        if let Some(history) = self.lock().get_mut(&key) {
            history.collect_ended(&self.memory);
        }
        (origin, result)
    }

    /// Forgets users without a recent check, and returns how many are left.
    pub fn sweep(&self) -> usize {
        let now = self.clock.instant();
        let mut users = self.lock();
        users.retain(|_, history| {
            history.checked_at.back().is_some_and(|last| now.duration_since(*last) < HISTORY_SPAN)
        });
        shrink(&mut users);
        users.len()
    }

    /// The bytes of the lists that are kept, and how many lists found no room.
    pub fn kept(&self) -> (usize, u64) {
        (self.memory.held.load(Ordering::Relaxed), self.memory.not_kept.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, HashedTable<UserHistory>> {
        lock(&self.users)
    }
}

impl UserHistory {
    /// Counts a check, and returns whether the user has used up the fresh lists.
    fn count_check(&mut self, now: Instant) -> bool {
        while self.checked_at.front().is_some_and(|oldest| now.duration_since(*oldest) >= HISTORY_SPAN) {
            self.checked_at.pop_front();
        }
        let too_often = self.checked_at.len() >= MAX_FRESH_LISTS;
        if too_often {
            self.checked_at.pop_front();
        }
        self.checked_at.push_back(now);
        too_often
    }

    /// Drops requests that have ended. The last list is kept of a user whose next check may be one too many. A list that was not
    /// read to its end is not kept, because it decides one check. That of an unknown user is not kept, because the user may
    /// exist a moment later.
    fn collect_ended(&mut self, memory: &Arc<ListingMemory>) {
        let latest = self.latest.take_if(|shared| shared.pending.peek().is_some()).map(|shared| shared.pending);
        let predecessor = self.predecessor.take_if(|pending| pending.peek().is_some());
        for pending in [predecessor, latest].into_iter().flatten() {
            if let Some(Ok(list)) = pending.peek()
                && self.checked_at.len() + 1 >= MAX_FRESH_LISTS
                && list.sessions.completeness() == Completeness::Whole
                && !list.sessions.is_of_unknown_user()
                && self.last_listing.as_ref().is_none_or(|last| last.listing.requested_at < list.requested_at)
            {
                self.last_listing = memory.keep(list);
            }
        }
    }

    /// Joins the latest request if it was not sent yet, or starts one.
    fn join_or_start(&mut self, request: &ListRequest<'_>, clock: &ServiceClock) -> (ListOrigin, SharedRequest) {
        if let Some(shared) = &self.latest
            && shared.join(request.call)
        {
            return (ListOrigin::Coalesced, shared.clone());
        }
        self.predecessor = self.latest.take().map(|shared| shared.pending);
        let shared = SharedRequest::start(request, clock, self.predecessor.clone());
        (ListOrigin::Own, self.latest.insert(shared).clone())
    }
}

impl ListingMemory {
    /// Keeps a list, if there is room.
    fn keep(self: &Arc<Self>, listing: &Arc<SessionListing>) -> Option<KeptListing> {
        let bytes = bytes(&listing.sessions);
        let add = |held: usize| held.checked_add(bytes).filter(|held| *held <= MAX_LISTING_BYTES);
        if self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            self.not_kept.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // A kept list has this bound, and must not take from the bound of the checks under way.
        listing.charge.release();
        drop(lock(&listing.first_page).take());
        Some(KeptListing { listing: Arc::clone(listing), bytes, memory: Arc::clone(self) })
    }
}

impl Drop for KeptListing {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The most bytes that a list takes.
fn bytes(sessions: &SessionList) -> usize {
    let of_clients = |clients: Vec<&str>| clients.iter().map(|client| client.len() + CLIENT_BYTES).sum::<usize>();
    sessions.views().map(|view| SESSION_OVERHEAD + view.id.len() + view.clients.map_or(0, of_clients)).sum()
}

impl SharedRequest {
    fn start(request: &ListRequest<'_>, clock: &ServiceClock, predecessor: Option<PendingList>) -> Self {
        let sent = predecessor.is_none();
        let stop_rule = request.enough_for.and_then(|(version, limit_check)| StopRule::new(version, &limit_check));
        let state = Arc::new(Mutex::new(RequestState { call: request.call.clone(), stop_rule, sent }));
        let (client, user, since) = (request.client.clone(), request.user.clone(), request.since);
        let first_deadline = request.call.deadline;
        let (state_of_task, clock, requested_at) = (Arc::clone(&state), clock.clone(), clock.instant());
        let wait_until = first_deadline.min(Instant::now() + PREDECESSOR_TIMEOUT);
        let task = async move {
            if let Some(predecessor) = predecessor {
                // Whether it ended or not: the wait is over.
                let _ = timeout_at(wait_until, predecessor).await;
            }
            let (call, stop_rule) = {
                let mut state = lock(&state_of_task);
                state.sent = true;
                (state.call.clone(), state.stop_rule.take())
            };
            let is_enough = |list: &SessionList| {
                stop_rule.as_ref().is_some_and(|rule| rule.is_met(list, list.tenant_time(clock.timestamp())))
            };
            let read = client.read_list(user.user_id(), &call, is_enough).await?;
            let ReadList { sessions, charge, first_page, .. } = read;
            Ok(Arc::new(SessionListing { sessions, since, requested_at, charge, first_page: first_page.into() }))
        };
        // A panic ends the request for all checks that wait. The panic hook has logged it.
        let result = AssertUnwindSafe(task).catch_unwind();
        let pending = result.map(|ended| ended.unwrap_or_else(|_| Err(Error::ended()))).boxed().shared();
        Self { pending, state }
    }

    /// Joins the request and returns true, if it was not sent yet.
    fn join(&self, call: &CallContext) -> bool {
        let mut state = lock(&self.state);
        if !state.sent {
            state.call.deadline = state.call.deadline.max(call.deadline);
            state.call.silent &= call.silent;
            state.stop_rule = None;
        }
        !state.sent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held, and each write leaves the content whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{KeyHash, Ledger, Memory, SessionKey, Terms};
    use crate::policy::ListedSession;

    async fn listing(sessions: usize) -> Arc<SessionListing> {
        let (window, longest_check, listing_kept_for) = Default::default();
        let terms = Terms { window, longest_check, listing_kept_for, enforced: true, claims: true };
        let key = SessionKey::new(UserKey::new("t", "u"), "s", "c");
        let since = Arc::new(Ledger::new(Memory::new(1))).begin(key, terms, Instant::now()).await.since();
        let clients = Some(vec!["c".repeat(32); 2]);
        let session = |number| ListedSession {
            id: format!("{number:0>64}"),
            clients: clients.clone(),
            ..ListedSession::default()
        };
        let sessions = SessionList::new("u", (0..sessions).map(session));
        Arc::new(SessionListing {
            sessions,
            since,
            requested_at: Instant::now(),
            charge: Charge::none(),
            first_page: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn kept_lists_are_bounded_in_bytes_and_counted() {
        let (lists, listing) = (SessionLists::default(), listing(1_000).await);
        let mut kept: Vec<KeptListing> = (0..1_000).map_while(|_| lists.memory.keep(&listing)).collect();
        let one = bytes(&listing.sessions);
        assert!(one >= 1_000 * (64 + SESSION_OVERHEAD), "{one}");
        let (held, not_kept) = lists.kept();
        assert!(held <= MAX_LISTING_BYTES && held > MAX_LISTING_BYTES - one, "{held}");
        assert_eq!((held, not_kept), (kept.len() * one, 1));
        kept.pop();
        kept.extend(lists.memory.keep(&listing));
        assert_eq!(lists.kept(), (held, 1));
        drop(kept);
        assert_eq!(lists.kept(), (0, 1));
    }

    #[test]
    fn history_takes_at_most_400_bytes() {
        let checks = MAX_FRESH_LISTS.next_power_of_two() * size_of::<Instant>();
        let node = size_of::<(KeyHash, UserHistory)>() + 2 * size_of::<usize>() + 2 * (size_of::<usize>() + 1);
        assert!(node + checks <= 400, "{node} {checks}");
    }
}
