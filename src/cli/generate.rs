//! `session-checker completion` and `session-checker man`: what shells and `man` need, from the declaration of the options.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Args;
use crate::service::RunError;

/// Prints the completion script of a shell.
///
/// # Errors
/// When standard output is closed.
pub(super) fn completion(shell: Shell) -> Result<(), RunError> {
    let mut program = Args::command();
    let name = program.get_name().to_owned();
    // Written here and not by the library, which panics when standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    io::stdout().write_all(&script).map_err(|error| RunError::Command(error.to_string()))
}

/// Writes a man page of the program and of each command into a folder.
///
/// # Errors
/// When a page cannot be written.
pub(super) fn man_pages(folder: &Path) -> Result<(), RunError> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Args::command(), folder));
    written.map_err(|error| RunError::Command(format!("{}: {error}", folder.display())))
}
