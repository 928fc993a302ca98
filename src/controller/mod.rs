//! Kubernetes as the source of policies and Secrets. Kubernetes types stop here.
//!
//! ```text
//!  SessionPolicies ── one watch for each namespace ──┐
//!                                                    ├─▶ feed ──▶ Publisher ──▶ what is in force     all replicas
//!  Secrets ── one watch for each that is named ──────┘    │            │
//!     ▲                                                   │            └──▶ what there is to say
//!     └── begun and ended as policies name them ──────────┘
//! ```
//!
//! Every replica watches, compiles and serves. What arrives together is put in force together: all policies at the start
//! make one snapshot, and a single change later is in force at once.
//!
//! A watch begins with a list that is not older than what was seen before, so that no replaced credential comes back. It is
//! renewed before a proxy on the way would drop it, goes on where it was after a hang-up, lists anew when the API server no
//! longer knows that place, and is tried again with longer and longer pauses when it fails. All the while what is in force
//! stays: an API server that is away changes nothing for a check.
//!
//! A policy reaches the [`Index`](crate::policy::Index) as it is written, also when it is not what the schema says: one bad
//! object is its own trouble. A Secret is watched alone, by name. That the API server does not show it is said of the
//! policies that name it, and nobody else notices.

mod client;
mod feed;
pub mod lease;
mod object;
pub mod status;
mod watching;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub use feed::follow_cluster;
pub use object::{Seen, SeenPolicy};

use crate::metrics::Metrics;

/// The field manager of everything that the service writes.
const FIELD_MANAGER: &str = "session-checker";
/// How long a watch lasts before it is renewed: some load balancers drop what is idle for 240 s without a word.
const WATCH_TIMEOUT: Duration = Duration::from_secs(200);

/// The namespaces whose policies are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// The one that the service runs in, or the kubeconfig names.
    #[default]
    Own,
    /// These.
    Named(BTreeSet<String>),
    /// Every one.
    All,
}

/// A cluster that is not connected to yet.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// How to reach its API server; where it is not given, as in a Pod or as the kubeconfig says.
    pub config: Option<Box<kube::Config>>,
    /// What is watched in it.
    pub namespaces: Namespaces,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says where its API server is.
    #[error("this is not a Pod, and there is no kubeconfig")]
    NoCluster(#[source] Box<kube::config::InferConfigError>),
    /// What says so cannot be used.
    #[error("the connection to the API server cannot be set up: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// A connection to a cluster's API server.
#[derive(Clone)]
pub struct Connection {
    /// The client that everything shares.
    pub client: kube::Client,
    /// The namespace that the service runs in.
    pub namespace: String,
    /// The namespaces to watch; `None` stands for all.
    scopes: Vec<Option<String>>,
}

impl Cluster {
    /// Sets up the connection. Nothing is sent yet.
    ///
    /// # Errors
    /// When nothing says where the API server is, or what does cannot be used.
    pub async fn connect(self, metrics: Arc<Metrics>) -> Result<Connection, ConnectError> {
        let config = match self.config {
            Some(config) => *config,
            None => kube::Config::infer().await.map_err(|error| ConnectError::NoCluster(Box::new(error)))?,
        };
        let namespace = config.default_namespace.clone();
        let scopes = match self.namespaces {
            Namespaces::Own => vec![Some(namespace.clone())],
            Namespaces::Named(names) => names.into_iter().map(Some).collect(),
            Namespaces::All => vec![None],
        };
        let client = client::client(config, metrics).map_err(Box::new)?;
        Ok(Connection { client, namespace, scopes })
    }
}
