//! Middleware of the router for checks: request id, span, metrics, and an answer when a handler panics.
//!
//! The panic is caught with `catch_unwind` of `futures`, as `tower-http`'s catch-panic layer does. The layer itself is not used:
//! it boxes the body of every answer once more, and its answer cannot carry the request id.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, Method, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_http::HeaderExtractor;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::app::App;
use super::error::ErrorKind;
use super::request_id::{self, RequestId};

/// Gives a request its id and span, and counts it.
pub(super) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let _in_flight = app.metrics.request_begun();
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    // Callers choose the path: one that is not a route must not become a label.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    let method = method_label(request.method());
    let is_http1 = request.version() <= Version::HTTP_11;
    let span = span(request.headers(), method, &route, &request_id);

    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = handled.unwrap_or_else(|panic| span.in_scope(|| panicked(&*panic, &request_id)));

    let status = response.status();
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    app.metrics.request(&route, method, status.as_u16(), begun.elapsed());
    response.headers_mut().insert(&request_id::HEADER, request_id.to_header());
    if is_http1 && app.shutdown.begun.is_cancelled() {
        // The process may be gone when the connection's next request arrives.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A server span by the OpenTelemetry conventions for HTTP. It continues the caller's trace if the request has one.
fn span(headers: &HeaderMap, method: &str, route: &str, request_id: &RequestId) -> Span {
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
        trace_id = Empty,
    );
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&HeaderExtractor(headers)));
    let caller = parent.span().span_context().clone();
    // This fails without an exporter, which is fine: the caller's trace id is still logged.
    let _ = span.set_parent(parent);
    let ours = span.context().span().span_context().clone();
    let known = [ours, caller].into_iter().find(opentelemetry::trace::SpanContext::is_valid);
    if let Some(context) = known {
        span.record("trace_id", context.trace_id().to_string());
    }
    span
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

/// The answer for a panic, which would otherwise close the connection without one.
fn panicked(panic: &(dyn Any + Send), request_id: &RequestId) -> Response {
    let detail = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(detail, "handler panicked");
    ErrorKind::Internal
        .with_message("The service failed internally. Its log has the details under this request id.", request_id)
        .into_response()
}
