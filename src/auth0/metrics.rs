//! The metrics of calls to tenants. The registry adds the prefix `session_checker_` to their names.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::call::Operation;
use super::observer::{BreakerState, ConnectionEnd, ListBound, ListField, MemoryBound, Observer, Outcome};
use super::rate_limit_headers::RateLimit;
use crate::metrics::{MetricRegistry, to_i64};
use crate::policy::Failure;

/// Counts calls to tenants.
pub struct Auth0Metrics {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    token_refreshes: IntCounterVec,
    rate_limit_remaining: IntGaugeVec,
    breaker_state: IntGaugeVec,
    budget_waits: IntCounterVec,
    budget_refusals: IntCounterVec,
    unknown_users: IntCounterVec,
    dropped_entries: IntCounterVec,
    missing_fields: IntCounterVec,
    clock_difference: IntGaugeVec,
    unusual_ids: IntCounterVec,
    oversized_lists: IntCounterVec,
    memory_refusals: IntCounterVec,
    connections: IntGaugeVec,
    connections_ended: IntCounterVec,
    connection_waits: IntCounterVec,
}

impl Auth0Metrics {
    /// Registers the families.
    pub fn new(registry: &MetricRegistry) -> Self {
        Self {
            requests: registry.counters(
                "auth0_requests_total",
                "HTTP requests to Auth0. Each retry counts.",
                &["tenant", "operation", "outcome"],
            ),
            request_duration: registry.seconds(
                "auth0_request_duration_seconds",
                "Duration of HTTP requests to Auth0.",
                &["tenant", "operation"],
            ),
            token_refreshes: registry.counters(
                "auth0_token_refreshes_total",
                "Attempts to fetch an access token, by result: ok, or the reason of the failure.",
                &["tenant", "result"],
            ),
            rate_limit_remaining: registry.gauges(
                "auth0_rate_limit_remaining",
                "Requests left in Auth0's rate limit, from the latest answer.",
                &["tenant", "operation"],
            ),
            breaker_state: registry.gauges(
                "auth0_breaker_state",
                "Circuit breaker state: 0 closed, 1 half-open, 2 open.",
                &["tenant"],
            ),
            budget_waits: registry.counters(
                "auth0_budget_waits_total",
                "Requests that waited for the tenant's request budget.",
                &["tenant", "operation"],
            ),
            budget_refusals: registry.counters(
                "auth0_budget_refusals_total",
                "Requests that were not sent because the tenant's request budget had no room before their deadline.",
                &["tenant", "operation"],
            ),
            unknown_users: registry.counters(
                "auth0_unknown_users_total",
                "Lists that Auth0 answered with 404. The check answers unknown_user.",
                &["tenant"],
            ),
            dropped_entries: registry.counters(
                "auth0_dropped_entries_total",
                "Entries of session lists that were dropped: unreadable, or of another user.",
                &["tenant"],
            ),
            missing_fields: registry.counters(
                "auth0_missing_fields_total",
                "Fields that session lists lack: sessions (of an answer), clients (of a session, or the id of one of them). What lacks them takes no place.",
                &["tenant", "field"],
            ),
            clock_difference: registry.gauges(
                "auth0_clock_difference_seconds",
                "How far the tenant's clock is ahead of the replica's, by the Date of its latest answer. Negative when it is behind.",
                &["tenant"],
            ),
            unusual_ids: registry.counters(
                "auth0_unusual_ids_total",
                "Listed sessions whose id does not have the form of Auth0's ids. They count and are never revoked.",
                &["tenant"],
            ),
            oversized_lists: registry.counters(
                "auth0_oversized_lists_total",
                "Session lists that exceed a bound: pages (40), entries (2000), bytes (8 MiB), clients (1000 of one session).",
                &["tenant", "bound"],
            ),
            memory_refusals: registry.counters(
                "auth0_memory_refusals_total",
                "Answers of Auth0 that were given up because the answers in memory exceed a bound: tenant (32 MiB), total (64 MiB).",
                &["tenant", "bound"],
            ),
            connections: registry.gauges(
                "auth0_connections",
                "Open connections to Auth0 for lists and revocations.",
                &["tenant"],
            ),
            connections_ended: registry.counters(
                "auth0_connections_ended_total",
                "Connections to Auth0 that ended: closed by the peer, dead (no answer to a ping), timeout (of a request on it), idle (not needed).",
                &["tenant", "reason"],
            ),
            connection_waits: registry.counters(
                "auth0_connection_waits_total",
                "Requests that waited because all connections that a tenant may have (24, or 256 over HTTP/1.1) were in use.",
                &["tenant"],
            ),
        }
    }
}

impl Observer for Auth0Metrics {
    fn request(&self, tenant: &str, operation: Operation, outcome: Outcome, took: Duration) {
        self.requests.with_label_values(&[tenant, operation.as_str(), outcome.as_str()]).inc();
        self.request_duration.with_label_values(&[tenant, operation.as_str()]).observe(took.as_secs_f64());
    }

    fn rate_limit(&self, tenant: &str, operation: Operation, limit: &RateLimit) {
        if let Some(remaining) = limit.remaining {
            self.rate_limit_remaining.with_label_values(&[tenant, operation.as_str()]).set(to_i64(remaining));
        }
    }

    fn budget_wait(&self, tenant: &str, operation: Operation) {
        self.budget_waits.with_label_values(&[tenant, operation.as_str()]).inc();
    }

    fn budget_refusal(&self, tenant: &str, operation: Operation) {
        self.budget_refusals.with_label_values(&[tenant, operation.as_str()]).inc();
    }

    fn breaker(&self, tenant: &str, state: BreakerState) {
        let state = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        self.breaker_state.with_label_values(&[tenant]).set(state);
    }

    /// Rare events have a series from the start, so that an alert sees the first one as an increase.
    fn begin(&self, tenant: &str) {
        for operation in Operation::ALL {
            for events in [&self.budget_waits, &self.budget_refusals] {
                events.with_label_values(&[tenant, operation.as_str()]);
            }
        }
        for events in [&self.unusual_ids, &self.unknown_users, &self.dropped_entries, &self.connection_waits] {
            events.with_label_values(&[tenant]);
        }
        for field in ListField::ALL {
            self.missing_fields.with_label_values(&[tenant, field.as_str()]);
        }
        for bound in ListBound::ALL {
            self.oversized_lists.with_label_values(&[tenant, bound.as_str()]);
        }
        for end in ConnectionEnd::ALL {
            self.connections_ended.with_label_values(&[tenant, end.as_str()]);
        }
        for bound in MemoryBound::ALL {
            self.memory_refusals.with_label_values(&[tenant, bound.as_str()]);
        }
    }

    fn token(&self, tenant: &str, result: Result<(), Failure>) {
        let result = result.map_or_else(Failure::as_str, |()| "ok");
        self.token_refreshes.with_label_values(&[tenant, result]).inc();
    }

    fn unknown_user(&self, tenant: &str) {
        self.unknown_users.with_label_values(&[tenant]).inc();
    }

    fn dropped_entries(&self, tenant: &str, count: usize) {
        self.dropped_entries.with_label_values(&[tenant]).inc_by(count as u64);
    }

    fn missing_fields(&self, tenant: &str, field: ListField, count: usize) {
        self.missing_fields.with_label_values(&[tenant, field.as_str()]).inc_by(count as u64);
    }

    fn clock_difference(&self, tenant: &str, seconds: i64) {
        self.clock_difference.with_label_values(&[tenant]).set(seconds);
    }

    fn unusual_ids(&self, tenant: &str, count: usize) {
        self.unusual_ids.with_label_values(&[tenant]).inc_by(count as u64);
    }

    fn oversized_list(&self, tenant: &str, bound: ListBound) {
        self.oversized_lists.with_label_values(&[tenant, bound.as_str()]).inc();
    }

    fn connections(&self, tenant: &str, count: usize) {
        self.connections.with_label_values(&[tenant]).set(to_i64(count));
    }

    fn connection_ended(&self, tenant: &str, why: ConnectionEnd) {
        self.connections_ended.with_label_values(&[tenant, why.as_str()]).inc();
    }

    fn connection_wait(&self, tenant: &str) {
        self.connection_waits.with_label_values(&[tenant]).inc();
    }

    fn memory_refusal(&self, tenant: &str, bound: MemoryBound) {
        self.memory_refusals.with_label_values(&[tenant, bound.as_str()]).inc();
    }
}
