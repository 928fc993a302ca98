//! The pause before the next try of something that fails again and again.

use std::time::Duration;

/// How often a pause doubles at most: it is longer than any longest pause by then.
const MAX_DOUBLINGS: u32 = 16;

/// The pause between the first and the longest one, doubled this many times.
pub fn backoff((first, longest): (Duration, Duration), doublings: u32) -> Duration {
    first.saturating_mul(1 << doublings.min(MAX_DOUBLINGS)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_the_longest() {
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(8));
        let pauses = (0..8).map(|doublings| backoff((first, longest), doublings).as_millis());
        assert_eq!(pauses.collect::<Vec<_>>(), [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(backoff((first, longest), u32::MAX), longest);
        assert_eq!(backoff((Duration::ZERO, longest), 3), Duration::ZERO);
    }
}
