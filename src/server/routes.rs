//! The routes of a listener, and what every request gets: request id, span, metrics, the check of `Host`, and an answer when a
//! handler panics.
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
use axum::extract::Request;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceId};
use opentelemetry_http::HeaderExtractor;
use tower::Service;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::app::App;
use super::check;
use super::error::{ErrorKind, Rejection};
use super::peer::Peer;
use super::request_id::{self, RequestId};
use crate::telemetry::RequestContext;

/// The header that carries the caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// What a listener serves: its router, and what every request gets around it.
///
/// It is no layer of the router, because axum clones and boxes the service of a route for each layer and each request. For the
/// same reason a check does not go through the router.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    /// Counts and logs the requests. `None` for the admin listener.
    app: Option<Arc<App>>,
    router: Router,
    /// The path before each route: an ingress without rewrites sends the path that it matches.
    path_prefix: Box<str>,
    /// The paths of the routes, and their labels.
    labels: &'static [(&'static str, &'static str)],
}

/// The label of the route for checks.
pub(super) const CHECK: &str = "/check";

impl Routes {
    /// Observes the requests of a router. Callers choose the path: one that is not in `labels` must not become a label.
    pub(super) fn observed(
        app: Arc<App>,
        router: Router,
        path_prefix: &str,
        labels: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self(Arc::new(Inner { app: Some(app), router, path_prefix: path_prefix.into(), labels }))
    }

    /// Answers a request that came from `peer`. In a box, because a connection has a place for its future also while it is idle.
    pub(super) fn answer<B>(&self, request: Request<B>, peer: Option<Peer>) -> BoxFuture<'static, Response>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            match &inner.app {
                Some(app) => respond(&inner, app, request, peer).await,
                None => inner.route(request).await,
            }
        })
    }
}

impl From<Router> for Routes {
    /// Leaves everything to the router.
    fn from(router: Router) -> Self {
        Self(Arc::new(Inner { app: None, router, path_prefix: "".into(), labels: &[] }))
    }
}

impl Service<Request> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.answer(request, None).map(Ok).boxed()
    }
}

impl Inner {
    /// The route of a path as a label.
    fn label(&self, path: &str) -> &'static str {
        let label = |path: &str| self.labels.iter().find(|(known, _)| *known == path).map(|(_, label)| *label);
        let below_prefix = || path.strip_prefix(&*self.path_prefix).and_then(label);
        label(path).or_else(below_prefix).unwrap_or("other")
    }

    async fn route<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.router.clone().call(request).await.unwrap_or_else(|never| match never {})
    }
}

async fn respond<B>(routes: &Inner, app: &Arc<App>, mut request: Request<B>, peer: Option<Peer>) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let begun = Instant::now();
    let _in_flight = app.metrics.request_begun();
    let request_id = RequestId::of(request.headers());
    let route = routes.label(request.uri().path());
    let has_body = !request.body().is_end_stream();
    let method = method_label(request.method());
    let is_http1 = request.version() <= Version::HTTP_11;
    let (span, trace_id) = begin_span(request.headers(), method, route, &request_id);
    let context = RequestContext::new(request_id.to_shared(), trace_id);

    let handled = async {
        if !has_required_host(&request) {
            host_error(&request_id)
        } else if route == CHECK && request.method() == Method::POST {
            check::check(app, &request_id, peer, request).await.unwrap_or_else(IntoResponse::into_response)
        } else {
            request.extensions_mut().insert(request_id.clone());
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            routes.route(request).await
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
    if route == CHECK
        && let Some(rejection) = &rejection
    {
        app.metrics.check_rejected(rejection.kind);
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

/// Rejects requests without `Host` and with several: a proxy may have understood another one. For
/// routers without [`Routes::observed`], which does so itself.
pub(super) async fn require_host(request: Request, next: Next) -> Response {
    match has_required_host(&request) {
        true => next.run(request).await,
        false => host_error(&RequestId::of(request.headers())),
    }
}

fn has_required_host<B>(request: &Request<B>) -> bool {
    let hosts = request.headers().get_all(HOST).iter().count();
    (usize::from(request.version() == Version::HTTP_11)..=1).contains(&hosts)
}

fn host_error(request_id: &RequestId) -> Response {
    ErrorKind::BadRequest.with_message("The request must have exactly one Host header.", request_id).into_response()
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
