//! What replicas share of their checks in Redis: marks of the checked sessions, and a report of each replica.
//!
//! A mark is written off the path of the check, from a bounded queue. A report says until when a replica has written all of its
//! marks, and when it last lost one. A login is said to be unchecked only when the reports of all replicas cover its time. So a
//! replica that cannot write, or ended without a last report, makes logins `unknown`, and never `no`.
//!
//! An operation that fails here does not degrade Redis for the ledger: this is an audit, and a check must not notice it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use redis::Script;
use serde::{Deserialize, Serialize};

use super::evidence::LoginTally;
use super::judge::KnownTime;
use super::marks::RETENTION;
use crate::redis::{Redis, script};

/// The most marks that wait to be written: an outage of Redis of some minutes at 30 checks a second, and 3 MB.
const MAX_QUEUE: usize = 10_000;
/// How many operations are in progress at once. The ledger shares the connection.
const CONCURRENCY: usize = 16;
/// The time limit of an operation. No check waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes a mark: the server's time of a check that was so many milliseconds ago. The last check stays, at a time that
/// is not ahead of the server's: its clock may have been set back. A key that no replica wrote is replaced: other marks
/// would wait for it.
const MARK_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = typed('GET', KEYS[1])
local at = math.max(now - ARGV[2], math.min(now, last and string.match(last, '^%d+$') and tonumber(last) or 0))
redis.call('SET', KEYS[1], string.format('%d', at), 'PX', ARGV[1])
return 1
";
/// Reads a mark.
const LAST_SCRIPT: &str = r"return tonumber(redis.call('GET', KEYS[1]) or '0')";
/// Writes the report of a replica, forgets those that are too old, and returns since when there are reports, and all reports.
/// A key of another type is replaced.
const EXCHANGE_SCRIPT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if typed('HSETNX', KEYS[1], 'since', string.format('%d', now)) == nil then
  redis.call('DEL', KEYS[1])
  redis.call('HSETNX', KEYS[1], 'since', string.format('%d', now))
end
redis.call('HSET', KEYS[1], 'r:' .. ARGV[1], string.format('%d ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
local since, reports = 0, {}
for i = 1, #all, 2 do
  if all[i] == 'since' then
    since = tonumber(all[i + 1])
  else
    local at, report = string.match(all[i + 1], '^(%d+) (.*)$')
    if at and tonumber(at) + ARGV[3] >= now then
      reports[#reports + 1] = report
    else
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return {since, reports}
";

/// The shared part of the coverage.
pub(super) struct Shared {
    redis: Redis,
    mark: Script,
    last: Script,
    exchange: Script,
    /// Names this process among the reports.
    replica: String,
    /// Sessions and applications that wait to be written.
    queue: Mutex<VecDeque<QueuedCheck>>,
    /// When a check was last not shared, in Unix milliseconds; 0 when all were.
    gap: AtomicI64,
    /// Until when all checks are shared, in Unix milliseconds.
    until: AtomicI64,
}

/// A check that waits to be written.
struct QueuedCheck {
    name: String,
    checked: Instant,
}

/// What a replica reports.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    /// The last time that a check was not shared, in Unix milliseconds.
    from: i64,
    /// Until when all checks are shared.
    until: i64,
    /// What it saw of each policy's logins in the last hour.
    logins: BTreeMap<String, LoginTally>,
    /// The last check of each policy, in Unix seconds.
    checks: BTreeMap<String, i64>,
}

/// What all replicas reported.
#[derive(Debug, Default)]
pub(super) struct SharedView {
    pub known: Option<KnownTime>,
    pub logins: BTreeMap<String, LoginTally>,
    pub checks: BTreeMap<String, i64>,
}

impl Shared {
    pub fn new(redis: Redis) -> Self {
        Self {
            redis,
            mark: script(MARK_SCRIPT),
            last: script(LAST_SCRIPT),
            exchange: script(EXCHANGE_SCRIPT),
            replica: uuid::Uuid::new_v4().simple().to_string(),
            queue: Mutex::default(),
            gap: AtomicI64::new(0),
            until: AtomicI64::new(Timestamp::now().as_millisecond()),
        }
    }

    /// Notes a check to be shared. Returns whether it will be.
    pub fn enqueue(&self, sid: &str, client_id: &str, now: Timestamp) -> bool {
        let mut queue = self.lock();
        if queue.len() >= MAX_QUEUE {
            self.note_gap(now);
            return false;
        }
        queue.push_back(QueuedCheck { name: name(sid, client_id), checked: Instant::now() });
        true
    }

    /// Notes that a check is not shared.
    pub fn note_gap(&self, now: Timestamp) {
        self.gap.fetch_max(now.as_millisecond(), Ordering::Relaxed);
    }

    /// Writes the marks that wait. After one that cannot be written, the others wait on: each may take as long as an operation may.
    pub async fn write_marks(&self) {
        let begun = Timestamp::now();
        let checks = std::mem::take(&mut *self.lock());
        let is_reachable = &AtomicBool::new(true);
        let write = |check: QueuedCheck| async move {
            if !is_reachable.load(Ordering::Relaxed) {
                return Some(check);
            }
            let mut invocation = self.mark.key(self.key_of_mark(&check.name));
            invocation.arg(RETENTION.as_millis() as u64).arg(check.checked.elapsed().as_millis() as u64);
            let written: Option<u8> = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await;
            is_reachable.fetch_and(written.is_some(), Ordering::Relaxed);
            written.is_none().then_some(check)
        };
        let failed: Vec<QueuedCheck> = stream::iter(checks)
            .map(write)
            .buffer_unordered(CONCURRENCY)
            .filter_map(|failed| async { failed })
            .collect()
            .await;
        if failed.is_empty() {
            self.until.fetch_max(begun.as_millisecond(), Ordering::Relaxed);
            return;
        }
        let mut queue = self.lock();
        failed.into_iter().for_each(|check| queue.push_front(check));
    }

    /// The last check of a session and an application in any replica; the outer `None` when Redis does not say.
    pub async fn last(&self, sid: &str, client_id: &str) -> Option<Option<Timestamp>> {
        let invocation = self.last.key(self.key_of_mark(&name(sid, client_id)));
        let at: i64 = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await?;
        Some(Timestamp::from_millisecond(at).ok().filter(|_| at > 0))
    }

    /// Writes this replica's report and reads all of them. `None` when Redis does not answer. With `leaves` it is the last one
    /// of this replica, which answers no check any more.
    pub async fn exchange(
        &self,
        logins: BTreeMap<String, LoginTally>,
        checks: BTreeMap<String, i64>,
        leaves: bool,
    ) -> Option<SharedView> {
        let is_written = self.lock().is_empty();
        let until = if leaves && is_written { i64::MAX } else { self.until.load(Ordering::Relaxed) };
        let report = Report { from: self.gap.load(Ordering::Relaxed), until, logins, checks };
        let mut invocation = self.exchange.key(self.redis.key("coverage:", "/coverage"));
        invocation.arg(&self.replica).arg(serde_json::to_string(&report).ok()?).arg(RETENTION.as_millis() as u64);
        let (since, reports): (i64, Vec<String>) = self.redis.run_apart(&invocation, OPERATION_TIMEOUT).await?;
        SharedView::new(since, &reports)
    }

    fn key_of_mark(&self, name: &str) -> String {
        self.redis.key("checked:", name)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<QueuedCheck>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Neither part has a line end, so no two checks have one name.
fn name(sid: &str, client_id: &str) -> String {
    format!("{sid}\n{client_id}")
}

impl SharedView {
    /// `None` when a report cannot be read: a replica of another version may know of checks that this one does not.
    fn new(since: i64, reports: &[String]) -> Option<Self> {
        let mut view = Self::default();
        let (mut from, mut until) = (since, i64::MAX);
        for report in reports {
            let report: Report = serde_json::from_str(report).ok()?;
            (from, until) = (from.max(report.from), until.min(report.until));
            for (policy, tally) in report.logins {
                *view.logins.entry(policy).or_default() += tally;
            }
            for (policy, at) in report.checks {
                let last = view.checks.entry(policy).or_insert(at);
                *last = at.max(*last);
            }
        }
        let until = Timestamp::from_millisecond(until).unwrap_or(Timestamp::MAX);
        view.known = Timestamp::from_millisecond(from).ok().map(|from| KnownTime { from, until });
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisAddress;

    fn report(from: i64, until: i64, yes: u64, check: i64) -> String {
        let logins = BTreeMap::from([("team/seats".to_owned(), LoginTally { yes, no: 1, unknown: 0 })]);
        let checks = BTreeMap::from([("team/seats".to_owned(), check)]);
        serde_json::to_string(&Report { from, until, logins, checks }).unwrap()
    }

    #[test]
    fn all_reports_together_are_what_is_known() {
        let view = SharedView::new(1_000, &[report(0, 9_000, 2, 7), report(3_000, 8_000, 3, 5)]).unwrap();
        let at = |ms| Timestamp::from_millisecond(ms).unwrap();
        assert_eq!(view.known, Some(KnownTime { from: at(3_000), until: at(8_000) }));
        assert_eq!(view.logins["team/seats"], LoginTally { yes: 5, no: 2, unknown: 0 });
        assert_eq!(view.checks["team/seats"], 7);
        let view = SharedView::new(1_000, &[report(0, i64::MAX, 0, 0), report(0, 8_000, 0, 0)]).unwrap();
        assert_eq!(
            view.known,
            Some(KnownTime { from: at(1_000), until: at(8_000) }),
            "a replica that left holds nothing up"
        );
    }

    /// A store that nothing answers for.
    async fn unreachable() -> Shared {
        let address = RedisAddress::from_url("redis://127.0.0.1:1");
        let redis = Redis::connect(address, None, Duration::from_millis(50)).await;
        Shared::new(redis.unwrap())
    }

    #[tokio::test]
    async fn marks_wait_while_the_store_is_unreachable() {
        let shared = unreachable().await;
        let until = shared.until.load(Ordering::Relaxed);
        shared.enqueue("a", "app", Timestamp::now());
        shared.write_marks().await;
        assert_eq!((shared.lock().len(), shared.until.load(Ordering::Relaxed)), (1, until));
        assert!(shared.last("a", "app").await.is_none());
        assert!(shared.exchange(BTreeMap::new(), BTreeMap::new(), true).await.is_none());
    }

    #[tokio::test]
    async fn mark_that_finds_no_room_leaves_a_gap() {
        let shared = unreachable().await;
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        for number in 0..MAX_QUEUE {
            assert!(shared.enqueue(&number.to_string(), "app", at(1)));
        }
        assert_eq!(shared.gap.load(Ordering::Relaxed), 0);
        assert!(!shared.enqueue("one more", "app", at(2)));
        assert_eq!(shared.gap.load(Ordering::Relaxed), at(2).as_millisecond());
        assert_eq!(shared.lock().len(), MAX_QUEUE);
    }

    #[test]
    fn report_that_cannot_be_read_makes_nothing_known() {
        assert!(SharedView::new(0, &[report(0, 1, 0, 0), "{}".to_owned()]).is_none());
    }
}
