//! Watches as streams that never end: they yield what the API server shows, and the errors in between.

use std::fmt::Debug;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher::{self, Error, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::audit_switch::audit_switch;
use super::client::{ClusterConnection, innermost};
use super::objects::{self, ObservedPolicy, StoredPolicy};
use super::watch_failures::REPEATED_FAILURE_WINDOW;
use crate::backoff::backoff;
use crate::crd::{GROUP, SessionPolicy};
use crate::policy::{Manifest, ObjectName, SecretManifest};
use crate::snapshot::AuditSwitch;

/// How long a watch lasts before it is renewed. Some load balancers drop connections after 240 s of silence without
/// closing them; this leaves room for the variation of 15 %.
const WATCH_TIMEOUT: Duration = Duration::from_secs(200);
/// The first and the longest pause after an error that passes without intervention.
const TRANSIENT_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// The first and the longest pause after an error that somebody must fix: missing rights, a missing definition.
const PERSISTENT_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// How many objects a page of a list has. A page is in memory as a whole.
const LIST_PAGE_SIZE: u32 = 100;

/// An event of a watch.
pub(super) enum WatchEvent<T> {
    /// All objects, after a list.
    All(Vec<T>),
    /// An object that was created or changed.
    Changed(T),
    /// An object that was deleted.
    Deleted(T),
    /// The watch failed and will be retried.
    Failed(WatchError),
}

/// The reason why a watch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the CustomResourceDefinition {}.{GROUP} is not installed: install the chart with crds.enabled, or apply the output of `session-checker crd`", SessionPolicy::plural(&()))]
    NoDefinition,
    #[error("the API server answered 403: grant the service account list and watch (chart value rbac): {0}")]
    Forbidden(String),
    /// The API server no longer has the changes since the last event, so everything is listed again.
    #[error("the resource version is too old: everything is listed again")]
    Expired,
    #[error("{0}")]
    Other(String),
}

/// Watches the policies of a namespace, or of all namespaces.
pub(super) fn policies(
    connection: &ClusterConnection,
    namespace: Option<&str>,
) -> BoxStream<'static, WatchEvent<Box<(Manifest, ObservedPolicy)>>> {
    let client = connection.client.clone();
    let api: Api<StoredPolicy> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    watch(api, watcher::Config::default(), objects::policy).boxed()
}

/// Watches the ConfigMaps of a name that force policies to audit, in a namespace or in all.
pub(super) fn audit_switches(
    connection: &ClusterConnection,
    name: &str,
    namespace: Option<&str>,
) -> BoxStream<'static, WatchEvent<(String, AuditSwitch)>> {
    let client = connection.client.clone();
    let api: Api<ConfigMap> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    watch(api, watcher::Config::default().fields(&format!("metadata.name={name}")), audit_switch).boxed()
}

/// Watches one Secret.
pub(super) fn secret(
    client: kube::Client,
    name: &ObjectName,
) -> impl Stream<Item = Result<Option<SecretManifest>, WatchError>> + Send + use<> {
    one(Api::<Secret>::namespaced(client, name.namespace()), name.name(), objects::secret)
}

/// Watches one object by its name, so that no right to other objects is needed. Yields `None` when the object does not
/// exist.
pub(super) fn one<K, T>(
    api: Api<K>,
    name: &str,
    convert: fn(K) -> T,
) -> impl Stream<Item = Result<Option<T>, WatchError>> + Send + use<K, T>
where
    T: Send + 'static,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch(api, config, convert).map(|event| match event {
        WatchEvent::All(mut found) => Ok(found.pop()),
        WatchEvent::Changed(object) => Ok(Some(object)),
        WatchEvent::Deleted(_) => Ok(None),
        WatchEvent::Failed(error) => Err(error),
    })
}

/// Watches objects. `convert` is called for each object when it arrives, so that only the converted parts stay in
/// memory.
fn watch<K, T>(
    api: Api<K>,
    config: watcher::Config,
    convert: fn(K) -> T,
) -> impl Stream<Item = WatchEvent<T>> + Send + use<K, T>
where
    T: Send + 'static,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // Lists ask for the most recent version (the default), never for one from a cache: a list must not revert what the
    // watch showed before. The timeout varies, so that watches that started together are not renewed together.
    let config = config
        .page_size(LIST_PAGE_SIZE)
        .timeout(WATCH_TIMEOUT.mul_f64(rand::random_range(0.85..1.15)).as_secs() as u32);
    let start = move || watcher(api.clone(), config.clone()).boxed();
    let state = WatchState {
        watcher: start(),
        start,
        convert,
        listed: Vec::new(),
        failures: 0,
        last_failure: None,
        pause: None,
    };
    stream::unfold(state, |mut state| async { Some((state.next().await, state)) })
}

struct WatchState<K, T, B> {
    watcher: BoxStream<'static, watcher::Result<Event<K>>>,
    start: B,
    convert: fn(K) -> T,
    /// The objects of a list that is not complete yet.
    listed: Vec<T>,
    /// How many failures of the same kind followed each other since the watch last showed a change.
    failures: u32,
    last_failure: Option<(Discriminant<WatchError>, Instant)>,
    pause: Option<Duration>,
}

impl<K, T, B> WatchState<K, T, B>
where
    B: Fn() -> BoxStream<'static, watcher::Result<Event<K>>>,
{
    async fn next(&mut self) -> WatchEvent<T> {
        if let Some(pause) = self.pause.take() {
            tokio::time::sleep(pause).await;
        }
        loop {
            let event = self.watcher.next().await.expect("a watcher does not end");
            match event {
                // A list is about to be requested.
                Ok(Event::Init) => {}
                Ok(Event::InitApply(object)) => self.listed.push((self.convert)(object)),
                Ok(Event::InitDone) => return WatchEvent::All(std::mem::take(&mut self.listed)),
                Ok(Event::Apply(object)) => {
                    self.last_failure = None;
                    return WatchEvent::Changed((self.convert)(object));
                }
                Ok(Event::Delete(object)) => {
                    self.last_failure = None;
                    return WatchEvent::Deleted((self.convert)(object));
                }
                Err(error) => {
                    self.listed.clear();
                    let error = WatchError::of(&error);
                    // When these errors come before the watch has started, kube would retry with the same resource
                    // version. An expired one would fail forever. A forbidden watch would resume silently once it is
                    // allowed, and nothing would show that the right is back. A new watcher lists first.
                    if matches!(error, WatchError::Expired | WatchError::Forbidden(_)) {
                        self.watcher = (self.start)();
                    }
                    self.record_failure(&error);
                    return WatchEvent::Failed(error);
                }
            }
        }
    }

    /// Counts failures by kind: after a long outage the first failure of another kind is retried soon. An API server that
    /// is back answers with `Expired`, and the list must not wait for the pause of the outage.
    fn record_failure(&mut self, error: &WatchError) {
        let (kind, now) = (discriminant(error), Instant::now());
        let is_repeated = self
            .last_failure
            .is_some_and(|(last, at)| last == kind && now.duration_since(at) < REPEATED_FAILURE_WINDOW);
        self.failures = if is_repeated { self.failures + 1 } else { 0 };
        self.last_failure = Some((kind, now));
        self.pause = Some(error.pause(self.failures));
    }
}

impl WatchError {
    fn of(error: &Error) -> Self {
        let status = match error {
            Error::InitialListFailed(kube::Error::Api(status))
            | Error::WatchStartFailed(kube::Error::Api(status))
            | Error::WatchFailed(kube::Error::Api(status))
            | Error::WatchError(status) => status,
            Error::InitialListFailed(error) | Error::WatchStartFailed(error) | Error::WatchFailed(error) => {
                return Self::Other(format!("the API server cannot be reached: {}", innermost(error)));
            }
            Error::NoResourceVersion => {
                return Self::Other("the API server answered without a resource version".to_owned());
            }
        };
        match status.code {
            403 => Self::Forbidden(status.message.clone()),
            // The list of a namespace that does not exist is empty; only a kind that does not exist answers with 404.
            404 => Self::NoDefinition,
            410 => Self::Expired,
            code => Self::Other(format!("the API server answered {code}: {}", status.message)),
        }
    }

    /// The pause before the next attempt: it doubles with each failure, and varies, so that watches do not retry
    /// together.
    fn pause(&self, failures: u32) -> Duration {
        let pauses = match self {
            Self::NoDefinition | Self::Forbidden(_) => PERSISTENT_BACKOFF,
            Self::Expired | Self::Other(_) => TRANSIENT_BACKOFF,
        };
        backoff(pauses, failures).mul_f64(rand::random_range(0.75..1.25))
    }
}
