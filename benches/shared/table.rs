//! What the tables of the benchmarks have in common.

use std::fmt::{self, Write};

/// Begins the table of the goals.
pub fn goals(to: &mut impl Write) -> fmt::Result {
    writeln!(to, "\n| goal | measured | |\n|---|--:|---|")
}

/// Writes a goal, what was measured, and whether that meets it.
pub fn goal(to: &mut impl Write, what: &str, measured: &str, is_met: bool) -> fmt::Result {
    writeln!(to, "| {what} | {measured} | {} |", if is_met { "met" } else { "**missed**" })
}

/// A size in MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
