//! The steps of a shutdown: the replica is no longer ready, keeps serving so that load balancers can stop sending, then drains.

use std::io::{self, IsTerminal};
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

/// SIGTERM, SIGINT and, without a terminal, SIGHUP. Once this exists, none is lost and none of them kills the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` where SIGHUP means that the terminal is gone, which ends the process.
    hangup: Option<Signal>,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End. The name of the signal is for the log.
    Stop(&'static str),
    /// Read again what is followed.
    Reload,
}

impl Signals {
    /// Takes over the signals that end the process.
    ///
    /// # Errors
    /// When the system does not allow a handler.
    pub fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: None })
    }

    /// Takes over SIGHUP too, as a request to reload, unless a terminal controls the process.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_with_reload() -> io::Result<Self> {
        let has_terminal = io::stdin().is_terminal() || io::stderr().is_terminal();
        let hangup = if has_terminal { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { hangup, ..Self::listen()? })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Request {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = hangup => Request::Reload,
        }
    }

    /// Waits for the next signal that ends the process, and returns its name. Requests to reload are ignored.
    pub async fn next_stop(&mut self) -> &'static str {
        loop {
            if let Request::Stop(signal) = self.next().await {
                return signal;
            }
        }
    }
}
