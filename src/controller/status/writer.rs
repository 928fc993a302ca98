//! Writes the status of policies, and Events about them, while this replica holds the Lease.
//!
//! What is in force is compared with what the API server holds, as the watch shows it; only what differs is written, so
//! that a write, which the watch shows in turn, is not followed by another.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hashlink::LinkedHashMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};

use super::conditions::{ConditionEvent, condition_events, is_outdated, status};
use super::lease::{Candidate, Leadership};
use crate::controller::metrics::{ControllerMetrics, StatusWrite};
use crate::controller::objects::{Seen, SeenPolicy};
use crate::controller::{FIELD_MANAGER, REPORTER};
use crate::crd::{API_VERSION, KIND, SessionPolicy, SessionPolicyStatus};
use crate::policy::{ObjectName, PolicyReport};
use crate::snapshot::Snapshot;

/// How many statuses are written at the same time: a new holder may have thousands to write.
const MAX_CONCURRENT_WRITES: usize = 4;
/// How long until what could not be written is tried again, at first and at most.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest note of an Event, in bytes (the API server's bound is 1,024).
const MAX_NOTE_BYTES: usize = 1000;

/// How many notes are remembered, so that one that comes again is counted and not told anew.
const MAX_NOTES: usize = 1_000;

/// Writes statuses and Events.
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// What is in force.
    pub current: Arc<ArcSwap<Snapshot>>,
    /// Hears when that changes.
    pub changes: watch::Receiver<u64>,
    /// What the API server holds.
    pub seen: Arc<Seen>,
    /// Whether this replica speaks for all.
    pub leadership: Leadership,
    /// How long a write may take, and who writes.
    pub candidate: Candidate,
    /// Counts the writes.
    pub metrics: Arc<ControllerMetrics>,
}

impl Writer {
    /// Writes for as long as the process lives.
    pub async fn run(mut self) -> Infallible {
        let reporter = Reporter { controller: REPORTER.to_owned(), instance: Some(self.candidate.identity.clone()) };
        let recorders = Recorders { client: self.client.clone(), reporter, by_note: Mutex::default() };
        let mut seen = self.seen.changes();
        let mut pause = RETRY_BACKOFF.0;
        loop {
            self.leadership.held().await;
            self.changes.mark_unchanged();
            seen.mark_unchanged();
            let retry_at = if self.write_all(&recorders).await {
                pause = RETRY_BACKOFF.0;
                None
            } else {
                let at = Instant::now() + pause;
                pause = (pause * 2).min(RETRY_BACKOFF.1);
                Some(at)
            };
            tokio::select! {
                Ok(()) = self.changes.changed() => {}
                Ok(()) = seen.changed() => {}
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {}
                () = self.leadership.lost() => {}
            }
        }
    }

    /// Writes every status that does not say what there is to say; whether nothing is left to be written.
    async fn write_all(&self, recorders: &Recorders) -> bool {
        let snapshot = self.current.load_full();
        let mut reports = snapshot.reports.iter();
        let mut writes = FuturesUnordered::new();
        let mut all = true;
        loop {
            // Once something else is in force, what is left here is not to be said any more: the next round says it.
            while writes.len() < MAX_CONCURRENT_WRITES
                && !self.changes.has_changed().unwrap_or_default()
                && let Some(report) = reports.next()
            {
                // Thousands are looked through without a write, and checks want to be answered meanwhile.
                consume_budget().await;
                writes.extend(
                    self.outdated(report).map(|(seen, status)| self.write(recorders, &report.name, seen, status)),
                );
            }
            match writes.next().await {
                Some(done) => all &= done,
                None => return all,
            }
        }
    }

    /// The status to write, when the API server holds another. What only one of the two knows is left until both do.
    fn outdated(&self, report: &PolicyReport) -> Option<(SeenPolicy, SessionPolicyStatus)> {
        let seen = self.seen.policy(&report.name).filter(|seen| seen.generation == report.generation)?;
        let status = status(report, &seen.status, Timestamp::now());
        is_outdated(report, &status, &seen.status).then_some((seen, status))
    }

    /// Writes one status and then tells what is new in it; whether it needs no second try.
    async fn write(
        &self,
        recorders: &Recorders,
        name: &ObjectName,
        seen: SeenPolicy,
        status: SessionPolicyStatus,
    ) -> bool {
        if !self.leadership.is_held() {
            return false;
        }
        // Whatever the spec says: the answer has to be readable.
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &name.namespace, &ApiResource::erase::<SessionPolicy>(&()));
        // The uid keeps a status from a policy that was made anew under the same name.
        let patch = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": { "name": name.name, "uid": seen.uid }, "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let wait = self.candidate.request_timeout();
        let result = match timeout(wait, api.patch_status(&name.name, &params, &Patch::Apply(&patch))).await {
            Ok(Ok(_)) => StatusWrite::Done,
            // Deleted, or made anew: the watch will say.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => StatusWrite::Gone,
            Ok(Err(error)) => {
                tracing::warn!(policy = %name, %error, "the status cannot be written");
                StatusWrite::Failed
            }
            Err(_) => {
                tracing::warn!(policy = %name, "the status cannot be written in time");
                StatusWrite::Failed
            }
        };
        self.metrics.status_written(result);
        if result == StatusWrite::Done {
            let condition_events = condition_events(&status, &seen.status);
            self.seen.record_write(name, &seen.uid, status);
            for condition_events in condition_events.into_iter().filter(|_| self.leadership.is_held()) {
                self.publish_event(recorders, name, &seen.uid, condition_events).await;
            }
        }
        result != StatusWrite::Failed
    }

    async fn publish_event(
        &self,
        recorders: &Recorders,
        name: &ObjectName,
        uid: &str,
        condition_events: ConditionEvent,
    ) {
        let note = shortened(condition_events.note);
        let recorder = recorders.of(&note);
        let event = Event {
            type_: if condition_events.good { EventType::Normal } else { EventType::Warning },
            reason: condition_events.reason,
            note: Some(note),
            action: "Watch".to_owned(),
            secondary: None,
        };
        let policy = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(KIND.to_owned()),
            namespace: Some(name.namespace.clone()),
            name: Some(name.name.clone()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        match timeout(self.candidate.request_timeout(), recorder.publish(&event, &policy)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(policy = %name, %error, "an Event cannot be written"),
            Err(_) => tracing::warn!(policy = %name, "an Event cannot be written in time"),
        }
    }
}

/// Who publishes Events. Kube's recorder takes two for one when only their notes differ, and the note is what a person reads:
/// so each note has one of its own.
struct Recorders {
    client: Client,
    reporter: Reporter,
    by_note: Mutex<LinkedHashMap<String, Recorder>>,
}

impl Recorders {
    fn of(&self, note: &str) -> Recorder {
        let mut by_note = self.by_note.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        let recorder = by_note.entry(note.to_owned()).or_insert_with(new).clone();
        if by_note.len() > MAX_NOTES {
            by_note.pop_front();
        }
        recorder
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > MAX_NOTE_BYTES {
        let end = note.floor_char_boundary(MAX_NOTE_BYTES - '…'.len_utf8());
        note.truncate(end);
        note.push('…');
    }
    note
}
