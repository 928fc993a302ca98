//! The table that a run prints, as Markdown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Zoned;

use crate::table::{self, mebibytes};

/// The figures for one number of policies.
pub struct Figures {
    /// Number of policies.
    pub policies: usize,
    /// Time from the start until the replica was ready.
    pub ready: Duration,
    /// Time from the start until every status was written.
    pub statuses: Duration,
    /// Resident memory in bytes when the replica was ready.
    pub at_start: u64,
    /// Resident memory in bytes at the end, after a time without changes.
    pub settled: u64,
    /// Peak resident memory in bytes.
    pub peak: u64,
    /// Times from the API server's answer to a changed policy until a check was decided by it.
    pub changed: Vec<Duration>,
    /// Times from the API server's answer to a changed credential until a request to the tenant used it.
    pub rotated: Vec<Duration>,
    /// Requests to the API server in an hour without changes, by verb and resource.
    pub quiet: BTreeMap<String, f64>,
}

/// All figures of a run.
pub struct Report {
    /// In ascending order of policies.
    pub figures: Vec<Figures>,
    /// How many changes were measured.
    pub changes: usize,
    /// How many changed credentials were measured.
    pub rotations: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, changes, rotations } = self;
        writeln!(
            f,
            "`make bench-controller` on {}, {} tenants, each with a credential and callers.\n",
            Zoned::now().date(),
            crate::policies::TENANTS
        )?;
        let columns = |cell: &dyn Fn(&Figures) -> String| {
            figures.iter().map(|one| format!(" {} |", cell(one))).collect::<String>()
        };
        let mut row = |what: &str, cell: &dyn Fn(&Figures) -> String| writeln!(f, "| {what} |{}", columns(cell));
        row("policies", &|one| one.policies.to_string())?;
        row("---", &|_| "--:".to_owned())?;
        row("start until ready", &|one| millis(one.ready))?;
        row("start until every status is written", &|one| millis(one.statuses))?;
        row("RSS when ready", &|one| mebibytes(one.at_start))?;
        row("RSS after a time without changes", &|one| mebibytes(one.settled))?;
        row("peak RSS", &|one| mebibytes(one.peak))?;
        for (name, rank) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
            row(&format!("changed policy active, {name} of {changes}"), &|one| millis(percentile(&one.changed, rank)))?;
        }
        for (name, rank) in [("p50", 0.5), ("longest", 1.0)] {
            let what = format!("changed credential in use, {name} of {rotations}");
            row(&what, &|one| millis(percentile(&one.rotated, rank)))?;
        }
        let requests: BTreeSet<_> = figures.iter().flat_map(|one| one.quiet.keys()).collect();
        for what in requests {
            let count = |one: &Figures| format!("{:.0}", one.quiet.get(what).copied().unwrap_or_default());
            row(&format!("requests in an hour without changes: {what}"), &count)?;
        }

        table::goals(f)?;
        let mut goal = |what: &str, measured: String, met| table::goal(f, what, &measured, met);
        for one in figures {
            let policies = one.policies;
            goal(
                &format!("ready within 5 s with {policies} policies"),
                millis(one.ready),
                one.ready < Duration::from_secs(5),
            )?;
            let p99 = percentile(&one.changed, 0.99);
            goal(
                &format!("p99 of changes under 250 ms with {policies} policies"),
                millis(p99),
                p99 < Duration::from_millis(250),
            )?;
            let longest = percentile(&one.rotated, 1.0);
            goal(
                &format!("changed credential in use within 1 s with {policies} policies"),
                millis(longest),
                longest < Duration::from_secs(1),
            )?;
        }
        for one in figures.iter().filter(|one| one.policies <= 1_000) {
            for (what, rss, most) in [("settled RSS", one.settled, 50), ("peak RSS", one.peak, 60)] {
                let goal_of = format!("{what} under {most} MiB with {} policies", one.policies);
                goal(&goal_of, mebibytes(rss), rss < most << 20)?;
            }
        }
        Ok(())
    }
}

/// The percentile of the values by the nearest-rank method. `rank` is a share: 0.5 is the median, 1 the highest value.
fn percentile(values: &[Duration], rank: f64) -> Duration {
    let mut values = values.to_vec();
    values.sort_unstable();
    let position = (rank * values.len() as f64).ceil() as usize;
    values.get(position.saturating_sub(1)).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}
