//! Sends the requests of a call, with its one retry and a span for each request.
//!
//! Every request of this client goes through [`Endpoint::send`]. There it gets a permit of the tenant's [`TenantLimiter`],
//! and the rate limit headers of its answer are read. Lists and revocations use the [`Pool`] of the tenant; the other
//! requests are few and use reqwest.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderValue, USER_AGENT};
use hyper::http::uri::{Authority, Scheme};
use hyper::http::{HeaderMap, Method, StatusCode};
use opentelemetry_http::HeaderInjector;
use reqwest::{Client, Url};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::call::{CallContext, Operation, Priority};
use super::dns::ResolveError;
use super::error::{Error, with_causes};
use super::limiter::{Permit, TenantLimiter};
use super::memory::Charge;
use super::observer::{ConnectionEnd, Observer, Outcome};
use super::path;
use super::pool::{Broken, ConnectError, Pool, PooledPlace, ProxyError, Response};
use super::rate_limit_headers::{RateLimit, date};
use crate::clock::ServiceClock;
use crate::policy::Failure;

/// How the service names itself to tenants.
pub(super) const PRODUCT: &str = concat!("session-checker/", env!("CARGO_PKG_VERSION"));

/// A request that had less time than this says nothing about its connection: it was sent just before its deadline.
const MIN_ATTEMPT_TIME: Duration = Duration::from_millis(100);

/// The largest page of a list that is read. A page of 50 sessions has about 50 KiB.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// The largest body of any other answer that is read. A token and an error have at most a few KiB. Of a longer error the rest
/// is not read, because the status says what it means.
const MAX_OTHER_BYTES: usize = 64 << 10;

/// How much is allocated at once for an announced body: somewhat more than a page of 50 sessions.
const MAX_PREALLOCATED_BYTES: usize = 64 << 10;

/// The longest pause before the one retry. It is random, so that the requests that fail together do not come back together.
const MAX_RETRY_DELAY_MS: u64 = 100;

/// Where the requests of one tenant go, what limits them, and what observes them.
pub(super) struct Endpoint {
    /// For all but lists and revocations. It is replaced when other CAs are trusted.
    http: Arc<ArcSwap<Client>>,
    pool: Arc<Pool>,
    base: Url,
    /// Scheme and authority of `base`.
    origin: (Scheme, Authority),
    /// The canonical domain.
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    limiter: Arc<TenantLimiter>,
    /// How many seconds the tenant's clock is ahead of ours, by its latest answer. [`NO_ANSWER_YET`] before the first.
    clock_difference: AtomicI64,
}

/// The clock difference of a tenant that has not answered. The first answer differs from it, and so is reported.
const NO_ANSWER_YET: i64 = i64::MIN;

/// A request that is sent once.
pub(super) enum TenantRequest {
    Reqwest(reqwest::Request),
    Api(hyper::Request<()>),
}

/// An answer whose body is not read yet.
enum UnreadAnswer<'a> {
    Reqwest(reqwest::Response),
    Api(Response, &'a mut PooledPlace),
}

/// A complete answer that the call itself interprets: 2xx, or 4xx except 429.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// By how many seconds the tenant's clock is ahead of ours, by the `Date` of this answer; 0 without one.
    pub clock_ahead: i64,
    /// The memory that the body takes.
    pub charge: Charge,
}

/// Whether a request that gave no [`Reply`] is sent again.
enum Retry {
    /// Once, after a pause: the failure may be gone by then.
    Once(Error),
    /// Once, without a pause: another connection may work.
    OnceAtOnce(Error),
    /// As soon as the tenant's budget allows it, because the tenant answered 429.
    WhenAllowed,
    /// Not at all: it would not help, or there is no time for it.
    Never(Error),
}

/// Why a request has no complete answer.
enum TransportError {
    /// The deadline passed.
    Timeout,
    /// There was no connection before the deadline.
    NoConnection,
    /// A connection did not come about.
    Connect(ConnectError),
    /// The connection failed or broke, or the answer was not HTTP.
    Broken(Broken),
    /// The same for a request by reqwest, in words.
    Reqwest(String),
    /// The body is larger than [`MAX_PAGE_BYTES`] or [`MAX_OTHER_BYTES`].
    TooLarge,
    /// The answers in memory exceed a bound.
    NoMemory(Error),
}

impl Endpoint {
    pub fn new(
        http: Arc<ArcSwap<Client>>,
        pool: Arc<Pool>,
        (base, origin): (Url, (Scheme, Authority)),
        tenant: Box<str>,
        observer: Arc<dyn Observer>,
        limiter: Arc<TenantLimiter>,
    ) -> Self {
        Self { http, pool, base, origin, tenant, observer, limiter, clock_difference: AtomicI64::new(NO_ANSWER_YET) }
    }

    /// The clock by which tokens and limits expire.
    pub fn clock(&self) -> &ServiceClock {
        self.limiter.clock()
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    pub fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    pub fn charge(&self) -> Charge {
        self.limiter.charge()
    }

    /// How many seconds the tenant's clock is ahead of ours, by its latest answer. 0 before the first.
    pub fn clock_difference(&self) -> i64 {
        match self.clock_difference.load(Ordering::Relaxed) {
            NO_ANSWER_YET => 0,
            seconds => seconds,
        }
    }

    /// How many requests the tenant's Management API takes now and at most, where that is known.
    pub fn rate_limit_left(&self) -> Option<(u64, u64)> {
        self.limiter.left()
    }

    /// The connections for lists and revocations.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The URL of an encoded absolute path. With `--auth0-endpoint` it is below the path of that endpoint.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Starts a request by reqwest to an encoded absolute path.
    pub fn reqwest_request(&self, operation: Operation, path: &str) -> reqwest::RequestBuilder {
        self.http.load().request(operation.method(), self.url(path))
    }

    /// A request to the Management API. `target` is an encoded absolute path with its query.
    pub fn api_request(
        &self,
        operation: Operation,
        target: &str,
        authorization: HeaderValue,
    ) -> Result<TenantRequest, Error> {
        let uri = path::uri(self.origin.clone(), self.base.path(), target);
        let invalid = || Error::new(Failure::UpstreamError, "the request to the Management API is not valid HTTP");
        let mut request = hyper::Request::new(());
        *request.uri_mut() = uri.ok_or_else(invalid)?;
        *request.method_mut() = operation.method();
        let headers = request.headers_mut();
        headers.reserve(6);
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if operation.method() == Method::POST {
            // Some gateways answer 411 without it.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(TenantRequest::Api(request))
    }

    /// Sends one request, and returns the answer that the call interprets. `request` makes the request for each try,
    /// because a client assertion is valid for one request only.
    ///
    /// A request is sent once more a moment later when its connection fails or the answer is a 5xx. A 429 is waited out when
    /// the tenant's budget allows a request before the deadline. That of the token endpoint is an error that says when.
    pub async fn send(
        &self,
        operation: Operation,
        priority: Priority,
        context: &CallContext,
        request: impl Fn() -> Result<TenantRequest, Error>,
    ) -> Result<Reply, Error> {
        let deadline = context.deadline;
        let (mut resend, mut retried, mut last_error) = (0, operation.is_best_effort(), None);
        loop {
            if Instant::now() >= deadline {
                return Err(last_error.unwrap_or_else(Error::timeout));
            }
            // Checks that need the token wait by themselves, each until its own deadline.
            if operation == Operation::Token
                && let Some(opens_at) = self.limiter.token_endpoint_opens_at()
            {
                return Err(last_error.unwrap_or_else(|| Error::no_token_before(opens_at)));
            }
            let permit = match self.limiter.acquire(operation, priority, context).await {
                Ok(permit) => permit,
                // The failure of the request itself says more.
                Err(not_allowed) => return Err(last_error.unwrap_or(not_allowed)),
            };
            match self.exchange(operation, deadline, resend, request()?, permit).await {
                Ok(reply) => return Ok(reply),
                Err(Retry::Once(error)) if !retried => {
                    let pause = Duration::from_millis(rand::random_range(0..=MAX_RETRY_DELAY_MS));
                    if pause >= deadline.saturating_duration_since(Instant::now()) {
                        return Err(error);
                    }
                    (retried, last_error) = (true, Some(error));
                    sleep(pause).await;
                }
                Err(Retry::OnceAtOnce(error)) if !retried => (retried, last_error) = (true, Some(error)),
                Err(Retry::WhenAllowed) => last_error = None,
                Err(Retry::Once(error) | Retry::OnceAtOnce(error) | Retry::Never(error)) => return Err(error),
            }
            resend += 1;
        }
    }

    /// Sends one request and records its outcome in the trace, the metrics and the limiter.
    async fn exchange(
        &self,
        operation: Operation,
        deadline: Instant,
        resend: u32,
        mut request: TenantRequest,
        permit: Permit,
    ) -> Result<Reply, Retry> {
        let started = Instant::now();
        let span = self.span(operation, resend);
        if !span.is_disabled() {
            opentelemetry::global::get_text_map_propagator(|propagator| {
                propagator.inject_context(&span.context(), &mut HeaderInjector(request.headers_mut()));
            });
        }
        let (result, is_connections_fault) = match request {
            TenantRequest::Reqwest(request) => {
                (self.call_by_reqwest(operation, deadline, request).instrument(span.clone()).await, false)
            }
            TenantRequest::Api(request) => self.call_api(operation, deadline, request).instrument(span.clone()).await,
        };
        let outcome = match &result {
            Ok((reply, _)) => Outcome::of(reply.status),
            Err(error) => error.outcome(),
        };
        let took = started.elapsed();
        record(&span, outcome, result.as_ref().ok().map(|(reply, _)| reply.status));
        self.observer.request(&self.tenant, operation, outcome, took);
        let is_not_public = matches!(result, Err(TransportError::Connect(ConnectError::NotPublic(_))));
        if is_connections_fault || is_not_public || (operation.is_best_effort() && !outcome.is_answer()) {
            // The request ends without an outcome: the circuit breaker learns nothing about the tenant.
            drop(permit);
        } else {
            permit.record(outcome, took, result.as_ref().map_or(&RateLimit::default(), |(_, limits)| limits));
        }
        result.map_err(|error| error.into_retry(is_connections_fault)).and_then(|(reply, _)| complete(reply))
    }

    async fn call_by_reqwest(
        &self,
        operation: Operation,
        deadline: Instant,
        request: reqwest::Request,
    ) -> Result<(Reply, RateLimit), TransportError> {
        let answer = async {
            let response = self.http.load_full().execute(request).await.map_err(of_reqwest)?;
            self.read(operation, UnreadAnswer::Reqwest(response)).await
        };
        timeout_at(deadline, answer).await.unwrap_or(Err(TransportError::Timeout))
    }

    /// Returns also whether a failure says nothing about the tenant: the connection was to blame.
    async fn call_api(
        &self,
        operation: Operation,
        deadline: Instant,
        request: hyper::Request<()>,
    ) -> (Result<(Reply, RateLimit), TransportError>, bool) {
        let mut place = match timeout_at(deadline, self.pool.place()).await {
            Ok(Ok(place)) => place,
            Ok(Err(error)) => return (Err(TransportError::Connect(error)), false),
            // All connections are in use.
            Err(_) if self.pool.is_connected() => return (Err(TransportError::Timeout), false),
            Err(_) => return (Err(TransportError::NoConnection), false),
        };
        let sent_at = Instant::now();
        let answer = async {
            let response = place.send(request).await.map_err(TransportError::Broken)?;
            self.read(operation, UnreadAnswer::Api(response, &mut place)).await
        };
        let result = timeout_at(deadline, answer).await.unwrap_or(Err(TransportError::Timeout));
        let is_lost = matches!(result, Err(TransportError::Timeout | TransportError::Broken(_)));
        let is_connections_fault = is_lost && place.is_connections_fault();
        if matches!(result, Err(TransportError::Timeout)) && sent_at.elapsed() >= MIN_ATTEMPT_TIME {
            place.retire(ConnectionEnd::Timeout);
        }
        (result, is_connections_fault)
    }

    async fn read(
        &self,
        operation: Operation,
        mut answer: UnreadAnswer<'_>,
    ) -> Result<(Reply, RateLimit), TransportError> {
        let now = self.clock().timestamp();
        let (status, headers) = answer.head();
        let date = date(headers);
        let clock_ahead = date.map(|date| date.as_second() - now.as_second());
        if let Some(difference) = clock_ahead
            && self.clock_difference.swap(difference, Ordering::Relaxed) != difference
        {
            self.observer.clock_difference(&self.tenant, difference);
        }
        let limits = RateLimit::read(headers, date, now);
        if limits != RateLimit::default() {
            self.observer.rate_limit(&self.tenant, operation, &limits);
        }
        let max = if operation == Operation::List && status.is_success() { MAX_PAGE_BYTES } else { MAX_OTHER_BYTES };
        let mut charge = self.limiter.charge();
        let body = answer.body(max, &mut charge).await?;
        Ok((Reply { status, body, clock_ahead: clock_ahead.unwrap_or(0), charge }, limits))
    }

    /// A client span by the OpenTelemetry conventions for HTTP. It has the template of the path, because paths contain user
    /// ids.
    fn span(&self, operation: Operation, resend: u32) -> Span {
        let (method, template, url) = (operation.method(), operation.template(), &self.base);
        let span = info_span!(
            "auth0",
            otel.name = format!("{method} {template}"),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = method.as_str(),
            http.request.resend_count = Empty,
            http.response.status_code = Empty,
            url.template = template,
            url.scheme = url.scheme(),
            server.address = url.host_str(),
            server.port = url.port_or_known_default(),
            error.type = Empty,
        );
        if resend > 0 {
            span.record("http.request.resend_count", resend);
        }
        span
    }
}

fn record(span: &Span, outcome: Outcome, status: Option<StatusCode>) {
    if let Some(status) = status {
        span.record("http.response.status_code", i64::from(status.as_u16()));
    }
    // A user or a session that is not there is an answer, and the calls take it for one.
    if !matches!(outcome, Outcome::Ok | Outcome::NotFound) {
        match status {
            Some(status) => span.record("error.type", status.as_str()),
            None => span.record("error.type", outcome.as_str()),
        };
        span.record("otel.status_code", "ERROR");
    }
}

impl TenantRequest {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Reqwest(request) => request.headers_mut(),
            Self::Api(request) => request.headers_mut(),
        }
    }
}

impl UnreadAnswer<'_> {
    fn head(&self) -> (StatusCode, &HeaderMap) {
        match self {
            Self::Reqwest(response) => (response.status(), response.headers()),
            Self::Api(response, _) => (response.status, &response.headers),
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        match self {
            Self::Reqwest(response) => response.chunk().await.map_err(of_reqwest),
            Self::Api(response, place) => place.chunk(response).await.map_err(TransportError::Broken),
        }
    }

    /// Reads a body that is at most `max` bytes long. Of an error only the first `max` bytes are read.
    async fn body(&mut self, max: usize, charge: &mut Charge) -> Result<Vec<u8>, TransportError> {
        let (status, headers) = self.head();
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        let announced = announced.unwrap_or(0);
        let must_be_whole = status.is_success();
        if must_be_whole && announced > max {
            return Err(TransportError::TooLarge);
        }
        let mut body = Vec::with_capacity(announced.min(MAX_PREALLOCATED_BYTES));
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > max {
                return if must_be_whole { Err(TransportError::TooLarge) } else { Ok(body) };
            }
            charge.grow(chunk.len()).map_err(TransportError::NoMemory)?;
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The reply that the call interprets, or what to do about a status that no call interprets.
fn complete(reply: Reply) -> Result<Reply, Retry> {
    match Outcome::of(reply.status) {
        Outcome::ServerError => Err(Retry::Once(Error::unexpected(reply.status))),
        Outcome::RateLimited => Err(Retry::WhenAllowed),
        Outcome::Redirect => Err(Retry::Never(Error::unexpected(reply.status))),
        _ => Ok(reply),
    }
}

impl TransportError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::Connect(ConnectError::Proxy(ProxyError::Unauthorized)) => Outcome::ClientError,
            Self::Connect(ConnectError::Proxy(ProxyError::Status { status, .. })) => {
                StatusCode::from_u16(*status).map_or(Outcome::Unreachable, Outcome::of)
            }
            Self::Connect(ConnectError::Proxy(ProxyError::NoTunnel)) => Outcome::ServerError,
            Self::NoConnection | Self::Connect(_) | Self::Broken(_) | Self::Reqwest(_) => Outcome::Unreachable,
            Self::TooLarge | Self::NoMemory(_) => Outcome::TooLarge,
        }
    }

    fn into_retry(self, is_connections_fault: bool) -> Retry {
        let unreachable = |detail: String| Error::new(Failure::UpstreamUnreachable, detail);
        match self {
            Self::Timeout => Retry::Never(Error::timeout()),
            Self::NoConnection => Retry::Never(unreachable("there was no connection before the deadline".to_owned())),
            Self::Connect(ConnectError::NotPublic(error)) => {
                Retry::Never(Error::with_remedy(Failure::UpstreamUnreachable, error.to_string()))
            }
            Self::Connect(ConnectError::Proxy(error)) => match error {
                ProxyError::Unreachable(_) => {
                    Retry::Once(Error::with_remedy(Failure::UpstreamUnreachable, error.to_string()))
                }
                error => Retry::Once(Error::with_remedy(Failure::UpstreamError, error.to_string())),
            },
            Self::Connect(error) => Retry::Once(unreachable(error.to_string())),
            Self::Broken(error) if is_connections_fault => Retry::OnceAtOnce(unreachable(error.to_string())),
            Self::Broken(error) => Retry::Once(unreachable(error.to_string())),
            Self::Reqwest(text) => Retry::Once(unreachable(text)),
            Self::TooLarge => Retry::Never(Error::new(Failure::UpstreamError, "the answer is larger than it may be")),
            Self::NoMemory(error) => Retry::Never(error),
        }
    }
}

/// What an error of reqwest means. It has a type for none of these causes.
fn of_reqwest(error: reqwest::Error) -> TransportError {
    // Without the URL, as in every other text.
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(next) = cause {
        if let Some(ResolveError::NotPublic(error)) = next.downcast_ref() {
            return TransportError::Connect(ConnectError::NotPublic(error.clone()));
        }
        cause = next.source();
    }
    let text = with_causes(&error);
    if text.contains("proxy authorization required") {
        TransportError::Connect(ConnectError::Proxy(ProxyError::Unauthorized))
    } else if text.contains("tunnel error: unsuccessful") {
        TransportError::Connect(ConnectError::Proxy(ProxyError::NoTunnel))
    } else {
        TransportError::Reqwest(text)
    }
}
