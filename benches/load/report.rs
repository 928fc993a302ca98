//! The table that a run prints, as Markdown.

use std::{fmt, time::Duration};

use jiff::Zoned;

use crate::{ROUNDS, Settings, tenant::USERS, wrk::Round};

/// The figures of one run.
pub struct Report<'a> {
    /// The settings of the run.
    pub settings: &'a Settings,
    /// `session-checker serve`.
    pub service: Side,
    /// nginx.
    pub proxy: Side,
    /// Tokens that the service fetched during the run.
    pub tokens: u64,
}

/// The figures of one server.
pub struct Side {
    /// In ascending order of CPU time per request.
    rounds: Vec<Round>,
    /// Peak resident memory in bytes since the start.
    peak_memory: u64,
}

impl Side {
    /// Collects rounds, which may be in any order.
    pub fn new(mut rounds: Vec<Round>, peak_memory: u64) -> Self {
        rounds.sort_by_key(|round| round.cpu);
        Self { rounds, peak_memory }
    }

    fn median(&self) -> &Round {
        &self.rounds[self.rounds.len() / 2]
    }

    fn cpu_range(&self) -> String {
        let cpu = |round: Option<&Round>| round.map_or_else(String::new, |round| micros(round.cpu));
        format!("{} – {}", cpu(self.rounds.first()), cpu(self.rounds.last()))
    }

    fn mebibytes(&self) -> f64 {
        self.peak_memory as f64 / (1024.0 * 1024.0)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings: Settings { seconds, connections, cores }, service, proxy, tokens } = self;
        let today = Zoned::now().date();
        writeln!(
            f,
            "`BENCH_SECONDS={seconds} BENCH_CONNECTIONS={connections} make bench` on {today}, Linux, {cores} cores shared \
             by service, tenant and load.\n\
             Load: `wrk -t{cores} -c{connections} -d{seconds}s -s benches/load/load.lua`, {USERS} users, {ROUNDS} \
             alternating rounds. The table shows the round with the median CPU time.\n\
             Service: `session-checker serve` with the `AUTH0_*` variables; it logs one line per check to a file. \
             nginx: a TLS proxy for the list request (`benches/load/nginx.conf`), without a log.\n"
        )?;
        let (check, list) = (service.median(), proxy.median());
        writeln!(f, "| | session-checker | nginx |\n|---|--:|--:|")?;
        let mut row = |what, service: String, proxy: String| writeln!(f, "| {what} | {service} | {proxy} |");
        row("requests per second", format!("{:.0}", check.rate), format!("{:.0}", list.rate))?;
        row("latency, p50", millis(check.p50), millis(list.p50))?;
        row("latency, p99", millis(check.p99), millis(list.p99))?;
        row("CPU per request, own processes", micros(check.cpu), micros(list.cpu))?;
        row("CPU per request, lowest and highest round", service.cpu_range(), proxy.cpu_range())?;
        row("peak RSS", format!("{:.1} MiB", service.mebibytes()), format!("{:.1} MiB", proxy.mebibytes()))?;
        row("list calls per request", lists_a_request(check), lists_a_request(list))?;
        row("token calls during the run", tokens.to_string(), "–".into())?;

        let cpu = check.cpu.div_duration_f64(list.cpu);
        writeln!(f, "\n| goal | measured | |\n|---|--:|---|")?;
        let mut goal = |what, measured, met| {
            let met = if met { "met" } else { "**missed**" };
            writeln!(f, "| {what} | {measured} | {met} |")
        };
        goal("at most 1.5 × nginx's CPU per check", format!("{cpu:.2} ×"), cpu <= 1.5)?;
        // wrk does not count the checks that are in progress when a load ends: those of the warm-up and those of the round.
        let under_way = 2 * u64::from(connections.get());
        let few_lists = service.rounds.iter().all(|round| round.lists <= round.requests + under_way);
        goal("at most one list per check", lists_a_request(check), few_lists)?;
        goal("one token per token lifetime", tokens.to_string(), *tokens == 1)?;
        goal("under 20 MiB RSS with one policy", format!("{:.1} MiB", service.mebibytes()), service.mebibytes() < 20.0)
    }
}

fn millis(latency: Duration) -> String {
    format!("{:.2} ms", latency.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn lists_a_request(round: &Round) -> String {
    format!("{:.3}", round.lists as f64 / round.requests as f64)
}
