//! The metrics of HTTP requests. The registry adds the prefix `session_checker_` to their names.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGauge};

use crate::metrics::MetricRegistry;

/// Counts HTTP requests.
pub struct ServerMetrics {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    requests_in_flight: IntGauge,
}

impl ServerMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        Self {
            requests: registry.counters(
                "http_requests_total",
                "HTTP requests answered.",
                &["route", "method", "status"],
            ),
            request_duration: registry.seconds(
                "http_request_duration_seconds",
                "Duration of HTTP requests.",
                &["route"],
            ),
            requests_in_flight: registry.gauge("http_requests_in_flight", "HTTP requests that are being answered."),
        }
    }

    /// Counts an HTTP request as in flight until the guard is dropped.
    pub fn request_begun(&self) -> impl Drop + use<> {
        struct InFlight(IntGauge);
        impl Drop for InFlight {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.requests_in_flight.inc();
        InFlight(self.requests_in_flight.clone())
    }

    /// Counts an answered HTTP request.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, &status.to_string()]).inc();
        self.request_duration.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}
