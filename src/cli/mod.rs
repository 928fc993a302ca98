//! Runs the commands. Each command is one file; `source` turns the options that they share into a configuration.

mod admin;
mod check;
mod crd;
#[cfg(feature = "simulator")]
mod demo;
mod doctor;
mod generate;
mod probe;
mod serve;
mod sessions;
mod source;
#[cfg(feature = "simulator")]
mod test;
mod validate;
mod why;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::args::{Args, Command};
use crate::service::RunError;
use crate::telemetry::{LogFormat, Telemetry};

pub use serve::service_config;

/// Runs the command of the command line, and returns the exit code of a command that did not fail.
///
/// # Errors
/// When the command failed. The text is for the person who ran it.
pub async fn run(args: Args) -> Result<u8, RunError> {
    let format = args.log_format();
    let done = match args.command {
        Command::Crd => crd::print(),
        Command::Completion { shell } => generate::completion(shell),
        Command::Man { folder } => generate::man_pages(&folder),
        Command::Validate(args) => validate::run(&args),
        Command::Probe(args) => probe::run(args).await,
        Command::Why(args) => why::run(args).await,
        Command::Hash(args) => why::hash(args).await,
        Command::Check(args) => return Box::pin(with_telemetry(format, "warn", check::run(*args))).await,
        Command::Doctor(args) => return with_telemetry(format, "error", doctor::run(*args)).await,
        #[cfg(feature = "simulator")]
        // Without telemetry: what the services of the scenarios log and record is no output of the command.
        Command::Test(args) => return Box::pin(test::run(args)).await,
        Command::Sessions(command) => Box::pin(with_telemetry(format, "warn", sessions::run(*command))).await,
        Command::Serve(args) => {
            with_telemetry(format, "info,kube_client=off,kube_runtime=off", serve::run(*args)).await
        }
        #[cfg(feature = "simulator")]
        Command::Demo(args) => with_telemetry(format, "warn,session_checker::check=info", demo::run(args)).await,
    };
    done.map(|()| 0)
}

/// The content of a file; `-` is standard input.
fn read_input(path: &Path) -> io::Result<Vec<u8>> {
    if !is_stdin(path) {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// How many levels of subfolders are read: more than people nest, and a bound for links that form a circle.
const MAX_DEPTH: usize = 16;

/// The subfolders of a folder that are not hidden, in the order of their names. None below the last level that is read.
fn subfolders(folder: &Path, depth: usize) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if depth < MAX_DEPTH && !entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Runs a command with logs and traces, and sends the last traces. `default_filter` applies without `RUST_LOG`.
async fn with_telemetry<T>(
    format: LogFormat,
    default_filter: &str,
    command: impl Future<Output = Result<T, RunError>>,
) -> Result<T, RunError> {
    let telemetry = Telemetry::init(format, default_filter)?;
    let result = command.await;
    telemetry.flush().await;
    result
}
