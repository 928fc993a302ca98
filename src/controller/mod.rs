//! Kubernetes as the source of policies and Secrets. Kubernetes types stop here.
//!
//! ```text
//!  SessionPolicies ── one watch for each namespace ──┐
//!                                                    ├─▶ feed ──▶ Publisher ──▶ what is in force     all replicas
//!  Secrets ── one watch for each that is named ──────┘    │            │
//!     ▲                                                   │            └──▶ what there is to say
//!     └── begun and ended as policies name them ──────────┘
//!                                                                      │
//!  status, Events ◀── the replica that holds the Lease ◀───────────────┘
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
pub mod metrics;
mod objects;
mod reconcile;
pub mod status;
mod watch;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

pub use objects::{Seen, SeenPolicy};
pub use reconcile::follow_cluster;

use kube::Api;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;
use crate::snapshot::Publisher;
use metrics::ControllerMetrics;
use status::Writer;
use status::lease::{Candidate, run_election};

/// Who reports Events.
const REPORTER: &str = "sessionchecker.dev/session-checker";
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
    pub async fn connect(self, metrics: Arc<ControllerMetrics>) -> Result<Connection, ConnectError> {
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

/// Asks for the Lease, and writes the status of policies and Events about them while it is held. The first future ends when
/// the Lease was given back after `stop`; the second does not end.
///
/// It is not asked for before `readiness` has come: who knows a part of the policies would say of the others what is not so.
pub fn start_status_writer(
    connection: &Connection,
    candidate: Candidate,
    seen: Arc<Seen>,
    publisher: &Publisher,
    metrics: Arc<ControllerMetrics>,
    readiness: Readiness,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send + use<>, impl Future<Output = Infallible> + Send + use<>) {
    let leases = Api::namespaced(connection.client.clone(), &connection.namespace);
    let counted = Arc::clone(&metrics);
    let on_change = move |leader| counted.leader(leader);
    let (leadership, election) = run_election(leases, candidate.clone(), stop.clone(), on_change);
    let writer = Writer {
        client: connection.client.clone(),
        current: publisher.current(),
        changes: publisher.changes(),
        seen,
        leadership,
        candidate,
        metrics,
    };
    let election = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = readiness.serving() => {}
        }
        election.await;
    };
    (election, writer.run())
}
