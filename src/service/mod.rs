//! The service: its sockets, its followers, its end.

mod error;
mod once;
mod parts;
mod source;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use futures::FutureExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::task::TaskTracker;

use crate::args::ServeArgs;
use crate::auth0::QuotaConfig;
use crate::check::{CheckMetrics, Checker};
use crate::controller::metrics::ControllerMetrics;
use crate::controller::status::lease::Candidate;
use crate::controller::status::start_status_writer;
use crate::metrics::MetricRegistry;
use crate::policy::TokenDigest;
use crate::readiness::Readiness;
use crate::server::{App, Listener, ServerMetrics, Tls, admin_router, check_router};
use crate::shutdown::{Shutdown, Signals};
use crate::snapshot::{ObservedState, Publisher, SnapshotMetrics, probe_credentials};
use crate::source::{follow_setting, parse_switch};
use parts::{caller_access, fixed_token, ledger, log_hash_key, setting, upstream};
use source::never_ends;

pub use error::RunError;
pub use once::read_once;
pub use source::Source;

/// The service, started: its sockets are bound and its policies read.
pub struct Service {
    /// Where checks are answered.
    pub address: SocketAddr,
    /// Where probes and metrics are.
    pub admin_address: SocketAddr,
    app: Arc<App>,
    /// Ends the service: also what a signal does.
    pub shutdown: Shutdown,
    shutdown_delay: Duration,
    drain_timeout: Duration,
    /// End by themselves in a shutdown: the listeners when they have drained, the election when the Lease is given back.
    endings: JoinSet<Result<(), RunError>>,
    /// Follow what may change outside, for as long as the process lives.
    followers: JoinSet<Result<(), RunError>>,
}

impl Service {
    /// Reads the sources, binds the sockets and serves.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub async fn start(args: ServeArgs, source: Source) -> Result<Self, RunError> {
        let (caller_access, token_file) = caller_access(&args, matches!(source, Source::Environment(_)))?;
        let switch = args.force_audit_file.as_ref().map(|path| setting(path, parse_switch)).transpose()?;
        let force_audit = args.force_audit || switch.as_ref().is_some_and(|file| *file.value());
        let registry = MetricRegistry::new();
        let ledger = ledger(&args).await?;
        let shared = ledger.store().shared().cloned();
        let ledger = Arc::new(ledger);
        let counted = Arc::clone(&ledger);
        crate::ledger::metrics::register(&registry, shared.is_some(), move || counted.stats());
        let controller_metrics = Arc::new(ControllerMetrics::new(&registry));
        let upstream = upstream(&args.source, QuotaConfig { shared, replicas: args.replicas }, &registry)?;
        let observed = ObservedState { caller_access, force_audit, ..ObservedState::default() };
        let publisher =
            Arc::new(Publisher::new(upstream, observed, args.max_in_flight, SnapshotMetrics::new(&registry)));
        let readiness = Readiness::default();
        let shutdown = Shutdown::default();
        let mut followers = JoinSet::new();
        let mut endings = JoinSet::new();

        if let Some((connection, observed_policies)) =
            source.begin(&publisher, &controller_metrics, &readiness, &mut followers).await?
        {
            let candidate = Candidate::new(&args.lease_name, args.lease_duration);
            let (election, writer) = start_status_writer(
                &connection,
                candidate,
                observed_policies,
                &publisher,
                Arc::clone(&controller_metrics),
                readiness.clone(),
                shutdown.begun.clone(),
            );
            endings.spawn(election.map(Ok));
            followers.spawn(never_ends(writer.map(Ok)));
        }
        followers.spawn(never_ends(probe_credentials(Arc::clone(&publisher))));
        if let Some(file) = token_file {
            let fixed = args.caller_token.as_ref().and_then(fixed_token);
            let apply = move |observed: &mut ObservedState, tokens: &HashSet<TokenDigest>| {
                observed.caller_access.tokens = tokens.iter().copied().chain(fixed).collect();
            };
            followers.spawn(never_ends(follow_setting(file, "callers' tokens", apply, Arc::clone(&publisher))));
        }
        if let Some(file) = switch {
            let always = args.force_audit;
            let apply = move |observed: &mut ObservedState, on: &bool| observed.force_audit = always || *on;
            followers.spawn(never_ends(follow_setting(file, "forced audit", apply, Arc::clone(&publisher))));
        }

        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls { certificate: certificate.clone(), key: key.clone() };
                let config = tls.load().await?;
                followers.spawn(follow_certificate(tls, config.clone()));
                Some(config)
            }
            _ => None,
        };
        let app = Arc::new(App {
            checker: Checker::new(publisher.current(), ledger, CheckMetrics::new(&registry), log_hash_key(&args)),
            readiness,
            shutdown: shutdown.clone(),
            metrics: ServerMetrics::new(&registry),
            registry,
            checks: TaskTracker::new(),
        });
        followers.spawn(sweep(Arc::clone(&app)));
        let checks = bind(args.listen(), tls)?;
        let admin = bind(args.admin_listen, None)?;
        let (address, admin_address) = (checks.1, admin.1);
        endings.spawn(serve(
            "the listener for checks",
            checks.0,
            check_router(Arc::clone(&app)),
            &shutdown,
            args.drain_timeout,
        ));
        endings.spawn(serve(
            "the admin listener",
            admin.0,
            admin_router(Arc::clone(&app)),
            &shutdown,
            Duration::from_secs(1),
        ));
        tracing::info!(%address, %admin_address, version = env!("CARGO_PKG_VERSION"), "listening");
        Ok(Self {
            address,
            admin_address,
            app,
            shutdown,
            shutdown_delay: args.shutdown_delay(),
            drain_timeout: args.drain_timeout,
            endings,
            followers,
        })
    }

    /// Serves until a signal comes, then drains and returns; a second signal ends it at once.
    ///
    /// # Errors
    /// When a part of the process ends by itself: a service that is only half alive must not go on.
    pub async fn run(mut self, mut signals: Signals) -> Result<(), RunError> {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            error = self.failed() => return Err(error),
        };
        tokio::select! {
            drained = self.drain(signal) => drained,
            signal = signals.next() => {
                tracing::warn!(signal, "ending at once");
                Ok(())
            }
        }
    }

    /// The same, until `stop` resolves.
    ///
    /// # Errors
    /// As for [`run`](Self::run), and what `stop` gives.
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

    /// Waits for a part of the process to end that should not.
    async fn failed(&mut self) -> RunError {
        tokio::select! {
            ended = self.endings.join_next() => unexpected(ended),
            Some(ended) = self.followers.join_next() => unexpected(Some(ended)),
        }
    }

    async fn drain(mut self, signal: &'static str) -> Result<(), RunError> {
        tracing::info!(signal, "shutting down");
        self.shutdown.begin(&self.app.readiness, self.shutdown_delay).await;
        while let Some(ended) = self.endings.join_next().await {
            ended??;
        }
        // Checks whose caller has hung up may still be at work, and get as long as connections do.
        self.app.checks.close();
        if timeout(self.drain_timeout, self.app.checks.wait()).await.is_err() {
            tracing::warn!("checks were still under way");
        }
        Ok(())
    }

    /// What the handlers share, for tests that look inside.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }
}

fn unexpected(ended: Option<Result<Result<(), RunError>, JoinError>>) -> RunError {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => RunError::Ended("a part of the service", "without an error".to_owned()),
    }
}

fn bind(address: SocketAddr, tls: Option<RustlsConfig>) -> Result<(Listener, SocketAddr), RunError> {
    let bound = || {
        let listener = Listener::bind(address, tls)?;
        let address = listener.address()?;
        Ok((listener, address))
    };
    bound().map_err(|error| RunError::Listen(address, error))
}

/// Serves until the shutdown drains. Ending before is an error.
fn serve(
    name: &'static str,
    listener: Listener,
    router: axum::Router,
    shutdown: &Shutdown,
    drain_timeout: Duration,
) -> impl Future<Output = Result<(), RunError>> + use<> {
    let draining = shutdown.draining.clone();
    async move {
        let served = listener.serve(router, draining, drain_timeout).await;
        served.map_err(|error| RunError::Ended(name, error.to_string()))
    }
}

async fn follow_certificate(tls: Tls, config: RustlsConfig) -> Result<(), RunError> {
    let mut ticks = ticker(Duration::from_secs(10));
    let mut failing = false;
    loop {
        ticks.tick().await;
        match tls.reload(&config).await {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "the old certificate stays in use");
            }
            Err(_) => {}
        }
    }
}

/// Forgets what has ended, so that it does not stay in memory until something else needs the room.
async fn sweep(app: Arc<App>) -> Result<(), RunError> {
    let mut ticks = ticker(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        app.checker.sweep();
    }
}

/// Ticks of which none is made up for, beginning after the first period.
fn ticker(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
