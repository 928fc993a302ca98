//! The composition root: what depends on what is decided here and nowhere else.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum_server::tls_rustls::RustlsConfig;
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_util::task::TaskTracker;

use crate::args::{Args, Command, ServeArgs};
use crate::auth0::{SetupError, Upstream, UpstreamOptions};
use crate::checker::Checker;
use crate::in_force::{Publisher, Shown};
use crate::ledger::{Backend, DEFAULT_CAPACITY, Ledger, Memory, Redis, Shared};
use crate::metrics::Metrics;
use crate::policy::{Doors, TokenDigest};
use crate::readiness::Readiness;
use crate::secret::{Caller, MIN_CALLER_TOKEN};
use crate::server::{App, Listener, Tls, TlsError, admin_router, check_router};
use crate::shutdown::{Shutdown, Signals};
use crate::source::{
    Environment, EnvironmentError, SettingFile, TokenFile, follow_directory, follow_setting, parse_switch,
    parse_tokens, read_directory, read_documents,
};
use crate::telemetry::{LogFormat, Telemetry};

/// The exit code for a bad command line or configuration (`EX_USAGE` of sysexits).
pub const BAD_USAGE: u8 = 64;
/// The exit code for everything else that went wrong.
pub const FAILED: u8 = 1;

/// Why the service did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to read policies from.
    #[error(
        "there is nothing to read policies from: give --policy-dir DIR, or set AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET"
    )]
    NoSource,
    /// The policy folder is not one.
    #[error("--policy-dir {0}: there is no such folder")]
    PolicyDir(PathBuf),
    /// The variables of the Node demo.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Nobody could ask, or everybody.
    #[error(
        "nothing says who may ask at {0}: set CALLER_TOKEN, give --caller-token-file FILE, or say --allow-anonymous; tokens have at least {MIN_CALLER_TOKEN} characters"
    )]
    NoCallers(SocketAddr),
    /// A file that is named and cannot be read.
    #[error("{0} cannot be read: {1}")]
    File(PathBuf, io::Error),
    /// The ledger's URL.
    #[error("--ledger: the URL cannot be read: {0}")]
    Ledger(String),
    /// The way out to Auth0.
    #[error(transparent)]
    Upstream(#[from] SetupError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A socket.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Signals.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    /// A part of the process ended although nobody asked it to.
    #[error("{0} ended: {1}")]
    Ended(&'static str, String),
    /// A task of the process was torn down.
    #[error("a task of the service failed: {0}")]
    Task(#[from] JoinError),
    /// A command failed; what there was to say has been said.
    #[error("{0}")]
    Command(String),
}

impl RunError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSource
            | Self::PolicyDir(_)
            | Self::Environment(_)
            | Self::NoCallers(_)
            | Self::File(..)
            | Self::Ledger(_)
            | Self::Upstream(_)
            | Self::Tls(_) => BAD_USAGE,
            Self::Listen(..) | Self::Signals(_) | Self::Ended(..) | Self::Task(_) | Self::Command(_) => FAILED,
        }
    }
}

/// Does what the command line says.
///
/// # Errors
/// Says what went wrong, in words for the person who started it.
pub async fn run(args: Args) -> Result<(), RunError> {
    let format = args.log_format();
    match args.command {
        Command::Crd => crate::validate::print_crd(),
        Command::Validate(args) => crate::validate::run(&args),
        Command::Serve(args) => {
            let telemetry = telemetry(format, "info")?;
            let served = async {
                let signals = listen_to_signals()?;
                let source = Source::of(&args)?;
                Service::start(*args, source).await?.run(signals).await
            };
            let served = served.await;
            telemetry.flush().await;
            served
        }
        #[cfg(feature = "simulator")]
        Command::Demo(args) => {
            let telemetry = telemetry(format, "warn,session_checker::checker=info")?;
            let served = crate::demo::run(&args).await;
            telemetry.flush().await;
            served
        }
    }
}

/// From before the start: a signal that comes while the service starts would be lost on the first process of a container.
pub(crate) fn listen_to_signals() -> Result<Signals, RunError> {
    Signals::listen().map_err(RunError::Signals)
}

fn telemetry(format: LogFormat, default_filter: &str) -> Result<Telemetry, RunError> {
    Telemetry::init(format, default_filter).map_err(|error| RunError::Command(error.to_string()))
}

/// Where policies come from.
pub enum Source {
    /// A folder, followed.
    Directory(PathBuf),
    /// The variables of the Node demo.
    Environment(Environment),
    /// Manifests that never change.
    Text(&'static str),
}

impl Source {
    /// What the command line says: a folder stands before the variables.
    ///
    /// # Errors
    /// When there is none, or it cannot be one.
    pub fn of(args: &ServeArgs) -> Result<Self, RunError> {
        if let Some(path) = &args.policy_dir {
            return if path.is_dir() {
                Ok(Self::Directory(path.clone()))
            } else {
                Err(RunError::PolicyDir(path.clone()))
            };
        }
        let variables = (args.auth0_domain.clone(), args.auth0_client_id.clone(), args.auth0_client_secret.clone());
        let environment = Environment::new(variables.0, variables.1, variables.2)?;
        environment.map(Self::Environment).ok_or(RunError::NoSource)
    }
}

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
    /// End when they have drained.
    listeners: JoinSet<Result<(), RunError>>,
    /// Follow what may change outside, for as long as the process lives.
    followers: JoinSet<Result<(), RunError>>,
}

impl Service {
    /// Reads the sources, binds the sockets and serves.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub async fn start(args: ServeArgs, source: Source) -> Result<Self, RunError> {
        let (doors, token_file) = doors(&args, matches!(source, Source::Environment(_)))?;
        let switch = args.force_audit_file.as_ref().map(|path| setting(path, parse_switch)).transpose()?;
        let force_audit = args.force_audit || switch.as_ref().is_some_and(|file| *file.value());
        let metrics = Arc::new(Metrics::new());
        let upstream = Upstream::new(UpstreamOptions {
            endpoints: args.endpoints(),
            ca_pem: args.auth0_ca_file.as_ref().map(read).transpose()?,
            observer: Arc::clone(&metrics) as _,
        })?;
        let shown = Shown { doors, force_audit, ..Shown::default() };
        let publisher = Arc::new(Publisher::new(upstream, shown, args.max_in_flight, Arc::clone(&metrics)));
        let readiness = Readiness::default();
        let shutdown = Shutdown::default();
        let mut followers = JoinSet::new();
        let mut listeners = JoinSet::new();

        let policies = readiness.wait_for("policies");
        match source {
            Source::Directory(path) => {
                let directory = read_directory(path, Arc::clone(&publisher)).await?;
                followers.spawn(endless(follow_directory(directory, Arc::clone(&publisher))));
            }
            Source::Environment(environment) => publisher.update(|shown| environment.feed(&mut shown.index))?,
            Source::Text(manifests) => {
                let documents = read_documents(manifests).map_err(|error| RunError::Command(error.to_string()))?;
                publisher.update(|shown| documents.into_iter().for_each(|document| document.feed(&mut shown.index)));
            }
        }
        policies.release();
        if let Some(file) = token_file {
            let fixed = args.caller_token.as_ref().and_then(fixed_token);
            let apply = move |shown: &mut Shown, tokens: &HashSet<TokenDigest>| {
                shown.doors.tokens = tokens.iter().copied().chain(fixed).collect();
            };
            followers.spawn(endless(follow_setting(file, "callers' tokens", apply, Arc::clone(&publisher))));
        }
        if let Some(file) = switch {
            let always = args.force_audit;
            let apply = move |shown: &mut Shown, on: &bool| shown.force_audit = always || *on;
            followers.spawn(endless(follow_setting(file, "forced audit", apply, Arc::clone(&publisher))));
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
            checker: Checker::new(publisher.current(), ledger(&args).await?, Arc::clone(&metrics), log_hash_key(&args)),
            readiness,
            shutdown: shutdown.clone(),
            metrics,
            checks: TaskTracker::new(),
        });
        followers.spawn(sweep(Arc::clone(&app)));
        let checks = bind(args.listen(), tls)?;
        let admin = bind(args.admin_listen, None)?;
        let (address, admin_address) = (checks.1, admin.1);
        listeners.spawn(serve(
            "the listener for checks",
            checks.0,
            check_router(Arc::clone(&app)),
            &shutdown,
            args.drain_timeout,
        ));
        listeners.spawn(serve(
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
            listeners,
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
            ended = self.listeners.join_next() => unexpected(ended),
            Some(ended) = self.followers.join_next() => unexpected(Some(ended)),
        }
    }

    async fn drain(mut self, signal: &'static str) -> Result<(), RunError> {
        tracing::info!(signal, "shutting down");
        self.shutdown.begin(&self.app.readiness, self.shutdown_delay).await;
        while let Some(ended) = self.listeners.join_next().await {
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

/// Who may ask, beside the callers' Secrets. In the Node demo's mode everybody may on loopback, as long as no token is set.
fn doors(args: &ServeArgs, node_demo: bool) -> Result<(Doors, Option<TokenFile>), RunError> {
    let file = args.caller_token_file.as_ref().map(|path| setting(path, parse_tokens)).transpose()?;
    let mut tokens = file.as_ref().map(|file| file.value().clone()).unwrap_or_default();
    tokens.extend(args.caller_token.as_ref().and_then(fixed_token));
    let asked_for_tokens = args.caller_token.is_some() || file.is_some();
    let mut doors = Doors { tokens, allow_anonymous: args.allow_anonymous };
    if node_demo && !doors.allow_anonymous && doors.tokens.is_empty() {
        if asked_for_tokens || !args.listen().ip().is_loopback() {
            return Err(RunError::NoCallers(args.listen()));
        }
        doors.allow_anonymous = true;
    }
    Ok((doors, file))
}

fn fixed_token(token: &SecretString) -> Option<TokenDigest> {
    match Caller::new("CALLER_TOKEN", token.expose_secret()) {
        Ok(caller) => Some(TokenDigest::of(caller.token.expose_secret())),
        Err(error) => {
            tracing::error!(%error, "a caller's token is refused");
            None
        }
    }
}

fn setting<T: PartialEq>(path: &Path, parse: fn(&Path, &str) -> Result<T, String>) -> Result<SettingFile<T>, RunError> {
    SettingFile::open(path.to_owned(), parse).map_err(|error| RunError::File(path.to_owned(), error))
}

fn log_hash_key(args: &ServeArgs) -> hmac::Key {
    if let Some(key) = given(args.log_hash_key.as_ref()) {
        return hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    }
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// The text of a secret option; an empty one, as charts leave it, is not given.
fn given(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret).filter(|text| !text.is_empty())
}

/// The ledger: shared where an URL says so, else this process's own.
async fn ledger(args: &ServeArgs) -> Result<Ledger, RunError> {
    let memory = Memory::new(DEFAULT_CAPACITY);
    let Some(url) = args.ledger.as_ref().filter(|url| !url.expose_secret().is_empty()) else {
        return Ok(Ledger::new(Backend::Memory(memory)));
    };
    let key = given(args.ledger_key.as_ref()).unwrap_or(url.expose_secret());
    let redis = Redis::new(url, key.as_bytes()).map_err(|error| RunError::Ledger(error.to_string()))?;
    Ok(Ledger::new(Backend::Shared(Shared::start(redis, memory, args.ledger_timeout).await)))
}

fn read(path: &PathBuf) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|error| RunError::File(path.clone(), error))
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
    let mut ticks = every(Duration::from_secs(10));
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

/// A follower of a source ends only when it was torn down.
async fn endless(follower: impl Future<Output = Result<Infallible, JoinError>>) -> Result<(), RunError> {
    match follower.await? {}
}

/// Forgets what has ended, so that it does not stay in memory until something else needs the room.
async fn sweep(app: Arc<App>) -> Result<(), RunError> {
    let mut ticks = every(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        app.checker.sweep();
    }
}

/// Ticks of which none is made up for, beginning after the first period.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
