//! One credential of one tenant: gets a token and calls the Management API with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use reqwest::{Method, StatusCode, Url};
use tokio::time::Instant;

use super::call::{CallContext, Operation, Priority};
use super::error::Error;
use super::grant::{AccessToken, Grant};
use super::memory::Charge;
use super::observer::Observer;
use super::token::TokenCache;
use super::transport::{Endpoint, Reply};
use super::upstream::Upstream;
use crate::policy::{Failure, Tenant};
use crate::secret::{Credentials, SecretError};

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

    /// An id that no other client has while this one or a clone of it lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.tokens).addr()
    }

    /// Verifies by `deadline` that the tenant accepts the credential: gets a token, which is then kept. Returns the scopes
    /// that the tenant granted, or `None` when its answer does not list them.
    ///
    /// # Errors
    /// Why there is no token.
    pub async fn verify(&self, deadline: Instant) -> Result<Option<BTreeSet<String>>, Error> {
        Ok(self.tokens.get(deadline).await?.scopes.clone())
    }

    /// Calls the Management API. When it does not accept the token, calls it once more with a new one.
    pub(super) async fn call(
        &self,
        operation: Operation,
        priority: Priority,
        url: &Url,
        context: &CallContext,
    ) -> Result<Reply, Error> {
        let token = self.tokens.get(context.deadline).await?;
        let reply = self.call_with(&token, operation, priority, url, context).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        self.tokens.discard(&token);
        let token = self.tokens.get(context.deadline).await?;
        let reply = self.call_with(&token, operation, priority, url, context).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            let error = Error::from_api(reply.status, &reply.body);
            if error.failure == Failure::CredentialsRejected {
                // A third token would fail as well, and Auth0 bills each: the credential pauses.
                self.tokens.reject(&token, error);
            }
        }
        Ok(reply)
    }

    async fn call_with(
        &self,
        token: &AccessToken,
        operation: Operation,
        priority: Priority,
        url: &Url,
        context: &CallContext,
    ) -> Result<Reply, Error> {
        let request = || {
            let request = self.endpoint.request(operation, url.clone());
            let mut request = request.header(AUTHORIZATION, token.authorization.clone());
            if operation.method() == Method::POST {
                // hyper does not send it with an empty body, and some gateways answer 411 without it.
                request = request.header(CONTENT_LENGTH, 0);
            }
            let request = request.build();
            request
                .map_err(|_| Error::new(Failure::UpstreamError, "the request to the Management API is not valid HTTP"))
        };
        self.endpoint.send(operation, priority, context, request).await
    }

    pub(super) fn url(&self, path: &str) -> Url {
        self.endpoint.url(path)
    }

    pub(super) fn charge(&self) -> Charge {
        self.endpoint.charge()
    }

    pub(super) fn tenant(&self) -> &str {
        self.endpoint.tenant()
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.endpoint.observer()
    }
}
