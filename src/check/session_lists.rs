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
//! A shared request is a separate task: it completes for those who wait when others leave, and goes on until the latest of their
//! deadlines. A check waits until its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use hashlink::LinkedHashMap;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::auth0::{CallContext, Charge, Error, ReadList, TenantClient};
use crate::ledger::{StoreTime, UserKey};
use crate::policy::{Completeness, LimitCheck, PolicyVersion, SessionList, StopRule};

/// How many lists a user's checks get freshly requested within a [`HISTORY_SPAN`]: more than a person's logins need.
const MAX_FRESH_LISTS: usize = 5;
/// How far back a user's checks are counted; a user is forgotten after that time.
const HISTORY_SPAN: Duration = Duration::from_secs(10);
/// How long a request waits for the one before it, which may hang. A tenant that works answers well within it.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_millis(500);
/// How many users have a history at the same time: ten thousand checks a second for a [`HISTORY_SPAN`].
const MAX_USERS: usize = 100_000;

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
    /// By credential and user, because the problem of one credential must not reach checks with another. The least recent checks
    /// come first.
    users: Mutex<LinkedHashMap<(usize, UserKey), UserHistory>>,
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
    last_listing: Option<Arc<SessionListing>>,
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
    /// The user's sessions, by the deadline of the call.
    ///
    /// # Errors
    /// The error of the request, or a timeout at the deadline.
    pub async fn get(&self, request: ListRequest<'_>) -> (ListOrigin, ListResult) {
        let key = (request.client.id(), request.user.clone());
        let now = Instant::now();
        let (origin, shared) = {
            let mut users = self.lock();
            let mut history = users.remove(&key).unwrap_or_default();
            history.collect_ended();
            let too_often = history.count_check(now);
            let is_young = |list: &&Arc<SessionListing>| now.duration_since(list.requested_at) < request.max_age;
            let remembered = history.last_listing.as_ref().filter(|_| too_often).filter(is_young).map(Arc::clone);
            let found = match remembered {
                Some(list) => Err(list),
                None => Ok(history.join_or_start(&request, now)),
            };
            users.insert(key.clone(), history);
            if users.len() > MAX_USERS {
                users.pop_front();
            }
            match found {
                Ok(shared) => shared,
                Err(list) => return (ListOrigin::Remembered, Ok(list)),
            }
        };
        let deadline = request.call.deadline;
        let result = match timeout_at(deadline, shared.pending.clone()).await {
            Ok(result) => result,
            // The request ends at this very moment, and its error says what it was waiting for.
            Err(_) if lock(&shared.state).call.deadline <= deadline => shared.pending.await,
            Err(_) => Err(Error::timeout()),
        };
        if let Some(history) = self.lock().get_mut(&key) {
            history.collect_ended();
        }
        (origin, result)
    }

    /// Forgets users without a recent check, and returns how many are left.
    pub fn sweep(&self) -> usize {
        let now = Instant::now();
        let mut users = self.lock();
        users.retain(|_, history| {
            history.checked_at.back().is_some_and(|last| now.duration_since(*last) < HISTORY_SPAN)
        });
        users.len()
    }

    fn lock(&self) -> MutexGuard<'_, LinkedHashMap<(usize, UserKey), UserHistory>> {
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
    fn collect_ended(&mut self) {
        let latest = self.latest.take_if(|shared| shared.pending.peek().is_some()).map(|shared| shared.pending);
        let predecessor = self.predecessor.take_if(|pending| pending.peek().is_some());
        for pending in [predecessor, latest].into_iter().flatten() {
            if let Some(Ok(list)) = pending.peek()
                && self.checked_at.len() + 1 >= MAX_FRESH_LISTS
                && list.sessions.completeness() == Completeness::Whole
                && !list.sessions.is_of_unknown_user()
                && self.last_listing.as_ref().is_none_or(|last| last.requested_at < list.requested_at)
            {
                // What is remembered has a bound of its own, and must not fail the checks of others.
                list.charge.release();
                self.last_listing = Some(Arc::clone(list));
            }
        }
    }

    /// Joins the latest request if it was not sent yet, or starts one.
    fn join_or_start(&mut self, request: &ListRequest<'_>, now: Instant) -> (ListOrigin, SharedRequest) {
        if let Some(shared) = &self.latest
            && shared.join(request.call)
        {
            return (ListOrigin::Coalesced, shared.clone());
        }
        self.predecessor = self.latest.take().map(|shared| shared.pending);
        let shared = SharedRequest::start(request, now, self.predecessor.clone());
        (ListOrigin::Own, self.latest.insert(shared).clone())
    }
}

impl SharedRequest {
    fn start(request: &ListRequest<'_>, now: Instant, predecessor: Option<PendingList>) -> Self {
        let sent = predecessor.is_none();
        let stop_rule = request.enough_for.and_then(|(version, limit_check)| StopRule::new(version, &limit_check));
        let state = Arc::new(Mutex::new(RequestState { call: request.call.clone(), stop_rule, sent }));
        let (client, user, since) = (request.client.clone(), request.user.clone(), request.since);
        let first_deadline = request.call.deadline;
        let state_of_task = Arc::clone(&state);
        let task = async move {
            if let Some(predecessor) = predecessor {
                // Whether it ended or not: the wait is over.
                let _ = timeout_at(first_deadline.min(now + PREDECESSOR_TIMEOUT), predecessor).await;
            }
            let (call, stop_rule) = {
                let mut state = lock(&state_of_task);
                state.sent = true;
                (state.call.clone(), state.stop_rule.take())
            };
            let is_enough =
                |list: &SessionList| stop_rule.as_ref().is_some_and(|rule| rule.is_met(list, Timestamp::now()));
            let ReadList { sessions, charge } = client.read_list(user.user_id(), &call, is_enough).await?;
            Ok(Arc::new(SessionListing { sessions, since, requested_at: now, charge }))
        };
        let result = tokio::spawn(task.in_current_span());
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
