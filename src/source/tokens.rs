//! The file of callers' tokens: one a line, reloaded on change.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use secrecy::ExposeSecret;

use super::Version;
use crate::policy::TokenDigest;
use crate::secret::Caller;

/// A file with one token a line; empty lines and lines that begin with `#` are passed over.
pub struct TokenFile {
    path: PathBuf,
    version: Option<Version>,
    tokens: HashSet<TokenDigest>,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let mut file = Self { path: path.into(), version: None, tokens: HashSet::new() };
        file.read()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens that it last gave.
    pub fn tokens(&self) -> &HashSet<TokenDigest> {
        &self.tokens
    }

    /// Reads the file again if it may have changed; whether its tokens did. One that cannot be read keeps what it last gave.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn scan(&mut self) -> io::Result<bool> {
        if self.version == Some(Version::of(&fs::metadata(&self.path)?)) { Ok(false) } else { self.read() }
    }

    fn read(&mut self) -> io::Result<bool> {
        let version = Version::of(&fs::metadata(&self.path)?);
        let text = fs::read_to_string(&self.path)?;
        let mut tokens = HashSet::new();
        for (position, line) in text.lines().enumerate().map(|(position, line)| (position + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Caller::new(&format!("line {position}"), line) {
                Ok(caller) => {
                    tokens.insert(TokenDigest::of(caller.token.expose_secret()));
                }
                Err(error) => tracing::warn!(file = %self.path.display(), %error, "a caller's token is refused"),
            }
        }
        self.version = (!version.is_young(SystemTime::now())).then_some(version);
        let changed = self.tokens != tokens;
        self.tokens = tokens;
        Ok(changed)
    }
}
