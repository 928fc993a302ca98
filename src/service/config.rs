//! The configuration of the service as plain values: defaults are applied, and what is empty is `None`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

#[cfg(feature = "simulator")]
use super::concurrency::default_max_in_flight;
use super::source::SourceConfig;
#[cfg(feature = "simulator")]
use crate::args::DEFAULT_MAX_CONNECTIONS;
use crate::args::ListenAddress;
use crate::clock::ServiceClock;
use crate::coverage::CoverageTiming;
use crate::redis::RedisAddress;
use crate::server::TlsFiles;

/// Which signed tokens (JWTs) are those of callers.
#[derive(Clone)]
pub struct CallerJwtConfig {
    /// A JWK Set with the issuer's public keys. Followed.
    pub jwks_file: PathBuf,
    /// The value of `iss`.
    pub issuer: String,
    /// A value of `aud`.
    pub audience: String,
}

/// The page on which people choose sessions to end.
#[derive(Clone, Debug)]
pub struct ChooseConfig {
    /// The address for the page.
    pub listen: ListenAddress,
    /// Its public origin. `None` in the demo: the address that it gets.
    pub url: Option<Url>,
    /// The origin at which logins continue. `None` except in the demo: the login's own host.
    pub login_origin: Option<String>,
    /// The keys of its tickets. Followed. Without a file the key is random.
    pub ticket_key_file: Option<PathBuf>,
    /// Templates that replace the built-in ones. Followed.
    pub page_dir: Option<PathBuf>,
}

/// Everything that [`Service::start`](super::Service::start) needs.
pub struct ServiceConfig {
    /// The address for checks. Port 0 takes any free port.
    pub listen: ListenAddress,
    /// The address for probes, metrics and `/debug/policies`.
    pub admin_listen: ListenAddress,
    /// The address for log streams; `None` receives none.
    pub logs_listen: Option<ListenAddress>,
    /// The page on which people choose sessions to end; `None` asks nobody.
    pub choose: Option<ChooseConfig>,
    /// How long the audit of log streams waits.
    pub coverage_timing: CoverageTiming,
    /// A path under which checks are answered as well, such as `/sessions`; empty for none.
    pub path_prefix: String,
    /// Serve checks over HTTPS.
    pub tls: Option<TlsFiles>,
    /// Where policies come from.
    pub source: SourceConfig,
    /// A file of bearer tokens for policies without callers of their own, one per line. Followed.
    pub caller_token_file: Option<PathBuf>,
    /// One such token.
    pub caller_token: Option<SecretString>,
    /// Which signed tokens callers may present for the same policies.
    pub caller_jwt: Option<CallerJwtConfig>,
    /// Allow callers without a token to use policies without callers of their own.
    pub allow_anonymous: bool,
    /// The Redis that replicas share.
    pub ledger: Option<RedisAddress>,
    /// Keys the hashes in the shared ledger. Without it the key is fixed.
    pub ledger_key: Option<SecretString>,
    /// The time limit of one operation on the shared ledger.
    pub ledger_timeout: Duration,
    /// The number of replicas.
    pub replicas: u32,
    /// The name of the Lease that elects the writer of policy status.
    pub lease_name: String,
    /// How long the Lease stays valid without a renewal, in whole seconds.
    pub lease_duration: Duration,
    /// Run every policy in mode `Audit`.
    pub force_audit: bool,
    /// The same while this file contains `true`. Followed.
    pub force_audit_file: Option<PathBuf>,
    /// The maximum number of concurrent checks per tenant.
    pub max_in_flight: usize,
    /// The maximum number of open connections for checks.
    pub max_connections: usize,
    /// The same for one source; `None` is half of all.
    pub max_connections_per_source: Option<usize>,
    /// Keys the hashes of users in logs. Without it the key is random.
    pub log_hash_key: Option<SecretString>,
    /// How long to keep serving after a signal.
    pub shutdown_delay: Duration,
    /// How long open connections may take to finish after that.
    pub drain_timeout: Duration,
    /// The clock of decisions and of what is kept. The system's, except in the demo.
    pub clock: ServiceClock,
}

#[cfg(feature = "simulator")]
impl ServiceConfig {
    /// A service by itself on free ports of loopback, with the policies of `source` and the clock of its simulated tenant.
    /// The environment configures `serve`, not this.
    pub fn on_loopback(source: SourceConfig, clock: ServiceClock) -> Self {
        Self {
            listen: ListenAddress::loopback(0),
            admin_listen: ListenAddress::loopback(0),
            logs_listen: None,
            choose: None,
            coverage_timing: CoverageTiming::default(),
            path_prefix: String::new(),
            tls: None,
            source,
            caller_token_file: None,
            caller_token: None,
            caller_jwt: None,
            allow_anonymous: false,
            ledger: None,
            ledger_key: None,
            ledger_timeout: Duration::ZERO,
            replicas: 1,
            lease_name: String::new(),
            lease_duration: Duration::ZERO,
            force_audit: false,
            force_audit_file: None,
            max_in_flight: default_max_in_flight(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            max_connections_per_source: None,
            log_hash_key: None,
            shutdown_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(5),
            clock,
        }
    }
}
