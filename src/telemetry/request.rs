//! What the log lines of one request have in common.
//!
//! It is kept in a task-local, and not in a span: with JSON lines a span costs more than the rest of the line, because
//! `tracing-subscriber` formats its fields when it begins, and parses and formats them again for each line and each field that is
//! recorded later. Spans exist only where an exporter takes them.

use std::future::Future;
use std::sync::Arc;

use futures::future::Either;
use opentelemetry::trace::TraceId;
use tokio::task::futures::TaskLocalFuture;
use tracing::Instrument;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// Identifies a request in its log lines.
#[derive(Clone, Debug)]
pub struct RequestContext {
    request_id: Arc<str>,
    trace_id: Option<TraceId>,
}

impl RequestContext {
    /// Adds the ids to the lines of a request; the trace's where it is known.
    pub fn new(request_id: Arc<str>, trace_id: Option<TraceId>) -> Self {
        Self { request_id, trace_id }
    }

    /// Adds them to the lines that a future writes.
    pub fn scope<F: Future>(&self, future: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self.clone(), future)
    }

    /// Adds them to the lines that a function writes.
    pub fn sync_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), run)
    }

    /// The id of the request.
    pub(super) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The id of its trace.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.trace_id
    }

    /// Calls a function with that of the current task, if it belongs to a request.
    pub(super) fn with_current<T>(run: impl FnOnce(&Self) -> T) -> Option<T> {
        CURRENT.try_with(run).ok()
    }
}

/// Gives a future the span and the log fields of the current request, to be continued as a task.
pub fn in_current_request<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let future = future.in_current_span();
    match CURRENT.try_with(RequestContext::clone) {
        Ok(context) => Either::Left(CURRENT.scope(context, future)),
        Err(_) => Either::Right(future),
    }
}
