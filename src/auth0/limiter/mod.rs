//! What every request to a tenant passes first: the tenant's circuit breaker and its request budget.
//!
//! ```text
//!               open? ── at once: circuit_open
//!                 │
//!  request ──▶ breaker ──▶ budget ──▶ breaker ──▶ Permit ──▶ the tenant ──▶ record(outcome, …)
//!                            │                       │                        │        │
//!                     waits, or rate_limited      dropped:                    ▼        ▼
//!                                                cancellation              breaker   budget
//! ```
//!
//! A [`TenantLimiter`] belongs to a tenant and not to a credential: all policies of the tenant share it, and a change of
//! policies does not reset it. The token endpoint has a separate rate limit at Auth0, and so a separate budget here.
//!
//! | file | its concern |
//! |---|---|
//! | `rate_limiter` | the budget: who gets the next permit, and the waiting; [`Permit`] |
//! | `queue` | which requests wait, and their order; pure |
//! | `observed_limit` | what the tenant's rate limit headers say; pure |
//! | `quota` | what `tenant.requestsPerSecond` allows |
//! | `shared_bucket` | the bucket that all replicas share, in Redis |
//! | `availability` | when a request may be sent, as both say it; pure |
//! | `breaker` | whether the tenant answers at all |

mod availability;
mod breaker;
mod observed_limit;
mod queue;
mod quota;
mod rate_limiter;
mod shared_bucket;

use std::sync::Arc;

use tokio::time::Instant;

pub use quota::QuotaConfig;
pub(super) use rate_limiter::Permit;

use super::call::{CallContext, Operation, Priority};
use super::error::Error;
use super::memory::{Charge, TenantMemory, TotalMemory};
use super::observer::Observer;
use crate::clock::ServiceClock;
use crate::policy::Failure;
use breaker::Breaker;
use rate_limiter::RateLimiter;

/// The circuit breaker, the request budgets and the memory for answers of one tenant.
pub struct TenantLimiter {
    tenant: Box<str>,
    api: Arc<RateLimiter>,
    token_endpoint: Arc<RateLimiter>,
    breaker: Arc<Breaker>,
    observer: Arc<dyn Observer>,
    memory: Arc<TenantMemory>,
    clock: ServiceClock,
}

impl TenantLimiter {
    pub(super) fn new(
        tenant: &str,
        quotas: &QuotaConfig,
        observer: Arc<dyn Observer>,
        total: TotalMemory,
        clock: ServiceClock,
    ) -> Self {
        observer.begin(tenant);
        Self {
            tenant: tenant.into(),
            api: Arc::new(RateLimiter::new(tenant, quotas.clone(), clock.clone())),
            token_endpoint: Arc::new(RateLimiter::new(tenant, QuotaConfig::default(), clock.clone())),
            breaker: Arc::new(Breaker::new(tenant, Arc::clone(&observer), clock.clone())),
            memory: Arc::new(TenantMemory::new(tenant, total, Arc::clone(&observer))),
            observer,
            clock,
        }
    }

    /// The clock by which tokens and limits expire.
    pub(super) fn clock(&self) -> &ServiceClock {
        &self.clock
    }

    /// Sets the most requests a second that all replicas together send to the tenant's Management API. `None` = as many as
    /// the tenant's rate limit allows.
    pub fn set_quota(&self, requests_per_second: Option<u32>) {
        self.api.set_quota(requests_per_second);
    }

    /// How many requests the Management API takes now and at most, by its latest answer; `None` where it does not say.
    pub(super) fn left(&self) -> Option<(u64, u64)> {
        self.api.left()
    }

    /// A charge on the memory for the tenant's answers.
    pub(super) fn charge(&self) -> Charge {
        self.memory.charge()
    }

    /// When the token endpoint takes the next request by the [clock](Self::clock), where that is known and not now.
    pub(super) fn token_endpoint_opens_at(&self) -> Option<Instant> {
        self.token_endpoint.opens_at()
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// [`Failure::CircuitOpen`] at once. [`Failure::RateLimited`] when there is no room before the deadline, at once where
    /// that is known. [`Failure::UpstreamTimeout`] when the tenant has not answered any request by then.
    pub(super) async fn acquire(
        &self,
        operation: Operation,
        priority: Priority,
        context: &CallContext,
    ) -> Result<Permit, Error> {
        // While the breaker is open, waiting for the budget would be for nothing.
        if self.breaker.is_open(self.clock.instant()) {
            return Err(circuit_open());
        }
        let rate_limiter = if operation == Operation::Token { &self.token_endpoint } else { &self.api };
        let (permit, waited) = rate_limiter.acquire(priority, context).await;
        if waited {
            self.observer.budget_wait(&self.tenant, operation);
        }
        let permit = permit.inspect_err(|error| {
            // An alert counts them: no check depends on the others.
            if error.failure == Failure::RateLimited && !operation.is_best_effort() {
                self.observer.budget_refusal(&self.tenant, operation);
            }
        })?;
        permit.checked_by(&self.breaker).ok_or_else(circuit_open)
    }
}

fn circuit_open() -> Error {
    Error::new(Failure::CircuitOpen, "the circuit breaker is open: the tenant did not answer the latest requests")
}
