//! The checks of this replica, by session and application: kept as long as a log stream may be late, and bounded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::judge::KnownTime;
use crate::ledger::{HashedTable, KeyHash, KeyHasher, shrink};

/// How long a check is remembered. A stream that is later than this reports logins that are `unknown`.
pub const RETENTION: Duration = Duration::from_secs(3600);
/// How many checks are remembered: an hour of 27 a second, more than a production tenant's rate limit decides. Each takes at
/// most 100 bytes, all of them 10 MB.
const MAX_MARKS: usize = 100_000;

/// A check of the same session and application is shared again after this time: a shared mark is at most as much older than the
/// last check, and is renewed long before it expires.
pub(super) const SHARE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Remembers checks.
pub(super) struct Marks {
    capacity: usize,
    hasher: KeyHasher,
    kept: Mutex<Kept>,
}

struct Kept {
    /// The last check of each session and application, the oldest first.
    checks: HashedTable<Mark>,
    /// Every check since then is kept.
    complete_since: Timestamp,
}

/// The checks of one session and application.
#[derive(Clone, Copy)]
struct Mark {
    /// When the last one was.
    at: Timestamp,
    /// When the last one was that other replicas know.
    shared_at: Option<Timestamp>,
}

impl Marks {
    pub fn new(now: Timestamp) -> Self {
        Self::with_capacity(MAX_MARKS, now)
    }

    fn with_capacity(capacity: usize, now: Timestamp) -> Self {
        let kept = Mutex::new(Kept { checks: HashedTable::default(), complete_since: now });
        Self { capacity, hasher: KeyHasher::default(), kept }
    }

    pub fn key(&self, sid: &str, client_id: &str) -> KeyHash {
        self.hasher.hash(&(sid, client_id))
    }

    /// Remembers a check. Returns whether it is to be shared now: other replicas need to know, and the last one that they know
    /// is too old. If it cannot be shared, [`not_shared`](Self::not_shared) has to be called.
    pub fn note(&self, key: KeyHash, now: Timestamp, is_shared: bool) -> bool {
        let mut kept = self.lock();
        let last = kept.checks.get(&key).and_then(|mark| mark.shared_at);
        let is_due = is_shared && last.is_none_or(|last| now.duration_since(last) >= SHARE_INTERVAL);
        kept.checks.insert(key, Mark { at: now, shared_at: if is_due { Some(now) } else { last } });
        if kept.checks.len() > self.capacity
            && let Some((_, forgotten)) = kept.checks.pop_front()
        {
            kept.complete_since = kept.complete_since.max(forgotten.at);
        }
        is_due
    }

    /// Notes that a check could not be shared: the next one has to be.
    pub fn not_shared(&self, key: KeyHash) {
        if let Some(mark) = self.lock().checks.get_mut(&key) {
            mark.shared_at = None;
        }
    }

    /// The last check.
    pub fn last(&self, key: KeyHash) -> Option<Timestamp> {
        self.lock().checks.get(&key).map(|mark| mark.at)
    }

    /// The time whose checks are remembered.
    pub fn known(&self, now: Timestamp) -> KnownTime {
        KnownTime { from: self.lock().complete_since.max(now - RETENTION), until: now }
    }

    /// Forgets the checks that are older than the retention.
    pub fn sweep(&self, now: Timestamp) {
        let mut kept = self.lock();
        while kept.checks.front().is_some_and(|(_, mark)| mark.at < now - RETENTION) {
            kept.checks.pop_front();
        }
        shrink(&mut kept.checks);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn session_in_another_application_is_another_check() {
        let marks = Marks::new(at(0));
        marks.note(marks.key("sid", "app-1"), at(1), true);
        assert_eq!(marks.last(marks.key("sid", "app-1")), Some(at(1)));
        assert_eq!(marks.last(marks.key("sid", "app-2")), None);
        assert_eq!(marks.last(marks.key("sida", "pp-1")), None);
    }

    #[test]
    fn check_is_shared_again_a_minute_after_it_was_shared() {
        let marks = Marks::new(at(0));
        let key = marks.key("sid", "app");
        let shared: Vec<i64> = (0..150).step_by(30).filter(|second| marks.note(key, at(*second), true)).collect();
        assert_eq!(shared, [0, 60, 120], "however often it is checked in between");
        assert_eq!(marks.last(key), Some(at(120)));
        assert!(marks.note(marks.key("sid", "other"), at(121), true));
    }

    #[test]
    fn check_that_was_not_shared_does_not_count_as_shared() {
        let marks = Marks::new(at(0));
        let key = marks.key("sid", "app");
        assert!(!marks.note(key, at(0), false), "no log stream");
        assert!(marks.note(key, at(30), true), "the first one with a log stream");
        assert!(!marks.note(key, at(31), false));
        assert!(!marks.note(key, at(32), true));
        marks.not_shared(key);
        assert!(marks.note(key, at(33), true), "the last one found no room");
    }

    #[test]
    fn checks_before_the_start_are_not_known() {
        let marks = Marks::new(at(10));
        assert_eq!(marks.known(at(100)), KnownTime { from: at(10), until: at(100) });
        assert_eq!(marks.known(at(4000)).from, at(400), "nor are those older than the retention");
    }

    #[test]
    fn forgotten_check_shortens_what_is_known() {
        let marks = Marks::with_capacity(2, at(0));
        for second in 1..=4 {
            marks.note(marks.key(&second.to_string(), "app"), at(second), true);
        }
        assert_eq!(marks.known(at(5)).from, at(2));
        assert_eq!(marks.lock().checks.len(), 2);
    }

    #[test]
    fn old_checks_are_swept() {
        let marks = Marks::new(at(0));
        marks.note(marks.key("a", "app"), at(1), true);
        marks.note(marks.key("b", "app"), at(500), true);
        marks.sweep(at(3700));
        assert_eq!((marks.last(marks.key("a", "app")), marks.last(marks.key("b", "app"))), (None, Some(at(500))));
    }
}
