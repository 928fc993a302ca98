//! A tenant's budget: whose turn it is to send a request.
//!
//! A request goes at once while nobody waits and both the [observed](super::observed_limit), which is what the tenant takes, and the
//! [quota](super::quota), which is what we may take of it, have room. Else it waits in the [queue](super::queue), until it is
//! its turn or its deadline comes; where it is known that there is no room before the deadline, it does not wait at all. While
//! anybody waits, one task hands out what there is.
//!
//! No more wait than were let through in the last five seconds, or than can be by what is known of the rate, once the tenant has
//! answered at all: the others could not be served in time, and every login that waits for nothing takes one of the few places
//! that Auth0 has for Actions under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::CallContext;
use super::observed_limit::{ObservedLimit, Opening, Sent};
use super::queue::{Priority, Queue};
use super::quota::{QuotaConfig, TokenBucket, reserve};
use crate::auth0::error::Error;
use crate::auth0::observer::Outcome;
use crate::auth0::rate::RateLimit;
use crate::policy::Failure;

/// So many may always wait.
const MIN_QUEUE: usize = 16;
/// And as many as were let through in so many seconds.
const RECENT_SECONDS: usize = 5;
/// How long what was paid for may be used.
const PREPAID_TTL: Duration = Duration::from_secs(1);
/// How often those who have left the queue are taken out of it.
const QUEUE_SWEEP_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct RateLimiter {
    tenant: Box<str>,
    quotas: QuotaConfig,
    state: Mutex<State>,
    /// Somebody came, or an answer did.
    changed: Notify,
}

struct State {
    observed: ObservedLimit,
    quota: Option<Quota>,
    queue: Queue<oneshot::Sender<Turn>>,
    /// Whether the task is there that serves the queue.
    served: bool,
    tidied_at: Instant,
    recent: Recent,
}

struct Quota {
    requests_per_second: u32,
    /// This replica's own, which also stands in for the shared one.
    own: TokenBucket,
    /// Paid for and not used yet.
    prepaid: Prepaid,
}

/// Requests that were paid for, by those who then did not send them. It ends soon: what nobody used is not added to the burst of
/// a later crowd.
#[derive(Clone, Copy)]
struct Prepaid {
    requests: u32,
    until: Instant,
}

/// How many were let through, by the second.
struct Recent {
    began: Instant,
    second: u64,
    counts: [usize; RECENT_SECONDS],
}

/// How waiting ended.
type Turn = Result<RateLimitPermit, Refusal>;

/// Why a request may not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no room for it in time.
    NoRoom,
    /// Nobody knows: the tenant has not answered anything in time.
    NoAnswer,
}

/// What became of asking for a turn.
pub(super) struct Admitted {
    pub permit: Turn,
    pub waited: bool,
}

/// The right to send one request, and the duty to tell what came of it.
pub(super) struct RateLimitPermit {
    budget: Arc<RateLimiter>,
    sent: Option<Sent>,
}

/// What the task that serves the queue does next.
enum Next {
    /// Nobody waits.
    End,
    /// Nothing can be sent until somebody comes, an answer does, or this moment.
    Wait(Option<Instant>),
    /// So many have to be taken out of the shared ceiling.
    Take { requests_per_second: u32, want: u32, reserve: u32 },
}

impl Refusal {
    pub fn into_error(self) -> Error {
        match self {
            Self::NoRoom => Error::new(Failure::RateLimited, "the tenant's budget is spent"),
            Self::NoAnswer => Error::timeout(),
        }
    }
}

impl RateLimiter {
    pub fn new(tenant: &str, quotas: QuotaConfig) -> Self {
        let now = Instant::now();
        let state = State {
            observed: ObservedLimit::new(now),
            quota: None,
            queue: Queue::new(),
            served: false,
            tidied_at: now,
            recent: Recent { began: now, second: 0, counts: [0; RECENT_SECONDS] },
        };
        Self { tenant: tenant.into(), quotas, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Sets the ceiling over all replicas.
    pub fn limit(&self, requests_per_second: Option<u32>) {
        let (now, replicas) = (Instant::now(), self.quotas.replicas.max(1));
        let mut state = self.lock();
        state.quota = requests_per_second.map(|rate| {
            let own = match state.quota.take() {
                Some(quota) if quota.requests_per_second == rate => return quota,
                Some(quota) => quota.own.resized(rate, replicas, now),
                None => TokenBucket::new(rate, replicas, now),
            };
            Quota { requests_per_second: rate, own, prepaid: Prepaid::none(now) }
        });
    }

    /// Asks for a turn, and waits for it until the errand's deadline.
    pub async fn admit(self: &Arc<Self>, priority: Priority, context: &CallContext) -> Admitted {
        let now = Instant::now();
        let turn = {
            let mut state = self.lock();
            if state.queue.len() == 0 && state.has_room(priority, now, self.is_shared()) {
                return Admitted { permit: Ok(self.permit(&mut state, priority, now)), waited: false };
            }
            if let Some(refusal) = state.refuses(priority, context.deadline, now) {
                return Admitted { permit: Err(refusal), waited: false };
            }
            let (tell, turn) = oneshot::channel();
            state.queue.push(priority, context.policy.as_ref(), context.deadline, tell);
            if std::mem::replace(&mut state.served, true) {
                self.changed.notify_one();
            } else {
                tokio::spawn(Arc::clone(self).serve());
            }
            turn
        };
        let permit = match timeout_at(context.deadline, turn).await {
            Ok(Ok(turn)) => turn,
            _ if self.lock().observed.is_unknown() => Err(Refusal::NoAnswer),
            _ => Err(Refusal::NoRoom),
        };
        Admitted { permit, waited: true }
    }

    fn is_shared(&self) -> bool {
        self.quotas.shared.as_ref().is_some_and(|shared| !shared.is_degraded())
    }

    fn permit(self: &Arc<Self>, state: &mut State, priority: Priority, now: Instant) -> RateLimitPermit {
        state.recent.count(now);
        RateLimitPermit { budget: Arc::clone(self), sent: Some(state.observed.send(priority.uses_reserve(), now)) }
    }

    /// Serves the queue until nobody waits.
    async fn serve(self: Arc<Self>) {
        loop {
            // Tickets that nobody takes any more come back to this budget: nothing is told while its state is held.
            let mut turns = Vec::new();
            let (next, refused) = self.step(&mut turns);
            for (tell, permit) in turns {
                // Who has left does not need it; the ticket comes back by itself.
                let _ = tell.send(Ok(permit));
            }
            refuse(refused, Refusal::NoRoom);
            match next {
                Next::End => return,
                Next::Wait(until) => {
                    let woken = async {
                        match until {
                            Some(until) => sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = woken => {}
                        () = self.changed.notified() => {}
                    }
                }
                Next::Take { requests_per_second, want, reserve } => {
                    self.take(requests_per_second, want, reserve).await;
                }
            }
        }
    }

    /// Hands out what there is to hand out now; those in `refused` cannot be served in time.
    fn step(
        self: &Arc<Self>,
        turns: &mut Vec<(oneshot::Sender<Turn>, RateLimitPermit)>,
    ) -> (Next, Vec<oneshot::Sender<Turn>>) {
        let now = Instant::now();
        let shared = self.is_shared();
        let mut state = self.lock();
        let mut refused = Vec::new();
        if now.duration_since(state.tidied_at) >= QUEUE_SWEEP_INTERVAL {
            state.tidied_at = now;
            refused = state.queue.take_out(now, oneshot::Sender::is_closed);
        }
        let next = loop {
            let Some(priority) = state.queue.priority() else {
                state.served = false;
                break Next::End;
            };
            let opening = state.observed.opening(priority.uses_reserve(), now);
            let want = u32::try_from(state.queue.waiting(priority)).unwrap_or(u32::MAX);
            let paid = match (opening, state.quota.as_mut()) {
                (Opening::Now, Some(quota)) => quota.pay(priority, want, now, shared),
                (Opening::Now, None) => Paid::Yes,
                (Opening::At(opens_at), _) => Paid::At(opens_at),
                (Opening::Unsure(until), _) => break Next::Wait(until),
            };
            match paid {
                Paid::Yes => match state.queue.pop() {
                    Some(tell) if !tell.is_closed() => {
                        let permit = self.permit(&mut state, priority, now);
                        turns.push((tell, permit));
                    }
                    _ => state.refund(now),
                },
                Paid::At(moment) => {
                    // The most urgent cannot go before, and so nobody can.
                    refused.extend(state.queue.take_out(moment, oneshot::Sender::is_closed));
                    if state.queue.len() > 0 {
                        break Next::Wait(Some(moment));
                    }
                }
                Paid::Failover(take) => break take,
            }
        };
        refused.extend(state.shed(now));
        (next, refused)
    }

    /// Takes out of the shared ceiling, or waits until there is something in it.
    async fn take(&self, requests_per_second: u32, want: u32, reserve: u32) {
        let Some(shared) = &self.quotas.shared else { return };
        let Some(taken) = shared.take(&self.tenant, requests_per_second, want, reserve).await else {
            // It failed, which it knows itself now: this replica's own ceiling stands in.
            return;
        };
        let more_at = Instant::now() + taken.more_in;
        let too_late = {
            let mut state = self.lock();
            if taken.count > 0 {
                state.quota.iter_mut().for_each(|quota| quota.prepaid.add(taken.count, Instant::now()));
                return;
            }
            state.queue.take_out(more_at, oneshot::Sender::is_closed)
        };
        refuse(too_late, Refusal::NoRoom);
        tokio::select! {
            () = sleep_until(more_at) => {}
            () = self.changed.notified() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the ceiling has room for one more.
enum Paid {
    Yes,
    At(Instant),
    Failover(Next),
}

impl Quota {
    fn pay(&mut self, priority: Priority, want: u32, now: Instant, shared: bool) -> Paid {
        if self.prepaid.spend(now) {
            return Paid::Yes;
        }
        if shared {
            let requests_per_second = self.requests_per_second;
            let reserve = reserve(requests_per_second, priority.uses_reserve());
            return Paid::Failover(Next::Take { requests_per_second, want, reserve });
        }
        match self.own.take(priority.uses_reserve(), now) {
            Ok(()) => Paid::Yes,
            Err(moment) => Paid::At(moment),
        }
    }
}

impl Prepaid {
    fn none(now: Instant) -> Self {
        Self { requests: 0, until: now }
    }

    fn add(&mut self, requests: u32, now: Instant) {
        let left = if now < self.until { self.requests } else { 0 };
        *self = Self { requests: left + requests, until: now + PREPAID_TTL };
    }

    fn spend(&mut self, now: Instant) -> bool {
        let there = self.requests > 0 && now < self.until;
        self.requests -= u32::from(there);
        there
    }
}

impl State {
    /// Whether a request may go right now, which is then paid for.
    fn has_room(&mut self, priority: Priority, now: Instant, shared: bool) -> bool {
        self.observed.opening(priority.uses_reserve(), now) == Opening::Now
            && self.quota.as_mut().is_none_or(|quota| matches!(quota.pay(priority, 1, now, shared), Paid::Yes))
    }

    /// Takes back what was paid for somebody who has left.
    fn refund(&mut self, now: Instant) {
        if let Some(quota) = &mut self.quota {
            quota.prepaid.add(1, now);
        }
    }

    /// So many can be served in a few seconds by what is said of the rate, before anything was let through.
    fn known_to_fit(&self) -> usize {
        let by_ceiling = self.quota.as_ref().map(|quota| RECENT_SECONDS * quota.own.capacity() as usize);
        // What a rested tenant takes at once flows in again in about three seconds: 50 at 16 a second.
        let by_window = Some(self.observed.limit() as usize).filter(|limit| *limit > 0);
        by_ceiling.into_iter().chain(by_window).min().unwrap_or_default()
    }

    /// Takes out those who wait for nothing, because more wait than can be served in time.
    fn shed(&mut self, now: Instant) -> Vec<oneshot::Sender<Turn>> {
        let may_wait = MIN_QUEUE.max(self.recent.total(now)).max(self.known_to_fit());
        if self.observed.is_unknown() || self.queue.len() <= may_wait {
            return Vec::new();
        }
        let mut spared = self.queue.take_out(now, oneshot::Sender::is_closed);
        while self.queue.len() > may_wait {
            spared.extend(self.queue.pop_least_urgent());
        }
        spared
    }

    /// Whether it is known already that there is no room in time.
    fn refuses(&self, priority: Priority, deadline: Instant, now: Instant) -> Option<Refusal> {
        match self.observed.opening(priority.uses_reserve(), now) {
            Opening::At(opens_at) if opens_at >= deadline => Some(Refusal::NoRoom),
            _ => None,
        }
    }
}

impl Recent {
    fn move_on(&mut self, now: Instant) {
        let second = now.duration_since(self.began).as_secs();
        for passed in self.second + 1..=second.min(self.second + RECENT_SECONDS as u64) {
            self.counts[passed as usize % RECENT_SECONDS] = 0;
        }
        // After a long pause every place was cleared above, whichever they were.
        self.second = second;
    }

    fn count(&mut self, now: Instant) {
        self.move_on(now);
        self.counts[self.second as usize % RECENT_SECONDS] += 1;
    }

    fn total(&mut self, now: Instant) -> usize {
        self.move_on(now);
        self.counts.iter().sum()
    }
}

impl RateLimitPermit {
    /// Tells what came of the request.
    pub fn over(mut self, outcome: Outcome, limit: &RateLimit) {
        if matches!(outcome, Outcome::Timeout | Outcome::Unreachable) {
            return;
        }
        if let Some(sent) = self.sent.take() {
            self.change(|observed| observed.answered(sent, outcome, limit, Instant::now(), Timestamp::now()));
        }
    }

    fn change(&self, change: impl FnOnce(&mut ObservedLimit)) {
        let mut state = self.budget.lock();
        change(&mut state.observed);
        if state.served {
            self.budget.changed.notify_one();
        }
    }
}

impl Drop for RateLimitPermit {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.change(|observed| observed.lost(sent));
        }
    }
}

fn refuse(waiting: Vec<oneshot::Sender<Turn>>, refusal: Refusal) {
    for tell in waiting {
        // Who has left knows it.
        let _ = tell.send(Err(refusal));
    }
}

#[cfg(test)]
mod tests;
