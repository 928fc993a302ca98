//! How the file descriptors of the process are divided.
//!
//! Connections must not take the descriptors that the rest of the process needs: without one it can neither ask Auth0, nor
//! read a file, nor answer a probe.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::ConnectionLimits;

/// The limits of the admin listener. Its connections are a reserve: those for checks cannot take them. A Prometheus, a
/// kubelet and an operator hold a few; one source in the cluster cannot take all.
pub(super) const ADMIN_LIMITS: ConnectionLimits = ConnectionLimits { total: 64, per_source: 32 };
/// The limits of the listener for log streams: Auth0 keeps a few connections open for each stream. An ingress is one source.
pub(super) const LOGS_LIMITS: ConnectionLimits = ConnectionLimits { total: 64, per_source: 32 };
/// The limits of the listener for the page on which people choose sessions: an ingress is one source, and a browser holds its
/// connection for a page.
pub(super) const CHOOSE_LIMITS: ConnectionLimits = ConnectionLimits { total: 128, per_source: 64 };
/// Descriptors for everything else: some 20 of the runtime, two each for the listeners and the files that are read, and the
/// connections to the API server, the ledger, the collector and some dozens of tenants.
const OTHER_DESCRIPTORS: u64 = 96;
/// The least number of connections for checks, however few descriptors there are.
const MIN_CONNECTIONS: usize = 16;

/// The limits of the listener for checks, beside `others`: what is configured, or fewer when the process may open too few files.
/// Raises the process's own limit first, as far as the system permits.
pub(super) fn connection_limits(
    total: usize,
    per_source: Option<usize>,
    others: &[ConnectionLimits],
) -> ConnectionLimits {
    let reserved = OTHER_DESCRIPTORS + others.iter().map(|limits| limits.total as u64).sum::<u64>();
    let descriptors = raised_limit(total, reserved);
    let total = match descriptors.map(|descriptors| available(descriptors, reserved, total)) {
        Some(lowered) if lowered < total => {
            tracing::warn!(
                configured = total,
                connections = lowered,
                descriptors,
                "the limit on open files is too low for --max-connections; fewer connections are served"
            );
            lowered
        }
        _ => total,
    };
    ConnectionLimits { total, per_source: per_source.unwrap_or(total.div_ceil(2)).min(total) }
}

/// How many of the `wanted` connections leave enough descriptors.
fn available(descriptors: u64, reserved: u64, wanted: usize) -> usize {
    let left = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
    wanted.min(left.max(MIN_CONNECTIONS))
}

/// The limit on open files after it was raised to what `connections` need; `None` without a limit.
fn raised_limit(connections: usize, reserved: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let current = current?;
    let needed = connections as u64 + reserved;
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    if raised <= current {
        return Some(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => Some(raised),
        Err(_) => Some(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_lower_the_limit_and_keep_the_reserve() {
        let reserved = OTHER_DESCRIPTORS + ADMIN_LIMITS.total as u64;
        let left_of = |descriptors, wanted| available(descriptors, reserved, wanted);
        assert_eq!(left_of(1 << 20, 1024), 1024);
        assert_eq!(left_of(256, 1024), 96);
        assert_eq!(left_of(200, 1024), 40);
        assert_eq!(left_of(10, 1024), MIN_CONNECTIONS);
        assert_eq!(left_of(256, 50), 50);
    }

    #[test]
    fn source_may_hold_half_of_all_connections_by_default() {
        let limits = |total, per_source| connection_limits(total, per_source, &[ADMIN_LIMITS]);
        assert_eq!(limits(10, None), ConnectionLimits { total: 10, per_source: 5 });
        assert_eq!(limits(1, None), ConnectionLimits { total: 1, per_source: 1 });
        assert_eq!(limits(10, Some(20)), ConnectionLimits { total: 10, per_source: 10 });
    }
}
