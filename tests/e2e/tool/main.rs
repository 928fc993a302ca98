//! What the test on a cluster needs beside the service: tenants to ask, checks to answer, somebody who kills, and somebody who
//! looks at every panel and every rule. `tests/e2e/run` starts the last beside Prometheus, and the others as Pods.

#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

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
    /// Ask for checks at a constant rate until a signal comes; print how many failed.
    Load(load::LoadArgs),
    /// Let users log in several times at once; print how many were let in more than once.
    Race(race::RaceArgs),
    /// Kill the service of a Pod of this node.
    Kill(kill::KillArgs),
    /// Ask Prometheus for every panel and every rule; fail while one is empty or in error.
    Evaluate(evaluate::EvaluateArgs),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The first to be installed holds; there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Tool::parse() {
        Tool::Tenants => tenants::serve().await,
        Tool::Load(args) => load::run(&args).await,
        Tool::Race(args) => race::run(&args).await,
        Tool::Kill(args) => kill::run(&args),
        Tool::Evaluate(args) => evaluate::run(&args).await,
    }
}
