//! A file that holds one setting of the service, followed while the process runs.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use tokio::task::{JoinError, spawn_blocking};

use super::watched_file::{WatchedFile, scan_ticker};
use crate::policy::TokenDigest;
use crate::secret::Caller;
use crate::snapshot::{ObservedState, Publisher};

/// A settings file with its last valid value. A version that cannot be read or parsed does not change the value.
pub struct SettingFile<T> {
    file: WatchedFile,
    parse: fn(&Path, &str) -> Result<T, String>,
    value: T,
}

/// The file of caller tokens.
pub type TokenFile = SettingFile<HashSet<TokenDigest>>;

impl<T: PartialEq> SettingFile<T> {
    /// Reads the file for the first time. `parse` turns its text into a value; its error is shown to people.
    ///
    /// # Errors
    /// When the file cannot be read or parsed.
    pub fn open(path: PathBuf, parse: fn(&Path, &str) -> Result<T, String>) -> io::Result<Self> {
        let mut file = WatchedFile::new(path);
        let text = file.read_if_changed()?.unwrap_or_default();
        let value = parse(file.path(), &text).map_err(io::Error::other)?;
        Ok(Self { file, parse, value })
    }

    /// The last valid value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Reads the file again if it may have changed; returns whether the value changed.
    ///
    /// # Errors
    /// When the file cannot be read or parsed. The last valid value stays.
    pub fn scan(&mut self) -> io::Result<bool> {
        let Some(text) = self.file.read_if_changed()? else { return Ok(false) };
        let value = (self.parse)(self.file.path(), &text).map_err(io::Error::other)?;
        let changed = self.value != value;
        self.value = value;
        Ok(changed)
    }
}

/// Applies the value of a settings file whenever it changes. `what` is its option, for the log.
///
/// # Errors
/// When a task was cancelled or panicked.
pub async fn follow_setting<T: PartialEq + Send + 'static>(
    mut setting: SettingFile<T>,
    what: &'static str,
    apply: impl Fn(&mut ObservedState, &T) + Clone + Send + 'static,
    publisher: Arc<Publisher>,
) -> Result<Infallible, JoinError> {
    let mut ticker = scan_ticker();
    let mut failing = false;
    loop {
        ticker.tick().await;
        let (publisher, apply) = (Arc::clone(&publisher), apply.clone());
        // File systems block, and so does compiling policies: both stay off the async workers.
        let scan = move || {
            let scanned = setting.scan();
            let file = setting.file.path().display();
            match &scanned {
                Ok(true) => {
                    tracing::info!(what, %file, "setting file changed");
                    publisher.update(|observed| apply(observed, setting.value()));
                }
                Err(error) if !failing => {
                    tracing::error!(what, %file, %error, "setting file not usable; its last value stays active");
                }
                Ok(false) | Err(_) => {}
            }
            (setting, scanned.is_err())
        };
        (setting, failing) = spawn_blocking(scan).await?;
    }
}

/// Parses a switch: `true` or `false`, surrounded by optional white space.
///
/// # Errors
/// Says what the file must contain.
pub fn parse_switch(_: &Path, text: &str) -> Result<bool, String> {
    text.trim().parse().map_err(|_| "must contain true or false, and nothing else".to_owned())
}

/// Parses a file of caller tokens, one per line. Empty lines and lines that begin with `#` are ignored. An invalid
/// token is logged and skipped; the other tokens stay valid.
///
/// # Errors
/// None: every text is a file of tokens.
pub fn parse_tokens(path: &Path, text: &str) -> Result<HashSet<TokenDigest>, String> {
    let mut tokens = HashSet::new();
    for (position, line) in text.lines().enumerate().map(|(position, line)| (position + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match Caller::new(&format!("line {position}"), line) {
            Ok(caller) => {
                tokens.insert(TokenDigest::of(caller.token.expose_secret()));
            }
            Err(error) => tracing::warn!(file = %path.display(), %error, "invalid caller token ignored"),
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn invalid_switch_file_keeps_the_last_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("switch");
        let open = || SettingFile::open(path.clone(), parse_switch);
        assert!(open().is_err(), "the file does not exist");
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
