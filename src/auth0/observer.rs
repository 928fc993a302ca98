//! What the client reports to the metrics.

use std::time::Duration;

use hyper::StatusCode;

use super::call::Operation;
use super::rate_limit_headers::RateLimit;
use crate::policy::Failure;

/// How one HTTP request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 2xx.
    Ok,
    /// 3xx. Redirects are not followed.
    Redirect,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 429.
    RateLimited,
    /// Any other status below 500.
    ClientError,
    /// 5xx.
    ServerError,
    /// The deadline passed.
    Timeout,
    /// There was no connection, it broke, or the answer was not HTTP.
    Unreachable,
    /// The body was larger than the client reads.
    TooLarge,
}

impl Outcome {
    /// Every outcome, for tables and metrics.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Redirect,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::RateLimited,
        Self::ClientError,
        Self::ServerError,
        Self::Timeout,
        Self::Unreachable,
        Self::TooLarge,
    ];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Redirect => "redirect",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether the tenant answered by itself: it is there.
    pub(super) const fn is_answer(self) -> bool {
        !matches!(self, Self::Timeout | Self::Unreachable | Self::ServerError)
    }

    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Ok,
            300..=399 => Self::Redirect,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            429 => Self::RateLimited,
            500.. => Self::ServerError,
            _ => Self::ClientError,
        }
    }
}

/// The state of a tenant's circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests are sent.
    Closed,
    /// One request is under way to probe the tenant; the others fail at once.
    HalfOpen,
    /// Requests fail at once.
    Open,
}

/// Which bound the answers in memory exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryBound {
    /// That of one tenant.
    Tenant,
    /// That of all tenants together.
    Total,
}

impl MemoryBound {
    /// Every bound, for the series of the metrics.
    pub const ALL: [Self; 2] = [Self::Tenant, Self::Total];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Total => "total",
        }
    }
}

/// Which bound a list exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListBound {
    /// The number of pages.
    Pages,
    /// The number of entries.
    Entries,
    /// The bytes of all pages.
    Bytes,
    /// The applications of one session.
    Clients,
}

impl ListBound {
    /// Every bound, for the series of the metrics.
    pub const ALL: [Self; 4] = [Self::Pages, Self::Entries, Self::Bytes, Self::Clients];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Entries => "entries",
            Self::Bytes => "bytes",
            Self::Clients => "clients",
        }
    }
}

/// A field without which the sessions of a list take no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListField {
    /// The list of sessions of an answer.
    Sessions,
    /// The list of applications of a session, or the id of one of them.
    Clients,
}

impl ListField {
    /// Every field, for the series of the metrics.
    pub const ALL: [Self; 2] = [Self::Sessions, Self::Clients];

    /// The name of the field in Auth0's answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Clients => "clients",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionEnd {
    /// The peer closed or reset it, the protocol was violated, or its only request was given up.
    Closed,
    /// The peer did not answer a ping.
    Dead,
    /// A request on it had no answer before its deadline, so no further request uses it.
    Timeout,
    /// It was not needed any more.
    Idle,
}

impl ConnectionEnd {
    /// Every reason, for the series of the metrics.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Dead, Self::Timeout, Self::Idle];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Dead => "dead",
            Self::Timeout => "timeout",
            Self::Idle => "idle",
        }
    }
}

/// Receives what happens between this client and the tenants, to count it. `tenant` is always the canonical domain.
pub trait Observer: Send + Sync {
    /// A tenant is used from now on.
    fn begin(&self, _tenant: &str) {}
    /// One HTTP request ended. A retry is a request too.
    fn request(&self, _tenant: &str, _operation: Operation, _outcome: Outcome, _took: Duration) {}
    /// An answer carried rate limit headers. The token endpoint and the Management API have separate limits.
    fn rate_limit(&self, _tenant: &str, _operation: Operation, _limit: &RateLimit) {}
    /// A request waited for the tenant's request budget.
    fn budget_wait(&self, _tenant: &str, _operation: Operation) {}
    /// A request was not sent because the tenant's request budget does not allow it before the deadline.
    fn budget_refusal(&self, _tenant: &str, _operation: Operation) {}
    /// The tenant's circuit breaker changed to this state.
    fn breaker(&self, _tenant: &str, _state: BreakerState) {}
    /// An attempt to fetch a token ended.
    fn token(&self, _tenant: &str, _result: Result<(), Failure>) {}
    /// A tenant does not know a user. The user counts as one without sessions.
    fn unknown_user(&self, _tenant: &str) {}
    /// `count` entries of a list, at least one, are unreadable or belong to another user.
    fn dropped_entries(&self, _tenant: &str, _count: usize) {}
    /// A list lacks this field, `count` times.
    fn missing_fields(&self, _tenant: &str, _field: ListField, _count: usize) {}
    /// The tenant's clock is this many seconds ahead of ours; negative when it is behind.
    fn clock_difference(&self, _tenant: &str, _seconds: i64) {}
    /// `count` sessions of a list, at least one, have an id that does not have the form of Auth0's ids.
    fn unusual_ids(&self, _tenant: &str, _count: usize) {}
    /// A list is larger than the client reads.
    fn oversized_list(&self, _tenant: &str, _bound: ListBound) {}
    /// The tenant has this many open connections for lists and revocations.
    fn connections(&self, _tenant: &str, _count: usize) {}
    /// One of them ended.
    fn connection_ended(&self, _tenant: &str, _why: ConnectionEnd) {}
    /// A request waits, because all connections that the tenant may have are in use.
    fn connection_wait(&self, _tenant: &str) {}
    /// An answer was given up because the answers in memory exceed a bound.
    fn memory_refusal(&self, _tenant: &str, _bound: MemoryBound) {}
}

/// Ignores every report.
pub struct Unobserved;

impl Observer for Unobserved {}
