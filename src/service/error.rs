//! Why the service or a command failed, and its exit code.

use std::io;
use std::path::PathBuf;

use opentelemetry_otlp::ExporterBuildError;
use tokio::task::JoinError;

use crate::args::{BAD_USAGE, FAILED, ListenAddress};
use crate::auth0::SetupError;
use crate::choose::PageError;
use crate::controller::ClusterError;
use crate::secret::MIN_CALLER_TOKEN;
use crate::server::TlsError;
use crate::source::EnvironmentError;

/// Why the service did not start or stopped by itself, or why a command failed. The text is for the person who ran it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No source of policies is configured, or there is no way to connect to the cluster.
    #[error(
        "no source of policies: {0}. Run in a cluster, or give --policy-dir DIR, or set AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET"
    )]
    NoSource(#[from] ClusterError),
    /// `--policy-dir` is not a folder.
    #[error("--policy-dir {0}: this is not a folder")]
    PolicyDir(PathBuf),
    /// The Node demo's variables are incomplete or invalid.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// No caller could send checks, and serving everyone on this address was not asked for.
    #[error(
        "no caller authentication is configured for {0}: set CALLER_TOKEN, or give --caller-token-file FILE, --caller-jwks-file FILE or --allow-anonymous. A token has at least {MIN_CALLER_TOKEN} characters"
    )]
    NoCallers(ListenAddress),
    /// The file of an option cannot be used.
    #[error("{0} {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// Several replicas have no common key for the tickets of `--choose-url`.
    #[error(
        "--choose-url with {0} replicas needs --ticket-key-file: a ticket that one replica makes has to be read by the others"
    )]
    TicketKeys(u32),
    /// A template of `--choose-page-dir` cannot be used.
    #[error("--choose-page-dir: {0}")]
    Pages(#[from] PageError),
    /// The ledger's URL is invalid.
    #[error("--ledger: the URL is invalid: {0}")]
    Ledger(String),
    /// The HTTP client for Auth0 cannot be built.
    #[error(transparent)]
    Upstream(#[from] SetupError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The endpoint for traces or logs is not a valid URL.
    #[error("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Traces(#[from] ExporterBuildError),
    /// A socket cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(ListenAddress, io::Error),
    /// The process cannot handle signals.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// A part of the service stopped without a shutdown.
    #[error("{0} stopped: {1}")]
    Ended(&'static str, String),
    /// A second signal ended the service before it had drained.
    #[error("a second {0} ended the service before it had drained; checks under way got no answer")]
    Undrained(&'static str),
    /// A task panicked or was aborted.
    #[error("a task of the service failed: {0}")]
    Task(#[from] JoinError),
    /// A command failed.
    #[error("{0}")]
    Command(String),
}

impl RunError {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSource(_)
            | Self::PolicyDir(_)
            | Self::Environment(_)
            | Self::NoCallers(_)
            | Self::File(..)
            | Self::TicketKeys(_)
            | Self::Pages(_)
            | Self::Ledger(_)
            | Self::Upstream(_)
            | Self::Tls(_)
            | Self::Traces(_) => BAD_USAGE,
            Self::Listen(..)
            | Self::Signals(_)
            | Self::Ended(..)
            | Self::Undrained(_)
            | Self::Task(_)
            | Self::Command(_) => FAILED,
        }
    }
}
