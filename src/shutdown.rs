//! From a signal to the end: readiness off, serve on for a moment while the news spreads, drain with a bound.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
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

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened to.
pub async fn signalled() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
