//! Statuses that another writer overwrites: two releases that see the same policies would else write against each other for as
//! long as both run.
//!
//! A status that was overwritten is restored at once the first time, because a person may have edited it, and then with growing
//! pauses. The pauses end, so that the right status comes back after the other writer has gone.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::backoff;
use crate::crd::SessionPolicyStatus;
use crate::policy::ObjectName;

/// The first and the longest pause before a status that was overwritten again is restored. Two releases that see the same
/// policies write each status five times in the first minute and then once in five minutes. Five minutes after one of them has
/// gone, the status is right again.
const OVERWRITE_BACKOFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// After this time without an overwrite the next one counts as the first. Longer than the longest pause.
const OVERWRITE_MEMORY: Duration = Duration::from_secs(900);

/// What this replica wrote last, by policy.
#[derive(Default)]
pub(super) struct Contention(HashMap<ObjectName, WrittenStatus>);

struct WrittenStatus {
    status: StatusDigest,
    at: Instant,
    /// How often in a row the status had been overwritten when it was written.
    overwritten: u32,
}

/// A digest of a status without the times of its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusDigest(u64);

impl StatusDigest {
    pub fn of(status: &SessionPolicyStatus) -> Self {
        let mut hasher = DefaultHasher::new();
        let last_check = status.last_check_time.as_ref().map(|at| at.0.as_nanosecond());
        (status.observed_generation, &status.limits, last_check).hash(&mut hasher);
        for condition in &status.conditions {
            (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

impl Contention {
    /// When to write a status that differs from the one at the API server: at once, unless it was written before and
    /// overwritten.
    pub fn due(&self, policy: &ObjectName, status: StatusDigest, now: Instant) -> Instant {
        match self.0.get(policy).filter(|written| written.status == status && !written.is_forgotten(now)) {
            Some(WrittenStatus { overwritten: 0, .. }) | None => now,
            Some(written) => (written.at + backoff(OVERWRITE_BACKOFF, written.overwritten - 1)).max(now),
        }
    }

    /// Records a write. Returns how often in a row the same status had been overwritten before.
    pub fn written(&mut self, policy: &ObjectName, status: StatusDigest, now: Instant) -> u32 {
        let last = self.0.get(policy).filter(|written| written.status == status && !written.is_forgotten(now));
        let overwritten = last.map_or(0, |written| written.overwritten + 1);
        self.0.insert(policy.clone(), WrittenStatus { status, at: now, overwritten });
        overwritten
    }

    /// How many policies are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets policies that do not exist any more.
    pub fn retain(&mut self, exists: impl Fn(&ObjectName) -> bool) {
        self.0.retain(|name, _| exists(name));
    }
}

impl WrittenStatus {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.duration_since(self.at) > OVERWRITE_MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ObjectName {
        ObjectName::new("team", "seats")
    }

    #[test]
    fn overwritten_status_is_restored_with_growing_pauses() {
        let (mut contention, start, status) = (Contention::default(), Instant::now(), StatusDigest(1));
        let (mut now, mut pauses) = (start, Vec::new());
        for _ in 0..10 {
            let due = contention.due(&name(), status, now);
            pauses.push(due.duration_since(now).as_secs());
            now = due;
            contention.written(&name(), status, now);
        }
        assert_eq!(pauses, [0, 0, 5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn other_status_is_written_at_once() {
        let (mut contention, now) = (Contention::default(), Instant::now());
        for _ in 0..5 {
            contention.written(&name(), StatusDigest(1), now);
        }
        assert!(contention.due(&name(), StatusDigest(1), now) > now);
        assert_eq!(contention.due(&name(), StatusDigest(2), now), now);
        assert_eq!(contention.written(&name(), StatusDigest(2), now), 0);
    }

    #[test]
    fn quiet_time_ends_a_contention() {
        let (mut contention, now) = (Contention::default(), Instant::now());
        assert_eq!((0..4).map(|_| contention.written(&name(), StatusDigest(1), now)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let later = now + OVERWRITE_MEMORY + Duration::from_secs(1);
        assert_eq!(contention.due(&name(), StatusDigest(1), later), later);
        assert_eq!(contention.written(&name(), StatusDigest(1), later), 0);
    }
}
