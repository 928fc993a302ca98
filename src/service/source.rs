//! Which source feeds the service, and how it begins.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};

use super::RunError;
use crate::args::SourceArgs;
use crate::controller::metrics::ControllerMetrics;
use crate::controller::{Cluster, ClusterConnection, ObservedPolicies, follow_cluster};
use crate::readiness::Readiness;
use crate::snapshot::Publisher;
use crate::source::{Environment, follow_folder, read_documents, read_folder};

/// Where policies come from.
pub enum Source {
    /// A folder, followed.
    Directory(PathBuf),
    /// The variables of the Node demo.
    Environment(Environment),
    /// A cluster, followed.
    Cluster(Cluster),
    /// Manifests that never change.
    Text(&'static str),
}

impl Source {
    /// What the command line says: a folder stands before the variables, and these before the cluster.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn of(args: &SourceArgs) -> Result<Self, RunError> {
        if let Some(path) = &args.policy_dir {
            return if path.is_dir() {
                Ok(Self::Directory(path.clone()))
            } else {
                Err(RunError::PolicyDir(path.clone()))
            };
        }
        let variables = (args.auth0_domain.clone(), args.auth0_client_id.clone(), args.auth0_client_secret.clone());
        let environment = Environment::new(variables.0, variables.1, variables.2)?;
        let cluster = || Self::Cluster(Cluster { config: None, namespaces: args.namespaces() });
        Ok(environment.map_or_else(cluster, Self::Environment))
    }

    /// Puts in force what the source shows, and goes on following it in `followers` where it may change. Gives the
    /// connection to a cluster, and what is seen there.
    ///
    /// # Errors
    /// When the source cannot be one.
    pub(super) async fn begin(
        self,
        publisher: &Arc<Publisher>,
        metrics: &Arc<ControllerMetrics>,
        readiness: &Readiness,
        followers: &mut JoinSet<Result<(), RunError>>,
    ) -> Result<Option<(ClusterConnection, Arc<ObservedPolicies>)>, RunError> {
        match self {
            Self::Directory(path) => {
                let folder = read_folder(path, Arc::clone(publisher)).await?;
                followers.spawn(never_ends(follow_folder(folder, Arc::clone(publisher))));
            }
            Self::Environment(environment) => publisher.update(|observed| environment.feed(&mut observed.index))?,
            Self::Cluster(cluster) => {
                let connection = cluster.connect(Arc::clone(metrics)).await?;
                let (publisher, metrics) = (Arc::clone(publisher), Arc::clone(metrics));
                let observed = Arc::new(ObservedPolicies::default());
                let follower =
                    follow_cluster(connection.clone(), publisher, Arc::clone(&observed), metrics, readiness.clone());
                followers.spawn(never_ends(follower));
                return Ok(Some((connection, observed)));
            }
            Self::Text(manifests) => {
                let documents = read_documents(manifests).map_err(|error| RunError::Command(error.to_string()))?;
                publisher
                    .update(|observed| documents.into_iter().for_each(|document| document.feed(&mut observed.index)));
            }
        }
        Ok(None)
    }
}

/// A follower of a source ends only when it was torn down.
pub(super) async fn never_ends(follower: impl Future<Output = Result<Infallible, JoinError>>) -> Result<(), RunError> {
    match follower.await? {}
}
