//! The tenant: everything it knows, and the one way that each request takes through it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};

use super::Options;
use super::answer::{management_error, token_error};
use super::application::Application;
use super::assertion::UsedAssertions;
use super::faults::Faults;
use super::operation::{Operation, Target};
use super::rate_limit::Bucket;
use super::requests::Requests;
use super::state::Users;
use super::token::Tokens;
use super::wire::Line;
use super::{management, token};

/// The longest body that is read, in bytes (Auth0 takes 1 MB).
const MAX_BODY: usize = 1_000_000;

/// What both APIs call a request too many.
const RATE_LIMITED: &str = "too_many_requests";

/// A tenant.
pub(super) struct Tenant {
    options: Options,
    applications: RwLock<HashMap<String, Application>>,
    management_bucket: Option<Bucket>,
    token_bucket: Option<Bucket>,
    pub users: Users,
    pub tokens: Tokens,
    pub assertions: UsedAssertions,
    pub faults: Faults,
    pub requests: Requests,
}

impl Tenant {
    pub fn new(options: Options) -> Self {
        let now = options.clock.now();
        Self {
            applications: RwLock::default(),
            management_bucket: options.rate_limit.map(|limit| Bucket::new(limit, now)),
            token_bucket: options.token_rate_limit.map(|limit| Bucket::new(limit, now)),
            users: Users::default(),
            tokens: Tokens::default(),
            assertions: UsedAssertions::default(),
            faults: Faults::default(),
            requests: Requests::new(options.recorded_requests),
            options,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub fn visibility_delay(&self) -> Duration {
        self.options.visibility_delay
    }

    pub fn page_size_cap(&self) -> usize {
        self.options.page_size_cap
    }

    pub fn token_lifetime(&self) -> SignedDuration {
        SignedDuration::try_from(self.options.token_lifetime).unwrap_or(SignedDuration::MAX)
    }

    /// The Management API's identifier: always of the canonical domain.
    pub fn audience(&self) -> String {
        format!("https://{}/api/v2/", self.options.domain)
    }

    /// The tenant's URLs, as an assertion's audience names them.
    pub fn urls(&self) -> Vec<String> {
        let domains = [Some(&self.options.domain), self.options.custom_domain.as_ref()];
        domains.into_iter().flatten().map(|domain| format!("https://{domain}/")).collect()
    }

    pub fn add_application(&self, application: Application) {
        let mut applications = self.applications.write().unwrap_or_else(PoisonError::into_inner);
        applications.insert(application.client_id.clone(), application);
    }

    pub fn application(&self, client_id: &str) -> Option<Application> {
        self.applications.read().unwrap_or_else(PoisonError::into_inner).get(client_id).cloned()
    }

    /// Carries a request out, inside the rate limit.
    fn perform(&self, target: &Target, parts: &Parts, body: &[u8]) -> Response {
        let of_token = target.operation == Operation::Token;
        let bucket = if of_token { &self.token_bucket } else { &self.management_bucket };
        let Some(verdict) = bucket.as_ref().map(|bucket| bucket.take(self.now())) else {
            return self.carry_out(target, parts, body);
        };
        let mut response = match verdict.allowed {
            true => self.carry_out(target, parts, body),
            false if of_token => token_error(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED, "Too many requests."),
            false => {
                management_error(StatusCode::TOO_MANY_REQUESTS, "Global limit has been reached", Some(RATE_LIMITED))
            }
        };
        verdict.write_headers(response.headers_mut());
        response
    }

    fn carry_out(&self, target: &Target, parts: &Parts, body: &[u8]) -> Response {
        if let Some(scopes) = target.operation.scopes()
            && let Err(why) = self.tokens.authorize(parts, scopes, self.now())
        {
            return why.into_response();
        }
        let id = target.subject.as_str();
        match target.operation {
            Operation::Token => token::answer(self, parts, body),
            Operation::List => management::list(self, id, parts.uri.query()),
            Operation::DeleteAll => management::delete_all(self, id),
            Operation::Read => management::read(self, id),
            Operation::Delete => management::delete(self, id),
            Operation::Revoke => management::revoke(self, id),
        }
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("domain", &self.options.domain).finish_non_exhaustive()
    }
}

/// Answers a request: note it, find out what it asks for, let a fault strike, else carry it out.
pub(super) async fn answer(State(tenant): State<Arc<Tenant>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let line = parts.extensions.remove::<Line>();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return management_error(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", None);
    };
    let target = Target::of(&parts.method, parts.uri.path());
    tenant.requests.record(target.as_ref().ok().map(|target| target.operation), &parts, &body);
    let target = match target {
        Ok(target) => target,
        Err(refusal) => return refusal.into_response(),
    };
    let perform = || tenant.perform(&target, &parts, &body);
    match tenant.faults.strike(&target) {
        Some(fault) => fault.answer(&tenant, &target, line, perform).await,
        None => perform(),
    }
}
