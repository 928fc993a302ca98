//! Applies the events of the watches to the index, publishes the result, and keeps one watch per referenced Secret.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use serde_json::Value;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::client::ClusterConnection;
use super::grace::SecretDeletions;
use super::metrics::ControllerMetrics;
use super::objects::{ObservedPolicies, ObservedPolicy};
use super::secret_clients::SecretClients;
use super::startup::{SecretAnswer, StartupLatches};
use super::watch::{self, WatchError, WatchEvent};
use super::watch_failures::{Watch, WatchId};
use crate::crd::DEFAULT_CLASS;
use crate::policy::{Manifest, ObjectName, SecretManifest};
use crate::readiness::Readiness;
use crate::snapshot::{AuditSwitch, ObservedState, Publisher};

/// How long a Secret that was never read may fail before the policies that name it say so. With the longest pause between two
/// tries of a watch it is less than the time for which checks wait for it.
const UNREADABLE_AFTER: Duration = Duration::from_secs(15);

/// An event of one of the watches: of policies, with the position of the watched namespace, or of a Secret.
enum ClusterEvent {
    Policies(usize, WatchEvent<Box<(Manifest, ObservedPolicy)>>),
    /// An event of ConfigMaps that force policies to audit, by the namespace that is watched.
    AuditSwitches(Option<String>, WatchEvent<(String, AuditSwitch)>),
    Secret(ObjectName, Result<Option<SecretManifest>, WatchError>),
    /// A deleted Secret did not come back in time.
    SecretEnded(ObjectName),
}

struct Reconciler {
    connection: ClusterConnection,
    publisher: Arc<Publisher>,
    observed: Arc<ObservedPolicies>,
    metrics: Arc<ControllerMetrics>,
    watches: SelectAll<BoxStream<'static, ClusterEvent>>,
    /// The names of the policies that exist, by the position of the watched namespace.
    existing: Vec<BTreeSet<ObjectName>>,
    secret_clients: SecretClients,
    secret_watches: HashMap<ObjectName, SecretWatch>,
    deletions: SecretDeletions,
    /// The namespaces with a ConfigMap that may force policies to audit, by the namespace that is watched.
    switches: HashMap<Option<String>, BTreeSet<String>>,
    startup: StartupLatches,
}

/// The watch of a Secret.
struct SecretWatch {
    /// Ends it.
    end: CancellationToken,
    since: Instant,
}

/// Publishes the policies of a cluster for as long as the process runs. `readiness` waits from the call on, not only
/// from the first poll.
pub fn follow_cluster(
    connection: ClusterConnection,
    publisher: Arc<Publisher>,
    observed: Arc<ObservedPolicies>,
    metrics: Arc<ControllerMetrics>,
    readiness: Readiness,
) -> impl Future<Output = Result<Infallible, JoinError>> + Send {
    let mut watches = SelectAll::new();
    for (position, namespace) in connection.watched_namespaces.iter().enumerate() {
        let namespace = namespace.as_deref();
        let events = watch::policies(&connection, namespace);
        watches.push(events.map(move |event| ClusterEvent::Policies(position, event)).boxed());
    }
    let switches = connection.switch_namespaces();
    let startup =
        StartupLatches::new(readiness, &connection.watched_namespaces, switches.iter().cloned(), Instant::now());
    for namespace in switches {
        let name = connection.audit_switch.as_deref().unwrap_or_default();
        let events = watch::audit_switches(&connection, name, namespace.as_deref());
        watches.push(events.map(move |event| ClusterEvent::AuditSwitches(namespace.clone(), event)).boxed());
    }
    let reconciler = Reconciler {
        watches,
        existing: vec![BTreeSet::new(); connection.watched_namespaces.len()],
        secret_clients: SecretClients::new(connection.clone()),
        connection,
        publisher,
        observed,
        metrics,
        secret_watches: HashMap::new(),
        deletions: SecretDeletions::default(),
        switches: HashMap::new(),
        startup,
    };
    reconciler.run()
}

impl Reconciler {
    async fn run(mut self) -> Result<Infallible, JoinError> {
        loop {
            let deadline = self.startup.deadline();
            let next_end = self.deletions.next_end();
            let first = tokio::select! {
                // First: a Secret that is back by now is not ended.
                biased;
                event = self.watches.next() => event.expect("a watch does not end"),
                () = sleep_until(next_end.unwrap_or_else(Instant::now)), if next_end.is_some() => {
                    let ended = self.deletions.take_ended(Instant::now());
                    self.reconcile(ended.into_iter().map(ClusterEvent::SecretEnded).collect()).await?;
                    continue;
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.startup.stop_waiting(Instant::now());
                    continue;
                }
            };
            let mut batch = vec![first];
            // Events that have arrived already are published together.
            while let Some(Some(more)) = self.watches.next().now_or_never() {
                batch.push(more);
            }
            self.reconcile(batch).await?;
        }
    }

    /// Publishes a batch of events, and starts and stops watches of Secrets as policies reference them.
    async fn reconcile(&mut self, batch: Vec<ClusterEvent>) -> Result<(), JoinError> {
        let started = Instant::now();
        let generation = self.publisher.current().load().generation;
        let mut index_changes = Vec::new();
        let mut secret_answers = Vec::new();
        let mut listed_positions = Vec::new();
        let mut known_switches = Vec::new();
        for event in batch {
            match event {
                ClusterEvent::Policies(position, event) => {
                    if matches!(event, WatchEvent::All(_)) {
                        listed_positions.push(position);
                    }
                    self.on_policies(position, event, &mut index_changes);
                }
                ClusterEvent::AuditSwitches(namespace, event) => {
                    if matches!(event, WatchEvent::All(_) | WatchEvent::Failed(WatchError::Forbidden(_))) {
                        known_switches.push(namespace.clone());
                    }
                    self.on_audit_switches(namespace, event, &mut index_changes);
                }
                ClusterEvent::Secret(name, event) => {
                    match SecretAnswer::of(&event) {
                        Ok(answer) => secret_answers.push((name.clone(), answer)),
                        Err(error) => self.startup.explain_secret(&name, &error.to_string()),
                    }
                    self.on_secret(&name, event, &mut index_changes);
                }
                ClusterEvent::SecretEnded(name) => {
                    tracing::info!(secret = %name, "deleted Secret did not come back; it is no longer used");
                    index_changes.push(IndexChange::SecretMissing(name));
                }
            }
        }
        if !index_changes.is_empty() {
            let (publisher, own) = (Arc::clone(&self.publisher), self.connection.namespace.clone());
            let watched: BTreeSet<ObjectName> = self.secret_watches.keys().cloned().collect();
            let (added, removed) = spawn_blocking(move || {
                publisher.update(|observed| apply_changes(observed, index_changes, &watched, &own))
            })
            .await?;
            for name in &removed {
                if let Some(watch) = self.secret_watches.remove(name) {
                    watch.end.cancel();
                }
                self.metrics.watch_failures.forget(&WatchId::secret(name));
                self.deletions.forget(name);
            }
            self.startup.forget_secrets(&removed);
            added.into_iter().for_each(|name| self.watch_secret(name));
            if self.secret_watches.is_empty() {
                self.metrics.watches_nothing(Watch::Secrets);
            }
            let replaced = self.publisher.current().load().generation != generation;
            self.metrics.reconciled(replaced, started.elapsed());
        }
        // In this order: the latches of the Secrets exist by now, so a replica is not ready in between.
        self.startup.release_switches(&known_switches);
        let now = Instant::now();
        self.startup.release_policies(&listed_positions, now);
        self.startup.secrets_answered(&secret_answers, now);
        Ok(())
    }

    fn on_policies(
        &mut self,
        position: usize,
        event: WatchEvent<Box<(Manifest, ObservedPolicy)>>,
        index_changes: &mut Vec<IndexChange>,
    ) {
        let watch = WatchId::policies(self.connection.watched_namespaces[position].as_deref());
        match event {
            WatchEvent::All(policies) => {
                self.watch_succeeded(&watch);
                let before = std::mem::take(&mut self.existing[position]);
                policies.into_iter().for_each(|policy| self.insert_policy(position, *policy, true, index_changes));
                for name in before.difference(&self.existing[position]) {
                    self.observed.remove(name);
                    index_changes.push(IndexChange::PolicyDeleted(name.clone()));
                }
            }
            WatchEvent::Changed(policy) => {
                self.watch_succeeded(&watch);
                self.insert_policy(position, *policy, false, index_changes);
            }
            WatchEvent::Deleted(policy) => {
                let name = policy.0.name;
                self.existing[position].remove(&name);
                self.observed.remove(&name);
                index_changes.push(IndexChange::PolicyDeleted(name));
            }
            WatchEvent::Failed(error) => {
                self.startup.explain_policies(position, &error.to_string());
                self.watch_failed(watch, &error);
            }
        }
    }

    fn on_audit_switches(
        &mut self,
        watched: Option<String>,
        event: WatchEvent<(String, AuditSwitch)>,
        index_changes: &mut Vec<IndexChange>,
    ) {
        let watch = WatchId::audit_switches(watched.as_deref());
        let known = self.switches.entry(watched).or_default();
        let mut ended = Vec::new();
        match event {
            WatchEvent::All(switches) => {
                let before = std::mem::take(known);
                known.extend(switches.iter().map(|(namespace, _)| namespace.clone()));
                ended.extend(before.difference(known).cloned());
                index_changes
                    .extend(switches.into_iter().map(|(at, switch)| IndexChange::AuditSwitch(at, Some(switch))));
                self.watch_succeeded(&watch);
            }
            WatchEvent::Changed((namespace, switch)) => {
                known.insert(namespace.clone());
                index_changes.push(IndexChange::AuditSwitch(namespace, Some(switch)));
                self.watch_succeeded(&watch);
            }
            WatchEvent::Deleted((namespace, _)) => {
                known.remove(&namespace);
                ended.push(namespace);
            }
            WatchEvent::Failed(error) => self.watch_failed(watch, &error),
        }
        index_changes.extend(ended.into_iter().map(|namespace| IndexChange::AuditSwitch(namespace, None)));
    }

    fn insert_policy(
        &mut self,
        position: usize,
        (manifest, observed): (Manifest, ObservedPolicy),
        is_listed: bool,
        index_changes: &mut Vec<IndexChange>,
    ) {
        if !is_of_class(&manifest, &self.connection.class_name) {
            // To this service it does not exist. When it was of this class before, it ends here as if it was deleted.
            if self.existing[position].remove(&manifest.name) {
                self.observed.remove(&manifest.name);
                index_changes.push(IndexChange::PolicyDeleted(manifest.name));
            }
            return;
        }
        self.existing[position].insert(manifest.name.clone());
        self.observed.insert(manifest.name.clone(), observed, is_listed);
        index_changes.push(IndexChange::Policy(manifest));
    }

    fn on_secret(
        &mut self,
        name: &ObjectName,
        event: Result<Option<SecretManifest>, WatchError>,
        index_changes: &mut Vec<IndexChange>,
    ) {
        let watch = WatchId::secret(name);
        match event {
            Ok(secret) => {
                self.watch_succeeded(&watch);
                match secret {
                    Some(secret) => {
                        self.deletions.seen(name);
                        index_changes.push(IndexChange::Secret(secret));
                    }
                    None if self.deletions.missing(name, Instant::now()) => {
                        index_changes.push(IndexChange::SecretMissing(name.clone()));
                    }
                    None => {}
                }
            }
            Err(error) => {
                let since = self.secret_watches.get(name).map(|watch| watch.since);
                if matches!(error, WatchError::Forbidden(_)) {
                    index_changes.push(IndexChange::SecretForbidden(name.clone()));
                } else if since.is_some_and(|since| since.elapsed() >= UNREADABLE_AFTER) {
                    index_changes.push(IndexChange::SecretFailed(name.clone(), error.to_string()));
                }
                self.watch_failed(watch, &error);
            }
        }
    }

    fn watch_secret(&mut self, name: ObjectName) {
        let end = CancellationToken::new();
        let secret = name.clone();
        let (client, place) = self.secret_clients.client();
        let events = watch::secret(client, &name).map(move |event| {
            let _held = &place;
            ClusterEvent::Secret(secret.clone(), event)
        });
        self.watches.push(events.take_until(end.clone().cancelled_owned()).boxed());
        let since = Instant::now();
        self.startup.wait_for_secret(&name, since);
        self.secret_watches.insert(name, SecretWatch { end, since });
    }

    /// Counts a failure, and logs it unless the same was logged a moment ago.
    fn watch_failed(&self, id: WatchId, error: &WatchError) {
        let (kind, watch) = (id.kind, id.to_string());
        self.metrics.restarted(kind);
        if !self.metrics.watch_failures.failed(id, error.to_string(), Instant::now()) {
            return;
        }
        match kind {
            Watch::Policies if self.startup.waits_for_policies() => {
                tracing::warn!(watch, %error, "watch failed; retrying. The replica is not ready until it works.");
            }
            Watch::Policies => {
                tracing::warn!(watch, %error, "watch failed; retrying. The last known policies stay active.");
            }
            Watch::Secrets if self.startup.waits_for_secrets() => {
                tracing::warn!(watch, %error, "watch failed; retrying. The replica is not ready without its Secrets.");
            }
            Watch::Secrets => {
                tracing::warn!(watch, %error, "watch failed; retrying. The last known Secret stays in use.");
            }
            Watch::AuditSwitches => {
                tracing::warn!(watch, %error, "watch failed; retrying. Forced audit stays as it is.");
            }
        }
    }

    fn watch_succeeded(&self, watch: &WatchId) {
        if self.metrics.watch_failures.forget(watch) {
            tracing::info!(%watch, "watch works again");
        }
    }
}

/// Whether a policy is of a class. A class that is not a text is no class of any service.
fn is_of_class(manifest: &Manifest, class_name: &str) -> bool {
    match &manifest.spec["className"] {
        Value::Null => class_name == DEFAULT_CLASS,
        class => class == class_name,
    }
}

/// A change of the index.
enum IndexChange {
    Policy(Manifest),
    PolicyDeleted(ObjectName),
    Secret(SecretManifest),
    SecretMissing(ObjectName),
    SecretForbidden(ObjectName),
    /// The API server fails to answer about a Secret, with this cause.
    SecretFailed(ObjectName, String),
    /// The ConfigMap of a namespace that may force policies to audit; `None` when it was deleted.
    AuditSwitch(String, Option<AuditSwitch>),
}

/// Applies changes to the index. Returns the Secrets to watch from now on, and those to watch no longer.
fn apply_changes(
    observed: &mut ObservedState,
    index_changes: Vec<IndexChange>,
    watched: &BTreeSet<ObjectName>,
    own_namespace: &str,
) -> (Vec<ObjectName>, Vec<ObjectName>) {
    let index = &mut observed.index;
    let mut references_may_change = false;
    for change in index_changes {
        let is_policy = matches!(change, IndexChange::Policy(_) | IndexChange::PolicyDeleted(_));
        let revision = index.revision();
        match change {
            IndexChange::Policy(manifest) => index.apply_stored_policy(&manifest),
            IndexChange::PolicyDeleted(name) => index.remove_policy(&name),
            IndexChange::Secret(secret) => index.apply_secret(&secret),
            IndexChange::SecretMissing(name) => index.remove_secret(&name),
            IndexChange::SecretForbidden(name) => index.forbid_secret(&name),
            IndexChange::SecretFailed(name, cause) => index.fail_secret(&name, &cause),
            // The ConfigMap beside the service is for all of its policies.
            IndexChange::AuditSwitch(namespace, switch) if namespace == own_namespace => {
                observed.forced_audit.release = switch;
            }
            IndexChange::AuditSwitch(namespace, Some(switch)) => {
                observed.forced_audit.namespaces.insert(namespace, switch);
            }
            IndexChange::AuditSwitch(namespace, None) => _ = observed.forced_audit.namespaces.remove(&namespace),
        }
        // A written status arrives as an event too, and leaves the revision as it is.
        references_may_change |= is_policy && index.revision() != revision;
    }
    if !references_may_change {
        return (Vec::new(), Vec::new());
    }
    let named: BTreeSet<ObjectName> = index.named_secrets().into_iter().cloned().collect();
    let added: Vec<ObjectName> = named.difference(watched).cloned().collect();
    let removed: Vec<ObjectName> = watched.difference(&named).cloned().collect();
    added.iter().for_each(|name| index.await_secret(name));
    removed.iter().for_each(|name| index.remove_secret(name));
    (added, removed)
}
