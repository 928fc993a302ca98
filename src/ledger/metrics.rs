//! The metrics of the ledger.

use super::store::Stats;
use crate::metrics::{MetricRegistry, raise_to, to_i64};

/// Registers the families, which show `stats` at each scrape. `shared` says whether replicas share the ledger.
pub fn register(registry: &MetricRegistry, shared: bool, stats: impl Fn() -> Stats + Send + Sync + 'static) {
    registry
        .gauge("ledger_shared", "1 when replicas share a ledger, 0 when each replica has its own.")
        .set(i64::from(shared));
    let entries =
        registry.gauge("ledger_entries", "Entries of the ledger in this process's memory; the list of a user is one.");
    let bytes = registry.gauge("ledger_bytes", "Bytes of the ledger in this process's memory.");
    let degraded = registry
        .gauge("ledger_degraded", "1 while the shared ledger fails and this process uses its own memory, else 0.");
    let forgotten = registry.counter(
        "ledger_forgotten_total",
        "Entries that may count and were dropped before they expired, because the ledger was full.",
    );
    let origins_forgotten = registry.counter(
        "ledger_origins_forgotten_total",
        "Sessions of which the ledger forgot early that they are web views or somebody else's, because the user has more than 100. They count.",
    );
    let conflicts = registry.counter(
        "ledger_conflicts_total",
        "Decisions that were repeated because another replica changed the user's record first.",
    );
    let fallbacks = registry.counter(
        "ledger_fallbacks_total",
        "Ledger operations that used this process's memory because the shared ledger failed.",
    );
    registry.on_scrape(move |_| {
        let stats = stats();
        entries.set(to_i64(stats.size));
        bytes.set(to_i64(stats.bytes));
        degraded.set(i64::from(stats.degraded));
        for (counter, total) in [
            (&forgotten, stats.forgotten),
            (&origins_forgotten, stats.origins_forgotten),
            (&conflicts, stats.conflicts),
            (&fallbacks, stats.fallbacks),
        ] {
            raise_to(counter, total);
        }
    });
}
