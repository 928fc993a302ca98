//! Work that is finished although nobody waits for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::telemetry::in_current_request;

/// A future that continues as a task when it is dropped before its end. Few are: a task for each from its beginning would cost
/// a wake-up of another thread, and the memory of a task, every time.
#[must_use = "it does nothing unless it is polled"]
pub struct Continued<F: Future<Output: Send> + Send + Unpin + 'static>(Option<F>);

impl<F: Future<Output: Send> + Send + Unpin + 'static> Continued<F> {
    /// Does nothing until it is polled.
    pub fn new(future: F) -> Self {
        Self(Some(future))
    }
}

impl<F: Future<Output: Send> + Send + Unpin + 'static> Future for Continued<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken while it is polled: after a panic it must not be polled again.
        let mut future = self.0.take().expect("it is not polled after its end");
        let polled = Pin::new(&mut future).poll(cx);
        if polled.is_pending() {
            self.0 = Some(future);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + Unpin + 'static> Drop for Continued<F> {
    fn drop(&mut self) {
        // Without a runtime the process ends.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(in_current_request(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::FutureExt;
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn dropped_work_continues_to_its_end() {
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (go_of_work, done_of_work) = (Arc::clone(&go), Arc::clone(&done));
        let mut work = Continued::new(Box::pin(async move {
            go_of_work.notified().await;
            done_of_work.notify_one();
        }));
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        go.notify_one();
        done.notified().await;
    }

    #[tokio::test]
    async fn finished_work_and_work_that_panicked_are_not_continued() {
        let polls = Arc::new(AtomicU32::new(0));
        for panics in [false, true] {
            let polls = Arc::clone(&polls);
            let work = Continued::new(Box::pin(async move {
                polls.fetch_add(1, Ordering::Relaxed);
                assert!(!panics, "the work");
            }));
            assert_eq!(AssertUnwindSafe(work).catch_unwind().await.is_err(), panics);
        }
        yield_now().await;
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }
}
