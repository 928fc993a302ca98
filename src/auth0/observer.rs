//! What the client tells the metrics.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::limiter::BreakerState;
use super::rate::RateLimit;
use crate::policy::Failure;

/// The calls that this client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /oauth/token`.
    Token,
    /// One page of `GET /api/v2/users/{id}/sessions`.
    List,
    /// `POST /api/v2/sessions/{id}/revoke`.
    Revoke,
}

impl Operation {
    /// Every operation, for tables and metrics.
    pub const ALL: [Self; 3] = [Self::Token, Self::List, Self::Revoke];

    /// The stable machine word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::List => "list",
            Self::Revoke => "revoke",
        }
    }

    pub(super) const fn method(self) -> Method {
        match self {
            Self::List => Method::GET,
            Self::Token | Self::Revoke => Method::POST,
        }
    }

    /// The path with its ids left out: what may be shown of it.
    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::Token => "/oauth/token",
            Self::List => "/api/v2/users/{id}/sessions",
            Self::Revoke => "/api/v2/sessions/{id}/revoke",
        }
    }
}

/// How one HTTP request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// 2xx.
    Ok,
    /// 3xx, which is never followed.
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
    /// No connection, or it broke, or what came was not HTTP.
    Unreachable,
    /// The body was larger than is read.
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

/// Receives what happens towards the tenants, to count it. `tenant` is always the canonical domain.
pub trait Observer: Send + Sync {
    /// One HTTP request ended, retries counted singly.
    fn request(&self, _tenant: &str, _operation: Operation, _outcome: Outcome, _took: Duration) {}
    /// An answer carried rate limit headers; the token endpoint has a limit of its own.
    fn rate_limit(&self, _tenant: &str, _operation: Operation, _limit: &RateLimit) {}
    /// A request had to wait for the tenant's budget.
    fn budget_wait(&self, _tenant: &str, _operation: Operation) {}
    /// A request was not sent because the tenant's budget has no room for it in time.
    fn budget_refusal(&self, _tenant: &str, _operation: Operation) {}
    /// The tenant's breaker is in this state from now on.
    fn breaker(&self, _tenant: &str, _state: BreakerState) {}
    /// A token was fetched, or could not be.
    fn token(&self, _tenant: &str, _result: Result<(), Failure>) {}
    /// A tenant does not know a user, which is taken for a user without sessions.
    fn unknown_user(&self, _tenant: &str) {}
    /// Entries of a list that cannot be read or belong to another user, never zero.
    fn dropped_entries(&self, _tenant: &str, _count: usize) {}
}

/// Nobody watches.
pub struct Unobserved;

impl Observer for Unobserved {}
