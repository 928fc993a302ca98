//! The benchmark of `make bench-controller`: measures a replica in a cluster with many policies.
//!
//! ```text
//! this program ──▶ API server (a real one, see tests/control-plane) ◀──watches── session-checker serve
//!      │                                                                            │
//!      ├──/readyz, /check───────────────────────────────────────────────────────────┤
//!      └──tenants, each on its own port ◀──tokens, lists────────────────────────────┘
//! ```
//!
//! For each number of policies, measures:
//!
//! * how long a replica takes from its start until it is ready,
//! * how much memory it needs: when it is ready, at most, and after a time without changes,
//! * how long a changed policy and a changed credential take from the API server's answer until a check uses them,
//! * what the replica requests from the API server while nothing changes.
//!
//! Prints a Markdown table. A missed goal is reported and does not fail the run.
//!
//! `BENCH_POLICIES` (`1000,10000`) sets the numbers of policies, `BENCH_CHANGES` (200) how many changes to measure, and
//! `BENCH_QUIET` (240) for how many seconds to count requests. `BENCH_PROGRAM` names another build of the service to be measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output is the purpose of a benchmark")]

#[path = "../../tests/it/control_plane/mod.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "the module belongs to the tests, which use more of it")]
mod control_plane;
#[path = "../shared/policies.rs"]
mod policies;
#[path = "../../tests/it/ports.rs"]
#[expect(clippy::unwrap_used, reason = "the module belongs to the tests")]
mod ports;
#[path = "../shared/process.rs"]
#[expect(dead_code, reason = "the load benchmark uses more of it")]
mod process;
mod replica;
mod report;
mod scene;
#[path = "../shared/table.rs"]
mod table;

/// The part of the tests' `common` module that their control plane uses.
mod common {
    /// Installs the process's cryptography provider.
    pub fn provider() {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

use std::{env, error::Error, time::Duration};

use crate::{
    policies::TENANTS,
    replica::Replica,
    report::{Figures, Report},
    scene::Scene,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many credentials the benchmark changes.
const ROTATIONS: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let number = |variable, default: u64| env::var(variable).map_or(Ok(default), |value| value.parse());
    let changes = usize::try_from(number("BENCH_CHANGES", 200)?)?;
    let quiet = Duration::from_secs(number("BENCH_QUIET", 240)?);
    let sizes = env::var("BENCH_POLICIES").unwrap_or_else(|_| "1000,10000".to_owned());
    let mut figures = Vec::new();
    for policies in sizes.split(',').map(|size| size.trim().parse::<usize>()) {
        let Some(plane) = control_plane::own().await else {
            return Err("no API server can be started: install Go or set KUBEBUILDER_ASSETS".into());
        };
        let scene = Scene::create(&plane, policies?).await?;
        figures.push(measure(&scene, changes, quiet).await?);
    }
    println!("{}", Report { figures, changes, rotations: ROTATIONS });
    Ok(())
}

async fn measure(scene: &Scene<'_>, changes: usize, quiet: Duration) -> Result<Figures> {
    let policies = scene.policies;
    let replica = Replica::start(scene)?;
    let ready = replica.becomes_ready().await?;
    let (at_start, statuses) = (replica.resident()?, replica.statuses_written(policies).await?);

    eprintln!("{policies} policies: making {changes} changes");
    let mut changed = Vec::new();
    for change in 0..changes {
        // 997 has no factor in common with the numbers of policies and tenants, so the changes reach all of them in turn.
        let (policy, limit) = (change * 997 % policies, 2 + change % 900);
        scene.set_limit(policy, limit).await?;
        changed.push(replica.limit_becomes(policy, limit).await?);
    }
    eprintln!("changing {ROTATIONS} credentials");
    let mut rotated = Vec::new();
    for tenant in 0..ROTATIONS.min(TENANTS) {
        rotated.push(replica.follows_rotation(scene, tenant).await?);
    }
    eprintln!("counting requests for {} s without changes", quiet.as_secs());
    let quiet = scene.quiet(quiet).await;
    let (settled, peak) = (replica.resident()?, replica.peak()?);
    Ok(Figures { policies, ready, statuses, at_start, settled, peak, changed, rotated, quiet })
}
