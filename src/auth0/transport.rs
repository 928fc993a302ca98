//! Sends the requests of a call, with its one retry and a span for each request.
//!
//! Every request of this client goes through [`Endpoint::send`]. There it gets a permit of the tenant's [`TenantLimiter`],
//! and the rate limit headers of its answer are read.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_http::HeaderInjector;
use reqwest::{Client, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::call::{CallContext, Operation, Priority};
use super::error::Error;
use super::limiter::{Permit, TenantLimiter};
use super::memory::Charge;
use super::observer::{Observer, Outcome};
use super::rate_limit_headers::{RateLimit, date};
use crate::policy::Failure;

/// How long a connection may take to come about. It leaves time for an answer within the default timeout of a check (3 s).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

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
    http: Client,
    base: Url,
    /// The canonical domain.
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    limiter: Arc<TenantLimiter>,
    /// How many seconds the tenant's clock is ahead of ours, by its latest answer.
    clock_difference: AtomicI64,
}

/// A complete answer that the call itself interprets: 2xx, or 4xx except 429.
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// The memory that the body takes.
    pub charge: Charge,
}

/// Whether a request that gave no [`Reply`] is sent again.
enum Retry {
    /// Once, after a pause: the failure may be gone by then.
    Once(Error),
    /// As soon as the tenant's budget allows it, because the tenant answered 429.
    WhenAllowed,
    /// Not at all: it would not help, or there is no time for it.
    Never(Error),
}

/// Why a request has no complete answer.
enum TransportError {
    /// The deadline passed.
    Timeout,
    /// There was no connection within [`CONNECT_TIMEOUT`].
    ConnectTimeout,
    /// The connection failed or broke, or the answer was not HTTP.
    Broken(reqwest::Error),
    /// The body is larger than [`MAX_PAGE_BYTES`] or [`MAX_OTHER_BYTES`].
    TooLarge,
    /// The answers in memory exceed a bound.
    NoMemory(Error),
}

impl Endpoint {
    pub fn new(
        http: Client,
        base: Url,
        tenant: Box<str>,
        observer: Arc<dyn Observer>,
        limiter: Arc<TenantLimiter>,
    ) -> Self {
        Self { http, base, tenant, observer, limiter, clock_difference: AtomicI64::new(0) }
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
        self.clock_difference.load(Ordering::Relaxed)
    }

    /// The URL of an encoded absolute path. With `--auth0-endpoint` it is below the path of that endpoint.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Starts a request of this operation.
    pub fn request(&self, operation: Operation, url: Url) -> RequestBuilder {
        self.http.request(operation.method(), url)
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
        request: impl Fn() -> Result<Request, Error>,
    ) -> Result<Reply, Error> {
        let deadline = context.deadline;
        let (mut resend, mut retried, mut last_error) = (0, false, None);
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
                Err(Retry::WhenAllowed) => last_error = None,
                Err(Retry::Once(error) | Retry::Never(error)) => return Err(error),
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
        mut request: Request,
        permit: Permit,
    ) -> Result<Reply, Retry> {
        let started = Instant::now();
        let span = self.span(operation, resend, request.url());
        opentelemetry::global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&span.context(), &mut HeaderInjector(request.headers_mut()));
        });
        let result = timeout_at(deadline, self.round_trip(operation, request))
            .instrument(span.clone())
            .await
            .unwrap_or(Err(TransportError::Timeout));
        let outcome = match &result {
            Ok((reply, _)) => Outcome::of(reply.status),
            Err(error) => error.outcome(),
        };
        let took = started.elapsed();
        record(&span, outcome, result.as_ref().ok().map(|(reply, _)| reply.status));
        self.observer.request(&self.tenant, operation, outcome, took);
        permit.record(outcome, took, result.as_ref().map_or(&RateLimit::default(), |(_, limits)| limits));
        result.map_err(TransportError::into_retry).and_then(|(reply, _)| complete(reply))
    }

    async fn round_trip(&self, operation: Operation, request: Request) -> Result<(Reply, RateLimit), TransportError> {
        let mut response = self.http.execute(request).await?;
        let now = Timestamp::now();
        if let Some(date) = date(response.headers()) {
            self.clock_difference.store(date.as_second() - now.as_second(), Ordering::Relaxed);
        }
        let limits = RateLimit::read(response.headers(), now);
        if limits != RateLimit::default() {
            self.observer.rate_limit(&self.tenant, operation, &limits);
        }
        let status = response.status();
        let max = if operation == Operation::List && status.is_success() { MAX_PAGE_BYTES } else { MAX_OTHER_BYTES };
        let mut charge = self.limiter.charge();
        let body = read(&mut response, max, &mut charge).await?;
        Ok((Reply { status, body, charge }, limits))
    }

    /// A client span by the OpenTelemetry conventions for HTTP. It has the template of the path, because paths contain user
    /// ids.
    fn span(&self, operation: Operation, resend: u32, url: &Url) -> Span {
        let (method, template) = (operation.method(), operation.template());
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

/// Reads a body that is at most `max` bytes long. Of an error only the first `max` bytes are read.
async fn read(response: &mut Response, max: usize, charge: &mut Charge) -> Result<Vec<u8>, TransportError> {
    let announced = response.content_length().unwrap_or(0);
    let must_be_whole = response.status().is_success();
    if must_be_whole && announced > max as u64 {
        return Err(TransportError::TooLarge);
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(MAX_PREALLOCATED_BYTES));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > max {
            return if must_be_whole { Err(TransportError::TooLarge) } else { Ok(body) };
        }
        charge.grow(chunk.len()).map_err(TransportError::NoMemory)?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        // An unanswered ping is a timeout as well, but of a connection that existed.
        if error.is_connect() && error.is_timeout() { Self::ConnectTimeout } else { Self::Broken(error) }
    }
}

impl TransportError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::ConnectTimeout | Self::Broken(_) => Outcome::Unreachable,
            Self::TooLarge | Self::NoMemory(_) => Outcome::TooLarge,
        }
    }

    fn into_retry(self) -> Retry {
        match self {
            Self::Timeout => Retry::Never(Error::timeout()),
            Self::ConnectTimeout => {
                Retry::Never(Error::new(Failure::UpstreamUnreachable, "there was no connection within 2 s"))
            }
            Self::Broken(cause) => Retry::Once(Error::new(Failure::UpstreamUnreachable, describe(cause))),
            Self::TooLarge => Retry::Never(Error::new(Failure::UpstreamError, "the answer is larger than it may be")),
            Self::NoMemory(error) => Retry::Never(error),
        }
    }
}

/// The error and its causes, without the URL, whose path contains the user id.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
