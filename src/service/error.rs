//! Why the service did not start, or ended by itself, and the exit code for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::task::JoinError;

use crate::args::{BAD_USAGE, FAILED};
use crate::auth0::SetupError;
use crate::controller::ConnectError;
use crate::secret::MIN_CALLER_TOKEN;
use crate::server::TlsError;
use crate::source::EnvironmentError;

/// Why the service did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to read policies from, or the cluster cannot be reached in principle.
    #[error(
        "there is nothing to read policies from: {0}; run in a cluster, or give --policy-dir DIR, or set AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET"
    )]
    NoSource(#[from] ConnectError),
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
            Self::NoSource(_)
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
