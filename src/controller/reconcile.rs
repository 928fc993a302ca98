//! From what the watches show to what is in force.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Connection;
use super::metrics::{ControllerMetrics, Watch};
use super::objects::{PolicyObject, Seen};
use super::watch::{self, REPEAT_LOG_AFTER, WatchError, WatchEvent};
use crate::policy::{Manifest, ObjectName, SecretManifest};
use crate::readiness::{Latch, Readiness};
use crate::snapshot::{ObservedState, Publisher};

/// How long readiness waits for the Secrets.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(30);

/// What a watch shows: of the policies by the position of their scope, of a Secret by its name.
enum Observation {
    Policies(usize, WatchEvent<Box<PolicyObject>>),
    Secret(ObjectName, Result<Option<SecretManifest>, WatchError>),
}

struct Reconciler {
    connection: Connection,
    publisher: Arc<Publisher>,
    seen: Arc<Seen>,
    metrics: Arc<ControllerMetrics>,
    watches: SelectAll<BoxStream<'static, Observation>>,
    /// The policies of each scope that were last there.
    present: Vec<BTreeSet<ObjectName>>,
    /// Ends the watch of a Secret.
    secrets: HashMap<ObjectName, CancellationToken>,
    /// What each failing watch said last.
    failing: HashMap<String, (WatchError, Instant)>,
    startup: StartupLatches,
}

/// What readiness waits for.
struct StartupLatches {
    readiness: Readiness,
    policies: HashMap<usize, Latch>,
    secrets: HashMap<ObjectName, Latch>,
    deadline: Option<Instant>,
}

/// Puts in force what a cluster shows, for as long as the process lives. `readiness` waits from the call on, not only from
/// the first poll.
pub fn follow_cluster(
    connection: Connection,
    publisher: Arc<Publisher>,
    seen: Arc<Seen>,
    metrics: Arc<ControllerMetrics>,
    readiness: Readiness,
) -> impl Future<Output = Result<Infallible, JoinError>> + Send {
    let scopes = connection.scopes.iter();
    let latches = scopes.map(|scope| readiness.wait_for(watch_name(scope.as_deref()))).enumerate().collect();
    let watches = connection.scopes.iter().enumerate().map(|(position, scope)| {
        watch::policies(&connection, scope.as_deref()).map(move |event| Observation::Policies(position, event)).boxed()
    });
    let feed = Reconciler {
        watches: watches.collect(),
        present: vec![BTreeSet::new(); connection.scopes.len()],
        connection,
        publisher,
        seen,
        metrics,
        secrets: HashMap::new(),
        failing: HashMap::new(),
        startup: StartupLatches { readiness, policies: latches, secrets: HashMap::new(), deadline: None },
    };
    feed.run()
}

fn watch_name(scope: Option<&str>) -> String {
    scope.map_or_else(|| "policies".to_owned(), |namespace| format!("policies of namespace {namespace}"))
}

impl Reconciler {
    async fn run(mut self) -> Result<Infallible, JoinError> {
        loop {
            let deadline = self.startup.deadline;
            let first = tokio::select! {
                observation = self.watches.next() => observation.expect("a watch does not end"),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.startup.give_up();
                    continue;
                }
            };
            let mut batch = vec![first];
            // What is there already belongs together.
            while let Some(Some(more)) = self.watches.next().now_or_never() {
                batch.push(more);
            }
            self.take(batch).await?;
        }
    }

    /// Puts in force what a batch comes to.
    async fn take(&mut self, batch: Vec<Observation>) -> Result<(), JoinError> {
        let begun = Instant::now();
        let generation = self.publisher.current().load().generation;
        let mut index_changes = Vec::new();
        let mut answered = Vec::new();
        let mut listed = Vec::new();
        for observation in batch {
            match observation {
                Observation::Policies(scope, event) => {
                    if matches!(event, WatchEvent::All(_)) {
                        listed.push(scope);
                    }
                    self.take_policies(scope, event, &mut index_changes);
                }
                Observation::Secret(name, shown) => {
                    match &shown {
                        // That it is not there, or not to be read, is an answer too.
                        Ok(_) | Err(WatchError::Forbidden(_)) => answered.push(name.clone()),
                        Err(error) => self.startup.explain_secret(&name, error),
                    }
                    self.take_secret(&name, shown, &mut index_changes);
                }
            }
        }
        if !index_changes.is_empty() {
            let publisher = Arc::clone(&self.publisher);
            let watched: BTreeSet<ObjectName> = self.secrets.keys().cloned().collect();
            let (new, old) =
                spawn_blocking(move || publisher.update(|observed| apply_changes(observed, index_changes, &watched)))
                    .await?;
            for name in &old {
                if let Some(watch) = self.secrets.remove(name) {
                    watch.cancel();
                }
                self.failing.remove(&format!("Secret {name}"));
                answered.push(name.clone());
            }
            new.into_iter().for_each(|name| self.watch_secret(name));
            if self.secrets.is_empty() {
                self.metrics.watches_nothing(Watch::Secrets);
            }
            let replaced = self.publisher.current().load().generation != generation;
            self.metrics.reconciled(replaced, begun.elapsed());
        }
        self.startup.listed(&listed);
        self.startup.answered(&answered);
        Ok(())
    }

    fn take_policies(
        &mut self,
        scope: usize,
        event: WatchEvent<Box<PolicyObject>>,
        index_changes: &mut Vec<IndexChange>,
    ) {
        let watch = watch_name(self.connection.scopes[scope].as_deref());
        match event {
            WatchEvent::All(policies) => {
                self.works(&watch);
                let before = std::mem::take(&mut self.present[scope]);
                policies.into_iter().for_each(|policy| self.take_policy(scope, *policy, index_changes));
                let forget = before.difference(&self.present[scope]);
                for name in forget {
                    self.seen.forget(name);
                    index_changes.push(IndexChange::PolicyGone(name.clone()));
                }
            }
            WatchEvent::Changed(policy) => {
                self.works(&watch);
                self.take_policy(scope, *policy, index_changes);
            }
            WatchEvent::Gone(policy) => {
                let name = policy.manifest.name;
                self.present[scope].remove(&name);
                self.seen.forget(&name);
                index_changes.push(IndexChange::PolicyGone(name));
            }
            WatchEvent::WatchError(error) => {
                self.startup.explain(scope, &error);
                self.fails(watch, Watch::Policies, error);
            }
        }
    }

    fn take_policy(&mut self, scope: usize, policy: PolicyObject, index_changes: &mut Vec<IndexChange>) {
        let PolicyObject { manifest, seen } = policy;
        self.present[scope].insert(manifest.name.clone());
        self.seen.observe(manifest.name.clone(), seen);
        index_changes.push(IndexChange::PolicyObject(manifest));
    }

    fn take_secret(
        &mut self,
        name: &ObjectName,
        shown: Result<Option<SecretManifest>, WatchError>,
        index_changes: &mut Vec<IndexChange>,
    ) {
        let watch = format!("Secret {name}");
        match shown {
            Ok(secret) => {
                self.works(&watch);
                index_changes.push(secret.map_or_else(|| IndexChange::SecretGone(name.clone()), IndexChange::Secret));
            }
            Err(error) => {
                if matches!(error, WatchError::Forbidden(_)) {
                    index_changes.push(IndexChange::SecretForbidden(name.clone()));
                }
                self.fails(watch, Watch::Secrets, error);
            }
        }
    }

    fn watch_secret(&mut self, name: ObjectName) {
        let end = CancellationToken::new();
        let of = name.clone();
        let watch = watch::secret(&self.connection, &name).map(move |shown| Observation::Secret(of.clone(), shown));
        self.watches.push(watch.take_until(end.clone().cancelled_owned()).boxed());
        self.startup.wait_for(&name);
        self.secrets.insert(name, end);
    }

    fn fails(&mut self, watch: String, kind: Watch, error: WatchError) {
        self.metrics.restarted(kind);
        let now = Instant::now();
        let told = |(last, at): &(WatchError, Instant)| *last == error && now.duration_since(*at) < REPEAT_LOG_AFTER;
        if !self.failing.get(&watch).is_some_and(told) {
            tracing::warn!(watch, %error, "the watch cannot go on and is tried again; what is in force stays");
        }
        self.failing.insert(watch, (error, now));
    }

    fn works(&mut self, watch: &str) {
        if self.failing.remove(watch).is_some() {
            tracing::info!(watch, "the watch goes on");
        }
    }
}

/// One change of what was shown.
enum IndexChange {
    PolicyObject(Manifest),
    PolicyGone(ObjectName),
    Secret(SecretManifest),
    SecretGone(ObjectName),
    SecretForbidden(ObjectName),
}

/// Takes the steps; gives the Secrets that are named and not watched yet, and those that are watched and no longer named.
fn apply_changes(
    observed: &mut ObservedState,
    index_changes: Vec<IndexChange>,
    watched: &BTreeSet<ObjectName>,
) -> (Vec<ObjectName>, Vec<ObjectName>) {
    let index = &mut observed.index;
    let mut names_may_change = false;
    for step in index_changes {
        let (is_policy, revision) =
            (matches!(step, IndexChange::PolicyObject(_) | IndexChange::PolicyGone(_)), index.revision());
        match step {
            IndexChange::PolicyObject(manifest) => index.apply_policy(&manifest),
            IndexChange::PolicyGone(name) => index.remove_policy(&name),
            IndexChange::Secret(secret) => index.apply_secret(&secret),
            IndexChange::SecretGone(name) => index.remove_secret(&name),
            IndexChange::SecretForbidden(name) => index.forbid_secret(&name),
        }
        // A status that was written comes along here too, and changes nothing.
        names_may_change |= is_policy && index.revision() != revision;
    }
    if !names_may_change {
        return (Vec::new(), Vec::new());
    }
    let named: BTreeSet<ObjectName> = index.named_secrets().into_iter().cloned().collect();
    let (new, old): (Vec<ObjectName>, Vec<ObjectName>) =
        (named.difference(watched).cloned().collect(), watched.difference(&named).cloned().collect());
    new.iter().for_each(|name| index.await_secret(name));
    old.iter().for_each(|name| index.remove_secret(name));
    (new, old)
}

impl StartupLatches {
    /// The policies of these scopes are there, and the Secrets that they name are waited for.
    fn listed(&mut self, scopes: &[usize]) {
        for scope in scopes {
            if let Some(latch) = self.policies.remove(scope) {
                latch.release();
            }
        }
    }

    /// Waits for a Secret, as long as not all policies are there.
    fn wait_for(&mut self, name: &ObjectName) {
        if !self.policies.is_empty() {
            self.deadline.get_or_insert_with(|| Instant::now() + SECRETS_TIMEOUT);
            self.secrets.insert(name.clone(), self.readiness.wait_for(format!("Secret {name}")));
        }
    }

    fn answered(&mut self, names: &[ObjectName]) {
        names.iter().filter_map(|name| self.secrets.remove(name)).for_each(Latch::release);
        if self.secrets.is_empty() {
            self.deadline = None;
        }
    }

    fn explain_secret(&self, name: &ObjectName, error: &WatchError) {
        if let Some(latch) = self.secrets.get(name) {
            latch.explain(&error.to_string());
        }
    }

    fn explain(&self, scope: usize, error: &WatchError) {
        if let Some(latch) = self.policies.get(&scope) {
            latch.explain(&error.to_string());
        }
    }

    fn give_up(&mut self) {
        self.deadline = None;
        for (name, latch) in self.secrets.drain() {
            tracing::warn!(secret = %name, "no answer to the question for this Secret yet: readiness does not wait longer");
            latch.release();
        }
    }
}
