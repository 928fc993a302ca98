//! One credential of one tenant: gets a token and calls the Management API with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::call::{CallContext, Operation, Priority};
use super::error::{Error, is_of_api};
use super::grant::{AccessToken, Grant};
use super::memory::Charge;
use super::observer::Observer;
use super::token::{Fetch, TokenCache};
use super::transport::{Endpoint, Reply, TenantRequest};
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
        let fetch: Fetch = Box::new(move |deadline| {
            let grant = Arc::clone(&grant);
            Box::pin(async move { grant.fetch(deadline).await })
        });
        let tokens = TokenCache::new(fetch, endpoint.clock().clone());
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

    /// Fetches a token and opens a connection by `deadline`, where either is missing. A failure changes nothing: the check that
    /// needs them reports it.
    pub async fn warm_up(&self, deadline: Instant) {
        let connection = timeout_at(deadline, self.endpoint.pool().place());
        let _ = tokio::join!(self.tokens.get(deadline), connection);
    }

    /// Whether a connection for lists and revocations is open.
    pub fn is_connected(&self) -> bool {
        self.endpoint.pool().is_connected()
    }

    /// Whether [`keep_warm`](Self::keep_warm) was called.
    pub fn is_kept_warm(&self) -> bool {
        self.tokens.is_kept_fresh()
    }

    /// Keeps a connection open and the token fresh from now on, while this client or a clone of it lives.
    pub fn keep_warm(&self) {
        self.endpoint.pool().keep_warm();
        self.tokens.keep_fresh();
    }

    /// Calls the Management API. When it does not accept the token, calls it once more with a new one. A 401 of something in
    /// between says nothing of the token, and Auth0 bills each new one.
    pub(super) async fn call(
        &self,
        operation: Operation,
        priority: Priority,
        target: &str,
        context: &CallContext,
    ) -> Result<Reply, Error> {
        let token = self.tokens.get(context.deadline).await?;
        let reply = self.call_with(&token, operation, priority, target, context).await?;
        if reply.status != StatusCode::UNAUTHORIZED || !is_of_api(reply.status, &reply.body) {
            return Ok(reply);
        }
        self.tokens.discard(&token);
        let token = self.tokens.get(context.deadline).await?;
        let reply = self.call_with(&token, operation, priority, target, context).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            let error = Error::from_api(reply.status, &reply.body);
            if error.failure == Failure::CredentialsRejected {
                // A third token would fail as well, and Auth0 bills each: the credential pauses.
                self.tokens.reject(&token, error);
            }
        }
        Ok(reply)
    }

    /// Calls the Management API for information that no check depends on, apart from the connections of checks.
    pub(super) async fn call_aside(
        &self,
        operation: Operation,
        target: &str,
        body: Option<&Value>,
        context: &CallContext,
    ) -> Result<Reply, Error> {
        let token = self.tokens.get(context.deadline).await?;
        let request = || {
            let request = self.endpoint.reqwest_request(operation, target);
            let request = request.header(AUTHORIZATION, token.authorization.clone());
            let request = match body {
                Some(body) => request.header(CONTENT_TYPE, "application/json").body(body.to_string()),
                None => request,
            };
            let invalid = |_| Error::new(Failure::UpstreamError, "the request to the Management API is not valid HTTP");
            request.build().map(TenantRequest::Reqwest).map_err(invalid)
        };
        self.endpoint.send(operation, Priority::Silent, context, request).await
    }

    /// Whether the token has a scope, or the tenant does not list the scopes.
    pub(super) async fn may_have_scope(&self, scope: &str, deadline: Instant) -> Result<bool, Error> {
        let token = self.tokens.get(deadline).await?;
        Ok(token.scopes.as_ref().is_none_or(|granted| granted.contains(scope)))
    }

    async fn call_with(
        &self,
        token: &AccessToken,
        operation: Operation,
        priority: Priority,
        target: &str,
        context: &CallContext,
    ) -> Result<Reply, Error> {
        let request = || self.endpoint.api_request(operation, target, token.authorization.clone());
        self.endpoint.send(operation, priority, context, request).await
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn charge(&self) -> Charge {
        self.endpoint.charge()
    }

    /// The domain of the tenant.
    pub fn tenant(&self) -> &str {
        self.endpoint.tenant()
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.endpoint.observer()
    }
}
