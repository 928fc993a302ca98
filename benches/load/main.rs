//! The load benchmark of `make bench`: compares the service with nginx as a bare TLS proxy. Both use the same simulated tenant,
//! which is a separate process, and get the same load from `wrk`, in one run on one machine.
//!
//! ```text
//! wrk ──POST /check──▶ session-checker serve ──TLS──▶ tenant (this program again, as a child process)
//! wrk ──GET list─────▶ nginx ─────────────────TLS──▶ the same
//! ```
//!
//! The benchmark measures the two alternately, three times each, so that other work on the machine affects both. The reported
//! round of each is the one with the median CPU time. Prints a Markdown table. A missed goal is reported and does not fail the
//! run. A wrong answer fails the run, because the figures would then measure something else. Needs Linux, `nginx`, `wrk` and
//! `setpriv` (util-linux).
//!
//! `BENCH_SECONDS` (15) sets the measured time of each round, and `BENCH_CONNECTIONS` (32) the connections of the load.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output is the purpose of a benchmark")]

#[path = "../shared/process.rs"]
mod process;
mod proxy;
mod report;
mod service;
mod tenant;
mod wrk;

use std::{env, error::Error, fmt::Display, num::NonZero, str::FromStr, thread};

use crate::{
    proxy::Proxy,
    report::{Report, Side},
    service::Service,
    tenant::Tenant,
    wrk::Load,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many times each server is measured.
const ROUNDS: usize = 3;

/// The settings of a run.
struct Settings {
    /// Measured seconds of each round. The warm-up before a round takes a quarter of this time.
    seconds: NonZero<u32>,
    /// Connections that `wrk` keeps busy.
    connections: NonZero<u32>,
    /// Cores of the machine. Sets the number of the load's threads and of nginx's workers.
    cores: usize,
}

impl Settings {
    fn from_env() -> Result<Self> {
        let seconds = number("BENCH_SECONDS", const { NonZero::new(15).unwrap() })?;
        let connections = number("BENCH_CONNECTIONS", const { NonZero::new(32).unwrap() })?;
        Ok(Self { seconds, connections, cores: thread::available_parallelism()?.get() })
    }
}

fn number<T: FromStr<Err: Display>>(variable: &str, default: T) -> Result<T> {
    let Ok(value) = env::var(variable) else { return Ok(default) };
    value.parse().map_err(|error| format!("{variable}={value}: {error}").into())
}

fn main() -> Result<()> {
    if env::args().nth(1).as_deref() == Some(tenant::ARGUMENT) {
        return tenant::serve();
    }
    let settings = Settings::from_env()?;
    let directory = tempfile::tempdir()?;
    let mut tenant = Tenant::start(directory.path())?;
    let tokens = tenant.counters()?.tokens;

    let proxy = Proxy::start(directory.path(), &tenant, settings.cores)?;
    let service = Service::start(directory.path(), &tenant)?;
    service.answers_rightly()?;
    let (lists, checks) = (Load::list(&settings), Load::check(&settings));
    let (mut proxy_rounds, mut service_rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        proxy_rounds.push(lists.measure(proxy.address, &proxy.process, &mut tenant)?);
        service_rounds.push(checks.measure(service.address, &service.process, &mut tenant)?);
    }
    service.decided_every_check()?;

    let report = Report {
        settings: &settings,
        service: Side::new(service_rounds, service.process.peak_memory()?),
        proxy: Side::new(proxy_rounds, proxy.process.peak_memory()?),
        tokens: tenant.counters()?.tokens - tokens,
    };
    println!("{report}");
    Ok(())
}
