//! A file that holds one setting of the service, followed while the process lives.

use std::io;
use std::path::{Path, PathBuf};

use super::watched::Watched;

/// A file, and what it last said. A version that cannot be read or understood changes nothing.
pub struct SettingFile<T> {
    watched: Watched,
    parse: fn(&Path, &str) -> Result<T, String>,
    value: T,
}

impl<T: PartialEq> SettingFile<T> {
    /// Reads the file for the first time. `parse` takes its text; what it refuses is told to people as it says it.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn open(path: PathBuf, parse: fn(&Path, &str) -> Result<T, String>) -> io::Result<Self> {
        let mut watched = Watched::new(path);
        let text = watched.look()?.unwrap_or_default();
        let value = parse(watched.path(), &text).map_err(io::Error::other)?;
        Ok(Self { watched, parse, value })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.watched.path()
    }

    /// What it last said.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Reads the file again if it may have changed; whether it says something else now.
    ///
    /// # Errors
    /// When it cannot be read or understood; what it last said stays.
    pub fn scan(&mut self) -> io::Result<bool> {
        let Some(text) = self.watched.look()? else { return Ok(false) };
        let value = (self.parse)(self.watched.path(), &text).map_err(io::Error::other)?;
        let changed = self.value != value;
        self.value = value;
        Ok(changed)
    }
}

/// Reads a switch: `true` or `false`, with white space around it.
///
/// # Errors
/// Says what to write.
pub fn parse_switch(_: &Path, text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "it must hold true or false and nothing else".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_switch_is_true_or_false_and_what_cannot_be_understood_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switch");
        let open = || SettingFile::open(path.clone(), parse_switch);
        assert!(open().is_err(), "not there");
        fs::write(&path, "on").unwrap();
        let error = open().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("true or false"), "{error}");

        fs::write(&path, "true\n").unwrap();
        let mut file = open().unwrap();
        assert!(*file.value());
        fs::write(&path, "maybe").unwrap();
        assert!((0..2).any(|_| file.scan().is_err()));
        assert!(*file.value());
        fs::write(&path, " false ").unwrap();
        assert!((0..2).any(|_| file.scan().unwrap()));
        assert!(!*file.value());
    }
}
