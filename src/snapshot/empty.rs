//! Warns when the service serves without a policy, which looks like a limit and is none.

use std::convert::Infallible;
use std::sync::Arc;

use super::publisher::Publisher;
use crate::readiness::Readiness;

/// Warns whenever the service serves without a policy, for as long as the process runs.
pub async fn warn_without_policies(publisher: Arc<Publisher>, readiness: Readiness) -> Infallible {
    let mut changes = publisher.changes();
    // Before that, policies may still be on their way.
    readiness.serving().await;
    let mut warned = false;
    loop {
        changes.mark_unchanged();
        let is_empty = publisher.current().load().reports.is_empty();
        if is_empty && !warned {
            tracing::warn!("no policy is loaded: no login is limited");
        }
        warned = is_empty;
        // The publisher lives as long as this task.
        let _ = changes.changed().await;
    }
}
