//! The steps of a shutdown: the replica is no longer ready, keeps serving so that load balancers can stop sending, then drains.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// The two steps of a shutdown that other tasks wait for. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// A signal was received: checks are still answered, and each answer closes its connection.
    pub begun: CancellationToken,
    /// The listeners accept no more connections; open ones have until the drain timeout to finish.
    pub draining: CancellationToken,
}

impl Shutdown {
    /// Ends readiness and, after `delay`, makes the listeners drain.
    pub async fn begin(&self, readiness: &Readiness, delay: Duration) {
        readiness.shut_down();
        self.begun.cancel();
        tokio::time::sleep(delay).await;
        self.draining.cancel();
    }
}

/// SIGTERM and SIGINT. Once this exists, none is lost and none kills the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over the two signals.
    ///
    /// # Errors
    /// When the system does not allow a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and returns its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
