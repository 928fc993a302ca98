//! The request budget of a tenant, and the order in which requests use it.
//!
//! A request is sent at once while no other waits and both the [observed limit](super::observed_limit), which is what the
//! tenant takes, and the [quota](super::quota), which is what we may take of it, allow it. Otherwise it waits in the
//! [queue](super::queue) until its turn or its deadline. Where it is known that there is no room before the deadline, it
//! does not wait at all. While requests wait, one task hands out the permits.
//!
//! Once the tenant has answered at all, the queue is bounded: by what was sent in the last [`RECENT_SECONDS`], or by what
//! can be sent in a few seconds as far as the rate is known. More requests could not be sent in time, and each login that
//! waits for nothing takes one of the few places that Auth0 has for Actions in flight.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::availability::Availability;
use super::breaker::Breaker;
use super::observed_limit::{ObservedLimit, Sent};
use super::queue::WaitQueue;
use super::quota::{Quota, QuotaConfig, reserve};
use crate::auth0::call::{CallContext, Priority};
use crate::auth0::error::Error;
use crate::auth0::observer::Outcome;
use crate::auth0::rate_limit_headers::RateLimit;
use crate::clock::ServiceClock;
use crate::policy::Failure;

/// This many requests may always wait, so that a tenant at rest does not fail a small burst.
const MIN_QUEUE: usize = 16;
/// As many requests may wait as were sent in this time, which is longer than the default timeout of a check (3 s).
const RECENT_SECONDS: usize = 5;
/// How often the requests that were given up are taken out of the queue: often enough that the queue's length is about
/// true, rarely enough that the sweep of a long queue costs little.
const QUEUE_SWEEP_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct RateLimiter {
    tenant: Box<str>,
    quotas: QuotaConfig,
    /// All times of the state are of this clock.
    clock: ServiceClock,
    state: Mutex<LimiterState>,
    /// Wakes the task that serves the queue: a request joined it, or one ended.
    changed: Notify,
}

struct LimiterState {
    observed: ObservedLimit,
    quota: Option<Quota>,
    queue: WaitQueue<Waiter>,
    /// Whether the task that serves the queue is running.
    is_served: bool,
    swept_at: Instant,
    throughput: Throughput,
}

/// Takes the permit of a request that waits, or `None` when there is no room for it in time.
type Waiter = oneshot::Sender<Option<Permit>>;

/// How many requests were sent in each of the latest seconds.
struct Throughput {
    began: Instant,
    second: u64,
    counts: [usize; RECENT_SECONDS],
}

/// The right to send one request. [`record`](Self::record) takes the outcome. A permit that is dropped cancels the
/// request: the budget and the breaker count it as one without an answer.
#[must_use = "a permit that is dropped cancels its request"]
pub(in crate::auth0) struct Permit {
    rate_limiter: Arc<RateLimiter>,
    /// `None` once the outcome is recorded.
    sent: Option<Sent>,
    /// The breaker that allowed the request too. `None` before it allowed it, and once the outcome is recorded.
    breaker: Option<Arc<Breaker>>,
    is_probe: bool,
}

/// What the task that serves the queue does next.
enum NextStep {
    /// Ends: nothing waits.
    End,
    /// Waits until a request joins the queue, one ends, or this time comes.
    Wait(Option<Instant>),
    /// Takes requests out of the shared quota.
    Take { requests_per_second: u32, want: u32, reserve: u32 },
}

impl RateLimiter {
    pub fn new(tenant: &str, quotas: QuotaConfig, clock: ServiceClock) -> Self {
        let now = clock.instant();
        let state = LimiterState {
            observed: ObservedLimit::new(now),
            quota: None,
            queue: WaitQueue::new(),
            is_served: false,
            swept_at: now,
            throughput: Throughput { began: now, second: 0, counts: [0; RECENT_SECONDS] },
        };
        Self { tenant: tenant.into(), quotas, clock, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Sets the quota of all replicas together. `None` removes it.
    pub fn set_quota(&self, requests_per_second: Option<u32>) {
        let (now, replicas) = (self.clock.instant(), self.quotas.replicas.max(1));
        let mut state = self.lock();
        state.quota = requests_per_second.map(|rate| match state.quota.take() {
            Some(quota) => quota.resized(rate, replicas, now),
            None => Quota::new(rate, replicas, now),
        });
    }

    /// How many requests the tenant takes now and at most, where that is known.
    pub fn left(&self) -> Option<(u64, u64)> {
        self.lock().observed.left()
    }

    /// When the next request may be sent by the clock, where that is known and not now.
    pub fn opens_at(&self) -> Option<Instant> {
        match self.lock().observed.availability(false, self.clock.instant()) {
            Availability::At(at) => Some(at),
            Availability::Now | Availability::Unknown(_) => None,
        }
    }

    /// Gets a permit, and says whether the request waited for it.
    ///
    /// The error is [`Failure::RateLimited`] when there is no room before the deadline, at once where that is known, and
    /// [`Failure::UpstreamTimeout`] when the tenant has not answered any request by then.
    pub async fn acquire(self: &Arc<Self>, priority: Priority, context: &CallContext) -> (Result<Permit, Error>, bool) {
        let (now, deadline) = (self.clock.instant(), self.clock.clock_time(context.deadline));
        let waiting = {
            let mut state = self.lock();
            if state.queue.len() == 0 && state.take(priority, now, self.is_shared()) {
                return (Ok(self.permit(&mut state, priority, now)), false);
            }
            if let Availability::At(at) = state.observed.availability(priority.uses_reserve(), now)
                && at >= deadline
            {
                return (Err(no_room()), false);
            }
            let (waiter, waiting) = oneshot::channel();
            state.queue.push(priority, context.policy.as_ref(), deadline, waiter);
            if std::mem::replace(&mut state.is_served, true) {
                self.changed.notify_one();
            } else {
                tokio::spawn(Arc::clone(self).serve());
            }
            waiting
        };
        let permit = match timeout_at(context.deadline, waiting).await {
            Ok(Ok(permit)) => permit.ok_or_else(no_room),
            _ if self.lock().observed.is_unknown() => Err(Error::timeout()),
            _ => Err(no_room()),
        };
        (permit, true)
    }

    fn is_shared(&self) -> bool {
        self.quotas.shared.as_ref().is_some_and(|shared| !shared.is_degraded())
    }

    fn permit(self: &Arc<Self>, state: &mut LimiterState, priority: Priority, now: Instant) -> Permit {
        state.throughput.count(now);
        let sent = Some(state.observed.send(priority.uses_reserve(), now));
        Permit { rate_limiter: Arc::clone(self), sent, breaker: None, is_probe: false }
    }

    /// Serves the queue until nothing waits.
    async fn serve(self: Arc<Self>) {
        loop {
            // The permit of a request that was given up is dropped, which locks the state. So no permit is handed out under
            // the lock.
            let mut served = Vec::new();
            let (next, late) = self.step(&mut served);
            for (waiter, permit) in served {
                // Where the request was given up, the permit is dropped here.
                let _ = waiter.send(Some(permit));
            }
            dismiss(late);
            match next {
                NextStep::End => return,
                NextStep::Wait(until) => {
                    let time_comes = async {
                        match until {
                            Some(until) => sleep_until(self.clock.timer_time(until)).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = time_comes => {}
                        () = self.changed.notified() => {}
                    }
                }
                NextStep::Take { requests_per_second, want, reserve } => {
                    self.take(requests_per_second, want, reserve).await;
                }
            }
        }
    }

    /// Adds to `served` all requests that can be sent now, and returns those that cannot be sent in time.
    fn step(self: &Arc<Self>, served: &mut Vec<(Waiter, Permit)>) -> (NextStep, Vec<Waiter>) {
        let now = self.clock.instant();
        let shared = self.is_shared();
        let mut state = self.lock();
        let mut late = Vec::new();
        if now.duration_since(state.swept_at) >= QUEUE_SWEEP_INTERVAL {
            state.swept_at = now;
            late = state.queue.take_out(now, Waiter::is_closed);
        }
        let next = loop {
            let Some(priority) = state.queue.priority() else {
                state.is_served = false;
                break NextStep::End;
            };
            let uses_reserve = priority.uses_reserve();
            let mut availability = state.observed.availability(uses_reserve, now);
            if let Availability::Unknown(until) = availability {
                break NextStep::Wait(until);
            }
            let want = u32::try_from(state.queue.waiting(priority)).unwrap_or(u32::MAX);
            if let (Availability::Now, Some(quota)) = (availability, state.quota.as_mut()) {
                availability = quota.take(uses_reserve, now, shared);
                if let Availability::Unknown(_) = availability {
                    let requests_per_second = quota.requests_per_second();
                    let reserve = reserve(requests_per_second, uses_reserve);
                    break NextStep::Take { requests_per_second, want, reserve };
                }
            }
            if let Availability::At(at) = availability {
                // The most urgent request cannot be sent before, so none can.
                late.extend(state.queue.take_out(at, Waiter::is_closed));
                if state.queue.len() > 0 {
                    break NextStep::Wait(Some(at));
                }
                continue;
            }
            match state.queue.pop() {
                Some(waiter) if !waiter.is_closed() => {
                    let permit = self.permit(&mut state, priority, now);
                    served.push((waiter, permit));
                }
                // The request was given up after the quota allowed it.
                _ => state.quota.iter_mut().for_each(|quota| quota.prepaid.add(1, now)),
            }
        };
        late.extend(state.shed(now));
        (next, late)
    }

    /// Takes requests out of the shared quota, or waits until there are more in it.
    async fn take(&self, requests_per_second: u32, want: u32, reserve: u32) {
        let Some(shared) = &self.quotas.shared else { return };
        let Some(taken) = shared.take(&self.tenant, requests_per_second, want, reserve).await else {
            // Redis failed, which `shared` knows from now on: this replica's own bucket replaces it.
            return;
        };
        let more_at = self.clock.instant() + taken.more_in;
        let too_late = {
            let mut state = self.lock();
            if taken.count > 0 {
                state.quota.iter_mut().for_each(|quota| quota.prepaid.add(taken.count, self.clock.instant()));
                return;
            }
            state.queue.take_out(more_at, Waiter::is_closed)
        };
        dismiss(too_late);
        tokio::select! {
            () = sleep_until(self.clock.timer_time(more_at)) => {}
            () = self.changed.notified() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, LimiterState> {
        // Nothing panics while the lock is held, and each write leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimiterState {
    /// Whether a request may be sent right now. If so, the quota counts it.
    fn take(&mut self, priority: Priority, now: Instant, shared: bool) -> bool {
        let uses_reserve = priority.uses_reserve();
        self.observed.availability(uses_reserve, now) == Availability::Now
            && self.quota.as_mut().is_none_or(|quota| quota.take(uses_reserve, now, shared) == Availability::Now)
    }

    /// How many requests can be sent within a few seconds, as far as the rate is known before any was sent.
    fn known_to_fit(&self) -> usize {
        let by_quota = self.quota.as_ref().map(|quota| RECENT_SECONDS * quota.own_capacity() as usize);
        // The burst of a rested tenant refills in about three seconds: 50 at 16 a second.
        let by_limit = self.observed.burst().map(|burst| burst as usize);
        by_quota.into_iter().chain(by_limit).min().unwrap_or_default()
    }

    /// Takes out the requests that wait for nothing, because more wait than can be sent in time.
    fn shed(&mut self, now: Instant) -> Vec<Waiter> {
        let may_wait = MIN_QUEUE.max(self.throughput.total(now)).max(self.known_to_fit());
        if self.observed.is_unknown() || self.queue.len() <= may_wait {
            return Vec::new();
        }
        let mut shed = self.queue.take_out(now, Waiter::is_closed);
        while self.queue.len() > may_wait {
            shed.extend(self.queue.pop_least_urgent());
        }
        shed
    }
}

impl Throughput {
    fn advance(&mut self, now: Instant) {
        let second = now.duration_since(self.began).as_secs();
        for passed in self.second + 1..=second.min(self.second + RECENT_SECONDS as u64) {
            self.counts[passed as usize % RECENT_SECONDS] = 0;
        }
        // After a long pause the loop cleared every place, in whichever order.
        self.second = second;
    }

    fn count(&mut self, now: Instant) {
        self.advance(now);
        self.counts[self.second as usize % RECENT_SECONDS] += 1;
    }

    fn total(&mut self, now: Instant) -> usize {
        self.advance(now);
        self.counts.iter().sum()
    }
}

impl Permit {
    /// Makes the permit one of the breaker too. An open breaker cancels it.
    pub(super) fn checked_by(mut self, breaker: &Arc<Breaker>) -> Option<Self> {
        self.is_probe = breaker.allow(self.rate_limiter.clock.instant())?;
        self.breaker = Some(Arc::clone(breaker));
        Some(self)
    }

    /// Records how the request ended, `took` after it was sent, and the rate limit headers of its answer.
    pub fn record(mut self, outcome: Outcome, took: Duration, limits: &RateLimit) {
        if let Some(breaker) = self.breaker.take() {
            breaker.record(self.is_probe, outcome, took);
        }
        if matches!(outcome, Outcome::Timeout | Outcome::Unreachable) {
            // There was no answer: dropping the permit counts the end of the request.
            return;
        }
        if let Some(sent) = self.sent.take() {
            let now = self.rate_limiter.clock.instant();
            self.update(|observed| observed.answered(sent, outcome, limits, now));
        }
    }

    fn update(&self, update: impl FnOnce(&mut ObservedLimit)) {
        let mut state = self.rate_limiter.lock();
        update(&mut state.observed);
        if state.is_served {
            self.rate_limiter.changed.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(breaker) = self.breaker.take()
            && self.is_probe
        {
            breaker.cancel_probe();
        }
        if let Some(sent) = self.sent.take() {
            self.update(|observed| observed.end(sent));
        }
    }
}

/// Ends the wait of requests that cannot be sent in time.
fn dismiss(late: Vec<Waiter>) {
    for waiter in late {
        // A request that was given up needs no answer.
        let _ = waiter.send(None);
    }
}

fn no_room() -> Error {
    Error::new(
        Failure::RateLimited,
        "a request before the deadline would exceed the tenant's rate limit or its request budget",
    )
}

#[cfg(test)]
mod tests;
