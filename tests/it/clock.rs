//! A clock that a test drives while real sockets are in use, so that no time of the machine is part of a result.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How far the clock goes on at once. The number can be changed while it goes.
#[derive(Clone)]
pub struct Step(Arc<AtomicU64>);

impl Step {
    pub fn new(milliseconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(milliseconds)))
    }

    pub fn set(&self, milliseconds: u64) {
        self.0.store(milliseconds, Ordering::Relaxed);
    }
}

/// Lets the paused clock of a current-thread runtime go on, in steps.
///
/// A paused clock goes on by itself, to the next timer, when no task can run: also when bytes are still on their way through
/// the kernel. It stands while a blocking task runs, so this one gives the kernel a moment between two steps. However busy the
/// machine is, the clock stands until all tasks have done what they can.
pub fn drive(step: Step) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
            sleep(Duration::from_millis(step.0.load(Ordering::Relaxed))).await;
        }
    })
}
