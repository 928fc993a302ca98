//! A file that is read again when it changes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The time between two scans of a file. A change may need two scans (see [`WatchedFile::read_if_changed`]) and still
/// takes effect within a second, the time that the documentation promises.
const SCAN_INTERVAL: Duration = Duration::from_millis(250);

/// The coarsest resolution of modification times that file systems in use have (FAT: two seconds).
const COARSEST_MTIME: Duration = Duration::from_secs(2);

/// The largest file that is read: the biggest object that Kubernetes stores has 1.5 MiB, and a folder on disk may put many
/// of them into one file.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A file with the version and the content that were last read.
pub(super) struct WatchedFile {
    path: PathBuf,
    /// The version that was read. `None` when a later version could have the same metadata.
    version: Option<FileVersion>,
    /// The SHA-256 of the text that was returned last. The text may be a Secret, so it is not kept.
    returned: Option<[u8; 32]>,
    /// The SHA-256 of a text that was read once and may be incomplete.
    unsettled: Option<[u8; 32]>,
}

/// The metadata that differs between two versions of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl WatchedFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, version: None, returned: None, unsettled: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the text when it differs from the text returned last, or when the last read failed.
    ///
    /// A text that was written a moment ago is returned when two reads in a row find the same: most programs truncate a
    /// file before they write it, and half of a file must not disable the policies in the other half.
    ///
    /// # Errors
    /// When the path cannot be read, or is not a file.
    pub fn read_if_changed(&mut self) -> io::Result<Option<String>> {
        let read = self.read();
        if read.is_err() {
            (self.version, self.returned, self.unsettled) = (None, None, None);
        }
        read
    }

    fn read(&mut self) -> io::Result<Option<String>> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it is larger than {} MiB: split it", MAX_FILE_BYTES >> 20)));
        }
        let version = FileVersion::of(&metadata);
        if self.version == Some(version) {
            return Ok(None);
        }
        let text = fs::read_to_string(&self.path)?;
        let digest = Some(sha256(&text));
        let is_young = version.is_young(SystemTime::now());
        self.version = (!is_young).then_some(version);
        if digest == self.returned {
            self.unsettled = None;
            return Ok(None);
        }
        if is_young && self.returned.is_some() && digest != self.unsettled {
            self.unsettled = digest;
            return Ok(None);
        }
        (self.returned, self.unsettled) = (digest, None);
        Ok(Some(text))
    }
}

impl FileVersion {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file may change again without a difference in its times.
    pub fn is_young(&self, now: SystemTime) -> bool {
        self.modified.is_none_or(|modified| now.duration_since(modified).map_or(true, |age| age < COARSEST_MTIME))
    }
}

fn sha256(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Ticks at once and then at every [`SCAN_INTERVAL`]. Missed ticks are not made up for.
pub(super) fn scan_ticker() -> Interval {
    let mut ticker = interval(SCAN_INTERVAL);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn changed_text_is_returned_by_the_second_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut file = WatchedFile::new(path.clone());
        assert_eq!(file.read_if_changed().unwrap().as_deref(), Some("one"), "the first read returns the content");
        fs::write(&path, "").unwrap();
        assert_eq!(file.read_if_changed().unwrap(), None, "truncated, and not written yet");
        fs::write(&path, "two").unwrap();
        assert_eq!(file.read_if_changed().unwrap(), None);
        assert_eq!(file.read_if_changed().unwrap().as_deref(), Some("two"));
        assert_eq!(file.read_if_changed().unwrap(), None);
    }

    #[test]
    fn file_over_the_bound_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // A sparse file: it takes no space on disk.
        File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = WatchedFile::new(path.clone()).read_if_changed().unwrap_err().to_string();
        assert!(error.contains("larger than 16 MiB"), "{error}");
        File::create(&path).unwrap().set_len(MAX_FILE_BYTES).unwrap();
        assert!(WatchedFile::new(path).read_if_changed().unwrap().is_some());
    }

    #[test]
    fn restored_file_is_returned_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = WatchedFile::new(path.clone());
        assert!(file.read_if_changed().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(file.read_if_changed().unwrap().as_deref(), Some("one"));
        fs::remove_file(&path).unwrap();
        assert!(file.read_if_changed().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(file.read_if_changed().unwrap().as_deref(), Some("one"));
    }
}
