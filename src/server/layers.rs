//! What happens around every request: its id, its span, its metrics, and a clear answer when a handler panics.

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

use super::App;
use super::error::Kind;
use super::request_id::{self, RequestId};

/// Ties a request to its id, its trace and its metrics.
pub(super) async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let _in_flight = app.metrics.request_begun();
    let request_id = RequestId::of(request.headers());
    request.extensions_mut().insert(request_id.clone());
    // A path that is not a route is anybody's text and must not become a label.
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
        // A kept connection would meet the end of the process with its next request.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A server span as the OpenTelemetry conventions for HTTP have it, continuing the caller's trace where it sent one.
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
    // Without an exporter there is no layer that takes a parent; the caller's trace id still helps in the log.
    let _ = span.set_parent(parent);
    let ours = span.context().span().span_context().clone();
    let known = [ours, caller].into_iter().find(opentelemetry::trace::SpanContext::is_valid);
    if let Some(context) = known {
        span.record("trace_id", context.trace_id().to_string());
    }
    span
}

/// Methods are a closed set in labels.
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

/// A defect must not tear down the connection without a word.
fn panicked(panic: &(dyn Any + Send), request_id: &RequestId) -> Response {
    let detail = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(detail, "a handler panicked");
    Kind::Internal.because("The check met a defect of the service.", request_id).into_response()
}
