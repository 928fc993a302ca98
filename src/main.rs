//! The `session-checker` command.

use std::path::Path;
use std::process::ExitCode;

use session_checker::args::{Args, BAD_USAGE};
use session_checker::cli::run;
use session_checker::source::load_dotenv;

/// A check allocates some 140 times, and what one worker allocates another often frees: the system's allocator took an eighth of
/// a check's CPU time for that. Without huge pages: they more than double what a Pod with many watches has resident.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(clippy::print_stderr, reason = "nothing is there yet that could log")]
fn main() -> ExitCode {
    // The one provider of cryptography: two that could be chosen from would be a panic at the first connection.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return complain("another TLS provider is installed already", BAD_USAGE);
    }
    // Before anything else runs that could read the environment.
    if std::env::args_os().any(|argument| argument == "serve") {
        match load_dotenv(Path::new(".env")) {
            Ok(passed_over) if passed_over.is_empty() => {}
            Ok(lines) => eprintln!("session-checker: .env: lines {lines:?} are not NAME=value and are passed over"),
            Err(error) => return complain(&format!(".env cannot be read: {error}"), BAD_USAGE),
        }
    }
    let args = Args::parse_or_exit(std::env::args_os());
    // A small CPU limit must not leave a single worker, which one long step would stall with all its checks.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => return complain(&format!("the runtime cannot be started: {error}"), 1),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), error.exit_code()),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a command are for the person who ran it")]
fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("session-checker: {message}");
    ExitCode::from(code)
}
