//! What the test on a cluster needs beside the service: tenants to ask, checks to answer, and somebody who looks at every
//! panel and every rule. `tests/e2e/run` starts the first two as Pods, and the third beside Prometheus.

#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

mod evaluate;
mod load;
mod promql;
mod tenants;

use clap::Parser;

#[derive(Parser)]
enum Tool {
    /// Serve the simulated tenants.
    Tenants,
    /// Ask for checks at a constant rate until a signal comes; print how many failed.
    Load(load::LoadArgs),
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
        Tool::Evaluate(args) => evaluate::run(&args).await,
    }
}
