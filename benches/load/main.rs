//! The load benchmark of `make bench`: compares the service with nginx as a bare TLS proxy. Both use the same simulated tenant,
//! which is a separate process, and get the same load from `wrk`, in one run on one machine.
//!
//! ```text
//! wrk ──POST /check──▶ session-checker serve ──TLS──▶ tenant (this program again, as a child process)
//! wrk ──POST /check──▶ session-checker serve: it remembers these users' lists
//! wrk ──GET list─────▶ nginx ─────────────────TLS──▶ the same
//! ```
//!
//! The benchmark measures them in turn, three times each, so that other work on the machine affects all. The reported
//! round of each is the one with the median CPU time. It also measures a steady load, the first check after a quiet minute with a
//! tenant that is far away, the memory of many concurrent checks, and the instructions of a check. Prints Markdown, and writes it
//! into the file that `BENCH_DOCUMENT` names, and a summary into that of `BENCH_README`, between their markers. A missed goal is
//! reported and does not fail the run. A wrong answer fails the run, because the figures would then measure something else. Needs
//! Linux, `nginx`, `wrk` and `setpriv` (util-linux), and `valgrind` for the instructions.
//!
//! `BENCH_SECONDS` (10) sets the measured time of each round, `BENCH_CONNECTIONS` (32) the connections of the load, and
//! `BENCH_QUIET` (60) the seconds of the quiet minute, and `BENCH_CONCURRENT` (10000) the concurrent checks. With the argument
//! `instructions` it counts instructions alone, and fails when a check takes more than committed; with `concurrent` it measures
//! the memory of concurrent checks alone. `BENCH_PROGRAM` names another build of the service to be measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the output is the purpose of a benchmark")]

mod caller;
mod concurrent;
mod distance;
mod instructions;
#[path = "../shared/process.rs"]
mod process;
mod proxy;
mod recheck;
mod report;
mod service;
mod steady;
#[path = "../shared/table.rs"]
mod table;
mod tenant;
mod wrk;

use std::{env, error::Error, fmt::Display, fs, num::NonZero, str::FromStr, thread, time::Duration};

use crate::{
    caller::Question,
    distance::Distant,
    proxy::Proxy,
    report::{Report, Side},
    service::Service,
    tenant::Tenant,
    wrk::Load,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How many times each server is measured.
const ROUNDS: usize = 3;

/// Begins and ends what a run writes into a file.
const MARKERS: [&str; 2] = ["<!-- written by make bench -->\n", "<!-- end of what make bench writes -->\n"];

/// The settings of a run.
struct Settings {
    /// Measured seconds of each round. The warm-up before a round takes a quarter of this time.
    seconds: NonZero<u32>,
    /// Connections that `wrk` keeps busy.
    connections: NonZero<u32>,
    /// How long no check comes before the one that finds a quiet service.
    quiet: Duration,
    /// Concurrent checks whose memory is measured.
    concurrent: NonZero<u32>,
    /// Cores of the machine. Sets the number of the load's threads and of nginx's workers.
    cores: usize,
}

impl Settings {
    fn from_env() -> Result<Self> {
        let seconds = number("BENCH_SECONDS", const { NonZero::new(10).unwrap() })?;
        let connections = number("BENCH_CONNECTIONS", const { NonZero::new(32).unwrap() })?;
        let quiet = Duration::from_secs(number("BENCH_QUIET", 60)?);
        let concurrent = number("BENCH_CONCURRENT", const { NonZero::new(10_000).unwrap() })?;
        Ok(Self { seconds, connections, quiet, concurrent, cores: thread::available_parallelism()?.get() })
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
    let is_argument = |word: &str| env::args().any(|argument| argument == word);
    let settings = Settings::from_env()?;
    let directory = tempfile::tempdir()?;
    let mut tenant = Tenant::start(directory.path())?;
    if is_argument(instructions::ARGUMENT) {
        let cost = instructions::count(directory.path(), &tenant)?.ok_or("needs valgrind and an optimised build")?;
        return instructions::verify(&cost);
    }
    let concurrent = settings.concurrent.get();
    if is_argument(concurrent::ARGUMENT) {
        println!("{}", concurrent::measure(directory.path(), &mut tenant, concurrent)?);
        return Ok(());
    }
    // It is quiet while the others are measured.
    let distant = Distant::start(directory.path(), &tenant)?;
    let remembering = recheck::start(directory.path(), &tenant)?;
    let tokens = tenant.counters()?.tokens;

    let proxy = Proxy::start(directory.path(), &tenant, settings.cores)?;
    let service = Service::start(directory.path(), &tenant)?;
    service.answers_rightly()?;
    let seconds = settings.seconds.get();
    let steady = [
        steady::measure(Question::Check, service.address, &service.process, seconds)?,
        steady::measure(Question::List, proxy.address, &proxy.process, seconds)?,
    ];
    let steady_recheck = recheck::steady(&remembering, &mut tenant, seconds)?;
    let (lists, checks) = (Load::list(&settings), Load::check(&settings));
    let (mut proxy_rounds, mut service_rounds, mut recheck_rounds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        proxy_rounds.push(lists.measure(proxy.address, &proxy.process, &mut tenant)?);
        service_rounds.push(checks.measure(service.address, &service.process, &mut tenant)?);
        recheck_rounds.push(recheck::round(&remembering, &mut tenant, &settings)?);
    }
    service.decided_every_check()?;
    let tokens = tenant.counters()?.tokens - tokens;
    let waits = distant.measure(settings.quiet)?;
    let [steady_service, steady_proxy] = steady;

    let report = Report {
        settings: &settings,
        service: Side::new(service_rounds, steady_service, service.process.peak_memory()?),
        recheck: Side::new(recheck_rounds, steady_recheck, remembering.process.peak_memory()?),
        proxy: Side::new(proxy_rounds, steady_proxy, proxy.process.peak_memory()?),
        tokens,
        waits,
        memory_of_many: concurrent::measure(directory.path(), &mut tenant, concurrent)?,
        cost: instructions::count(directory.path(), &tenant)?,
    };
    println!("{report}");
    write_between_markers("BENCH_DOCUMENT", &report.to_string())?;
    write_between_markers("BENCH_README", &report.summary())
}

/// Replaces what is between the markers of the file that a variable names, if it is set.
fn write_between_markers(variable: &str, text: &str) -> Result<()> {
    let Some(file) = env::var_os(variable).filter(|file| !file.is_empty()) else { return Ok(()) };
    let before = fs::read_to_string(&file)?;
    let parts = before.split_once(MARKERS[0]).and_then(|(head, rest)| Some((head, rest.split_once(MARKERS[1])?.1)));
    let (head, tail) = parts.ok_or_else(|| format!("{} has no markers", file.display()))?;
    Ok(fs::write(&file, format!("{head}{}{text}{}{tail}", MARKERS[0], MARKERS[1]))?)
}
