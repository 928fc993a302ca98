//! From a signal to the end: readiness off, serve on for a moment while the news spreads, drain with a bound.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// The two moments that the rest of the process waits for.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// A signal came: checks are still answered, and connections are told to end after their answer.
    pub begun: CancellationToken,
    /// No new connection is taken any more; those there are have the drain timeout to end.
    pub draining: CancellationToken,
}

impl Shutdown {
    /// Takes readiness back and, after `delay`, asks the listeners to drain.
    pub async fn begin(&self, readiness: &Readiness, delay: Duration) {
        readiness.shut_down();
        self.begun.cancel();
        tokio::time::sleep(delay).await;
        self.draining.cancel();
    }
}

/// SIGTERM and SIGINT, as they come. From the moment this is made none is lost and none ends the process by itself.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
