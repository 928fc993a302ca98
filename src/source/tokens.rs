//! The file of callers' tokens: one a line.

use std::collections::HashSet;
use std::path::Path;

use secrecy::ExposeSecret;

use super::setting::SettingFile;
use crate::policy::TokenDigest;
use crate::secret::Caller;

/// The file of callers' tokens, followed.
pub type TokenFile = SettingFile<HashSet<TokenDigest>>;

/// Reads a file of tokens; empty lines and lines that begin with `#` are passed over. A token that is unfit is left out
/// alone, and told.
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
            Err(error) => tracing::warn!(file = %path.display(), %error, "a caller's token is refused"),
        }
    }
    Ok(tokens)
}
