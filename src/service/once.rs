//! What is in force by the same sources as `serve`, for a command that asks once and ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::parts::upstream;
use super::{RunError, Source};
use crate::args::SourceArgs;
use crate::auth0::QuotaConfig;
use crate::controller::metrics::ControllerMetrics;
use crate::metrics::MetricRegistry;
use crate::readiness::Readiness;
use crate::snapshot::{ObservedState, Publisher, Snapshot, SnapshotMetrics};

/// How long a cluster may take to show its policies and Secrets.
const SHOWN: Duration = Duration::from_secs(30);

/// Reads the policies and their Secrets. Who may ask is no matter here: whoever runs the command has the credentials.
///
/// # Errors
/// When there is no source, or it cannot be read.
pub async fn read_once(args: &SourceArgs) -> Result<Arc<Snapshot>, RunError> {
    // Nobody scrapes it.
    let registry = MetricRegistry::new();
    let publisher = Arc::new(Publisher::new(
        upstream(args, QuotaConfig::default(), &registry)?,
        ObservedState::default(),
        1,
        SnapshotMetrics::new(&registry),
    ));
    let (mut followers, readiness) = (JoinSet::new(), Readiness::default());
    Source::of(args)?
        .begin(&publisher, &Arc::new(ControllerMetrics::new(&registry)), &readiness, &mut followers)
        .await?;
    let deadline = Instant::now() + SHOWN;
    while !readiness.is_serving() {
        if Instant::now() > deadline {
            return Err(RunError::Command(format!("still waiting for: {}", readiness.pending().join("; "))));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(publisher.current().load_full())
}
