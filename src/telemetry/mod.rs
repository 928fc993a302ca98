//! Logs and traces.
//!
//! Logs are JSON or text on standard error, filtered by `RUST_LOG`. Traces are exported as OTLP over gRPC when
//! one of the variables in `ENDPOINTS` is set; W3C trace context is then read from requests and added to requests. Otherwise
//! there are no traces, and no spans.

mod line;
mod request;
mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_appender::non_blocking::{ErrorCounter, WorkerGuard};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::metrics::MetricRegistry;
use line::{JsonLine, TextFields};
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

/// Exports traces. [`flush`](Self::flush) it before the process ends.
#[must_use = "traces that were not flushed are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    /// Writes the last lines when it is dropped, for about a second at most.
    _log_writer: WorkerGuard,
}

/// Counts the lines that were dropped, once the log is set up.
static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// The OpenTelemetry variables that name an endpoint for traces. The first that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The OpenTelemetry variable that chooses the exporters of traces.
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";

/// The OpenTelemetry variables that name a protocol for traces. The first that is set counts.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// How long the exporter may take for the last traces, so that a dead collector does not hold up the end of the process.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the process waits for the exporter: a second more than the exporter itself waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(4);

impl Telemetry {
    /// Sets up the logs and traces of the process, with `default_filter` where `RUST_LOG` is not set. Must be called within
    /// the async runtime, which drives the exporter's connection.
    ///
    /// # Errors
    /// The endpoint for traces is not a valid URL.
    pub fn init(format: LogFormat, default_filter: &str) -> Result<Self, ExporterBuildError> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        // An empty variable counts as not set, as OpenTelemetry says.
        let destination =
            TraceDestination::new(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
        let provider = match &destination {
            TraceDestination::Otlp(endpoint) => Some(tracer_provider(endpoint)?),
            TraceDestination::Nowhere | TraceDestination::Unsupported { .. } => None,
        };
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
        if let TraceDestination::Unsupported { variable, value, supported } = destination {
            tracing::warn!(variable, value, "no traces are exported: this program supports only {supported}");
        }
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { provider, _log_writer: log_writer })
    }

    /// Exports the remaining traces, for `FLUSH_TIMEOUT` at most. The call that waits runs outside of the async workers,
    /// because the exporter needs them.
    pub async fn flush(self) {
        let Self { provider: Some(provider), _log_writer } = self else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        match tokio::time::timeout(FLUSH_TIMEOUT, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot export the last traces"),
            Ok(Err(_)) | Err(_) => tracing::warn!("cannot export the last traces in time"),
        }
    }
}

/// Writes a panic as a log line. The default hook writes to standard error itself, and so can wait for it.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let detail = panic.payload_as_str().unwrap_or_default();
    let location = panic.location().map(ToString::to_string);
    tracing::error!(detail, location, "panic");
}

/// Registers the number of dropped log lines.
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
}

/// Where traces go.
#[derive(Debug, PartialEq, Eq)]
enum TraceDestination {
    /// No endpoint is set, or traces are switched off.
    Nowhere,
    /// To this endpoint, by gRPC.
    Otlp(String),
    /// A variable asks for something that this program cannot do.
    Unsupported { variable: &'static str, value: String, supported: &'static str },
}

impl TraceDestination {
    /// Reads the standard variables. `variable` gives the value of one that is set.
    fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let Some(endpoint) = ENDPOINTS.into_iter().find_map(&variable) else { return Self::Nowhere };
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Self::Nowhere;
        }
        if let Some(value) = variable(EXPORTER) {
            let mut exporters = value.split(',').map(str::trim);
            if value.trim() == "none" {
                return Self::Nowhere;
            }
            if !exporters.any(|exporter| exporter == "otlp") {
                return Self::Unsupported { variable: EXPORTER, value, supported: "otlp and none" };
            }
        }
        let protocol = PROTOCOLS.into_iter().find_map(|name| Some((name, variable(name)?)));
        match protocol {
            Some((variable, value)) if value.trim() != "grpc" => {
                Self::Unsupported { variable, value, supported: "grpc" }
            }
            _ => Self::Otlp(endpoint),
        }
    }
}

fn tracer_provider(endpoint: &str) -> Result<SdkTracerProvider, ExporterBuildError> {
    let mut exporter = SpanExporter::builder().with_tonic();
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("session-checker");
    }
    let sets_version = std::env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|text| text.contains("service.version="));
    if !sets_version {
        resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    }
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter.build()?).with_resource(resource.build()).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_variables_decide_where_traces_go() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        let sent = TraceDestination::Otlp(endpoint.1.to_owned());
        let unsupported = |variable, value: &str, supported| TraceDestination::Unsupported {
            variable,
            value: value.to_owned(),
            supported,
        };
        for (more, expected) in [
            (vec![], sent),
            (vec![("OTEL_SDK_DISABLED", "true")], TraceDestination::Nowhere),
            (vec![("OTEL_SDK_DISABLED", " TRUE ")], TraceDestination::Nowhere),
            (vec![("OTEL_SDK_DISABLED", "1")], TraceDestination::Otlp(endpoint.1.to_owned())),
            (vec![("OTEL_TRACES_EXPORTER", "none")], TraceDestination::Nowhere),
            (vec![("OTEL_TRACES_EXPORTER", "console, otlp")], TraceDestination::Otlp(endpoint.1.to_owned())),
            (vec![("OTEL_TRACES_EXPORTER", "zipkin")], unsupported(EXPORTER, "zipkin", "otlp and none")),
            (vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], TraceDestination::Otlp(endpoint.1.to_owned())),
            (
                vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
                unsupported(PROTOCOLS[1], "http/protobuf", "grpc"),
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")],
                unsupported(PROTOCOLS[0], "http/json", "grpc"),
            ),
        ] {
            let variable = |name: &str| {
                let set = [endpoint].into_iter().chain(more.iter().copied()).find(|(set, _)| *set == name);
                set.map(|(_, value)| value.to_owned())
            };
            assert_eq!(TraceDestination::new(variable), expected, "{more:?}");
        }
        assert_eq!(TraceDestination::new(|_| None), TraceDestination::Nowhere);
    }
}
