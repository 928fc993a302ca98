//! Follows files for as long as the process lives. File systems and the compile step block, so both are kept off the async
//! workers.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Directory, TokenFile};
use crate::in_force::Publisher;
use crate::policy::TokenDigest;

/// How often files are looked at: what changes is in force within a second, also when it takes two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Reads a folder for the first time, and puts what it gives in force.
///
/// # Errors
/// When the task was torn down.
pub async fn read_directory(path: PathBuf, publisher: Arc<Publisher>) -> Result<Directory, JoinError> {
    spawn_blocking(move || {
        let mut directory = Directory::new(path);
        directory.scan();
        publisher.update(|shown| shown.files = directory.feed(&mut shown.index));
        directory
    })
    .await
}

/// Puts in force what a folder gives, whenever that changes.
///
/// # Errors
/// When the task was torn down.
pub async fn follow_directory(mut directory: Directory, publisher: Arc<Publisher>) -> Result<Infallible, JoinError> {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let publisher = Arc::clone(&publisher);
        let look = move || {
            if directory.scan() {
                publisher.update(|shown| shown.files = directory.feed(&mut shown.index));
            }
            directory
        };
        directory = spawn_blocking(look).await?;
    }
}

/// Lets in whom a file of tokens names, and `fixed`, whenever the file changes.
///
/// # Errors
/// When the task was torn down.
pub async fn follow_tokens(
    mut file: TokenFile,
    fixed: Option<TokenDigest>,
    publisher: Arc<Publisher>,
) -> Result<Infallible, JoinError> {
    let mut ticks = ticks();
    let mut failing = false;
    loop {
        ticks.tick().await;
        let publisher = Arc::clone(&publisher);
        let look = move || {
            let scanned = file.scan();
            match &scanned {
                Ok(true) => {
                    tracing::info!(file = %file.path().display(), "callers' tokens changed");
                    publisher.update(|shown| shown.doors.tokens = file.tokens().iter().copied().chain(fixed).collect());
                }
                Err(error) if !failing => {
                    tracing::error!(file = %file.path().display(), %error, "the callers' tokens cannot be read; those known stay");
                }
                Ok(false) | Err(_) => {}
            }
            (file, scanned.is_err())
        };
        (file, failing) = spawn_blocking(look).await?;
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
