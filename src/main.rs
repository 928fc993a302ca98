//! The `session-checker` command.

use std::path::Path;
use std::process::ExitCode;

use session_checker::args::{Args, BAD_USAGE, FAILED};
use session_checker::cli::run;
use session_checker::source::load_dotenv;

/// A check allocates about 75 times, and one worker often frees what another allocated: the system's allocator took a
/// fifth of a check's CPU time. Its options are in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[expect(clippy::print_stderr, reason = "logging is not set up yet")]
fn main() -> ExitCode {
    // Where the system uses huge pages for every program, they would hold free memory. An error costs no more than that.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // rustls panics at the first connection when it has to choose between two providers of cryptography.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return fail("another TLS provider is already installed", BAD_USAGE);
    }
    // Before any other thread runs: changing the environment is not thread-safe.
    if Args::reads_sources(std::env::args_os()) {
        match load_dotenv(Path::new(".env")) {
            Ok(ignored) if ignored.is_empty() => {}
            Ok(lines) => eprintln!("session-checker: .env: ignored lines {lines:?}: they are not NAME=value"),
            Err(error) => return fail(&format!(".env cannot be read: {error}"), BAD_USAGE),
        }
    }
    let args = Args::parse_or_exit(std::env::args_os());
    // At least two workers, also with a small CPU limit: one long step would stall all checks of a single worker.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => return fail(&format!("the async runtime cannot be started: {error}"), FAILED),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

#[expect(clippy::print_stderr, reason = "the person who ran the command reads the error")]
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("session-checker: {message}");
    ExitCode::from(code)
}
