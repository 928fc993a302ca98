//! Follows files for as long as the process lives. File systems and the compile step block, so both are kept off the async
//! workers.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Directory, SettingFile};
use crate::snapshot::{ObservedState, Publisher};

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
        publisher.update(|observed| observed.files = directory.feed(&mut observed.index));
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
                publisher.update(|observed| observed.files = directory.feed(&mut observed.index));
            }
            directory
        };
        directory = spawn_blocking(look).await?;
    }
}

/// Puts in force what a setting's file says, whenever that changes. `what` names the setting in the log.
///
/// # Errors
/// When the task was torn down.
pub async fn follow_setting<T: PartialEq + Send + 'static>(
    mut file: SettingFile<T>,
    what: &'static str,
    apply: impl Fn(&mut ObservedState, &T) + Clone + Send + 'static,
    publisher: Arc<Publisher>,
) -> Result<Infallible, JoinError> {
    let mut ticks = ticks();
    let mut failing = false;
    loop {
        ticks.tick().await;
        let (publisher, apply) = (Arc::clone(&publisher), apply.clone());
        let look = move || {
            let scanned = file.scan();
            match &scanned {
                Ok(true) => {
                    tracing::info!(what, file = %file.path().display(), "a setting changed");
                    publisher.update(|observed| apply(observed, file.value()));
                }
                Err(error) if !failing => {
                    tracing::error!(what, file = %file.path().display(), %error, "a setting cannot be read; what it last said stays");
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
