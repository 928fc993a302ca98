//! When a status may be written again: after another writer has overwritten it, and after a write has failed.
//!
//! Two releases that see the same policies would else write against each other for as long as both run. A missing right would
//! else cost a request and a log line for each policy at every change.
//!
//! A status that was overwritten is restored at once the first time, because a person may have edited it, and then with growing
//! pauses. The pauses end, so that the right status comes back after the other writer has gone. A write that failed is repeated
//! with growing pauses too, whatever the status is by then.

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

/// The first and the longest pause before a failed write is repeated.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What this replica wrote last, and could not write, by policy.
#[derive(Default)]
pub(super) struct Contention(HashMap<ObjectName, Writes>);

#[derive(Default)]
struct Writes {
    written: Option<WrittenStatus>,
    failed: Option<FailedWrites>,
}

/// Writes that failed one after the other.
struct FailedWrites {
    error: String,
    at: Instant,
    /// How many there were before the last one.
    before: u32,
}

/// What a write means that was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WriteDone {
    /// How often in a row the same status had been overwritten before.
    pub overwritten: u32,
    /// Whether the write before it had failed.
    pub is_recovery: bool,
}

/// What a write means that failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WriteFailed {
    /// When to repeat it.
    pub due: Instant,
    /// Whether the last write did not fail with the same error.
    pub is_new: bool,
}

struct WrittenStatus {
    status: StatusDigest,
    at: Instant,
    /// How often in a row the status had been overwritten when it was written.
    overwritten: u32,
}

/// A digest of a status without the times of its conditions. A policy that is deleted and created again has another uid: nobody
/// has overwritten the status that it does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusDigest(u64);

impl StatusDigest {
    pub fn of(uid: &str, status: &SessionPolicyStatus) -> Self {
        let mut hasher = DefaultHasher::new();
        let last_check = status.last_check_time.as_ref().map(|at| at.0.as_nanosecond());
        (uid, status.observed_generation, &status.limits, last_check).hash(&mut hasher);
        for condition in &status.conditions {
            (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut hasher);
        }
        Self(hasher.finish())
    }
}

impl Contention {
    /// When to write a status that differs from the one at the API server: at once, unless it was written before and
    /// overwritten, or the last write failed.
    pub fn due(&self, policy: &ObjectName, status: StatusDigest, now: Instant) -> Instant {
        let Some(writes) = self.0.get(policy) else { return now };
        let restored = writes.last(status, now).filter(|written| written.overwritten > 0);
        let restored = restored.map(|written| written.at + backoff(OVERWRITE_BACKOFF, written.overwritten - 1));
        let repeated = writes.failed.as_ref().map(FailedWrites::due);
        restored.into_iter().chain(repeated).fold(now, Instant::max)
    }

    /// Records a write that was done.
    pub fn written(&mut self, policy: &ObjectName, status: StatusDigest, now: Instant) -> WriteDone {
        let writes = self.0.entry(policy.clone()).or_default();
        let overwritten = writes.last(status, now).map_or(0, |written| written.overwritten + 1);
        writes.written = Some(WrittenStatus { status, at: now, overwritten });
        WriteDone { overwritten, is_recovery: writes.failed.take().is_some() }
    }

    /// Records a write that failed.
    pub fn failed(&mut self, policy: &ObjectName, error: String, now: Instant) -> WriteFailed {
        let writes = self.0.entry(policy.clone()).or_default();
        let last = writes.failed.take();
        let is_new = last.as_ref().is_none_or(|last| last.error != error);
        let failed = FailedWrites { error, at: now, before: last.map_or(0, |last| last.before.saturating_add(1)) };
        let due = failed.due();
        writes.failed = Some(failed);
        WriteFailed { due, is_new }
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

impl Writes {
    /// The last write of this status, when no other one came after it.
    fn last(&self, status: StatusDigest, now: Instant) -> Option<&WrittenStatus> {
        self.written.as_ref().filter(|written| written.status == status && !written.is_forgotten(now))
    }
}

impl FailedWrites {
    fn due(&self) -> Instant {
        self.at + backoff(RETRY_BACKOFF, self.before)
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
        assert_eq!(contention.written(&name(), StatusDigest(2), now).overwritten, 0);
    }

    #[test]
    fn first_status_of_a_policy_that_is_created_again_is_another() {
        let status = SessionPolicyStatus::default();
        assert_ne!(StatusDigest::of("a", &status), StatusDigest::of("b", &status));
        assert_eq!(StatusDigest::of("a", &status), StatusDigest::of("a", &status.clone()));
    }

    #[test]
    fn quiet_time_ends_a_contention() {
        let (mut contention, now) = (Contention::default(), Instant::now());
        let overwritten = (0..4).map(|_| contention.written(&name(), StatusDigest(1), now).overwritten);
        assert_eq!(overwritten.collect::<Vec<_>>(), [0, 1, 2, 3]);
        let later = now + OVERWRITE_MEMORY + Duration::from_secs(1);
        assert_eq!(contention.due(&name(), StatusDigest(1), later), later);
        assert_eq!(contention.written(&name(), StatusDigest(1), later).overwritten, 0);
    }

    #[test]
    fn failed_write_is_repeated_with_growing_pauses() {
        let (mut contention, mut now, mut pauses) = (Contention::default(), Instant::now(), Vec::new());
        for digest in 0..9 {
            // Another status waits as well: a missing right does not come with it.
            let due = contention.due(&name(), StatusDigest(digest), now);
            pauses.push(due.duration_since(now).as_secs());
            now = due;
            let failed = contention.failed(&name(), "forbidden".to_owned(), now);
            assert_eq!(failed.due, contention.due(&name(), StatusDigest(99), now));
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        // Other policies do not wait for it.
        assert_eq!(contention.due(&ObjectName::new("team", "other"), StatusDigest(1), now), now);
        contention.written(&name(), StatusDigest(1), now);
        assert_eq!(contention.due(&name(), StatusDigest(2), now), now);
        assert_eq!(contention.failed(&name(), "forbidden".to_owned(), now).due, now + RETRY_BACKOFF.0);
    }

    #[test]
    fn failed_write_is_news_only_when_its_error_changes() {
        let (mut contention, now) = (Contention::default(), Instant::now());
        let mut is_new = |error: &str| contention.failed(&name(), error.to_owned(), now).is_new;
        let errors = ["forbidden", "forbidden", "timeout", "timeout", "forbidden"].map(&mut is_new);
        assert_eq!(errors, [true, false, true, false, true]);
        assert!(contention.written(&name(), StatusDigest(1), now).is_recovery);
        assert!(!contention.written(&name(), StatusDigest(1), now).is_recovery);
        assert!(contention.failed(&name(), "forbidden".to_owned(), now).is_new);
    }

    #[test]
    fn failure_does_not_end_a_contention() {
        let (mut contention, now) = (Contention::default(), Instant::now());
        for _ in 0..4 {
            contention.written(&name(), StatusDigest(1), now);
        }
        let due = contention.due(&name(), StatusDigest(1), now);
        contention.failed(&name(), "timeout".to_owned(), now);
        assert_eq!(contention.due(&name(), StatusDigest(1), now), due);
        assert_eq!(contention.written(&name(), StatusDigest(1), now).overwritten, 4);
    }
}
