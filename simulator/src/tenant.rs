//! The state of the tenant.

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::application::Application;
use super::assertion::UsedAssertions;
use super::faults::Faults;
use super::log_stream::LogStreams;
use super::login_host::LoginHost;
use super::options::Options;
use super::rate_limit::Bucket;
use super::requests::Requests;
use super::tokens::Tokens;
use super::users::Users;

/// A tenant.
pub(super) struct Tenant {
    options: Options,
    applications: RwLock<HashMap<String, Application>>,
    pub management_bucket: Option<Bucket>,
    pub token_bucket: Option<Bucket>,
    pub users: Users,
    pub tokens: Tokens,
    pub assertions: UsedAssertions,
    pub faults: Faults,
    pub requests: Requests,
    pub log_streams: LogStreams,
    pub login_host: LoginHost,
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
            log_streams: LogStreams::default(),
            login_host: LoginHost::default(),
            options,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub fn visibility_delay(&self) -> Duration {
        self.options.visibility_delay
    }

    pub fn knows_every_user(&self) -> bool {
        self.options.knows_every_user
    }

    pub fn page_size_cap(&self) -> usize {
        self.options.page_size_cap
    }

    pub fn token_lifetime(&self) -> SignedDuration {
        SignedDuration::try_from(self.options.token_lifetime).unwrap_or(SignedDuration::MAX)
    }

    pub fn domain(&self) -> &str {
        &self.options.domain
    }

    /// The identifier of the Management API. It always has the canonical domain.
    pub fn audience(&self) -> String {
        format!("https://{}/api/v2/", self.options.domain)
    }

    /// The tenant's URLs that an assertion's audience may name.
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
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("domain", &self.options.domain).finish_non_exhaustive()
    }
}
