//! Exports records as OTLP logs: in batches, off the path of what made them, and within a bound.
//!
//! The batch processor of the SDK drops what exceeds its queue without a count. So what waits is bounded here, below the bound of
//! the processor, and a record that finds no room is counted.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_otlp::{ExporterBuildError, LogExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, LogBatch, LogExporter as ExportLogs, SdkLogger, SdkLoggerProvider,
};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::otlp::{resource, with_tls};
use crate::sampler::LogSampler;

/// The most records that wait, those of the current batch included: more than a minute of an outage of a tenant makes.
const MAX_WAITING: usize = 2_048;
/// The most bytes of their texts.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// How often a failed export is logged at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A record to export.
pub struct ExportedRecord {
    /// The name of the kind of record.
    pub event_name: &'static str,
    /// When it happened.
    pub at: Timestamp,
    /// Whether somebody has to look into it.
    pub is_warning: bool,
    /// The whole record as JSON.
    pub body: String,
    /// What a store can search for without reading the body.
    pub attributes: Vec<(&'static str, String)>,
}

/// Takes records and exports them.
#[derive(Debug)]
pub struct RecordExport {
    logger: SdkLogger,
    waiting: Arc<WaitingRecords>,
}

/// What waits, and what was lost.
#[derive(Debug)]
struct WaitingRecords {
    records: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
    warnings: LogSampler,
}

/// An exporter that counts what it was given and what it could not export.
#[derive(Debug)]
struct CountedExporter<E> {
    exporter: E,
    waiting: Arc<WaitingRecords>,
}

/// Exports records to the endpoint.
///
/// # Errors
/// The endpoint is not a valid URL.
pub(super) fn logger_provider(endpoint: &str) -> Result<(SdkLoggerProvider, RecordExport), ExporterBuildError> {
    let exporter = with_tls(LogExporter::builder().with_tonic(), endpoint).build()?;
    Ok(provider(exporter))
}

fn provider(exporter: impl ExportLogs + 'static) -> (SdkLoggerProvider, RecordExport) {
    let waiting = Arc::new(WaitingRecords::default());
    let exporter = CountedExporter { exporter, waiting: Arc::clone(&waiting) };
    let queue = BatchConfigBuilder::default().with_max_queue_size(MAX_WAITING).build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(queue).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).with_resource(resource()).build();
    let logger = provider.logger("session-checker");
    (provider, RecordExport { logger, waiting })
}

impl RecordExport {
    /// Queues a record, with the trace of the current request. One that finds no room is lost and counted.
    pub fn send(&self, record: ExportedRecord) {
        if !self.waiting.admit(record.body.len()) {
            return;
        }
        let mut log = self.logger.create_log_record();
        log.set_event_name(record.event_name);
        log.set_timestamp(SystemTime::from(record.at));
        log.set_observed_timestamp(SystemTime::now());
        let severity = if record.is_warning { Severity::Warn } else { Severity::Info };
        log.set_severity_number(severity);
        log.set_severity_text(severity.name());
        log.set_body(AnyValue::from(record.body));
        log.add_attributes(record.attributes);
        let context = tracing::Span::current().context();
        let span = context.span().span_context().clone();
        if span.is_valid() {
            log.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
        }
        self.logger.emit(log);
    }

    /// How many records were lost: there was no room, or the collector did not take them.
    pub fn lost(&self) -> u64 {
        self.waiting.lost.load(Ordering::Relaxed)
    }
}

impl Default for WaitingRecords {
    fn default() -> Self {
        Self {
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            warnings: LogSampler::new(1, WARNING_INTERVAL),
        }
    }
}

impl WaitingRecords {
    /// Makes room for a record. Without room it is lost.
    fn admit(&self, bytes: usize) -> bool {
        let within = |counter: &AtomicUsize, more: usize, most: usize| {
            let sum = |waiting: usize| waiting.checked_add(more).filter(|sum| *sum <= most);
            counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
        };
        if !within(&self.records, 1, MAX_WAITING) {
            self.lose(1, "too many wait for the collector");
            return false;
        }
        if !within(&self.bytes, bytes, MAX_WAITING_BYTES) {
            self.records.fetch_sub(1, Ordering::Relaxed);
            self.lose(1, "too many bytes wait for the collector");
            return false;
        }
        true
    }

    /// Gives the room of a batch back.
    fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lose(&self, records: usize, error: &str) {
        self.lost.fetch_add(records as u64, Ordering::Relaxed);
        if let Some(suppressed) = self.warnings.admit() {
            tracing::warn!(records, error, suppressed, "records of decisions could not be exported");
        }
    }
}

impl<E: ExportLogs> ExportLogs for CountedExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let (records, bytes) = batch.iter().fold((0, 0), |(records, bytes), (record, _)| {
            let body = match record.body() {
                Some(AnyValue::String(text)) => text.as_str().len(),
                _ => 0,
            };
            (records + 1, bytes + body)
        });
        let result = self.exporter.export(batch).await;
        self.waiting.release(records, bytes);
        if let Err(error) = &result {
            self.waiting.lose(records, &error.to_string());
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    /// A collector that takes a batch only when the test says how.
    #[derive(Debug)]
    struct Collector(std::sync::Mutex<mpsc::Receiver<OTelSdkResult>>);

    impl ExportLogs for Collector {
        async fn export(&self, _: LogBatch<'_>) -> OTelSdkResult {
            self.0.lock().unwrap().recv().unwrap_or(Ok(()))
        }
    }

    fn export() -> (mpsc::Sender<OTelSdkResult>, SdkLoggerProvider, RecordExport) {
        let (results, collector) = mpsc::channel();
        let (provider, export) = provider(Collector(collector.into()));
        (results, provider, export)
    }

    fn send(export: &RecordExport, body: &str) {
        let (at, body) = (Timestamp::UNIX_EPOCH, body.to_owned());
        export.send(ExportedRecord { event_name: "test", at, is_warning: false, body, attributes: Vec::new() });
    }

    #[test]
    fn record_that_finds_no_room_is_counted() {
        let (results, provider, export) = export();
        for _ in 0..MAX_WAITING + 7 {
            send(&export, "{}");
        }
        assert_eq!(export.lost(), 7, "the collector takes nothing");
        drop(results);
        provider.force_flush().unwrap();
        assert_eq!(export.waiting.records.load(Ordering::Relaxed), 0);
        for _ in 0..5 {
            send(&export, &"x".repeat(1 << 20));
        }
        assert_eq!(export.lost(), 8, "four MiB wait at most");
        provider.shutdown().unwrap();
        assert_eq!(export.waiting.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn record_that_the_collector_does_not_take_is_counted() {
        let (results, provider, export) = export();
        results.send(Err(OTelSdkError::InternalFailure("unimplemented".to_owned()))).unwrap();
        drop(results);
        send(&export, "{}");
        let _ = provider.force_flush();
        assert_eq!(export.lost(), 1);
        send(&export, "{}");
        provider.force_flush().unwrap();
        assert_eq!((export.lost(), export.waiting.records.load(Ordering::Relaxed)), (1, 0));
        provider.shutdown().unwrap();
    }
}
