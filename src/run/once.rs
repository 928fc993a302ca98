//! What is in force by the same sources as `serve`, for a command that asks once and ends.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::setup::upstream;
use super::{RunError, Source};
use crate::args::SourceArgs;
use crate::auth0::Ceilings;
use crate::in_force::{InForce, Publisher, Shown};
use crate::metrics::Metrics;

/// Reads the policies and their Secrets. Who may ask is no matter here: whoever runs the command has the credentials.
///
/// # Errors
/// When there is no source, or it cannot be read.
pub async fn read_once(args: &SourceArgs) -> Result<Arc<InForce>, RunError> {
    let metrics = Arc::new(Metrics::new());
    let publisher =
        Arc::new(Publisher::new(upstream(args, Ceilings::default(), &metrics)?, Shown::default(), 1, metrics));
    let mut followers = JoinSet::new();
    Source::of(args)?.begin(&publisher, &mut followers).await?;
    Ok(publisher.current().load_full())
}
