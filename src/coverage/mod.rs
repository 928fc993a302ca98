//! The audit of logins: which of the logins that Auth0's log stream reports were checked.
//!
//! ```text
//!   checks ──▶ marks (this replica) ──▶ shared marks (Redis) ─┐
//!                                                             ├─▶ judge ──▶ metrics, evidence of each policy ──▶ Enforcing
//!   POST /logs ──▶ event ──▶ pending ─────────────────────────┘
//! ```
//!
//! A stream is late, unordered, repeated and lossy. So it audits only: nothing here allows a login, blocks one, or ends a
//! session. A login matches a check by session and application. It is *checked* when such a check is remembered, *unchecked* when
//! all checks of its time are known and none is it, and otherwise *unknown*:
//!
//! * An entry without a session id, an application or a time.
//! * A login of an application of which there was a check without a session: it may be this one.
//! * A login before this process started, or whose checks were forgotten: they are kept for an hour, and bounded.
//! * Several replicas without a shared store: nobody knows the checks of the others.
//! * Several replicas with one: while the report of any of them is missing for the login's time.

mod event;
mod evidence;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod judge;
mod last_checks;
mod marks;
mod metrics;
mod shared;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream;
use hashlink::LinkedHashSet;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::ledger::{KeyHash, KeyHasher};
use crate::metrics::MetricRegistry;
use crate::policy::{LoginEvidence, ObjectName};
use crate::redis::Redis;
use evidence::{Evidence, LoginTally};
use marks::Marks;
use metrics::EntryKind;
use shared::{Shared, SharedView};

pub use event::{BatchError, LogEntries, LogEntry, MAX_ENTRIES, ReportedLogin, parse};
pub use judge::{Checked, CoverageTiming, KnownTime};
pub use last_checks::LastChecks;
pub use metrics::{BUSY, CoverageMetrics, TOO_LARGE};

/// The most logins that wait for their checks: 100 a second for three minutes, in 10 MB. A stream that brings more is told to
/// send again, and Auth0's delivery is the queue.
const MAX_PENDING: usize = 20_000;
/// How many ids of entries are remembered, so that one that comes again does not count again. Auth0 sends again within minutes.
/// Each takes at most 80 bytes, all of them 8 MB.
const MAX_LOG_IDS: usize = 100_000;
/// How long the last exchange may take: a second of those that the Pod has after its drains.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many shared marks are read at once.
const CONCURRENT_READS: usize = 16;

/// What the audit works with.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoverageOptions {
    /// Whether log streams are received.
    pub receives: bool,
    /// Whether other replicas answer checks too.
    pub has_peers: bool,
    /// What it waits for.
    pub timing: CoverageTiming,
}

/// Remembers checks, and judges the logins that log streams report.
pub struct Coverage {
    options: CoverageOptions,
    marks: Marks,
    shared: Option<Shared>,
    received: Mutex<Received>,
    evidence: Evidence,
    last_checks: Arc<LastChecks>,
    /// What the replicas reported last.
    view: ArcSwap<SharedView>,
    metrics: CoverageMetrics,
    /// Whether this replica shared its last checks.
    has_left: AtomicBool,
}

#[derive(Default)]
struct Received {
    hasher: KeyHasher,
    /// The ids of entries, the oldest first.
    log_ids: LinkedHashSet<KeyHash>,
    pending: VecDeque<PendingLogin>,
    /// The logins that are being judged.
    judging: usize,
}

/// A login whose check is not known yet.
struct PendingLogin {
    tenant: Arc<str>,
    policies: Vec<ObjectName>,
    sid: String,
    client_id: String,
    at: Option<Timestamp>,
    received: Instant,
    /// Whether the shared marks were read.
    was_read: bool,
}

/// The batch is not taken: too many logins wait. It may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl Coverage {
    /// Without `redis`, only the checks of this replica are known.
    pub fn new(
        options: CoverageOptions,
        redis: Option<Redis>,
        registry: &MetricRegistry,
        last_checks: Arc<LastChecks>,
    ) -> Self {
        Self {
            options,
            marks: Marks::new(Timestamp::now() - options.timing.quiet_before),
            shared: redis.map(Shared::new),
            received: Mutex::default(),
            evidence: Evidence::default(),
            last_checks,
            view: ArcSwap::default(),
            metrics: CoverageMetrics::new(registry),
            has_left: AtomicBool::new(false),
        }
    }

    /// The metrics of the log streams.
    pub fn metrics(&self) -> &CoverageMetrics {
        &self.metrics
    }

    /// Remembers that a login was checked. `is_shared` is whether there is a log stream, so that other replicas need to know.
    pub fn note_check(&self, sid: Option<&str>, client_id: &str, is_shared: bool) {
        // A check without a session may be of any login of the application.
        let sid = sid.unwrap_or_default();
        let now = Timestamp::now();
        if !self.options.receives {
            // A replica that receives log streams must not take this one's checks for known.
            self.shared.iter().for_each(|shared| shared.note_gap(now));
            return;
        }
        let key = self.marks.key(sid, client_id);
        let is_due = self.marks.note(key, now, is_shared);
        let Some(shared) = &self.shared else { return };
        if !is_shared {
            shared.note_gap(now);
        } else if is_due && !shared.enqueue(sid, client_id, now) {
            self.marks.not_shared(key);
            // Checks in between were not shared either: this one seemed to be.
            shared.note_gap(Timestamp::now());
            self.metrics.mark_lost();
        }
    }

    /// Takes a batch of a tenant's log stream. `policies_of` are the policies that select a login. An entry that was taken before
    /// is left out.
    ///
    /// # Errors
    /// Too many logins wait; nothing of the batch is taken.
    pub fn receive(
        &self,
        tenant: &Arc<str>,
        batch: LogEntries,
        policies_of: impl Fn(&ReportedLogin) -> Vec<ObjectName>,
    ) -> Result<(), Busy> {
        // Before the lock: with thousands of policies this takes a while.
        let entries: Vec<(LogEntry, Vec<ObjectName>)> = batch
            .entries
            .into_iter()
            .map(|entry| {
                let policies = entry.login.as_ref().map(&policies_of).unwrap_or_default();
                (entry, policies)
            })
            .collect();
        let mut received = self.lock();
        let Received { hasher, log_ids, pending, judging } = &mut *received;
        if pending.len() + *judging + entries.len() > MAX_PENDING {
            self.metrics.rejected(BUSY);
            return Err(Busy);
        }
        self.metrics.entries(tenant, EntryKind::Malformed, batch.malformed);
        for (entry, policies) in entries {
            let id = entry.log_id.as_ref().map(|id| hasher.hash(&(&**tenant, id)));
            if id.is_some_and(|id| !log_ids.insert(id)) {
                self.metrics.entries(tenant, EntryKind::Duplicate, 1);
                continue;
            }
            if log_ids.len() > MAX_LOG_IDS {
                log_ids.pop_front();
            }
            let Some(login) = entry.login else {
                self.metrics.entries(tenant, EntryKind::Other, 1);
                continue;
            };
            self.metrics.entries(tenant, EntryKind::Login, 1);
            match (login.sid, login.client_id) {
                (Some(sid), Some(client_id)) => pending.push_back(PendingLogin {
                    tenant: Arc::clone(tenant),
                    policies,
                    sid,
                    client_id,
                    at: login.at,
                    received: Instant::now(),
                    was_read: false,
                }),
                _ => self.count(tenant, &policies, Checked::Unknown),
            }
        }
        Ok(())
    }

    /// Whether there is anything to [`run`](Self::run): log streams, or replicas that share their last checks.
    pub fn has_work(&self) -> bool {
        self.options.receives || self.shared.is_some()
    }

    /// Shares checks and judges logins for as long as the process runs.
    pub async fn run(self: Arc<Self>) {
        let timing = self.options.timing;
        // Without log streams only the times of the last checks are shared, for an hourly status.
        let exchange = if self.options.receives { timing.exchange } else { timing.exchange * 12 };
        let mut ticks = interval(timing.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut exchange_at = Instant::now();
        loop {
            ticks.tick().await;
            if self.shared.is_some() && Instant::now() >= exchange_at {
                exchange_at = Instant::now() + exchange;
                if !self.has_left.load(Ordering::SeqCst) {
                    self.exchange(false).await;
                }
            }
            self.judge_pending().await;
        }
    }

    /// Shares the last checks of this replica, which answers none any more.
    pub async fn leave(&self) {
        self.has_left.store(true, Ordering::SeqCst);
        // A Redis that hangs must not use up the time of the shutdown.
        let _ = timeout(LEAVE_TIMEOUT, self.exchange(true)).await;
    }

    /// Forgets checks that are too old.
    pub fn sweep(&self) {
        self.marks.sweep(Timestamp::now());
    }

    /// Forgets the policies that do not exist.
    pub fn retain_policies(&self, lives: impl Fn(&str) -> bool) {
        self.evidence.retain(lives);
    }

    /// What was seen of the logins that a policy selects, in the last hour and in all replicas.
    pub fn evidence(&self, policy: &ObjectName) -> LoginEvidence {
        if !self.options.receives {
            return LoginEvidence::NotReceived;
        }
        if self.options.has_peers && self.shared.is_none() {
            return LoginEvidence::NotShared;
        }
        let name = policy.to_string();
        let LoginTally { yes, no, unknown } = match &self.shared {
            Some(_) => self.view.load().logins.get(&name).copied().unwrap_or_default(),
            None => self.evidence.tally(&name, Timestamp::now()),
        };
        LoginEvidence::Seen { checked: yes, unchecked: no, unknown }
    }

    /// How often a change of the evidence is worth a look: it is an hour's.
    pub fn report_interval(&self) -> Duration {
        self.options.timing.exchange * 6
    }

    /// When a policy last answered a check in any replica, as far as this one knows.
    pub fn last_check(&self, policy: &ObjectName) -> Option<Timestamp> {
        let name = policy.to_string();
        let shared = self.view.load().checks.get(&name).and_then(|at| Timestamp::from_second(*at).ok());
        self.last_checks.get(&name).max(shared)
    }

    async fn exchange(&self, leaves: bool) {
        let Some(shared) = &self.shared else { return };
        shared.write_marks().await;
        let logins = self.evidence.tallies(Timestamp::now());
        if let Some(view) = shared.exchange(logins, self.last_checks.all(), leaves).await {
            self.view.store(Arc::new(view));
        }
    }

    /// The time whose checks are all known.
    fn known(&self) -> Option<KnownTime> {
        let own = self.marks.known(Timestamp::now());
        match &self.shared {
            Some(_) => self
                .view
                .load()
                .known
                .map(|known| KnownTime { from: known.from.max(own.until - marks::RETENTION), ..known }),
            None if self.options.has_peers => None,
            None => Some(own),
        }
    }

    async fn judge_pending(&self) {
        let pending = {
            let mut received = self.lock();
            received.judging = received.pending.len();
            std::mem::take(&mut received.pending)
        };
        // After a read that failed, the others wait for the next round: each may take as long as an operation may.
        let is_reachable = AtomicBool::new(true);
        let judged: Vec<Option<PendingLogin>> = stream::iter(pending)
            .map(|login| self.judge(login, &is_reachable))
            .buffered(CONCURRENT_READS)
            .collect()
            .await;
        let mut received = self.lock();
        received.judging = 0;
        received.pending.extend(judged.into_iter().flatten());
        self.metrics.pending(received.pending.len());
    }

    /// Judges a login and counts it, or returns it when more may become known.
    async fn judge(&self, mut login: PendingLogin, is_reachable: &AtomicBool) -> Option<PendingLogin> {
        let known = self.known();
        let own = self.marks.last(self.marks.key(&login.sid, &login.client_id));
        let mut checked = self.options.timing.judge(login.at, own, known);
        // The marks of others are read when a login arrives, and once more when all of its time is known.
        let is_decisive = matches!(checked, Some(Checked::No | Checked::Unknown));
        if let Some(shared) = &self.shared
            && checked != Some(Checked::Yes)
            && (is_decisive || !login.was_read)
        {
            let last = match is_reachable.load(Ordering::Relaxed) {
                true => shared.last(&login.sid, &login.client_id).await,
                false => None,
            };
            is_reachable.fetch_and(last.is_some(), Ordering::Relaxed);
            login.was_read = last.is_some();
            let judge = |check| self.options.timing.judge(login.at, check, known);
            checked = match last {
                // A check of this replica after the login does not hide one before it that is shared.
                Some(last) if judge(last) == Some(Checked::Yes) => Some(Checked::Yes),
                Some(last) => judge(last.max(own)),
                None => None,
            };
        }
        if checked == Some(Checked::No) && self.may_be_checked_without_session(&login, known).await {
            checked = Some(Checked::Unknown);
        }
        if checked.is_none() && login.received.elapsed() < self.options.timing.patience {
            return Some(login);
        }
        self.count(&login.tenant, &login.policies, checked.unwrap_or(Checked::Unknown));
        None
    }

    /// Whether a check of the login's time named the application and no session: the Action may not see the session that the log
    /// names.
    async fn may_be_checked_without_session(&self, login: &PendingLogin, known: Option<KnownTime>) -> bool {
        // A check after the login may hide one before it.
        let fits = |check| self.options.timing.judge(login.at, check, known) != Some(Checked::No);
        fits(self.marks.last(self.marks.key("", &login.client_id)))
            || match &self.shared {
                Some(shared) => shared.last("", &login.client_id).await.is_none_or(fits),
                None => false,
            }
    }

    fn count(&self, tenant: &str, policies: &[ObjectName], checked: Checked) {
        self.metrics.login(tenant, checked);
        let now = Timestamp::now();
        for policy in policies {
            self.evidence.add(&policy.to_string(), checked, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
