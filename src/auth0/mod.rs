//! The client of the Auth0 tenants: lists and revokes sessions, within each tenant's rate limit and each check's deadline.
//!
//! ```text
//! TenantClient ──── call: token, 401 once               client.rs, call.rs
//!   │                 list_sessions, revoke_session     list.rs, revoke.rs
//!   │                 explain_end                       annotate.rs
//!   │                 ids as one path segment           path.rs
//!   ▼
//! TokenCache ────── kept, refreshed early, one fetch    token.rs
//!   │                 by secret or signed assertion     grant.rs, assertion.rs
//!   ▼
//! Endpoint::send ── one retry, span, outcome            transport.rs, observer.rs
//!   │                 rate limit headers                rate_limit_headers.rs
//!   │                 breaker, budget: per tenant       limiter/
//!   ▼
//! Pool ──────────── connections: per tenant             pool/
//!   │                 what all tenants share            upstream.rs
//!   │                 private addresses are rejected    dns.rs
//!   ▼
//! answer ────────── status to failure, lenient parser   error.rs, parse.rs, user_agents.rs
//!                     bounds on memory                  memory.rs
//! ```
//!
//! A call passes through these steps once, from top to bottom. It takes the credential's token, which is nearly always
//! there, sends the request, and reads the answer to its end, within bounds. A connection that fails and a 5xx are tried
//! once more a moment later, and a connection that went dead at once. A 429 is waited out when the tenant's budget allows a request before the deadline. A 401
//! replaces the token once. Any other outcome becomes an [`Error`] with one of the [`Failure`](crate::policy::Failure)s
//! that a check answers with. Each step knows the deadline, and none continues after it.
//!
//! All tenants share one [`Upstream`]. A [`TenantClient`] belongs to one credential of one tenant. It is kept while these
//! stay the same, whatever changes in the policies that name them, because it holds the token.
//!
//! Nothing here writes a token, a secret, a user id or a session id to a log, a span, an error or a metric.

mod annotate;
mod assertion;
mod call;
mod client;
mod diagnosis;
mod dns;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grant;
mod limiter;
mod list;
mod memory;
mod metrics;
mod observer;
mod parse;
mod path;
mod pool;
mod rate_limit_headers;
mod revoke;
mod token;
mod transport;
mod upstream;
mod user_agents;

pub use annotate::EndReason;
pub use call::{CallContext, Operation};
pub use client::TenantClient;
pub use diagnosis::{Reach, ReachStep};
pub use error::Error;
pub use limiter::{QuotaConfig, TenantLimiter};
pub use list::{FirstPage, ReadList};
pub use memory::Charge;
pub use metrics::Auth0Metrics;
pub use observer::{BreakerState, ConnectionEnd, ListBound, ListField, MemoryBound, Observer, Outcome, Unobserved};
pub use parse::read_sessions;
pub use pool::{CaError, ProxyCredentials, ProxyLogin, ProxyOptions, TrustedCas};
pub use rate_limit_headers::RateLimit;
pub use revoke::Revoked;
pub use upstream::{SetupError, Upstream, UpstreamOptions};
pub use user_agents::UserAgents;
