//! The metrics of HTTP requests and connections. The registry adds the prefix `session_checker_` to their names.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::error::ErrorKind;
use crate::metrics::MetricRegistry;

/// Counts HTTP requests.
pub struct ServerMetrics {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    requests_in_flight: IntGauge,
    checks_abandoned: IntCounter,
    checks_rejected: IntCounterVec,
    connections: IntGaugeVec,
    connections_rejected: IntCounterVec,
    connections_ended: IntCounterVec,
    header_lists_rejected: IntCounterVec,
    accept_errors: IntCounterVec,
}

/// Counts the connections of one listener.
#[derive(Clone)]
pub struct ConnectionMetrics {
    listener: &'static str,
    open: IntGauge,
    rejected: IntCounterVec,
    ended: IntCounterVec,
    header_lists_rejected: IntCounter,
    accept_errors: IntCounter,
}

/// Why a connection is closed as soon as it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionRejection {
    /// The listener holds its maximum.
    Total,
    /// The source holds its maximum.
    Source,
}

/// Why the service ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    HeadersTooLarge,
    Malformed,
    FirstRequestTimeout,
    Idle,
    WriteTimeout,
    Tls,
    ClientCertificate,
    Shed,
}

impl ConnectionRejection {
    const ALL: [Self; 2] = [Self::Total, Self::Source];

    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "limit",
            Self::Source => "source_limit",
        }
    }
}

impl Ended {
    const ALL: [Self; 8] = [
        Self::HeadersTooLarge,
        Self::Malformed,
        Self::FirstRequestTimeout,
        Self::Idle,
        Self::WriteTimeout,
        Self::Tls,
        Self::ClientCertificate,
        Self::Shed,
    ];

    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HeadersTooLarge => "headers_too_large",
            Self::Malformed => "malformed",
            Self::FirstRequestTimeout => "first_request_timeout",
            Self::Idle => "idle",
            Self::WriteTimeout => "write_timeout",
            Self::Tls => "tls",
            Self::ClientCertificate => "client_certificate",
            Self::Shed => "shed",
        }
    }
}

impl ServerMetrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        let requests =
            registry.counters("http_requests_total", "HTTP requests answered.", &["route", "method", "status"]);
        let request_duration =
            registry.seconds("http_request_duration_seconds", "Duration of HTTP requests.", &["route"]);
        // A panel shows a service that nobody asked yet.
        requests.with_label_values(&["/check", "POST", StatusCode::OK.as_str()]);
        request_duration.with_label_values(&["/check"]);
        let checks_rejected = registry.counters(
            "checks_rejected_total",
            "Requests of known callers that got an error in place of a decision.",
            &["error"],
        );
        for kind in ErrorKind::OF_CHECKS.into_iter().filter(|kind| !kind.is_of_a_stranger()) {
            checks_rejected.with_label_values(&[kind.status_and_word().1]);
        }
        Self {
            requests,
            request_duration,
            requests_in_flight: registry.gauge("http_requests_in_flight", "HTTP requests that are being answered."),
            checks_abandoned: registry
                .counter("checks_abandoned_total", "Checks whose caller disconnected before the answer."),
            checks_rejected,
            connections: registry.gauges("connections", "Open connections.", &["listener"]),
            connections_rejected: registry.counters(
                "connections_rejected_total",
                "Connections that were closed at once, because all others are in use: limit = the listener holds its maximum, source_limit = the source holds its maximum.",
                &["listener", "reason"],
            ),
            connections_ended: registry.counters(
                "connections_ended_total",
                "Connections that the service ended: headers_too_large, malformed, first_request_timeout, idle, write_timeout, tls, client_certificate (missing, or of another CA) or shed (for a new one at the maximum).",
                &["listener", "reason"],
            ),
            header_lists_rejected: registry.counters(
                "header_lists_rejected_total",
                "HTTP/2 requests that were answered with 431, because their header list is larger than 16 KiB.",
                &["listener"],
            ),
            accept_errors: registry.counters(
                "accept_errors_total",
                "Connections that could not be accepted, such as when the process has no free file descriptor.",
                &["listener"],
            ),
        }
    }

    /// The metrics of the connections of a listener.
    pub fn connections(&self, listener: &'static str) -> ConnectionMetrics {
        // Present from the start, so that an alert sees the first event as an increase.
        for reason in ConnectionRejection::ALL {
            self.connections_rejected.with_label_values(&[listener, reason.as_str()]);
        }
        for reason in Ended::ALL {
            self.connections_ended.with_label_values(&[listener, reason.as_str()]);
        }
        ConnectionMetrics {
            listener,
            open: self.connections.with_label_values(&[listener]),
            rejected: self.connections_rejected.clone(),
            ended: self.connections_ended.clone(),
            header_lists_rejected: self.header_lists_rejected.with_label_values(&[listener]),
            accept_errors: self.accept_errors.with_label_values(&[listener]),
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

    /// Counts a check whose caller disconnected before the answer.
    pub(super) fn check_abandoned(&self) {
        self.checks_abandoned.inc();
    }

    /// Counts a request for a check that got an error, if its caller is known.
    pub(super) fn check_rejected(&self, kind: ErrorKind) {
        if !kind.is_of_a_stranger() {
            self.checks_rejected.with_label_values(&[kind.status_and_word().1]).inc();
        }
    }

    /// Counts an answered HTTP request.
    pub fn request(&self, route: &str, method: &str, status: StatusCode, took: Duration) {
        self.requests.with_label_values(&[route, method, status.as_str()]).inc();
        self.request_duration.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

impl ConnectionMetrics {
    /// The name of the listener.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// Counts an open connection.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// Counts a connection that is no longer open.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// Counts a connection that was closed at once.
    pub(super) fn rejected(&self, reason: ConnectionRejection) {
        self.rejected.with_label_values(&[self.listener, reason.as_str()]).inc();
    }

    /// Counts a connection that the service ended.
    pub(super) fn ended(&self, reason: Ended) {
        self.ended.with_label_values(&[self.listener, reason.as_str()]).inc();
    }

    /// Counts HTTP/2 requests with a header list that is too large.
    pub(super) fn header_lists_rejected(&self, count: u64) {
        if count > 0 {
            self.header_lists_rejected.inc_by(count);
        }
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self) {
        self.accept_errors.inc();
    }
}
