//! A file that is read when it changes.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};

/// A file, and what was last taken from it.
pub(super) struct Watched {
    path: PathBuf,
    /// The version that was read, unless the next could look the same.
    version: Option<Version>,
    /// The SHA-256 of the text that was taken: the text itself may be a Secret and is not kept.
    taken: Option<[u8; 32]>,
    /// The SHA-256 of a text that was read once and may not be whole yet.
    unsettled: Option<[u8; 32]>,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Watched {
    /// A file that was not looked at yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, version: None, taken: None, unsettled: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text when it is another than the last one that was given, or the first after a failure. A text that was written
    /// a moment ago is given when two looks in a row see the same: most programs empty a file before they write it, and
    /// half of a file must not switch the other half's policies off.
    ///
    /// # Errors
    /// When it cannot be read, or is not a file.
    pub fn look(&mut self) -> io::Result<Option<String>> {
        let read = self.read();
        if read.is_err() {
            (self.version, self.taken, self.unsettled) = (None, None, None);
        }
        read
    }

    fn read(&mut self) -> io::Result<Option<String>> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let version = Version::of(&metadata);
        if self.version == Some(version) {
            return Ok(None);
        }
        let text = fs::read_to_string(&self.path)?;
        let digest = Some(digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes"));
        let is_young = version.is_young(SystemTime::now());
        self.version = (!is_young).then_some(version);
        if digest == self.taken {
            self.unsettled = None;
            return Ok(None);
        }
        if is_young && self.taken.is_some() && digest != self.unsettled {
            self.unsettled = digest;
            return Ok(None);
        }
        (self.taken, self.unsettled) = (digest, None);
        Ok(Some(text))
    }
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
        const COARSEST: Duration = Duration::from_secs(2);
        self.modified.is_none_or(|modified| now.duration_since(modified).map_or(true, |age| age < COARSEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_just_written_is_given_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "one").unwrap();
        let mut file = Watched::new(path.clone());
        assert_eq!(file.look().unwrap().as_deref(), Some("one"), "the first look takes what is there");
        fs::write(&path, "").unwrap();
        assert_eq!(file.look().unwrap(), None, "emptied, and not written yet");
        fs::write(&path, "two").unwrap();
        assert_eq!(file.look().unwrap(), None);
        assert_eq!(file.look().unwrap().as_deref(), Some("two"));
        assert_eq!(file.look().unwrap(), None);
    }

    #[test]
    fn a_file_that_comes_back_is_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = Watched::new(path.clone());
        assert!(file.look().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(file.look().unwrap().as_deref(), Some("one"));
        fs::remove_file(&path).unwrap();
        assert!(file.look().is_err());
        fs::write(&path, "one").unwrap();
        assert_eq!(file.look().unwrap().as_deref(), Some("one"));
    }
}
