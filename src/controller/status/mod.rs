//! Writes the status of every policy, and Events about its conditions, from the one replica that holds the Lease.

pub mod conditions;
mod contention;
mod kstatus;
pub mod lease;
mod unexamined;
mod writer;

use std::convert::Infallible;
use std::sync::Arc;

use kube::Api;
use tokio_util::sync::CancellationToken;

use super::client::ClusterConnection;
use super::metrics::ControllerMetrics;
use super::objects::ObservedPolicies;
use crate::coverage::Coverage;
use crate::readiness::Readiness;
use crate::snapshot::Publisher;
use lease::{Candidate, ElectionEvent, run_election};
use writer::StatusWriter;

/// What a status is made of, apart from the active policies.
pub struct Observations {
    /// The policies as the API server has them.
    pub policies: Arc<ObservedPolicies>,
    /// What was seen of checks and logins.
    pub coverage: Arc<Coverage>,
}

/// Takes part in the election, and writes status and Events while this replica leads. The first future ends when the
/// Lease was released after `stop`; the second does not end.
///
/// The election starts when `readiness` allows checks: a replica that knows only some of the policies would report
/// conflicts that do not exist. It does not wait for Secrets without an answer: only a status says which these are.
pub fn start_status_writer(
    connection: &ClusterConnection,
    candidate: Candidate,
    observations: Observations,
    publisher: &Publisher,
    metrics: Arc<ControllerMetrics>,
    readiness: Readiness,
    stop: CancellationToken,
) -> (impl Future<Output = ()> + Send + use<>, impl Future<Output = Infallible> + Send + use<>) {
    let leases = Api::namespaced(connection.client.clone(), &connection.namespace);
    let election_metrics = Arc::clone(&metrics);
    election_metrics.leader(false);
    let on_event = move |event| match event {
        ElectionEvent::Leads(leads) => election_metrics.leader(leads),
        ElectionEvent::Failed => election_metrics.election_failed(),
    };
    let (leadership, election) = run_election(leases, candidate.clone(), stop.clone(), on_event);
    let manager = connection.field_manager(&candidate.name);
    let writer =
        StatusWriter::new(connection.client.clone(), manager, candidate, leadership, publisher, observations, metrics);
    let election = async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = readiness.serving() => {}
        }
        election.await;
    };
    (election, writer.run())
}
