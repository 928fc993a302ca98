//! Writes a line when requests to a tenant begin to fail, and then counts: an outage fails every check.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::Failure;
use crate::sampler::LogSampler;

/// How often a failure that lasts is written again, with the number of checks since the last line.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// A failure ends when a request succeeds and none failed for this long. In an outage some requests still succeed, and not
/// each of them ends it.
const ENDS_AFTER: Duration = Duration::from_secs(10);
/// A failure of a tenant without checks is forgotten after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// Listing the user's sessions.
    List,
    /// Revoking sessions.
    Revoke,
    /// Writing why sessions end into their metadata.
    Explain,
}

/// The failures of all tenants.
#[derive(Default)]
pub(super) struct FailureLog {
    /// The number of `failing`, to be read without the lock.
    count: AtomicUsize,
    failing: Mutex<HashMap<(String, Task, Failure), Failing>>,
}

struct Failing {
    last: Instant,
    lines: LogSampler,
    total: u64,
}

impl FailureLog {
    /// Counts a failure. `None` when no line is due, else the number of failures since the last line.
    pub fn failed(&self, tenant: &str, task: Task, failure: Failure) -> Option<u64> {
        let now = Instant::now();
        let mut failing = self.lock();
        let begun = || Failing { last: now, lines: LogSampler::new(1, REPEAT_INTERVAL), total: 0 };
        let known = failing.entry((tenant.to_owned(), task, failure)).or_insert_with(begun);
        (known.last, known.total) = (now, known.total + 1);
        let due = known.lines.admit();
        self.count.store(failing.len(), Ordering::Relaxed);
        due
    }

    /// Notes a success. `None` while nothing failed or the failure has not ended, else the number of failures.
    pub fn succeeded(&self, tenant: &str, task: Task) -> Option<u64> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut failing = self.lock();
        let is_this = |key: &(String, Task, Failure)| key.0 == tenant && key.1 == task;
        let of_this = || failing.iter().filter(|(key, _)| is_this(key)).map(|(_, state)| state);
        if of_this().any(|state| state.last.elapsed() < ENDS_AFTER) {
            return None;
        }
        let total = of_this().map(|state| state.total).sum();
        failing.retain(|key, _| !is_this(key));
        self.count.store(failing.len(), Ordering::Relaxed);
        (total > 0).then_some(total)
    }

    /// Whether the task failed within the last `span`.
    pub fn has_failed_within(&self, span: Duration, tenant: &str, task: Task) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let failing = self.lock();
        failing.iter().any(|(key, state)| key.0 == tenant && key.1 == task && state.last.elapsed() < span)
    }

    /// Forgets the failures of tenants without checks.
    pub fn sweep(&self) {
        let mut failing = self.lock();
        failing.retain(|_, state| state.last.elapsed() < FORGOTTEN_AFTER);
        self.count.store(failing.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, Task, Failure), Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn outage_is_told_once_then_counted_each_minute() {
        let log = FailureLog::default();
        let mut lines = Vec::new();
        // Twenty checks a second for eleven minutes.
        for _ in 0..20 * 60 * 11 {
            lines.extend(log.failed("acme", Task::List, Failure::UpstreamTimeout));
            advance(Duration::from_millis(50)).await;
        }
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!(lines[..2], [0, 1199]);
        advance(ENDS_AFTER).await;
        assert_eq!(log.succeeded("acme", Task::List), Some(20 * 60 * 11));
        assert_eq!(log.succeeded("acme", Task::List), None);
        assert_eq!(log.failed("acme", Task::List, Failure::UpstreamTimeout), Some(0), "the next one is new");
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_tasks_and_reasons_are_told_apart() {
        let log = FailureLog::default();
        assert_eq!(log.succeeded("acme", Task::List), None);
        for (tenant, task, failure) in [
            ("acme", Task::List, Failure::UpstreamTimeout),
            ("acme", Task::List, Failure::CircuitOpen),
            ("acme", Task::Revoke, Failure::UpstreamTimeout),
            ("other", Task::List, Failure::UpstreamTimeout),
        ] {
            assert_eq!(log.failed(tenant, task, failure), Some(0));
            assert_eq!(log.failed(tenant, task, failure), None);
        }
        assert!(log.has_failed_within(ENDS_AFTER, "acme", Task::Revoke));
        assert!(!log.has_failed_within(ENDS_AFTER, "acme", Task::Explain));
        advance(ENDS_AFTER).await;
        assert!(!log.has_failed_within(ENDS_AFTER, "acme", Task::Revoke));
        assert_eq!(log.succeeded("acme", Task::List), Some(4));
        assert_eq!(log.succeeded("acme", Task::Revoke), Some(2));
        log.sweep();
        assert_eq!(log.succeeded("other", Task::List), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn success_amid_failures_does_not_end_them() {
        let log = FailureLog::default();
        let mut lines = 0;
        for _ in 0..100 {
            lines += usize::from(log.failed("acme", Task::List, Failure::UpstreamError).is_some());
            lines += usize::from(log.succeeded("acme", Task::List).is_some());
            advance(Duration::from_millis(100)).await;
        }
        assert_eq!(lines, 1);
        log.failed("gone", Task::List, Failure::UpstreamError);
        advance(FORGOTTEN_AFTER).await;
        log.sweep();
        assert_eq!(log.count.load(Ordering::Relaxed), 0);
    }
}
