//! Writes the status of policies, and Events about them, while this replica holds the Lease.
//!
//! The reports of the current snapshot are compared with the status that the watch last showed, and only differences are
//! written. A write changes the object, the watch shows the change, and the comparison then finds no difference: a write
//! does not cause another. After a change only the policies that it concerns are compared; now and then all of them are.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

use super::Observations;
use super::conditions::{ConditionEvent, PolicyActivity, condition_events, is_outdated, status};
use super::contention::{Contention, StatusDigest, WriteDone};
use super::kstatus;
use super::lease::{Candidate, Leadership};
use super::unexamined::Unexamined;
use crate::controller::client::describe;
use crate::controller::metrics::{ControllerMetrics, StatusWrite};
use crate::controller::objects::{self, ObservedPolicies, ObservedPolicy};
use crate::coverage::Coverage;
use crate::crd::{API_VERSION, KIND, SessionPolicy, SessionPolicyStatus};
use crate::policy::{ObjectName, PolicyReport};
use crate::snapshot::{Publisher, Snapshot};

/// The controller that Events name as their reporter.
const REPORTER: &str = "sessionchecker.dev/session-checker";
/// How many statuses are written at the same time. A new leader may have thousands to write, and must not starve other
/// clients of the API server.
const MAX_CONCURRENT_WRITES: usize = 4;
/// The longest note of an Event. The API server accepts 1,024 bytes.
const MAX_NOTE_BYTES: usize = 1000;
/// The overwrite in a row that people are told of. The first may be an edit by hand.
const TOLD_OVERWRITES: u32 = 2;
/// How many recorders are kept. Each holds one note of at most [`MAX_NOTE_BYTES`], so that they stay below a few MB.
const MAX_RECORDERS: usize = 1_000;

/// Writes statuses and Events.
pub(super) struct StatusWriter {
    client: Client,
    /// The field manager of the statuses.
    manager: String,
    candidate: Candidate,
    leadership: Leadership,
    current: Arc<ArcSwap<Snapshot>>,
    snapshot_changes: watch::Receiver<u64>,
    observed: Arc<ObservedPolicies>,
    metrics: Arc<ControllerMetrics>,
    coverage: Arc<Coverage>,
    /// One recorder per note. A recorder merges Events that differ in nothing but their notes, and the note is what a
    /// person reads. A note that is published again is counted by its recorder.
    recorders: Mutex<LinkedHashMap<String, Recorder>>,
    contention: Mutex<Contention>,
}

impl StatusWriter {
    pub fn new(
        client: Client,
        manager: String,
        candidate: Candidate,
        leadership: Leadership,
        publisher: &Publisher,
        observations: Observations,
        metrics: Arc<ControllerMetrics>,
    ) -> Self {
        let Observations { policies: observed, coverage } = observations;
        let (current, snapshot_changes) = (publisher.current(), publisher.changes());
        let (recorders, contention) = (Mutex::default(), Mutex::default());
        Self {
            client,
            manager,
            candidate,
            leadership,
            current,
            snapshot_changes,
            observed,
            metrics,
            coverage,
            recorders,
            contention,
        }
    }

    /// Writes for as long as the process runs.
    pub async fn run(mut self) -> Infallible {
        let mut observed_changes = self.observed.changes();
        let interval = self.coverage.report_interval();
        let mut unexamined = Unexamined::all(Instant::now(), interval);
        loop {
            if !self.leadership.is_held() {
                // Another replica writes meanwhile.
                unexamined = Unexamined::all(Instant::now(), interval);
                self.leadership.held().await;
            }
            self.snapshot_changes.mark_unchanged();
            observed_changes.mark_unchanged();
            self.write_outdated(&mut unexamined).await;
            tokio::select! {
                Ok(()) = self.snapshot_changes.changed() => {}
                Ok(()) = observed_changes.changed() => {}
                () = sleep_until(unexamined.next_at()) => {}
                () = self.leadership.lost() => {}
            }
        }
    }

    /// Writes the statuses that are outdated.
    async fn write_outdated(&self, unexamined: &mut Unexamined) {
        let snapshot = self.current.load_full();
        unexamined.extend(&snapshot.reports, self.observed.take_changed(), Instant::now());
        self.forget_contention(&snapshot);
        let mut writes = FuturesUnordered::new();
        loop {
            // Once there is a new snapshot, the rest of these reports is out of date. The next round writes the new ones.
            while writes.len() < MAX_CONCURRENT_WRITES
                && !self.snapshot_changes.has_changed().unwrap_or_default()
                && let Some(name) = unexamined.next()
            {
                // Thousands of reports may need no write. Without a yield they would delay checks on this worker.
                consume_budget().await;
                let Some(report) = snapshot.report(&name) else { continue };
                if let Some((observed, status)) = self.outdated(report, unexamined) {
                    writes.push(async move { (name, self.write(&report.name, observed, status).await) });
                }
            }
            match writes.next().await {
                Some((name, Some(due))) => unexamined.look_again(&name, due),
                Some((_, None)) => {}
                None => return,
            }
        }
    }

    /// The status to write, when it differs from the observed one. While the snapshot and the watch show different
    /// generations, nothing is written: one of the two is about to change. A status that is to be written later is looked at
    /// again then.
    fn outdated(
        &self,
        report: &PolicyReport,
        unexamined: &mut Unexamined,
    ) -> Option<(ObservedPolicy, SessionPolicyStatus)> {
        let (logins, last_check) = (self.coverage.evidence(&report.name), self.coverage.last_check(&report.name));
        let activity = PolicyActivity { logins, last_check };
        let observed = self.observed.get(&report.name).filter(|observed| observed.generation == report.generation)?;
        let (now, time) = (Instant::now(), Timestamp::now());
        let status = status(report, activity, &observed.status, time);
        if let Some(at) = kstatus::changes_at(&status) {
            let wait = Duration::try_from(at.duration_since(time)).unwrap_or_default();
            unexamined.look_again(&report.name, now + wait);
        }
        if !is_outdated(report, &status, &observed.status) {
            return None;
        }
        let due = self.contention().due(&report.name, StatusDigest::of(&observed.uid, &status), now);
        if due > now {
            unexamined.look_again(&report.name, due);
            return None;
        }
        Some((observed, status))
    }

    /// Writes one status, then publishes Events about its changes. Returns when to write it again, if that failed.
    async fn write(&self, name: &ObjectName, observed: ObservedPolicy, status: SessionPolicyStatus) -> Option<Instant> {
        // The next leader writes it. If that is this replica, it begins again.
        if !self.leadership.is_held() {
            return Some(Instant::now());
        }
        // A dynamic object: the response must parse even when the stored spec does not match the schema.
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), name.namespace(), &ApiResource::erase::<SessionPolicy>(&()));
        // With the uid: a policy that was deleted and created again does not receive the status of the old one.
        let patch = json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": { "name": name.name(), "uid": observed.uid }, "status": status,
        });
        let params = PatchParams::apply(&self.manager).force();
        let wait = self.candidate.request_timeout();
        let write = async {
            if status.limits.is_none() && observed.status.limits.is_some() {
                // A field that is left out stays when another manager owns it too, such as an earlier release.
                let none = json!({ "metadata": { "uid": observed.uid }, "status": { "limits": null } });
                api.patch_status(name.name(), &PatchParams::default(), &Patch::Merge(&none)).await?;
            }
            api.patch_status(name.name(), &params, &Patch::Apply(&patch)).await
        };
        let error = match timeout(wait, write).await {
            Ok(Ok(written)) => {
                self.metrics.status_written(StatusWrite::Done);
                self.written(name, observed, status, objects::version(&written.metadata)).await;
                return None;
            }
            // The policy was deleted, or created again. The watch will show it.
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => {
                self.metrics.status_written(StatusWrite::Gone);
                return None;
            }
            Ok(Err(error)) => describe(&error),
            Err(_) => "the API server did not answer in time".to_owned(),
        };
        self.metrics.status_written(StatusWrite::Failed);
        let failed = self.contention().failed(name, error.clone(), Instant::now());
        if failed.is_new {
            tracing::warn!(policy = %name, error, "status cannot be written; retrying with growing pauses");
        }
        Some(failed.due)
    }

    /// Records a status that was written, and publishes Events about its changes.
    async fn written(&self, name: &ObjectName, observed: ObservedPolicy, status: SessionPolicyStatus, version: u64) {
        let WriteDone { overwritten, is_recovery } =
            self.contention().written(name, StatusDigest::of(&observed.uid, &status), Instant::now());
        if is_recovery {
            tracing::info!(policy = %name, "status can be written again");
        }
        let events = match overwritten {
            0 => condition_events(&status, &observed.status),
            // What another writer says is no change of the policy.
            _ => Vec::from_iter((overwritten == TOLD_OVERWRITES).then(|| self.overwritten(name, &observed))),
        };
        if overwritten > 0 {
            self.metrics.status_overwritten();
        }
        self.observed.record_write(name, &observed.uid, status, version);
        for event in events.into_iter().filter(|_| self.leadership.is_held()) {
            self.publish_event(name, &observed.uid, event).await;
        }
    }

    /// Tells people that another writer overwrites the status of a policy.
    fn overwritten(&self, name: &ObjectName, observed: &ObservedPolicy) -> ConditionEvent {
        let other = observed.status_managers.iter().find(|manager| **manager != self.manager);
        let other = other.map_or("another writer", String::as_str);
        let (policy, manager) = (name.to_string(), &self.manager);
        tracing::warn!(
            policy,
            manager,
            other,
            "another writer overwrites the status; restoring it with growing pauses"
        );
        ConditionEvent {
            is_good: false,
            reason: "StatusOverwritten".to_owned(),
            note: format!(
                "{other} overwrites the status that {manager} writes, which now restores it with pauses of up to five minutes: \
                 give each release that sees this policy a class of its own (chart value className, spec.className) or other \
                 namespaces"
            ),
        }
    }

    /// Forgets the writes of policies that are gone, when there are many.
    fn forget_contention(&self, snapshot: &Snapshot) {
        let mut contention = self.contention();
        if contention.len() > snapshot.reports.len() {
            let names: HashSet<&ObjectName> = snapshot.reports.iter().map(|report| &report.name).collect();
            contention.retain(|name| names.contains(name));
        }
    }

    fn contention(&self) -> MutexGuard<'_, Contention> {
        self.contention.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn publish_event(&self, name: &ObjectName, uid: &str, event: ConditionEvent) {
        let note = truncated(event.note);
        let recorder = self.recorder(&note);
        let event = Event {
            type_: if event.is_good { EventType::Normal } else { EventType::Warning },
            reason: event.reason,
            note: Some(note),
            action: "Watch".to_owned(),
            secondary: None,
        };
        let policy = ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(KIND.to_owned()),
            namespace: Some(name.namespace().to_owned()),
            name: Some(name.name().to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        match timeout(self.candidate.request_timeout(), recorder.publish(&event, &policy)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(policy = %name, error = describe(&error), "Event cannot be written"),
            Err(_) => tracing::warn!(policy = %name, "Event cannot be written in time"),
        }
    }

    fn recorder(&self, note: &str) -> Recorder {
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let instance = Some(self.candidate.identity.clone());
            Recorder::new(self.client.clone(), Reporter { controller: REPORTER.to_owned(), instance })
        };
        let recorder = recorders.entry(note.to_owned()).or_insert_with(new).clone();
        if recorders.len() > MAX_RECORDERS {
            recorders.pop_front();
        }
        recorder
    }
}

fn truncated(mut note: String) -> String {
    if note.len() > MAX_NOTE_BYTES {
        let end = note.floor_char_boundary(MAX_NOTE_BYTES - '…'.len_utf8());
        note.truncate(end);
        note.push('…');
    }
    note
}
