//! The `.env` file of the Node demo.

use std::path::Path;
use std::{fs, io};

/// Puts the variables of a `.env` file into the environment, as the Node demo did: what is set already stays, a line
/// that cannot be read is passed over, and nothing is expanded. Gives the numbers of the lines that were passed over; no
/// file is no variables. To be called before anything else runs that could read the environment.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn load_dotenv(path: &Path) -> io::Result<Vec<usize>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut passed_over = Vec::new();
    for (position, line) in text.lines().enumerate() {
        if dotenvy::from_read(literal(line).as_bytes()).is_err() {
            passed_over.push(position + 1);
        }
    }
    Ok(passed_over)
}

/// The line with `$` standing for itself: the library would put variables in its place, except in single quotes.
fn literal(line: &str) -> String {
    let is_quoted = line.split_once('=').is_some_and(|(_, value)| value.trim_start().starts_with('\''));
    if is_quoted { line.to_owned() } else { line.replace('$', "\\$") }
}
