//! One call to a tenant: its requests, its one retry, its spans. Every request of this client leaves through
//! [`Endpoint::send`], where it passes the tenant's [`TenantLimiter`], and the headers of every answer are looked at in one place.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use opentelemetry_http::HeaderInjector;
use reqwest::{Client, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::error::Error;
use super::limiter::{CallContext, Permit, Priority, TenantLimiter};
use super::observer::{Observer, Operation, Outcome};
use super::rate::RateLimit;
use crate::policy::Failure;

/// The most that is read of one answer.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The longest pause before the one retry.
const MAX_JITTER_MS: u64 = 100;

/// Where the requests of one tenant go, and who is told about them.
pub(super) struct Endpoint {
    http: Client,
    base: Url,
    /// The canonical domain.
    tenant: Box<str>,
    observer: Arc<dyn Observer>,
    limiter: Arc<TenantLimiter>,
}

/// A whole answer that the call itself has to judge: 2xx, or 4xx other than 429.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

/// What can be done about a request that gave no [`Answer`].
enum Retry {
    /// It may work the next moment.
    Passing(Error),
    /// The tenant takes no more for now. Its budget knows until when.
    Throttled,
    /// Another try would not help, or there is no time for it.
    Lasting(Error),
}

/// Why an exchange did not give a whole answer.
enum TransportError {
    /// The deadline passed.
    Timeout,
    /// No connection within [`super::http::CONNECT_TIMEOUT`].
    NoConnection,
    /// No connection, or it broke, or what came was not HTTP.
    Broken(reqwest::Error),
    /// The body is larger than [`MAX_BODY_BYTES`].
    TooLarge,
}

impl Endpoint {
    pub fn new(
        http: Client,
        base: Url,
        tenant: Box<str>,
        observer: Arc<dyn Observer>,
        limiter: Arc<TenantLimiter>,
    ) -> Self {
        Self { http, base, tenant, observer, limiter }
    }

    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    pub fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// The URL of an encoded absolute path, below the path of an override.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// Starts a request of this operation.
    pub fn request(&self, operation: Operation, url: Url) -> RequestBuilder {
        self.http.request(operation.method(), url)
    }

    /// Sends one request, and gives the answer that the call has to judge. `request` is asked for each try anew, since an
    /// assertion is good for one request only.
    ///
    /// A connection that fails and a 5xx are tried once more, a moment later. A 429 is waited out when the tenant's budget
    /// opens before the deadline.
    pub async fn send(
        &self,
        operation: Operation,
        priority: Priority,
        context: &CallContext,
        request: impl Fn() -> Result<Request, Error>,
    ) -> Result<Answer, Error> {
        let deadline = context.deadline;
        let (mut resend, mut retried, mut last_error) = (0, false, None);
        loop {
            if Instant::now() >= deadline {
                return Err(last_error.unwrap_or_else(Error::timeout));
            }
            let permit = match self.limiter.enter(operation, priority, context).await {
                Ok(permit) => permit,
                // What went wrong with the request itself says more.
                Err(refused) => return Err(last_error.unwrap_or(refused)),
            };
            match self.exchange(operation, deadline, resend, request()?, permit).await {
                Ok(answer) => return Ok(answer),
                Err(Retry::Passing(error)) if !retried => {
                    let pause = Duration::from_millis(rand::random_range(0..=MAX_JITTER_MS));
                    if pause >= deadline.saturating_duration_since(Instant::now()) {
                        return Err(error);
                    }
                    (retried, last_error) = (true, Some(error));
                    sleep(pause).await;
                }
                Err(Retry::Throttled) => last_error = None,
                Err(Retry::Passing(error) | Retry::Lasting(error)) => return Err(error),
            }
            resend += 1;
        }
    }

    /// One request and its answer, seen by the trace and the metrics.
    async fn exchange(
        &self,
        operation: Operation,
        deadline: Instant,
        resend: u32,
        mut request: Request,
        permit: Permit<'_>,
    ) -> Result<Answer, Retry> {
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
            Ok((answer, _)) => Outcome::of(answer.status),
            Err(error) => error.outcome(),
        };
        record(&span, outcome, result.as_ref().ok().map(|(answer, _)| answer.status));
        self.observer.request(&self.tenant, operation, outcome, started.elapsed());
        permit.over(outcome, result.as_ref().map_or(&RateLimit::default(), |(_, limit)| limit), started);
        judge(result.map(|(answer, _)| answer))
    }

    async fn round_trip(&self, operation: Operation, request: Request) -> Result<(Answer, RateLimit), TransportError> {
        let mut response = self.http.execute(request).await?;
        let limit = RateLimit::read(response.headers(), Timestamp::now());
        if limit != RateLimit::default() {
            self.observer.rate_limit(&self.tenant, operation, &limit);
        }
        let body = read(&mut response).await?;
        Ok((Answer { status: response.status(), body }, limit))
    }

    /// A client span after the OpenTelemetry conventions for HTTP. Paths carry user ids, so it has their template only.
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
    if outcome != Outcome::Ok {
        match status {
            Some(status) => span.record("error.type", status.as_str()),
            None => span.record("error.type", outcome.as_str()),
        };
        span.record("otel.status_code", "ERROR");
    }
}

/// Reads a body that is at most [`MAX_BODY_BYTES`] long.
async fn read(response: &mut Response) -> Result<Vec<u8>, TransportError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > MAX_BODY_BYTES as u64 {
        return Err(TransportError::TooLarge);
    }
    // What is announced is believed up to a page's usual size.
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(64 << 10));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(TransportError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn judge(result: Result<Answer, TransportError>) -> Result<Answer, Retry> {
    let answer = result.map_err(TransportError::into_retry)?;
    match Outcome::of(answer.status) {
        Outcome::ServerError => Err(Retry::Passing(Error::unexpected(answer.status))),
        Outcome::RateLimited => Err(Retry::Throttled),
        Outcome::Redirect => Err(Retry::Lasting(Error::unexpected(answer.status))),
        _ => Ok(answer),
    }
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        // A ping that nobody answered is a timeout as well, but of a connection that was there.
        if error.is_connect() && error.is_timeout() { Self::NoConnection } else { Self::Broken(error) }
    }
}

impl TransportError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Timeout,
            Self::NoConnection | Self::Broken(_) => Outcome::Unreachable,
            Self::TooLarge => Outcome::TooLarge,
        }
    }

    fn into_retry(self) -> Retry {
        match self {
            Self::Timeout => Retry::Lasting(Error::timeout()),
            Self::NoConnection => {
                Retry::Lasting(Error::new(Failure::UpstreamUnreachable, "no connection within two seconds"))
            }
            Self::Broken(error) => Retry::Passing(Error::new(Failure::UpstreamUnreachable, describe(error))),
            Self::TooLarge => Retry::Lasting(Error::new(Failure::UpstreamError, "the answer is larger than 4 MiB")),
        }
    }
}

/// The error and its causes, without the URL: its path names the user.
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
