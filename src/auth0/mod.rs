//! The tenant client: what this service asks of Auth0, and how it bears what comes back.
//!
//! ```text
//! TenantClient ── list_sessions, revoke_session        mod.rs, list.rs, revoke.rs
//!      │             ids become one path segment         path.rs
//!      ▼
//!   a token ────── kept, refreshed early, one flight     token.rs
//!      │             asked for by secret or assertion    grant.rs, assertion.rs
//!      ▼
//!    send ──────── one retry, span                       exchange.rs
//!      │             rate limit headers                  rate.rs
//!      ▼
//!    Gate ──────── breaker, budget: one for each tenant  gate/
//!      ▼
//!  Upstream ────── one connection pool for all tenants   http.rs
//!      │             where a tenant is                   tenant.rs
//!      │             names are resolved under guard      guard.rs
//!      ▼
//!   answer ─────── status to failure, leniently parsed   error.rs, parse.rs, date.rs
//! ```
//!
//! A call goes down this way once. It takes the credential's token, which is nearly always there. It sends the request and
//! reads the answer to its end, within bounds. A connection that fails, and a 5xx, are tried once more a moment later; a 429
//! is waited out when the tenant's budget opens before the deadline; a 401 gives up the token once. Whatever is left over
//! becomes an [`Error`] with one of the closed words that a check answers with. Each step knows the deadline, and none goes
//! on after it.
//!
//! [`Upstream`] is shared by all tenants. A [`TenantClient`] belongs to one credential of one tenant, and is kept while
//! these stay the same, whatever happens to the policies that name them: the token lives in it.
//!
//! Nothing here writes a token, a secret, a user id or a session id to a log, a span, an error or a metric.

mod assertion;
mod dns;
mod error;
mod grant;
mod http;
mod limiter;
mod list;
mod metrics;
mod observer;
mod parse;
mod path;
mod rate;
mod revoke;
mod token;
mod transport;

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

pub use error::Error;
pub use http::{SetupError, Upstream, UpstreamOptions};
pub use limiter::{BreakerState, CallContext, QuotaConfig, TenantLimiter};
pub use metrics::Auth0Metrics;
pub use observer::{Observer, Operation, Outcome, Unobserved};
pub use rate::RateLimit;
pub use revoke::Revoked;

use crate::policy::{Failure, Tenant};
use crate::secret::{Credentials, SecretError};
use grant::Grant;
use limiter::Priority;
use token::TokenCache;
use transport::{Answer, Endpoint};

/// One credential of one tenant. Clones share the token.
#[derive(Clone)]
pub struct TenantClient {
    endpoint: Arc<Endpoint>,
    tokens: Arc<TokenCache>,
}

impl TenantClient {
    /// Binds a credential to a tenant. Nothing is sent.
    ///
    /// # Errors
    /// The Secret does not allow the credential to be sent to this tenant.
    pub fn new(upstream: &Upstream, tenant: &Tenant, credentials: Arc<Credentials>) -> Result<Self, SecretError> {
        credentials.allows(tenant.domain(), tenant.custom_domain())?;
        let endpoint = Arc::new(upstream.endpoint(tenant));
        let grant = Arc::new(Grant::new(Arc::clone(&endpoint), tenant, credentials));
        let tokens = TokenCache::new(Box::new(move |deadline| {
            let grant = Arc::clone(&grant);
            Box::pin(async move { grant.fetch(deadline).await })
        }));
        Ok(Self { endpoint, tokens: Arc::new(tokens) })
    }

    /// Tells this credential from others, for as long as any of its clients lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.tokens).addr()
    }

    /// Makes sure that the tenant accepts the credential, by `deadline`: gets a token, which is then kept. Gives the scopes
    /// that the tenant says it granted, or nothing when it did not say.
    ///
    /// # Errors
    /// No token could be had.
    pub async fn prove(&self, deadline: Instant) -> Result<Option<BTreeSet<String>>, Error> {
        Ok(self.tokens.get(deadline).await?.scopes.clone())
    }

    /// Asks the Management API with a token, and with a new one when the first is not accepted.
    async fn call(
        &self,
        operation: Operation,
        priority: Priority,
        url: &Url,
        context: &CallContext,
    ) -> Result<Answer, Error> {
        let token = self.tokens.get(context.deadline).await?;
        let answer = self.call_with(&token, operation, priority, url, context).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.tokens.reject(&token);
        let token = self.tokens.get(context.deadline).await?;
        let answer = self.call_with(&token, operation, priority, url, context).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // A third would be refused as well, and each is billed: the credential rests.
            self.tokens.refuse(&token, Error::of_api(answer.status, &answer.body));
        }
        Ok(answer)
    }

    async fn call_with(
        &self,
        token: &grant::Token,
        operation: Operation,
        priority: Priority,
        url: &Url,
        context: &CallContext,
    ) -> Result<Answer, Error> {
        let request = || {
            let request = self.endpoint.request(operation, url.clone());
            let mut request = request.header(AUTHORIZATION, token.authorization.clone());
            if operation.method() == Method::POST {
                // Not said by hyper for an empty body, and gateways answer 411 without it.
                request = request.header(CONTENT_LENGTH, 0);
            }
            let request = request.build();
            request.map_err(|_| Error::new(Failure::UpstreamError, "the request cannot be built"))
        };
        self.endpoint.send(operation, priority, context, request).await
    }

    fn url(&self, path: &str) -> Url {
        self.endpoint.url(path)
    }

    fn tenant(&self) -> &str {
        self.endpoint.tenant()
    }

    fn observer(&self) -> &dyn Observer {
        self.endpoint.observer()
    }
}
