//! Where policies come from without Kubernetes: a folder of the same YAML, or the four variables of the Node demo. Both feed
//! the same [`Index`](crate::policy::Index) that Kubernetes feeds.

mod directory;
mod document;
mod environment;
mod tokens;

pub use directory::{Directory, FileReport};
pub use document::{Document, FileError, read_documents};
pub use environment::{Environment, EnvironmentError};
pub use tokens::TokenFile;

use std::time::SystemTime;

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What tells one version of a file from another without reading it. A version so young that the next could carry the same
/// times is never taken for known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file may change again without a difference in its times: file systems count in ticks of some
    /// milliseconds, the coarsest in seconds.
    fn is_young(&self, now: SystemTime) -> bool {
        const COARSEST: std::time::Duration = std::time::Duration::from_secs(2);
        self.modified.is_none_or(|modified| now.duration_since(modified).is_ok_and(|age| age < COARSEST))
    }
}
