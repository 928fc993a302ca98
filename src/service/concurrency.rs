//! How many checks of a tenant may be in progress at once, when nobody says so: as many as the container's memory holds.

use std::fs;

/// What a concurrent check takes, rounded up: with a connection of its own 37 to 43 kB (`cargo bench --bench load -- concurrent`).
const BYTES_OF_CHECK: u64 = 48 << 10;
/// The part of the container's memory that the checks of a tenant may take.
const SHARE_OF_CHECKS: u64 = 4;
/// Without a limit of memory, and at most: what the connections to the tenant carry, at 100 requests each.
const MOST_CHECKS: usize = 2_048;
/// At least, however small the container is.
const FEWEST_CHECKS: usize = 256;
/// Where the kernel shows the limit of the container: with cgroup v2 and v1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The checks that the memory of this container holds.
pub fn default_max_in_flight() -> usize {
    fitting(LIMITS.iter().find_map(|file| fs::read_to_string(file).ok()).as_deref())
}

/// The checks that fit into this limit, as the kernel writes it: bytes, or `max`.
fn fitting(limit: Option<&str>) -> usize {
    let bytes = limit.and_then(|text| text.trim().parse::<u64>().ok());
    let checks = bytes.and_then(|bytes| usize::try_from(bytes / SHARE_OF_CHECKS / BYTES_OF_CHECK).ok());
    checks.map_or(MOST_CHECKS, |checks| checks.clamp(FEWEST_CHECKS, MOST_CHECKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_follow_the_memory_of_the_container() {
        for (limit, checks) in [
            (None, 2_048),
            (Some("max\n"), 2_048),
            // The chart's limit.
            (Some("268435456\n"), 1_365),
            (Some("134217728\n"), 682),
            (Some("1048576\n"), 256),
            // How cgroup v1 says that there is none.
            (Some("9223372036854771712\n"), 2_048),
        ] {
            assert_eq!(fitting(limit), checks, "{limit:?}");
        }
    }
}
