//! Watches as streams that never end: what they show, and what keeps them from it.

use std::fmt::Debug;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{self, Error, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::objects::{self, PolicyObject, StoredPolicy};
use super::{Connection, WATCH_TIMEOUT};
use crate::crd::{GROUP, SessionPolicy};
use crate::policy::{ObjectName, SecretManifest};

/// The pauses after something that passes by itself.
const TRANSIENT_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(8));
/// The pauses after something that somebody has to set right.
const PERSISTENT_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A failure has nothing to do with one that is longer ago than this: than the longest pause, and a try after it.
pub(super) const REPEAT_LOG_AFTER: Duration = Duration::from_secs(150);

/// How many objects a list has at once.
const LIST_PAGE_SIZE: u32 = 100;

/// What a watch shows.
pub(super) enum WatchEvent<T> {
    /// All there is, after a list.
    All(Vec<T>),
    /// One that is new or changed.
    Changed(T),
    /// One that is no longer there.
    Gone(T),
    /// The watch cannot go on, and is tried again.
    WatchError(WatchError),
}

/// What keeps a watch from going on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WatchError {
    /// The API server does not know the kind.
    #[error("the CustomResourceDefinition {}.{GROUP} is not installed: install the chart with crds.enabled, or apply the output of `session-checker crd`", SessionPolicy::plural(&()))]
    NoDefinition,
    /// The service's account may not.
    #[error("the API server does not let the service's account: {0}")]
    Forbidden(String),
    /// The API server no longer has what came since, and everything is listed anew.
    #[error("the API server no longer knows what was seen last: everything is listed anew")]
    Expired,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The policies of a namespace, or of all.
pub(super) fn policies(
    connection: &Connection,
    scope: Option<&str>,
) -> BoxStream<'static, WatchEvent<Box<PolicyObject>>> {
    let client = connection.client.clone();
    let api: Api<StoredPolicy> =
        scope.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace));
    watch(api, watcher::Config::default(), objects::policy).boxed()
}

/// One Secret, by its name.
pub(super) fn secret(
    connection: &Connection,
    name: &ObjectName,
) -> impl Stream<Item = Result<Option<SecretManifest>, WatchError>> + Send + use<> {
    one(Api::<Secret>::namespaced(connection.client.clone(), &name.namespace), &name.name, objects::secret)
}

/// One object, by its name: nothing more is asked for, and a right to nothing more is needed. `None` = it is not there.
pub(super) fn one<K, T>(
    api: Api<K>,
    name: &str,
    take: fn(K) -> T,
) -> impl Stream<Item = Result<Option<T>, WatchError>> + Send + use<K, T>
where
    T: Send + 'static,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch(api, config, take).map(|news| match news {
        WatchEvent::All(mut found) => Ok(found.pop()),
        WatchEvent::Changed(object) => Ok(Some(object)),
        WatchEvent::Gone(_) => Ok(None),
        WatchEvent::WatchError(error) => Err(error),
    })
}

/// `take` is called for each object as it comes, so that no more of it is held than is needed.
fn watch<K, T>(
    api: Api<K>,
    config: watcher::Config,
    take: fn(K) -> T,
) -> impl Stream<Item = WatchEvent<T>> + Send + use<K, T>
where
    T: Send + 'static,
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // The most recent, never what a cache may hold: a list must not take back what a watch showed before.
    // Watches that began together are not renewed together. Pages are small, because a page is in memory as a whole.
    let config = config
        .page_size(LIST_PAGE_SIZE)
        .timeout(WATCH_TIMEOUT.mul_f64(rand::random_range(0.85..1.15)).as_secs() as u32);
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    let state = WatchState { watch: begin(), begin, take, listed: Vec::new(), setbacks: 0, last: None, pause: None };
    stream::unfold(state, |mut state| async { Some((state.next().await, state)) })
}

struct WatchState<K, T, B> {
    watch: BoxStream<'static, watcher::Result<Event<K>>>,
    begin: B,
    take: fn(K) -> T,
    /// What came of a list that is not complete.
    listed: Vec<T>,
    /// Failures of one kind, one soon after the other, since the watch last showed a change.
    setbacks: u32,
    /// The last one.
    last: Option<(Discriminant<WatchError>, Instant)>,
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
            let event = self.watch.next().await.expect("a watcher does not end");
            match event {
                // Says only that a list is about to be asked for.
                Ok(Event::Init) => {}
                Ok(Event::InitApply(object)) => self.listed.push((self.take)(object)),
                Ok(Event::InitDone) => return WatchEvent::All(std::mem::take(&mut self.listed)),
                Ok(Event::Apply(object)) => {
                    self.last = None;
                    return WatchEvent::Changed((self.take)(object));
                }
                Ok(Event::Delete(object)) => {
                    self.last = None;
                    return WatchEvent::Gone((self.take)(object));
                }
                Err(error) => {
                    self.listed.clear();
                    let error = WatchError::of(&error);
                    // Told before the watch has begun, kube would go on from the same place: one that is expired for ever, and
                    // one that was forbidden without a word that it no longer is.
                    if matches!(error, WatchError::Expired | WatchError::Forbidden(_)) {
                        self.watch = (self.begin)();
                    }
                    // How long it was away says nothing of what comes when it is back: a list is then to come soon.
                    let (kind, now) = (discriminant(&error), Instant::now());
                    let again = |(last, at): &(_, Instant)| *last == kind && now.duration_since(*at) < REPEAT_LOG_AFTER;
                    self.setbacks = if self.last.as_ref().is_some_and(again) { self.setbacks + 1 } else { 0 };
                    self.last = Some((kind, now));
                    self.pause = Some(error.pause(self.setbacks));
                    return WatchEvent::WatchError(error);
                }
            }
        }
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
            Error::NoResourceVersion => return Self::Other("the API server answered without a version".to_owned()),
        };
        match status.code {
            403 => Self::Forbidden(status.message.clone()),
            // A namespace that does not exist has an empty list; only a kind that does not exist has none.
            404 => Self::NoDefinition,
            410 => Self::Expired,
            code => Self::Other(format!("the API server answered {code}: {}", status.message)),
        }
    }

    /// How long to wait; the longer the more often it failed, and never for all at the same moment.
    fn pause(&self, setbacks: u32) -> Duration {
        let (first, longest) = match self {
            Self::NoDefinition | Self::Forbidden(_) => PERSISTENT_BACKOFF,
            Self::Expired | Self::Other(_) => TRANSIENT_BACKOFF,
        };
        first.saturating_mul(1 << setbacks.min(16)).min(longest).mul_f64(rand::random_range(0.75..1.25))
    }
}

/// The words that say most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
