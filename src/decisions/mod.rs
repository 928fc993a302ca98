//! Records of decisions, for the question why somebody was blocked: in memory, in the store that replicas share, and at a
//! collector.
//!
//! Every decision that is not a plain permission is recorded, and a sample of the others. A record holds users and sessions as
//! keyed hashes only. Those that stopped or ended a session are kept apart from all others, so that an outage of a tenant, which
//! makes a record of each login, does not displace them.

mod memory;
mod metrics;
mod shared;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use metrics::DecisionMetrics;

use crate::metrics::MetricRegistry;
use crate::policy::{Answer, LimitCheck, Reason, SessionRole, SessionView};
use crate::redis::Redis;
use crate::telemetry::{ExportedRecord, record_export};
use memory::RecordMemory;
use shared::SharedRecords;

/// How long a record is kept: somebody who was blocked asks on the same day.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// One plain permission of so many is recorded: enough to see what a usual one looks like.
const SAMPLE: u32 = 100;
/// The most sessions of a record: a user has a few, and a robot may have thousands.
const MAX_SESSIONS: usize = 50;
/// The most records of an answer.
pub const MAX_FOUND: usize = 1_000;

/// Why a login was decided as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The id of the request, which the Action logs.
    pub request_id: String,
    /// When the answer was given.
    pub at: Timestamp,
    /// The hash of the user, as in log lines.
    pub user: String,
    /// The client id of the application.
    pub client_id: String,
    /// The tenant; empty when no policy governed the login.
    pub tenant: String,
    /// The policy that governed the login.
    pub policy: Option<String>,
    /// `metadata.generation` of the policy.
    pub generation: Option<i64>,
    /// The override that chose the limits.
    #[serde(rename = "override")]
    pub override_name: Option<String>,
    /// The limits that applied.
    pub limits: Option<String>,
    /// Whether the login was blocked.
    pub block: bool,
    /// `reason` of the answer.
    pub reason: String,
    /// `audited_reason` of the answer.
    pub audited_reason: Option<String>,
    /// The limit that decided.
    pub limit: Option<u32>,
    /// Which sessions that limit counts.
    pub limit_scope: Option<String>,
    /// How many other sessions counted, logins in progress among them.
    pub active_sessions: Option<usize>,
    /// How many sessions were revoked.
    pub revoked_sessions: Option<usize>,
    /// What the user read.
    pub message: Option<String>,
    /// Whether the answer asked the Action to end the session.
    pub revoke_session: bool,
    /// The user's sessions that were listed for the decision, when it depended on them.
    pub sessions: Vec<RecordedSession>,
    /// How many more were listed.
    pub more_sessions: usize,
    /// The age of the remembered list, in seconds, when the login was allowed by it without a list of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listing_age_s: Option<u64>,
    /// How long the check took.
    pub duration_ms: u64,
}

/// A session of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedSession {
    /// The hash of its id.
    pub session: String,
    /// `current`, `ended`, `revoked`, `delegated`, `inactive` or `other`.
    pub role: String,
    /// The limits that count it.
    pub limits: Vec<String>,
    /// When it began.
    pub created_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// The browser that last used it, when it is a known one.
    #[serde(default)]
    pub browser: Option<Cow<'static, str>>,
    /// The system of that browser, when it is a known one.
    #[serde(default)]
    pub system: Option<Cow<'static, str>>,
}

/// Which records to find.
#[derive(Clone, Debug, Default)]
pub struct DecisionQuery {
    /// Of the user with this hash.
    pub user: Option<String>,
    /// Of this request.
    pub request_id: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Not after this time.
    pub until: Option<Timestamp>,
    /// The most records.
    pub limit: usize,
}

/// The records of decisions.
pub struct DecisionLog {
    hash_key: hmac::Key,
    memory: RecordMemory,
    shared: Option<Arc<SharedRecords>>,
    metrics: DecisionMetrics,
}

/// What a check adds to its answer for a record.
pub struct RecordedCheck<'a> {
    /// The id of the request.
    pub request_id: &'a str,
    /// The hash of the user.
    pub user: u64,
    /// The application.
    pub client_id: &'a str,
    /// The tenant of the policy.
    pub tenant: &'a str,
    /// The generation of the policy.
    pub generation: Option<i64>,
    /// The limits that applied, and the override that chose them.
    pub limit_check: Option<LimitCheck<'a>>,
    /// How long the check took.
    pub took: Duration,
    /// The age of the listing, when the answer rests on what is remembered.
    pub listing_age: Option<Duration>,
}

impl DecisionQuery {
    fn matches(&self, record: &DecisionRecord) -> bool {
        self.user.as_ref().is_none_or(|user| *user == record.user)
            && self.request_id.as_ref().is_none_or(|id| *id == record.request_id)
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at <= until)
    }
}

impl DecisionLog {
    /// Records in memory, and in Redis when replicas share one. `hash_key` is the key of the hashes in log lines.
    pub fn new(hash_key: hmac::Key, redis: Option<Redis>, registry: &MetricRegistry) -> Self {
        let metrics = DecisionMetrics::new(registry);
        let shared = redis.map(|redis| Arc::new(SharedRecords::new(redis, metrics.unshared.clone())));
        Self { hash_key, memory: RecordMemory::default(), shared, metrics }
    }

    /// The hash under which a user or a session appears in log lines and records.
    pub fn hash(&self, id: &str) -> String {
        hex(self.hash_number(id))
    }

    /// The same hash as a number.
    pub fn hash_number(&self, id: &str) -> u64 {
        let tag = hmac::sign(&self.hash_key, id.as_bytes());
        u64::from_be_bytes(tag.as_ref()[..8].try_into().expect("a tag is longer than that"))
    }

    /// Records a decision, or leaves it out when it is a plain permission that is not in the sample. `device` returns the browser
    /// and the system of a session; it is called for recorded sessions alone.
    pub fn note<'s>(
        &self,
        answer: &Answer,
        check: &RecordedCheck<'_>,
        sessions: impl Iterator<Item = (SessionView<'s>, &'s SessionRole)>,
        device: impl Fn(&str) -> (Option<&'static str>, Option<&'static str>),
    ) {
        let is_kept_apart = answer.block || answer.audited_reason.is_some() || answer.reason == Reason::Evicted;
        let is_warning = matches!(answer.reason, Reason::Failed(_) | Reason::TenantAmbiguous | Reason::TenantUnknown);
        let is_notable = is_kept_apart || is_warning;
        if !is_notable && rand::random_range(0..SAMPLE) != 0 {
            return;
        }
        let mut more_sessions = 0;
        let mut recorded = Vec::new();
        for (session, role) in sessions {
            if recorded.len() < MAX_SESSIONS {
                recorded.push(self.recorded(&session, role, device(session.id)));
            } else {
                more_sessions += 1;
            }
        }
        let record = DecisionRecord {
            request_id: check.request_id.to_owned(),
            at: Timestamp::now(),
            user: hex(check.user),
            client_id: check.client_id.to_owned(),
            tenant: check.tenant.to_owned(),
            policy: answer.policy.as_ref().map(ToString::to_string),
            generation: check.generation,
            override_name: check.limit_check.and_then(|limit_check| limit_check.override_name()).map(str::to_owned),
            limits: check.limit_check.map(|limit_check| limit_check.limits().to_string()),
            block: answer.block,
            reason: answer.reason.as_str().to_owned(),
            audited_reason: answer.audited_reason.map(|reason| reason.as_str().to_owned()),
            limit: answer.count.map(|count| count.limit),
            limit_scope: answer.count.map(|count| count.limit_scope.as_str().to_owned()),
            active_sessions: answer.count.map(|count| count.active),
            revoked_sessions: answer.revoked_sessions,
            message: answer.message.clone(),
            revoke_session: answer.revoke_session,
            sessions: recorded,
            more_sessions,
            listing_age_s: check.listing_age.map(|age| age.as_secs()),
            duration_ms: check.took.as_millis().try_into().unwrap_or(u64::MAX),
        };
        let Ok(text) = serde_json::to_string(&record) else { return };
        if let Some(export) = record_export() {
            export.send(exported(&record, text.clone(), is_warning));
        }
        if let Some(shared) = &self.shared {
            shared.enqueue(text.clone(), is_kept_apart);
        }
        self.memory.push(record.at, text, is_kept_apart);
        self.metrics.bytes.set(crate::metrics::to_i64(self.memory.bytes()));
    }

    fn recorded(
        &self,
        session: &SessionView<'_>,
        role: &SessionRole,
        (browser, system): (Option<&'static str>, Option<&'static str>),
    ) -> RecordedSession {
        RecordedSession {
            session: self.hash(session.id),
            role: role.as_str().to_owned(),
            limits: role.limit_scopes().iter().map(|scope| scope.as_str().to_owned()).collect(),
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            browser: browser.map(Cow::Borrowed),
            system: system.map(Cow::Borrowed),
        }
    }

    /// The records that match, the latest first: those of this replica, and those of all replicas when they share a store.
    /// Returns also whether the store was read.
    pub async fn find(&self, query: &DecisionQuery) -> (Vec<DecisionRecord>, bool) {
        let limit = query.limit.clamp(1, MAX_FOUND);
        let oldest = Timestamp::now() - RETENTION;
        let take = |text: &str| read(text).filter(|record| record.at >= oldest && query.matches(record));
        let mut found: Vec<DecisionRecord> = self.memory.texts().iter().filter_map(|text| take(text)).collect();
        let shared = match &self.shared {
            None => None,
            Some(shared) => shared.find(take, limit).await,
        };
        let is_shared = shared.is_some();
        found.extend(shared.into_iter().flatten());
        keep_latest(&mut found, limit);
        (found, is_shared)
    }

    /// Forgets records that are too old.
    pub fn sweep(&self) {
        self.memory.sweep(Timestamp::now() - RETENTION);
        self.metrics.bytes.set(crate::metrics::to_i64(self.memory.bytes()));
    }

    /// Writes records to the shared store for as long as the process runs. It ends at once when replicas share none.
    pub async fn share(&self) {
        if let Some(shared) = &self.shared {
            shared.write().await;
        }
    }

    /// Whether replicas share the records.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }
}

/// The record for a collector: the JSON of `why`, and what a store can search for.
fn exported(record: &DecisionRecord, text: String, is_warning: bool) -> ExportedRecord {
    let decision = if record.block { "block" } else { "allow" };
    let attributes = [
        ("session_checker.decision", Some(decision)),
        ("session_checker.reason", Some(record.reason.as_str())),
        ("session_checker.audited_reason", record.audited_reason.as_deref()),
        ("session_checker.policy", record.policy.as_deref()),
        ("session_checker.tenant", Some(record.tenant.as_str())),
        ("session_checker.user", Some(record.user.as_str())),
        ("session_checker.client_id", Some(record.client_id.as_str())),
        ("session_checker.request_id", Some(record.request_id.as_str())),
    ];
    let is_known = |(name, value): (&'static str, Option<&str>)| Some((name, value?.to_owned()));
    ExportedRecord {
        event_name: "session_checker.decision",
        at: record.at,
        is_warning,
        body: text,
        attributes: attributes.into_iter().filter_map(is_known).collect(),
    }
}

fn hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Keeps the latest records, in their order, and each of them once.
pub fn keep_latest(records: &mut Vec<DecisionRecord>, limit: usize) {
    records.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.request_id.cmp(&b.request_id)));
    records.dedup_by(|a, b| (&a.request_id, a.at) == (&b.request_id, b.at));
    records.truncate(limit);
}

fn read(text: &str) -> Option<DecisionRecord> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests;
