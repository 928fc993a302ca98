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
use super::object::{Policy, Seen};
use super::watching::{self, FORGIVEN, News, Trouble};
use crate::metrics::{Metrics, Watch};
use crate::policy::{Manifest, ObjectName, SecretManifest};
use crate::readiness::{Latch, Readiness};
use crate::snapshot::{ObservedState, Publisher};

/// How long readiness waits for the Secrets.
const FIRST_ANSWERS: Duration = Duration::from_secs(30);

/// What a watch shows: of the policies by the position of their scope, of a Secret by its name.
enum Shows {
    Policies(usize, News<Box<Policy>>),
    Secret(ObjectName, Result<Option<SecretManifest>, Trouble>),
}

struct Feed {
    connection: Connection,
    publisher: Arc<Publisher>,
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
    watches: SelectAll<BoxStream<'static, Shows>>,
    /// The policies of each scope that were last there.
    present: Vec<BTreeSet<ObjectName>>,
    /// Ends the watch of a Secret.
    secrets: HashMap<ObjectName, CancellationToken>,
    /// What each failing watch said last.
    failing: HashMap<String, (Trouble, Instant)>,
    start: Start,
}

/// What readiness waits for.
struct Start {
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
    metrics: Arc<Metrics>,
    readiness: Readiness,
) -> impl Future<Output = Result<Infallible, JoinError>> + Send {
    let scopes = connection.scopes.iter();
    let latches = scopes.map(|scope| readiness.wait_for(watch_name(scope.as_deref()))).enumerate().collect();
    let watches = connection.scopes.iter().enumerate().map(|(position, scope)| {
        watching::policies(&connection, scope.as_deref()).map(move |news| Shows::Policies(position, news)).boxed()
    });
    let feed = Feed {
        watches: watches.collect(),
        present: vec![BTreeSet::new(); connection.scopes.len()],
        connection,
        publisher,
        seen,
        metrics,
        secrets: HashMap::new(),
        failing: HashMap::new(),
        start: Start { readiness, policies: latches, secrets: HashMap::new(), deadline: None },
    };
    feed.run()
}

fn watch_name(scope: Option<&str>) -> String {
    scope.map_or_else(|| "policies".to_owned(), |namespace| format!("policies of namespace {namespace}"))
}

impl Feed {
    async fn run(mut self) -> Result<Infallible, JoinError> {
        loop {
            let deadline = self.start.deadline;
            let first = tokio::select! {
                shows = self.watches.next() => shows.expect("a watch does not end"),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.start.give_up();
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
    async fn take(&mut self, batch: Vec<Shows>) -> Result<(), JoinError> {
        let begun = Instant::now();
        let generation = self.publisher.current().load().generation;
        let mut steps = Vec::new();
        let mut answered = Vec::new();
        let mut listed = Vec::new();
        for shows in batch {
            match shows {
                Shows::Policies(scope, news) => {
                    if matches!(news, News::All(_)) {
                        listed.push(scope);
                    }
                    self.take_policies(scope, news, &mut steps);
                }
                Shows::Secret(name, shown) => {
                    match &shown {
                        // That it is not there, or not to be read, is an answer too.
                        Ok(_) | Err(Trouble::Forbidden(_)) => answered.push(name.clone()),
                        Err(trouble) => self.start.explain_secret(&name, trouble),
                    }
                    self.take_secret(&name, shown, &mut steps);
                }
            }
        }
        if !steps.is_empty() {
            let publisher = Arc::clone(&self.publisher);
            let watched: BTreeSet<ObjectName> = self.secrets.keys().cloned().collect();
            let (new, old) =
                spawn_blocking(move || publisher.update(|observed| put(observed, steps, &watched))).await?;
            for name in &old {
                if let Some(watch) = self.secrets.remove(name) {
                    watch.cancel();
                }
                self.failing.remove(&format!("Secret {name}"));
                answered.push(name.clone());
            }
            new.into_iter().for_each(|name| self.watch_secret(name));
            if self.secrets.is_empty() {
                self.metrics.controller.watches_nothing(Watch::Secrets);
            }
            let replaced = self.publisher.current().load().generation != generation;
            self.metrics.controller.reconciled(replaced, begun.elapsed());
        }
        self.start.listed(&listed);
        self.start.answered(&answered);
        Ok(())
    }

    fn take_policies(&mut self, scope: usize, news: News<Box<Policy>>, steps: &mut Vec<Step>) {
        let watch = watch_name(self.connection.scopes[scope].as_deref());
        match news {
            News::All(policies) => {
                self.works(&watch);
                let before = std::mem::take(&mut self.present[scope]);
                policies.into_iter().for_each(|policy| self.take_policy(scope, *policy, steps));
                let gone = before.difference(&self.present[scope]);
                for name in gone {
                    self.seen.gone(name);
                    steps.push(Step::PolicyGone(name.clone()));
                }
            }
            News::Changed(policy) => {
                self.works(&watch);
                self.take_policy(scope, *policy, steps);
            }
            News::Gone(policy) => {
                let name = policy.manifest.name;
                self.present[scope].remove(&name);
                self.seen.gone(&name);
                steps.push(Step::PolicyGone(name));
            }
            News::Trouble(trouble) => {
                self.start.explain(scope, &trouble);
                self.fails(watch, Watch::Policies, trouble);
            }
        }
    }

    fn take_policy(&mut self, scope: usize, policy: Policy, steps: &mut Vec<Step>) {
        let Policy { manifest, seen } = policy;
        self.present[scope].insert(manifest.name.clone());
        self.seen.saw(manifest.name.clone(), seen);
        steps.push(Step::Policy(manifest));
    }

    fn take_secret(
        &mut self,
        name: &ObjectName,
        shown: Result<Option<SecretManifest>, Trouble>,
        steps: &mut Vec<Step>,
    ) {
        let watch = format!("Secret {name}");
        match shown {
            Ok(secret) => {
                self.works(&watch);
                steps.push(secret.map_or_else(|| Step::SecretGone(name.clone()), Step::Secret));
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::Forbidden(_)) {
                    steps.push(Step::SecretForbidden(name.clone()));
                }
                self.fails(watch, Watch::Secrets, trouble);
            }
        }
    }

    fn watch_secret(&mut self, name: ObjectName) {
        let end = CancellationToken::new();
        let of = name.clone();
        let watch = watching::secret(&self.connection, &name).map(move |shown| Shows::Secret(of.clone(), shown));
        self.watches.push(watch.take_until(end.clone().cancelled_owned()).boxed());
        self.start.wait_for(&name);
        self.secrets.insert(name, end);
    }

    fn fails(&mut self, watch: String, kind: Watch, trouble: Trouble) {
        self.metrics.controller.restarted(kind);
        let now = Instant::now();
        let told = |(last, at): &(Trouble, Instant)| *last == trouble && now.duration_since(*at) < FORGIVEN;
        if !self.failing.get(&watch).is_some_and(told) {
            tracing::warn!(watch, %trouble, "the watch cannot go on and is tried again; what is in force stays");
        }
        self.failing.insert(watch, (trouble, now));
    }

    fn works(&mut self, watch: &str) {
        if self.failing.remove(watch).is_some() {
            tracing::info!(watch, "the watch goes on");
        }
    }
}

/// One change of what was shown.
enum Step {
    Policy(Manifest),
    PolicyGone(ObjectName),
    Secret(SecretManifest),
    SecretGone(ObjectName),
    SecretForbidden(ObjectName),
}

/// Takes the steps; gives the Secrets that are named and not watched yet, and those that are watched and no longer named.
fn put(
    observed: &mut ObservedState,
    steps: Vec<Step>,
    watched: &BTreeSet<ObjectName>,
) -> (Vec<ObjectName>, Vec<ObjectName>) {
    let index = &mut observed.index;
    let mut names_may_change = false;
    for step in steps {
        let (is_policy, revision) = (matches!(step, Step::Policy(_) | Step::PolicyGone(_)), index.revision());
        match step {
            Step::Policy(manifest) => index.apply_policy(&manifest),
            Step::PolicyGone(name) => index.remove_policy(&name),
            Step::Secret(secret) => index.apply_secret(&secret),
            Step::SecretGone(name) => index.remove_secret(&name),
            Step::SecretForbidden(name) => index.forbid_secret(&name),
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

impl Start {
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
            self.deadline.get_or_insert_with(|| Instant::now() + FIRST_ANSWERS);
            self.secrets.insert(name.clone(), self.readiness.wait_for(format!("Secret {name}")));
        }
    }

    fn answered(&mut self, names: &[ObjectName]) {
        names.iter().filter_map(|name| self.secrets.remove(name)).for_each(Latch::release);
        if self.secrets.is_empty() {
            self.deadline = None;
        }
    }

    fn explain_secret(&self, name: &ObjectName, trouble: &Trouble) {
        if let Some(latch) = self.secrets.get(name) {
            latch.explain(&trouble.to_string());
        }
    }

    fn explain(&self, scope: usize, trouble: &Trouble) {
        if let Some(latch) = self.policies.get(&scope) {
            latch.explain(&trouble.to_string());
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
