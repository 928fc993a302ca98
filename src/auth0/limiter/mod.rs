//! What every request to a tenant has to pass, whoever sends it: the tenant's breaker and its budget.
//!
//! ```text
//!               open? ── at once: circuit_open
//!                 │
//!  request ──▶ breaker ──▶ budget ──▶ breaker ──▶ the tenant ──▶ what came of it
//!                            │                                     │        │
//!                     waits, or rate_limited                       ▼        ▼
//!                                                               breaker   budget
//! ```
//!
//! A [`TenantLimiter`] belongs to a tenant and not to a credential: all policies of the tenant share it, and it lives on while they
//! change. The token endpoint has a rate limit of its own at Auth0, and so a budget of its own here.
//!
//! | file | its concern |
//! |---|---|
//! | `breaker` | whether the tenant answers at all |
//! | `budget` | whose turn it is, and the waiting |
//! | `observed` | what the tenant's rate limit headers say; pure |
//! | `quota` | what `tenant.requestsPerSecond` leaves; pure |
//! | `queue` | who waits, and in which order; pure |

mod breaker;
mod observed_limit;
mod queue;
mod quota;
mod rate_limiter;

use std::sync::Arc;

use tokio::time::Instant;

pub use breaker::BreakerState;
pub(super) use queue::Priority;
pub use quota::QuotaConfig;

use super::error::Error;
use super::observer::{Observer, Operation, Outcome};
use super::rate::RateLimit;
use crate::policy::{Failure, ObjectName};
use breaker::{Breaker, BreakerPermit};
use rate_limiter::{RateLimitPermit, RateLimiter};

/// On whose behalf a tenant is asked, and until when that makes sense.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The policy: when the budget is short, the policies of a tenant take turns.
    pub policy: Option<ObjectName>,
    /// Whether a session renews itself silently: when the budget is short, people who wait at a login go before it.
    pub silent: bool,
    /// No call goes on after this.
    pub deadline: Instant,
}

/// Nobody's errand in particular.
impl From<Instant> for CallContext {
    fn from(deadline: Instant) -> Self {
        Self { policy: None, silent: false, deadline }
    }
}

/// The one way to a tenant.
pub struct TenantLimiter {
    tenant: Box<str>,
    api: Arc<RateLimiter>,
    tokens: Arc<RateLimiter>,
    breaker: Breaker,
    observer: Arc<dyn Observer>,
}

/// A request that may be sent now. Its end has to be told; one that is dropped before came to nothing.
pub(super) struct Permit<'a> {
    pass: BreakerPermit<'a>,
    permit: RateLimitPermit,
}

impl TenantLimiter {
    pub(super) fn new(tenant: &str, quotas: &QuotaConfig, observer: Arc<dyn Observer>) -> Self {
        Self {
            tenant: tenant.into(),
            api: Arc::new(RateLimiter::new(tenant, quotas.clone())),
            tokens: Arc::new(RateLimiter::new(tenant, QuotaConfig::default())),
            breaker: Breaker::new(tenant, Arc::clone(&observer)),
            observer,
        }
    }

    /// Sets the most requests a second that all replicas together send to the tenant's Management API; `None` = as many as
    /// the tenant's rate limit allows.
    pub fn limit(&self, requests_per_second: Option<u32>) {
        self.api.limit(requests_per_second);
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// [`Failure::CircuitOpen`] at once; [`Failure::RateLimited`] when there is no room before the deadline, at once where that
    /// is known; [`Failure::UpstreamTimeout`] when the tenant has not answered anything by then.
    pub(super) async fn enter(
        &self,
        operation: Operation,
        priority: Priority,
        context: &CallContext,
    ) -> Result<Permit<'_>, Error> {
        let open =
            || Error::new(Failure::CircuitOpen, "the tenant did not answer of late, and is left alone for a moment");
        // Nobody waits for a tenant that is not asked anyway.
        if self.breaker.is_open(Instant::now()) {
            return Err(open());
        }
        let budget = if operation == Operation::Token { &self.tokens } else { &self.api };
        let admitted = budget.admit(priority, context).await;
        if admitted.waited {
            self.observer.budget_wait(&self.tenant, operation);
        }
        let permit = admitted.permit.map_err(|refusal| {
            let error = refusal.into_error();
            if error.failure == Failure::RateLimited {
                self.observer.budget_refusal(&self.tenant, operation);
            }
            error
        })?;
        let pass = self.breaker.pass(Instant::now()).ok_or_else(open)?;
        Ok(Permit { pass, permit })
    }
}

impl Permit<'_> {
    /// Tells how the request ended, and what the answer's headers said of the rate limit.
    pub fn over(self, outcome: Outcome, limit: &RateLimit, started: Instant) {
        self.pass.over(outcome, started);
        self.permit.over(outcome, limit);
    }
}
