//! Dispatches the commands. Each command is one file.

mod check;
mod crd;
#[cfg(feature = "simulator")]
mod demo;
mod sessions;
mod validate;

use crate::args::{Args, Command};
use crate::service::{RunError, Service, Source};
use crate::shutdown::Signals;
use crate::telemetry::{LogFormat, Telemetry};

/// Does what the command line says.
///
/// # Errors
/// Says what went wrong, in words for the person who started it.
pub async fn run(args: Args) -> Result<(), RunError> {
    let format = args.log_format();
    match args.command {
        Command::Crd => crd::print(),
        Command::Validate(args) => validate::run(&args),
        Command::Check(args) => {
            let telemetry = telemetry(format, "warn")?;
            let checked = check::run(*args).await;
            telemetry.flush().await;
            checked
        }
        Command::Sessions(command) => {
            let telemetry = telemetry(format, "warn")?;
            let done = sessions::run(&command).await;
            telemetry.flush().await;
            done
        }
        Command::Serve(args) => {
            let telemetry = telemetry(format, "info,kube_client=off,kube_runtime=off")?;
            let served = async {
                let signals = listen_to_signals()?;
                let source = Source::of(&args.source)?;
                Service::start(*args, source).await?.run(signals).await
            };
            let served = served.await;
            telemetry.flush().await;
            served
        }
        #[cfg(feature = "simulator")]
        Command::Demo(args) => {
            let telemetry = telemetry(format, "warn,session_checker::check=info")?;
            let served = demo::run(&args).await;
            telemetry.flush().await;
            served
        }
    }
}

/// From before the start: a signal that comes while the service starts would be lost on the first process of a container.
fn listen_to_signals() -> Result<Signals, RunError> {
    Signals::listen().map_err(RunError::Signals)
}

fn telemetry(format: LogFormat, default_filter: &str) -> Result<Telemetry, RunError> {
    Telemetry::init(format, default_filter).map_err(|error| RunError::Command(error.to_string()))
}
