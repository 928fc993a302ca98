//! The tool of the end-to-end test: simulated tenants, load, simultaneous logins, a killer of the service's process, and an
//! evaluation of every panel and every rule. `tests/e2e/run` starts the evaluation beside Prometheus, and the others as Pods.

#![allow(clippy::print_stdout, reason = "the output is the purpose of this tool")]

mod evaluate;
mod kill;
mod load;
mod promql;
mod race;
mod tenants;

use clap::Parser;

#[derive(Parser)]
enum Tool {
    /// Serve the simulated tenants.
    Tenants,
    /// Send checks at a constant rate until SIGTERM; print how many failed.
    Load(load::LoadArgs),
    /// Send simultaneous logins of each user; print how many users were allowed more than once.
    Race(race::RaceArgs),
    /// Kill the service's process in a Pod on this node.
    Kill(kill::KillArgs),
    /// Query Prometheus for every panel and every rule; fail when one stays empty or in error.
    Evaluate(evaluate::EvaluateArgs),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An error means that a provider is installed already. Nothing in this tool installs another.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Tool::parse() {
        Tool::Tenants => tenants::serve().await,
        Tool::Load(args) => load::run(&args).await,
        Tool::Race(args) => race::run(&args).await,
        Tool::Kill(args) => kill::run(&args),
        Tool::Evaluate(args) => evaluate::run(&args).await,
    }
}
