//! The table that a run prints, as Markdown.

use std::{fmt, time::Duration};

use jiff::Zoned;

use crate::{Settings, wrk::Figures};

/// Goals for the service.
const CPU_GOAL: f64 = 1.5;
const MEMORY_GOAL: f64 = 20.0;

/// The figures of one run.
pub struct Report<'a> {
    /// How they came about.
    pub settings: &'a Settings,
    /// `session-checker serve`.
    pub service: Figures,
    /// nginx.
    pub proxy: Figures,
    /// Tokens that the service asked for from start to end.
    pub tokens: u64,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings: Settings { seconds, connections, cores }, service, proxy, tokens } = self;
        let today = Zoned::now().date();
        writeln!(
            f,
            "`BENCH_SECONDS={seconds} BENCH_CONNECTIONS={connections} make bench` on {today}, Linux, {cores} cores that \
             service, tenant and load share.\n\
             Load: `wrk -t{cores} -c{connections} -d{seconds}s -s benches/load/load.lua`, {} users. Service: \
             `session-checker serve` with the `AUTH0_*` variables, its log in a file. nginx: a TLS proxy of the list \
             alone (`benches/load/nginx.conf`), no log.\n",
            crate::tenant::USERS,
        )?;
        writeln!(f, "| | session-checker | nginx |\n|---|--:|--:|")?;
        let mut row = |what, service: String, proxy: String| writeln!(f, "| {what} | {service} | {proxy} |");
        row("requests a second", format!("{:.0}", service.rate), format!("{:.0}", proxy.rate))?;
        row("latency, p50", millis(service.p50), millis(proxy.p50))?;
        row("latency, p99", millis(service.p99), millis(proxy.p99))?;
        row("CPU a request, own processes", micros(service.cpu), micros(proxy.cpu))?;
        row("peak RSS", mebibytes(service), mebibytes(proxy))?;
        row("list calls a request", per_request(service), per_request(proxy))?;
        row("token calls, from start to end", tokens.to_string(), "–".into())?;

        let cpu = service.cpu.div_duration_f64(proxy.cpu);
        let memory = service.peak_memory as f64 / MEBIBYTE;
        writeln!(f, "\n| goal | measured | |\n|---|--:|---|")?;
        let mut goal = |what, measured, met| {
            let met = if met { "met" } else { "**missed**" };
            writeln!(f, "| {what} | {measured} | {met} |")
        };
        goal("at most 1.5 × nginx's CPU a check", format!("{cpu:.2} ×"), cpu <= CPU_GOAL)?;
        // Checks that were under way when the load ended are not among its requests.
        let lists_goal = service.lists <= service.requests + u64::from(connections.get());
        goal("at most one list a check", per_request(service), lists_goal)?;
        goal("one token a token lifetime", tokens.to_string(), *tokens == 1)?;
        goal("under 20 MiB RSS with one policy", format!("{memory:.1} MiB"), memory < MEMORY_GOAL)
    }
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;

fn millis(latency: Duration) -> String {
    format!("{:.2} ms", latency.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

fn mebibytes(figures: &Figures) -> String {
    format!("{:.1} MiB", figures.peak_memory as f64 / MEBIBYTE)
}

fn per_request(figures: &Figures) -> String {
    format!("{:.3}", figures.lists as f64 / figures.requests as f64)
}
