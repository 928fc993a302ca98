//! The table that a run prints, as Markdown.

use std::{fmt, time::Duration};

use jiff::Zoned;

use crate::{
    ROUNDS, Settings,
    concurrent::ConcurrentMemory,
    distance::{ROUND_TRIP, Waits},
    instructions::Cost,
    steady::{REQUESTS_PER_SECOND, Steady},
    table::{self, mebibytes},
    tenant::{HOLDERS, USERS},
    wrk::Round,
};

/// How many times nginx's CPU time a check may take.
const GOAL: f64 = 1.5;

/// The figures of one run.
pub struct Report<'a> {
    /// The settings of the run.
    pub settings: &'a Settings,
    /// `session-checker serve`, where each check needs a list.
    pub service: Side,
    /// The same, where each check is decided by what is remembered.
    pub recheck: Side,
    /// nginx.
    pub proxy: Side,
    /// Tokens that the service fetched during the run.
    pub tokens: u64,
    /// Checks after a quiet time, with a tenant that is far away.
    pub waits: Waits,
    /// Many concurrent checks.
    pub memory_of_many: ConcurrentMemory,
    /// What callgrind counted; `None` without valgrind.
    pub cost: Option<Cost>,
}

/// The figures of one server.
pub struct Side {
    /// In ascending order of CPU time per request.
    rounds: Vec<Round>,
    /// Under the steady load, before the rounds.
    steady: Steady,
    /// Peak resident memory in bytes since the start.
    peak_memory: u64,
}

impl Side {
    /// Collects rounds, which may be in any order.
    pub fn new(mut rounds: Vec<Round>, steady: Steady, peak_memory: u64) -> Self {
        rounds.sort_by_key(|round| round.cpu);
        Self { rounds, steady, peak_memory }
    }

    fn median(&self) -> &Round {
        &self.rounds[self.rounds.len() / 2]
    }

    fn cpu_range(&self) -> String {
        let cpu = |round: Option<&Round>| round.map_or_else(String::new, |round| micros(round.cpu));
        format!("{} – {}", cpu(self.rounds.first()), cpu(self.rounds.last()))
    }
}

impl Report<'_> {
    /// A few rows for readers who want no more.
    pub fn summary(&self) -> String {
        let (check, recheck, list) = (self.service.median(), self.recheck.median(), self.proxy.median());
        let times = check.cpu.div_duration_f64(list.cpu);
        let goal = if times <= GOAL { "met" } else { "**missed**" };
        let round_trip = ROUND_TRIP.as_millis();
        format!(
            "| | |\n|---|---|\n\
             | CPU time of a check | {}, {times:.1} times that of nginx as a proxy only; the goal of {GOAL} times is {goal} |\n\
             | CPU time of a check that is decided from memory, without a list | {}, p99 {} |\n\
             | memory at {REQUESTS_PER_SECOND} checks per second | {} |\n\
             | first check after a quiet minute, {round_trip} ms away from the tenant | {} |\n",
            micros(check.cpu),
            micros(recheck.cpu),
            millis(recheck.p99),
            mebibytes(self.service.steady.memory),
            millis(self.waits.first),
        )
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            settings: Settings { seconds, connections, cores, .. },
            service,
            recheck: remembered,
            proxy,
            tokens,
            waits,
            memory_of_many,
            cost,
        } = self;
        let today = Zoned::now().date();
        writeln!(
            f,
            "These figures are from `BENCH_SECONDS={seconds} BENCH_CONNECTIONS={connections} make bench` on {today}, Linux.\n\n\
             * The service, the simulated tenant and the load generator shared {cores} cores.\n\
             * The load was `wrk -t{cores} -c{connections} -d{seconds}s` with {USERS} users. Each server was measured in\n  \
               {ROUNDS} rounds. The table shows the round with the median CPU time.\n\
             * The service was `session-checker serve` as in the chart: one line of JSON per check, to a pipe.\n  \
               nginx (`benches/load/nginx.conf`) forwarded the list request over TLS and wrote no log.\n\
             * *With a list*: the session is new to the application. *From memory*: {HOLDERS} users whose session uses the\n  \
               application already, with `recheckAfter: 1h`. No check of that column requested a list.\n"
        )?;
        let (check, recheck, list) = (service.median(), remembered.median(), proxy.median());
        writeln!(f, "| | check with a list | check from memory | nginx |\n|---|--:|--:|--:|")?;
        let none = || "–".to_owned();
        let mut row =
            |what: &str, [check, recheck, list]: [String; 3]| writeln!(f, "| {what} | {check} | {recheck} | {list} |");
        let rounds = [check, recheck, list];
        row("requests per second", rounds.map(|round| format!("{:.0}", round.rate)))?;
        row("latency, p50", rounds.map(|round| millis(round.p50)))?;
        row("latency, p99", rounds.map(|round| millis(round.p99)))?;
        row("CPU time per request", rounds.map(|round| micros(round.cpu)))?;
        row("CPU time per request, lowest and highest round", [service, remembered, proxy].map(Side::cpu_range))?;
        if let Some(cost) = cost {
            row("instructions per request, without the kernel", [thousands(cost.instructions), none(), none()])?;
            if let Some(allocations) = cost.allocations {
                row("allocations per request", [format!("{allocations:.1}"), none(), none()])?;
            }
        }
        row("peak RSS", [service, remembered, proxy].map(|side| mebibytes(side.peak_memory)))?;
        row("list requests to the tenant per request", rounds.map(lists_a_request))?;
        row("token requests during the whole run", [tokens.to_string(), none(), none()])?;
        let steady = [&service.steady, &remembered.steady, &proxy.steady];
        let mut row = |what: &str, cells: [String; 3]| {
            row(&format!("at {REQUESTS_PER_SECOND} requests per second: {what}"), cells)
        };
        row("latency, p50", steady.map(|steady| millis(steady.p50)))?;
        row("latency, p99", steady.map(|steady| millis(steady.p99)))?;
        row("CPU time per request", steady.map(|steady| micros(steady.cpu)))?;
        row("context switches per request", steady.map(|steady| format!("{:.1}", steady.switches)))?;
        row("RSS", steady.map(|steady| mebibytes(steady.memory)))?;

        let (cpu, round_trip) = (check.cpu.div_duration_f64(list.cpu), ROUND_TRIP.as_millis());
        let quiet = waits.quiet.as_secs();
        writeln!(
            f,
            "\nWith a round trip of {round_trip} ms to the tenant, the first check after {quiet} s without a check took {},\n\
             and the next one {}.",
            millis(waits.first),
            millis(waits.next)
        )?;
        writeln!(f, "\n{memory_of_many}")?;
        table::goals(f)?;
        let mut goal = |what: &str, measured: String, met| table::goal(f, what, &measured, met);
        goal(&format!("at most {GOAL} times nginx's CPU time per check"), format!("{cpu:.2} times"), cpu <= GOAL)?;
        let later = check.p99.saturating_sub(list.p99);
        goal("p99 within 1 ms of nginx's", millis(later), later <= Duration::from_millis(1))?;
        if let Some(allocations) = cost.as_ref().and_then(|cost| cost.allocations) {
            goal("under 60 allocations per check", format!("{allocations:.1}"), allocations < 60.0)?;
        }
        // wrk does not count the checks that are in progress when a load ends: those of the warm-up and those of the round.
        let under_way = 2 * u64::from(connections.get());
        let few_lists = service.rounds.iter().all(|round| round.lists <= round.requests + under_way);
        goal("at most one list request per check", lists_a_request(check), few_lists)?;
        goal("one token request per token lifetime", tokens.to_string(), *tokens == 1)?;
        let (memory, small) = (mebibytes(service.steady.memory), service.steady.memory < 20 << 20);
        goal(&format!("RSS under 20 MiB at {REQUESTS_PER_SECOND} checks per second"), memory, small)?;
        let of_check = format!("{:.1} kB", memory_of_many.check / 1e3);
        goal("under 15 kB per concurrent check, without its connection", of_check, memory_of_many.check < 15e3)?;
        let resident = mebibytes(memory_of_many.resident);
        goal(
            &format!("RSS under 256 MiB at {} concurrent checks", memory_of_many.checks),
            resident,
            memory_of_many.resident < 256 << 20,
        )?;
        let one_trip = waits.first < ROUND_TRIP * 3 / 2;
        goal("one round trip for the first check after a quiet minute", millis(waits.first), one_trip)
    }
}

impl fmt::Display for ConcurrentMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checks, before, connection, check, resident, after } = self;
        write!(
            f,
            "While {checks} checks waited for the tenant at the same time, each took {:.1} kB, and its connection {:.1} kB.\n\
             The process then had {} resident. Of anonymous memory it had {} before, and {} after them.",
            check / 1e3,
            connection / 1e3,
            mebibytes(*resident),
            mebibytes(*before),
            mebibytes(*after),
        )
    }
}

fn thousands(count: f64) -> String {
    format!("{:.1} thousand", count / 1e3)
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
