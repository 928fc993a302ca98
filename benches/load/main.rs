//! The load benchmark behind `make bench`: the service and, beside it, nginx as a bare TLS proxy, against the same
//! simulated tenant in a process of its own, under the same load from `wrk`, in one run on one machine.
//!
//! ```text
//! wrk ──POST /check──▶ session-checker serve ──TLS──▶ tenant (this program again, as a child process)
//! wrk ──GET list─────▶ nginx ─────────────────TLS──▶ the same
//! ```
//!
//! The two are measured in turn, three times, and the round with the median CPU time of each counts: other work on the
//! machine then falls on both. Prints a Markdown table. A goal that is missed is told, not fatal; an answer that is not the right one is fatal,
//! because the figures would then measure something else. Needs Linux, `nginx`, `wrk` and `setpriv` (util-linux).
//!
//! `BENCH_SECONDS` (15) is the measured time of each round, `BENCH_CONNECTIONS` (32) the connections of the load.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what it prints is its purpose")]

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

/// How often each side is measured.
const ROUNDS: usize = 3;

/// How a run is done.
struct Settings {
    /// Measured seconds of each round; the warm-up before it is a quarter of that.
    seconds: NonZero<u32>,
    /// Connections that `wrk` keeps busy.
    connections: NonZero<u32>,
    /// Cores of the machine: the load's threads and nginx's workers.
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
