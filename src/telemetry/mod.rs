//! Logs, traces, and records of decisions for a collector.
//!
//! Logs are JSON or text on standard error, filtered by `RUST_LOG`. Traces are exported as OTLP over gRPC when one of their
//! variables names an endpoint; W3C trace context is then read from requests and added to requests. Otherwise there are no traces,
//! and no spans. Records of decisions are exported as OTLP logs in the same way; log lines are not.

mod line;
mod otlp;
mod records;
mod request;
mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::metrics::MetricRegistry;
use line::{JsonLine, TextFields};
use otlp::{Destination, LOGS, Signal, TRACES};
pub use records::{ExportedRecord, RecordExport};
pub use request::{RequestContext, in_current_request};
use writer::{LineWriter, StandardError};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Plain text.
    Text,
}

/// Exports traces and records. [`flush`](Self::flush) it before the process ends.
#[must_use = "traces and records that were not flushed are lost"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    records: Option<SdkLoggerProvider>,
    /// Writes the last lines when it is dropped, for about a second at most.
    _log_writer: WorkerGuard,
}

/// How many panics the hook has seen.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts the lines that were dropped, once the log is set up.
static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// The export of records, once it is set up and has a destination.
static RECORD_EXPORT: OnceLock<RecordExport> = OnceLock::new();

/// How long an exporter may take for the last traces or records, so that a dead collector does not hold up the end of the process.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the process waits for the exporters: a second more than each exporter itself waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

impl Telemetry {
    /// Sets up the logs and traces of the process, with `default_filter` where `RUST_LOG` is not set. Must be called within
    /// the async runtime, which drives the exporter's connection.
    ///
    /// # Errors
    /// The endpoint for traces or logs is not a valid URL.
    pub fn init(format: LogFormat, default_filter: &str) -> Result<Self, ExporterBuildError> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        // An empty variable counts as not set, as OpenTelemetry says.
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let (to_traces, to_records) = (Destination::new(TRACES, variable), Destination::new(LOGS, variable));
        let provider = to_traces.endpoint().map(otlp::tracer_provider).transpose()?;
        let records = to_records.endpoint().map(records::logger_provider).transpose()?;
        let records = records.map(|(provider, export)| {
            let _ = RECORD_EXPORT.set(export);
            provider
        });
        let traces = provider.as_ref().map(|provider| {
            let filter = EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,reqwest=off,opentelemetry=off");
            tracing_opentelemetry::layer().with_tracer(provider.tracer("session-checker")).with_filter(filter).boxed()
        });
        let (writer, log_writer) = LineWriter::new(StandardError::new());
        let _ = DROPPED_LINES.set(writer.dropped());
        let logs = tracing_subscriber::fmt::layer().with_writer(writer);
        let logs = match format {
            LogFormat::Json => logs.event_format(JsonLine).with_ansi(false).boxed(),
            LogFormat::Text => logs.fmt_fields(TextFields).with_ansi(std::io::stderr().is_terminal()).boxed(),
        };
        let is_set = std::env::var_os(EnvFilter::DEFAULT_ENV).is_some_and(|filter| !filter.is_empty());
        let (filter, invalid_filter) = match EnvFilter::try_from_default_env() {
            Ok(filter) if is_set => (filter, None),
            // An empty variable would switch off all lines but errors.
            Ok(_) => (EnvFilter::new(default_filter), None),
            Err(error) => (EnvFilter::new(default_filter), is_set.then_some(error)),
        };
        // Lines have no use for spans: without traces, none begins. An absent layer would take part in that, so there is none.
        let filter = filter.and(filter_fn(|metadata| !metadata.is_span()));
        let layers: Vec<_> = traces.into_iter().chain([logs.with_filter(filter).boxed()]).collect();
        tracing_subscriber::registry().with(layers).init();
        if let Some(error) = invalid_filter {
            tracing::warn!(%error, default_filter, "RUST_LOG is invalid; the default filter applies");
        }
        for (Signal { name: what, .. }, destination) in [(TRACES, to_traces), (LOGS, to_records)] {
            if let Destination::Unsupported { variable, value, supported } = destination {
                tracing::warn!(variable, value, "no {what} are exported: this program supports only {supported}");
            }
        }
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { traces: provider, records, _log_writer: log_writer })
    }

    /// Exports the remaining traces and records, for `FLUSH_TIMEOUT` at most.
    pub async fn flush(self) {
        let Self { traces, records, _log_writer } = self;
        let traces = traces.map(|provider| move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        let records = records.map(|provider| move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        tokio::join!(flushed("traces", traces), flushed("records of decisions", records));
    }
}

/// Waits for the end of an export. The call runs outside of the async workers, because the exporter needs them.
async fn flushed(what: &str, shutdown: Option<impl FnOnce() -> OTelSdkResult + Send + 'static>) {
    let Some(shutdown) = shutdown else { return };
    match tokio::time::timeout(FLUSH_TIMEOUT, tokio::task::spawn_blocking(shutdown)).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot export the last {what}"),
        Ok(Err(_)) | Err(_) => tracing::warn!("cannot export the last {what} in time"),
    }
}

/// The export of records of decisions, when a collector is configured for them.
pub fn record_export() -> Option<&'static RecordExport> {
    RECORD_EXPORT.get()
}

/// Counts a panic, and writes it as a log line. The default hook writes to standard error itself, and so can wait for it.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    let detail = panic.payload_as_str().unwrap_or_default();
    let location = panic.location().map(ToString::to_string);
    tracing::error!(detail, location, "panic");
}

/// Registers the numbers of dropped log lines and of panics.
pub fn register_metrics(registry: &MetricRegistry) {
    let dropped = registry.counter(
        "log_lines_dropped_total",
        "Log lines that were dropped because standard error was not read fast enough.",
    );
    let counted = AtomicU64::new(0);
    registry.on_scrape(move |_| {
        let lines = DROPPED_LINES.get().map_or(0, |counter| counter.dropped_lines() as u64);
        let more = lines.saturating_sub(counted.swap(lines, Ordering::Relaxed));
        if more > 0 {
            dropped.inc_by(more);
            tracing::warn!(lines = more, "log lines were dropped; standard error is not read fast enough");
        }
    });
    let panics =
        registry.counter("panics_total", "Panics: defects of the service. Those in a check leave the check an answer.");
    let counted = AtomicU64::new(0);
    registry.on_scrape(move |_| {
        let all = PANICS.load(Ordering::Relaxed);
        panics.inc_by(all - counted.swap(all, Ordering::Relaxed));
    });
}
