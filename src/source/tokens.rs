//! The file of callers' tokens: one a line, reloaded on change.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::watched::Watched;
use crate::policy::TokenDigest;
use crate::secret::Caller;

/// A file with one token a line; empty lines and lines that begin with `#` are passed over.
pub struct TokenFile {
    watched: Watched,
    tokens: HashSet<TokenDigest>,
}

impl TokenFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let mut file = Self { watched: Watched::new(path.into()), tokens: HashSet::new() };
        file.scan()?;
        Ok(file)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.watched.path()
    }

    /// The tokens that it last gave.
    pub fn tokens(&self) -> &HashSet<TokenDigest> {
        &self.tokens
    }

    /// Reads the file again if it may have changed; whether its tokens did.
    ///
    /// # Errors
    /// When it cannot be read; the tokens that it last gave stay.
    pub fn scan(&mut self) -> io::Result<bool> {
        let Some(text) = self.watched.look()? else { return Ok(false) };
        let mut tokens = HashSet::new();
        for (position, line) in text.lines().enumerate().map(|(position, line)| (position + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Caller::new(&format!("line {position}"), line) {
                Ok(caller) => {
                    tokens.insert(TokenDigest::of(caller.token.expose_secret()));
                }
                Err(error) => tracing::warn!(file = %self.path().display(), %error, "a caller's token is refused"),
            }
        }
        let changed = self.tokens != tokens;
        self.tokens = tokens;
        Ok(changed)
    }
}
