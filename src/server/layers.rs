//! Middleware of the routers: request id, span, metrics, the `Host` header, and an answer when a handler panics.
//!
//! The panic is caught with `catch_unwind` of `futures`, as `tower-http`'s catch-panic layer does. The layer itself is not used:
//! it boxes the body of every answer once more, and its answer cannot carry the request id.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceId};
use opentelemetry_http::HeaderExtractor;
use tower::{Layer, Service, layer::layer_fn};
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::app::App;
use super::connection::Peer;
use super::error::{ErrorKind, Rejection};
use super::request_id::{self, RequestId};
use crate::telemetry::RequestContext;

/// The header that carries the caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Gives each request its id and span, and counts it.
///
/// A plain service, because `middleware::from_fn` allocates three times more for each request.
#[derive(Clone)]
pub(super) struct Observed<S> {
    inner: S,
    app: Arc<App>,
}

/// Makes an [`Observed`] of the service of a route.
pub(super) fn observe<S>(app: &Arc<App>) -> impl Layer<S, Service = Observed<S>> + Clone + use<S> {
    let app = Arc::clone(app);
    layer_fn(move |inner| Observed { inner, app: Arc::clone(&app) })
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready; the clone takes its place.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        respond(Arc::clone(&self.app), request, inner).map(Ok).boxed()
    }
}

async fn respond<S>(app: Arc<App>, mut request: Request, mut inner: S) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let begun = Instant::now();
    let _in_flight = app.metrics.request_begun();
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| route_label(path.as_str()));
    let peer = request.extensions().get::<Peer>().copied();
    let has_body = !request.body().is_end_stream();
    let method = method_label(request.method());
    let is_http1 = request.version() <= Version::HTTP_11;
    let (span, trace_id) = begin_span(request.headers(), method, route, &request_id);
    let context = RequestContext::new(request_id.to_shared(), trace_id);

    // A layer for the check of `Host` alone would cost four allocations.
    let handled = async {
        match has_required_host(&request) {
            true => inner.call(request).await.unwrap_or_else(|never| match never {}),
            false => host_error(&request_id),
        }
    };
    let handled = context.scope(AssertUnwindSafe(handled).catch_unwind().instrument(span.clone())).await;
    let in_request = |log: &dyn Fn()| context.sync_scope(|| span.in_scope(log));
    let mut response = handled.unwrap_or_else(|panic| {
        in_request(&|| log_panic(&*panic));
        internal_error(&request_id)
    });

    let rejection = response.extensions_mut().remove::<Rejection>();
    if let Some(rejection) = &rejection
        && let Some(suppressed) = app.rejections.log(rejection.kind.is_of_a_stranger())
    {
        let (error, detail) = (rejection.error, &rejection.message);
        let source = peer.map(|Peer(address)| tracing::field::display(address.ip()));
        in_request(&|| tracing::info!(error, detail, source, suppressed, "request rejected"));
    }
    let status = response.status();
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    app.metrics.request(route, method, status, begun.elapsed());
    response.headers_mut().insert(&request_id::HEADER, request_id.to_header());
    let leaves_the_body = has_body && rejection.is_some_and(|rejection| rejection.kind.comes_before_the_body());
    if is_http1 && (leaves_the_body || app.shutdown.begun.is_cancelled()) {
        // What follows is not a request, or the process may be gone when the connection's next request arrives.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Rejects requests without `Host` and with several: what stands before this service may have understood another one. For
/// routers without [`observe`], which does so itself.
pub(super) async fn require_host(request: Request, next: Next) -> Response {
    match has_required_host(&request) {
        true => next.run(request).await,
        false => host_error(&RequestId::of(request.headers())),
    }
}

fn has_required_host(request: &Request) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    (usize::from(request.version() == Version::HTTP_11)..=1).contains(&hosts)
}

fn host_error(request_id: &RequestId) -> Response {
    ErrorKind::BadRequest.with_message("The request must have exactly one Host header.", request_id).into_response()
}

/// The route as a label. Callers choose the path: one that is not a route must not become a label. The prefix of a path and
/// its last slash do not make another route.
fn route_label(path: &str) -> &'static str {
    match path.trim_end_matches('/') {
        path if path.ends_with("/check") => "/check",
        path if path.ends_with("/healthz") => "/healthz",
        "/logs" => "/logs",
        "/choose" | "/choose/style.css" => "/choose",
        _ => "other",
    }
}

/// A server span by the OpenTelemetry conventions for HTTP, which continues the caller's trace if the request has one; and the
/// id of the trace, if there is one. Without an exporter there is no span, and the caller's trace is still logged.
fn begin_span(headers: &HeaderMap, method: &str, route: &str, request_id: &RequestId) -> (Span, Option<TraceId>) {
    let span = info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        error.type = Empty,
        request_id = request_id.as_str(),
        session_checker.decision = Empty,
        session_checker.reason = Empty,
        session_checker.policy = Empty,
        session_checker.tenant = Empty,
    );
    if span.is_disabled() && !headers.contains_key(TRACEPARENT) {
        return (span, None);
    }
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)));
    let caller = parent.span().span_context().clone();
    // This fails without an exporter.
    let _ = span.set_parent(parent);
    let ours = span.context().span().span_context().clone();
    let known = [ours, caller].into_iter().find(SpanContext::is_valid);
    (span, known.map(|context| context.trace_id()))
}

/// The method as a label. Callers choose the method: others must not become labels.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "POST",
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

fn log_panic(panic: &(dyn Any + Send)) {
    let detail = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(detail, "handler panicked");
}

/// The answer for a panic, which would otherwise close the connection without one.
fn internal_error(request_id: &RequestId) -> Response {
    ErrorKind::Internal
        .with_message("The service failed internally. Its log has the details under this request id.", request_id)
        .into_response()
}
