//! The composition root: builds the parts, starts listeners and background tasks, and shuts them down.

mod choose;
mod concurrency;
mod config;
mod descriptors;
mod error;
mod parts;
mod source;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use futures::{FutureExt, TryFutureExt};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::task::TaskTracker;

use crate::args::ListenAddress;
use crate::auth0::{ProxyLogin, QuotaConfig, TrustedCas};
use crate::check::{CheckMetrics, Checker};
use crate::choose::{ChooseMetrics, Chooser, TicketKeys, prepare};
use crate::controller::metrics::ControllerMetrics;
use crate::controller::status::lease::Candidate;
use crate::controller::status::{Observations, start_status_writer};
use crate::decisions::DecisionLog;
use crate::doctor::Doctor;
use crate::ledger::shared_number::{NumberMetrics, SharedNumber};
use crate::metrics::MetricRegistry;
use crate::policy::TokenDigest;
use crate::readiness::Readiness;
use crate::secret::IssuerKeys;
use crate::server::{
    App, ConnectionTimeouts, Listener, Rejections, ServeOptions, ServerMetrics, TlsFiles, admin_routes, check_routes,
    choose_routes, logs_routes,
};
use crate::shutdown::{Request, Shutdown, Signals};
use crate::snapshot::{
    ForcedAudit, ObservedState, Publisher, SnapshotMetrics, keep_tenants_warm, probe_credentials, warn_without_policies,
};
use crate::source::{follow_setting, parse_switch};
use crate::telemetry;
use choose::{TICKET_KEYS, chooser, follow_pages};
use descriptors::{ADMIN_LIMITS, CHOOSE_LIMITS, LOGS_LIMITS, connection_limits};
use parts::{
    CALLER_JWKS_FILE, caller_access, coverage, jwks_file, ledger, log_hash_key, redis, signed_tokens, token_digest,
};
use source::{CA_FILE, PROXY_CREDENTIALS, never_ends, setting};

pub use concurrency::default_max_in_flight;
pub use config::{CallerJwtConfig, ChooseConfig, ServiceConfig};
pub use error::RunError;
pub use source::{Source, SourceConfig};

/// How long admin connections may take to finish: answers to probes and scrapes are computed at once.
const ADMIN_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long connections of log streams may take to finish: a batch is taken in milliseconds, and sent again otherwise.
const LOGS_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long connections of the page for choosing sessions may take to finish: the longest choice, and its answer.
const CHOOSE_DRAIN_TIMEOUT: Duration = Duration::from_secs(11);
/// How often certificate files are read again. They are renewed days before they expire.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);
/// How often expired state is dropped: what is kept lives for minutes, so this bounds the surplus to a small share.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A running service: its sockets are bound and its policies are read.
pub struct Service {
    /// The address for checks.
    pub address: SocketAddr,
    /// The address for probes and metrics.
    pub admin_address: SocketAddr,
    /// The address for log streams.
    pub logs_address: Option<SocketAddr>,
    /// The address for the page on which people choose sessions.
    pub choose_address: Option<SocketAddr>,
    app: Arc<App>,
    shutdown: Shutdown,
    shutdown_delay: Duration,
    drain_timeout: Duration,
    /// Wakes what reads files again less often than every second.
    reload: Arc<Reload>,
    /// Tasks that end in a shutdown: the listeners when they have drained, the election when the Lease is released.
    draining_tasks: JoinSet<Result<(), RunError>>,
    /// Tasks that run as long as the process: they follow files, the cluster and the clock.
    background_tasks: JoinSet<Result<(), RunError>>,
}

impl Service {
    /// Reads the source of policies, binds the sockets and starts to serve.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub async fn start(config: ServiceConfig) -> Result<Self, RunError> {
        let registry = MetricRegistry::new();
        telemetry::register_metrics(&registry);
        let jwks_file = jwks_file(&config)?;
        let accepted = jwks_file.as_ref().map(|(jwt, file)| signed_tokens(jwt, file.value()));
        let (caller_access, token_file) = caller_access(&config, accepted)?;
        let audit_file = config
            .force_audit_file
            .as_ref()
            .map(|path| setting("--force-audit-file", path, parse_switch))
            .transpose()?;
        let by_file = audit_file.as_ref().is_some_and(|file| *file.value());
        let forced_audit = ForcedAudit { by_service: config.force_audit, by_file, ..ForcedAudit::default() };
        let redis = redis(&config).await?;
        let ledger = ledger(redis.clone(), &registry, config.clock.clone());
        let check_metrics = CheckMetrics::new(&registry);
        let coverage = coverage(&config, redis.clone(), &registry, check_metrics.last_checks());
        let shared_store = redis.clone();
        let doctor = Doctor::new(redis.clone(), config.ledger_timeout, config.replicas);
        let quotas = QuotaConfig::new(redis, config.replicas);
        let proxy_file = config.source.read_proxy_credentials()?;
        let proxy = config.source.proxy.clone();
        let ca_file = config.source.read_cas()?;
        let cas = ca_file.as_ref().map(|file| file.value().clone()).unwrap_or_default();
        let upstream = config.source.upstream(cas, quotas, &registry)?.with_clock(config.clock.clone());
        let lacks_page = config.choose.is_none();
        let observed = ObservedState { caller_access, forced_audit, lacks_page, ..ObservedState::default() };
        let snapshot_metrics = SnapshotMetrics::new(&registry);
        let publisher = Arc::new(Publisher::new(upstream, observed, config.max_in_flight, snapshot_metrics));
        let readiness = Readiness::default();
        let shutdown = Shutdown::default();
        let mut background_tasks = JoinSet::new();
        let mut draining_tasks = JoinSet::new();

        let metrics = Arc::new(ControllerMetrics::new(&registry));
        let source = config.source.policies;
        if let Some((connection, observed_policies)) =
            source.begin(&publisher, &metrics, &readiness, &mut background_tasks).await?
        {
            let candidate = Candidate::new(&config.lease_name, config.lease_duration);
            let stop = shutdown.begun.clone();
            let (election, writer) = start_status_writer(
                &connection,
                candidate,
                Observations { policies: observed_policies, coverage: Arc::clone(&coverage) },
                &publisher,
                metrics,
                readiness.clone(),
                stop,
            );
            draining_tasks.spawn(named("the leader election", election.map(Ok)));
            background_tasks.spawn(never_ends("the status writer", writer.map(Ok)));
        }
        let number_metrics = NumberMetrics::new(&registry);
        if let Some(redis) = shared_store.clone() {
            let number = SharedNumber::new(redis, number_metrics);
            background_tasks.spawn(never_ends("the reader of the ledger's number", number.follow().map(Ok)));
        }
        background_tasks.spawn(never_ends("the credential probe", probe_credentials(Arc::clone(&publisher))));
        if let Some(file) = ca_file {
            let trusting = Arc::clone(&publisher);
            let apply = move |_: &mut ObservedState, cas: &TrustedCas| {
                if let Err(error) = trusting.upstream().trust(cas) {
                    tracing::error!(%error, "new CA certificates for Auth0 not usable; the previous ones stay trusted");
                }
            };
            let follower = follow_setting(file, CA_FILE, apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --auth0-ca-file", follower));
        }
        if let Some((file, proxy)) = proxy_file.zip(proxy) {
            let apply = move |_: &mut ObservedState, login: &ProxyLogin| proxy.credentials.set(login.clone());
            let follower = follow_setting(file, PROXY_CREDENTIALS, apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --auth0-proxy-credentials-file", follower));
        }
        let latch = readiness.delay_for("the first token and connection of each tenant");
        let warmer = keep_tenants_warm(Arc::clone(&publisher), readiness.clone(), latch);
        background_tasks.spawn(never_ends("the upkeep of connections to Auth0", warmer.map(Ok)));
        let warner = warn_without_policies(Arc::clone(&publisher), readiness.clone());
        background_tasks.spawn(never_ends("the warning about no policies", warner.map(Ok)));
        if let Some(file) = token_file {
            let fixed = config.caller_token.as_ref().and_then(token_digest);
            let apply = move |observed: &mut ObservedState, tokens: &HashSet<TokenDigest>| {
                observed.caller_access.tokens = tokens.iter().copied().chain(fixed).collect();
            };
            let follower = follow_setting(file, "--caller-token-file", apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --caller-token-file", follower));
        }
        if let Some((jwt, file)) = jwks_file {
            let apply = move |observed: &mut ObservedState, keys: &IssuerKeys| {
                observed.caller_access.signed_tokens = Some(signed_tokens(&jwt, keys));
            };
            let follower = follow_setting(file, CALLER_JWKS_FILE, apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --caller-jwks-file", follower));
        }
        if let Some(file) = audit_file {
            let apply = |observed: &mut ObservedState, on: &bool| observed.forced_audit.by_file = *on;
            let follower = follow_setting(file, "--force-audit-file", apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --force-audit-file", follower));
        }
        let reload = Arc::new(Reload::default());
        let (tls, public_tls) = match config.tls {
            Some(files) => {
                let loaded = files.load().await?;
                let mut public_tls = loaded.clone();
                let mut listeners = vec![(files.clone(), loaded.clone())];
                if files.client_ca.is_some() && (config.logs_listen.is_some() || config.choose.is_some()) {
                    // Auth0 has no client certificate for its log streams, nor have browsers.
                    let files = TlsFiles { client_ca: None, ..files };
                    public_tls = files.load().await?;
                    listeners.push((files, public_tls.clone()));
                }
                let follower = follow_certificates(listeners, Arc::clone(&reload));
                background_tasks.spawn(named("the reader of --tls-cert and --tls-client-ca", follower));
                (Some(loaded), Some(public_tls))
            }
            None => (None, None),
        };

        // Its series exist without the page too, so that a panel shows zero and not nothing.
        let choose_metrics = ChooseMetrics::new(&registry);
        let (chooser, ticket_keys, choose) = match config.choose {
            Some(choose) => {
                let (listener, address) = bind(choose.listen.clone(), public_tls.clone()).await?;
                let (chooser, keys) = chooser(&choose, address, config.replicas, choose_metrics)?;
                let follower = follow_pages(choose, Arc::clone(&chooser));
                background_tasks.spawn(never_ends("the reader of --choose-page-dir", follower));
                (Some(chooser), keys, Some((listener, address)))
            }
            None => (None, None, None),
        };
        if let Some((file, chooser)) = ticket_keys.zip(chooser.clone()) {
            let apply = move |_: &mut ObservedState, keys: &TicketKeys| chooser.set_keys(keys.clone());
            let follower = follow_setting(file, TICKET_KEYS, apply, Arc::clone(&publisher));
            background_tasks.spawn(never_ends("the reader of --ticket-key-file", follower));
        }
        let log_hash_key =
            log_hash_key(config.log_hash_key.as_ref(), config.ledger_key.as_ref(), shared_store.as_ref()).await;
        let decisions = Arc::new(DecisionLog::new(log_hash_key, shared_store, &registry));
        if decisions.is_shared() {
            let decisions = Arc::clone(&decisions);
            let writer = async move {
                decisions.share().await;
                Ok(std::future::pending().await)
            };
            background_tasks.spawn(never_ends("the writer of decision records", writer));
        }
        // Records and the page name browsers. The rules for that take a tenth of a second to compile, for which no check may wait:
        // the first record would hold up a thread of the runtime, and with it other checks.
        spawn_blocking(prepare).await?;
        let app = Arc::new(App {
            checker: Checker::new(publisher.current(), ledger, check_metrics, decisions, Arc::clone(&coverage))
                .with_clock(config.clock)
                .with_chooser(chooser),
            coverage: Arc::clone(&coverage),
            log_batches: App::log_batches(),
            early_checks: App::early_checks(),
            doctor,
            readiness,
            shutdown: shutdown.clone(),
            metrics: ServerMetrics::new(&registry),
            rejections: Rejections::default(),
            registry,
            abandoned_lines: App::abandoned_lines(),
            checks: TaskTracker::new(),
        });
        background_tasks.spawn(named("the sweep", sweep(Arc::clone(&app))));
        if coverage.has_work() {
            background_tasks.spawn(named("the audit of log streams", coverage.run().map(Ok)));
        }
        let (checks, address) = bind(config.listen, tls).await?;
        let logs = match config.logs_listen {
            Some(listen) => Some(bind(listen, public_tls).await?),
            None => None,
        };
        let choose_address = choose.as_ref().map(|(_, address)| *address);
        let logs_address = logs.as_ref().map(|(_, address)| *address);
        let (admin, admin_address) = bind(config.admin_listen, None).await?;
        let others = [Some(ADMIN_LIMITS), logs_address.map(|_| LOGS_LIMITS), choose_address.map(|_| CHOOSE_LIMITS)];
        let others: Vec<_> = others.into_iter().flatten().collect();
        let limits = connection_limits(config.max_connections, config.max_connections_per_source, &others);
        let serve = |part: &'static str, name: &'static str, listener: Listener, routes, limits, drain_timeout| {
            let options = ServeOptions {
                limits,
                timeouts: ConnectionTimeouts::default(),
                metrics: app.metrics.connections(name),
                draining: shutdown.draining.clone(),
                drain_timeout,
            };
            listener.serve(routes, options).map_err(move |error| RunError::Ended(part, error.to_string()))
        };
        let routes = check_routes(Arc::clone(&app), &config.path_prefix);
        draining_tasks.spawn(serve("the listener for checks", "checks", checks, routes, limits, config.drain_timeout));
        let routes = admin_routes(Arc::clone(&app));
        draining_tasks.spawn(serve("the admin listener", "admin", admin, routes, ADMIN_LIMITS, ADMIN_DRAIN_TIMEOUT));
        if let Some((logs, address)) = logs {
            tracing::info!(%address, "listening for log streams");
            let (part, routes) = ("the listener for log streams", logs_routes(Arc::clone(&app)));
            draining_tasks.spawn(serve(part, "logs", logs, routes, LOGS_LIMITS, LOGS_DRAIN_TIMEOUT));
        }
        if let Some((choose, address)) = choose {
            tracing::info!(%address, "listening for the page on which people choose sessions");
            let (part, routes) = ("the listener for choosing sessions", choose_routes(Arc::clone(&app)));
            draining_tasks.spawn(serve(part, "choose", choose, routes, CHOOSE_LIMITS, CHOOSE_DRAIN_TIMEOUT));
        }
        tracing::info!(%address, %admin_address, version = env!("CARGO_PKG_VERSION"), "listening");
        Ok(Self {
            address,
            admin_address,
            logs_address,
            choose_address,
            app,
            shutdown,
            shutdown_delay: config.shutdown_delay,
            drain_timeout: config.drain_timeout,
            reload,
            draining_tasks,
            background_tasks,
        })
    }

    /// The page on which people choose sessions to end, when there is one.
    pub fn chooser(&self) -> Option<Arc<Chooser>> {
        self.app.checker.chooser().cloned()
    }

    /// Serves until a signal, then drains. A second signal skips the draining.
    ///
    /// # Errors
    /// When a part of the service stops without a shutdown: the process must not continue without it. Also after a second
    /// signal: checks that were under way got no answer.
    pub async fn run(mut self, mut signals: Signals) -> Result<(), RunError> {
        let signal = loop {
            let request = tokio::select! {
                request = signals.next() => request,
                error = self.failed() => return Err(error),
            };
            match request {
                Request::Stop(signal) => break signal,
                Request::Reload => {
                    tracing::info!(signal = "SIGHUP", "reading files again");
                    self.reload.request();
                }
            }
        };
        tokio::select! {
            drained = self.drain(signal) => drained,
            signal = signals.next_stop() => {
                tracing::warn!(signal, "second signal received; exiting without draining");
                Err(RunError::Undrained(signal))
            }
        }
    }

    /// Serves until `stop` resolves, then drains. `stop` gives the name of what stopped the service, for the log.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the error of `stop`.
    pub async fn run_until(
        mut self,
        stop: impl Future<Output = Result<&'static str, RunError>>,
    ) -> Result<(), RunError> {
        let signal = tokio::select! {
            signal = stop => signal?,
            error = self.failed() => return Err(error),
        };
        self.drain(signal).await
    }

    /// Waits until a task ends that must not end before a shutdown.
    async fn failed(&mut self) -> RunError {
        tokio::select! {
            ended = self.draining_tasks.join_next() => unexpected_end(ended),
            Some(ended) = self.background_tasks.join_next() => unexpected_end(Some(ended)),
        }
    }

    async fn drain(mut self, signal: &'static str) -> Result<(), RunError> {
        tracing::info!(signal, "shutting down");
        self.shutdown.begin(&self.app.readiness, self.shutdown_delay).await;
        while let Some(ended) = self.draining_tasks.join_next().await {
            ended??;
        }
        // Checks continue when their caller disconnects. They get as long to finish as connections.
        self.app.checks.close();
        if timeout(self.drain_timeout, self.app.checks.wait()).await.is_err() {
            let checks = self.app.checks.len();
            tracing::warn!(checks, "checks still ran after --drain-timeout; they are aborted");
        }
        self.app.coverage.leave().await;
        Ok(())
    }
}

/// Runs a part of the service. When it panics, the error names the part.
async fn named(part: &'static str, task: impl Future<Output = Result<(), RunError>>) -> Result<(), RunError> {
    match AssertUnwindSafe(task).catch_unwind().await {
        // A step that it ran apart panicked.
        Ok(Err(RunError::Task(error))) => Err(RunError::Ended(part, error.to_string())),
        Ok(ended) => ended,
        Err(_) => Err(RunError::Ended(part, "it panicked".to_owned())),
    }
}

fn unexpected_end(ended: Option<Result<Result<(), RunError>, JoinError>>) -> RunError {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => RunError::Ended("a part of the service", "without an error".to_owned()),
    }
}

/// Binds the first address of a listener that can be bound.
async fn bind(address: ListenAddress, tls: Option<RustlsConfig>) -> Result<(Listener, SocketAddr), RunError> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let candidates = match address.resolve().await {
        Ok(candidates) => candidates,
        Err(error) => return Err(RunError::Listen(address, error)),
    };
    for candidate in candidates {
        match Listener::bind(candidate, tls.clone()).and_then(|listener| Ok((listener.address()?, listener))) {
            Ok((bound, listener)) => return Ok((listener, bound)),
            Err(error) => failed = error,
        }
    }
    Err(RunError::Listen(address, failed))
}

/// Asks the one task that reads files less often than every second to read them now.
#[derive(Default)]
struct Reload(Notify);

impl Reload {
    /// A request while files are read is kept: they are read once more.
    fn request(&self) {
        self.0.notify_one();
    }

    async fn requested(&self) {
        self.0.notified().await;
    }
}

async fn follow_certificates(listeners: Vec<(TlsFiles, RustlsConfig)>, reload: Arc<Reload>) -> Result<(), RunError> {
    let mut ticks = ticker(CERTIFICATE_INTERVAL);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = reload.requested() => {}
        }
        let mut failed = None;
        for (files, loaded) in &listeners {
            failed = files.reload(loaded).await.err().or(failed);
        }
        if let Some(error) = failed.as_ref().filter(|_| !failing) {
            tracing::error!(%error, "certificate reload failed; the previous certificates stay in use");
        }
        failing = failed.is_some();
    }
}

/// Drops expired state, which would otherwise stay in memory until its place is needed.
async fn sweep(app: Arc<App>) -> Result<(), RunError> {
    let mut ticks = ticker(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        app.checker.sweep();
    }
}

/// Ticks at intervals, first after one interval. A late tick delays the following ones; none is made up for.
fn ticker(interval: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reload_that_is_requested_during_another_follows_it() {
        let reload = Reload::default();
        // Nobody waits: files are being read.
        reload.request();
        assert!(reload.requested().now_or_never().is_some());
        assert!(reload.requested().now_or_never().is_none());
    }
}
