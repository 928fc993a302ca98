//! A clock that a test drives while real sockets are in use, so that no time of the machine is part of a result.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Lets the paused clock of a current-thread runtime go on, in steps.
///
/// A paused clock goes on by itself, to the next timer, when no task can run: also when bytes are still on their way through
/// the kernel. It stands while a blocking task runs, so this one gives the kernel a moment between two steps. However busy the
/// machine is, the clock stands until all tasks have done what they can.
pub fn drive(step: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
            sleep(step).await;
        }
    })
}
