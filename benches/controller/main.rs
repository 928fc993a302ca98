//! The benchmark behind `make bench-controller`: what a cluster with many policies asks of a replica.
//!
//! ```text
//! this program ──▶ API server (a real one, see tests/control-plane) ◀──watches── session-checker serve
//!      │                                                                            │
//!      ├──/readyz, /check───────────────────────────────────────────────────────────┤
//!      └──tenants, each on a port of its own ◀──tokens, lists───────────────────────┘
//! ```
//!
//! For each number of policies: how long a replica takes from its start until it is ready, the memory that it needs, how long a
//! changed policy and a changed credential take from the API server's answer until a check is answered by it, and what the
//! API server is asked for while nothing happens. Prints a Markdown table. A goal that is missed is told, not fatal.
//!
//! `BENCH_POLICIES` (`1000,10000`) are the numbers of policies, `BENCH_CHANGES` (200) the changes that are measured,
//! `BENCH_QUIET` (240) the seconds for which requests are counted.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its purpose")]

#[path = "../../tests/it/control_plane/mod.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is of the tests, which need more of it")]
mod control_plane;
#[path = "../shared/process.rs"]
#[expect(dead_code, reason = "the load benchmark needs more of it")]
mod process;
mod replica;
mod report;
mod scene;

/// What the control plane of the tests is used with.
mod common {
    /// Chooses the cryptography of the process.
    pub fn provider() {
        // An error says that it is chosen already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

use std::{env, error::Error, time::Duration};

use crate::{
    replica::Replica,
    report::{Figures, Report},
    scene::{Scene, TENANTS},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many credentials are changed.
const ROTATIONS: usize = 20;

#[tokio::main]
async fn main() -> Result<()> {
    let number = |variable, default: u64| env::var(variable).map_or(Ok(default), |value| value.parse());
    let changes = usize::try_from(number("BENCH_CHANGES", 200)?)?;
    let quiet = Duration::from_secs(number("BENCH_QUIET", 240)?);
    let sizes = env::var("BENCH_POLICIES").unwrap_or_else(|_| "1000,10000".to_owned());
    let mut figures = Vec::new();
    for policies in sizes.split(',').map(|size| size.trim().parse::<usize>()) {
        let Some(plane) = control_plane::own().await else { return Err("there is no API server".into()) };
        let scene = Scene::furnish(&plane, policies?).await?;
        figures.push(measure(&scene, changes, quiet).await?);
    }
    println!("{}", Report { figures, changes, rotations: ROTATIONS });
    Ok(())
}

async fn measure(scene: &Scene<'_>, changes: usize, quiet: Duration) -> Result<Figures> {
    let policies = scene.policies;
    let replica = Replica::start(scene)?;
    let ready = replica.becomes_ready().await?;
    let (at_start, statuses) = (replica.resident().await?, replica.has_told(policies).await?);

    eprintln!("{policies} policies: {changes} of them are changed");
    let mut changed = Vec::new();
    for change in 0..changes {
        // A step that has no divisor in common with the numbers of policies and tenants.
        let (policy, limit) = (change * 997 % policies, 2 + change % 900);
        scene.set_limit(policy, limit).await?;
        changed.push(replica.limit_becomes(policy, limit).await?);
    }
    eprintln!("{ROTATIONS} credentials are changed");
    let mut rotated = Vec::new();
    for tenant in 0..ROTATIONS.min(TENANTS) {
        rotated.push(replica.follows_rotation(scene, tenant).await?);
    }
    eprintln!("{} s of quiet", quiet.as_secs());
    let quiet = scene.quiet(quiet).await;
    Ok(Figures { policies, ready, statuses, at_start, peak: replica.peak()?, changed, rotated, quiet })
}
