//! Logs and traces.
//!
//! Logs are JSON or text on standard error, filtered by `RUST_LOG`. Traces are exported as OTLP over gRPC when
//! one of the variables in `ENDPOINTS` is set; W3C trace context is then read from requests and added to requests. Otherwise
//! there are no traces.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
}

/// The OpenTelemetry variables that name an endpoint for traces. The first that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

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
        let provider = tracer_provider()?;
        let traces = provider.as_ref().map(|provider| {
            let filter = EnvFilter::new("info,h2=off,hyper=off,tonic=off,tower=off,reqwest=off,opentelemetry=off");
            tracing_opentelemetry::layer().with_tracer(provider.tracer("session-checker")).with_filter(filter)
        });
        let logs =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        let logs = match format {
            LogFormat::Json => logs.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
            LogFormat::Text => logs.boxed(),
        };
        let (filter, invalid_filter) = match EnvFilter::try_from_default_env() {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(default_filter), std::env::var_os(EnvFilter::DEFAULT_ENV).map(|_| error)),
        };
        tracing_subscriber::registry().with(traces).with(logs.with_filter(filter)).init();
        if let Some(error) = invalid_filter {
            tracing::warn!(%error, default_filter, "RUST_LOG is invalid; the default filter applies");
        }
        Ok(Self { provider })
    }

    /// Exports the remaining traces, for `FLUSH_TIMEOUT` at most. The call that waits runs outside of the async workers,
    /// because the exporter needs them.
    pub async fn flush(self) {
        let Some(provider) = self.provider else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(EXPORT_TIMEOUT));
        match tokio::time::timeout(FLUSH_TIMEOUT, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "cannot export the last traces"),
            Ok(Err(_)) | Err(_) => tracing::warn!("cannot export the last traces in time"),
        }
    }
}

fn tracer_provider() -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    let endpoint = ENDPOINTS.into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let Some(endpoint) = endpoint else { return Ok(None) };
    let mut exporter = SpanExporter::builder().with_tonic();
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("session-checker");
    }
    Ok(Some(
        SdkTracerProvider::builder().with_batch_exporter(exporter.build()?).with_resource(resource.build()).build(),
    ))
}
