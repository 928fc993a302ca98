//! Writes that outlive their checks.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::record::REVOKED_FOR;

/// A write that continues when its check no longer waits for it.
pub(super) struct DetachedWrite<'a> {
    pub background: &'a Arc<Semaphore>,
    pub write: Option<BoxFuture<'static, ()>>,
}

impl DetachedWrite<'_> {
    /// Waits for the write until the deadline.
    pub async fn run(&mut self, deadline: Instant) {
        if let Some(write) = &mut self.write
            && timeout_at(deadline, write).await.is_ok()
        {
            self.write = None;
        }
    }
}

impl Drop for DetachedWrite<'_> {
    /// Completes the write in the background. Without a runtime or a permit, or after a minute, it is given up: what it would change
    /// in counts has ended by itself by then, and what it would remember is lost (decision 1.13a).
    fn drop(&mut self) {
        let Some(write) = self.write.take() else { return };
        if let (Ok(runtime), Ok(permit)) = (Handle::try_current(), Arc::clone(self.background).try_acquire_owned()) {
            runtime.spawn(async move {
                let _ = timeout(REVOKED_FOR, write).await;
                drop(permit);
            });
        }
    }
}
