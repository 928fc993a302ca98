//! The token of one credential: cached, refreshed before it expires, fetched by one request at a time.
//!
//! A check takes the cached token. When the token has reached about four fifths of its lifetime, the check that notices
//! starts a fetch of the next one and continues with the old one, which also stays when the fetch fails. Checks wait only
//! while there is no token. A cache that is kept fresh fetches the next token by itself, also when no check comes. They all wait for the same fetch, each until its own deadline. When the token endpoint is rate limited for longer, they fail at once. The fetch is a task, so it
//! continues for the others when a check is cancelled. A rejected credential is not sent again for [`REJECTED_PAUSE`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::Error;
use super::grant::AccessToken;
use crate::clock::ServiceClock;
use crate::policy::Failure;
use crate::telemetry::in_current_request;

/// The longest time that a fetch takes: longer than most checks wait, so that a slow token endpoint still gives a token to
/// the checks that follow.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a rejected credential is not sent again, because Auth0 bills and limits each attempt. A changed Secret makes a
/// new client and so ends the pause.
const REJECTED_PAUSE: Duration = Duration::from_secs(30);

/// A token is not used in the last part of its lifetime, at most this long: it must still be valid when it arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// How often a cache that is kept fresh looks whether it holds a token. The first one comes from a check or a probe.
const FRESHNESS_INTERVAL: Duration = Duration::from_secs(30);

/// Fetches a token before the given deadline.
pub(super) type Fetch = Box<dyn Fn(Instant) -> BoxFuture<'static, Result<AccessToken, Error>> + Send + Sync>;

type FetchResult = Result<Arc<AccessToken>, Error>;

pub(super) struct TokenCache {
    fetch: Fetch,
    /// All times of the state are of this clock.
    clock: ServiceClock,
    state: Mutex<CacheState>,
    is_kept_fresh: AtomicBool,
}

#[derive(Default)]
struct CacheState {
    cached: Option<CachedToken>,
    /// The result of the fetch in progress. The sender is gone when the task is.
    fetching: Option<watch::Receiver<Option<FetchResult>>>,
    /// Until when the credential is not sent again, and why.
    rejected: Option<(Instant, Error)>,
    /// The error of a fetch that the rate limit of the token endpoint ended.
    rate_limited: Option<Error>,
}

struct CachedToken {
    token: Arc<AccessToken>,
    refresh_at: Instant,
    usable_until: Instant,
}

impl TokenCache {
    pub fn new(fetch: Fetch, clock: ServiceClock) -> Self {
        Self { fetch, clock, state: Mutex::default(), is_kept_fresh: AtomicBool::new(false) }
    }

    /// A usable token, fetched when there is none.
    ///
    /// # Errors
    /// The error of the fetch, the error that rejected the credential in the last 30 s, or [`Failure::UpstreamTimeout`] when
    /// the deadline comes first.
    pub async fn get(self: &Arc<Self>, deadline: Instant) -> FetchResult {
        loop {
            let result = self.get_or_fetch(deadline).await;
            let retry_at = result.as_ref().err().and_then(|error| error.retry_at);
            match retry_at.map(|at| self.clock.timer_time(at)) {
                // The token endpoint is rate limited, for less time than this check has.
                Some(at) if at < deadline => sleep_until(at).await,
                _ => return result,
            }
        }
    }

    async fn get_or_fetch(self: &Arc<Self>, deadline: Instant) -> FetchResult {
        let mut fetching = {
            let mut state = self.lock();
            let now = self.clock.instant();
            if let Some(cached) = state.usable(now) {
                let token = Arc::clone(&cached.token);
                if now >= cached.refresh_at && state.pause(now).is_none() {
                    self.join(&mut state);
                }
                return Ok(token);
            }
            if let Some(error) = state.pause(now) {
                return Err(error.clone());
            }
            self.join(&mut state)
        };
        match timeout_at(deadline, fetching.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone().unwrap_or_else(|| Err(Error::ended())),
            Ok(Err(_)) => Err(Error::ended()),
            Err(_) => Err(Error::timeout()),
        }
    }

    /// Discards a token that the API did not accept, unless another has replaced it.
    pub fn discard(&self, token: &Arc<AccessToken>) {
        self.lock().cached.take_if(|cached| Arc::ptr_eq(&cached.token, token));
    }

    /// Discards a new token that the API did not accept, and fetches no other for [`REJECTED_PAUSE`].
    pub fn reject(&self, token: &Arc<AccessToken>, error: Error) {
        let mut state = self.lock();
        if state.cached.take_if(|cached| Arc::ptr_eq(&cached.token, token)).is_some() {
            state.rejected = Some((self.clock.instant() + REJECTED_PAUSE, error));
        }
    }

    /// Refreshes the token when that is due, also without a check that notices, until the cache is dropped.
    pub fn keep_fresh(self: &Arc<Self>) {
        if self.is_kept_fresh.swap(true, Ordering::Relaxed) {
            return;
        }
        let (cache, clock) = (Arc::downgrade(self), self.clock.clone());
        tokio::spawn(async move {
            while let Some(next) = cache.upgrade().map(|cache| cache.refresh_if_due()) {
                sleep_until(clock.timer_time(next)).await;
            }
        });
    }

    pub fn is_kept_fresh(&self) -> bool {
        self.is_kept_fresh.load(Ordering::Relaxed)
    }

    /// Starts a refresh when one is due. Returns when to look again.
    fn refresh_if_due(self: &Arc<Self>) -> Instant {
        let mut state = self.lock();
        let now = self.clock.instant();
        let latest = now + FRESHNESS_INTERVAL;
        // Without a usable token the probe of the credential fetches the next one, with its pauses.
        let Some(cached) = state.usable(now) else { return latest };
        if now < cached.refresh_at {
            return cached.refresh_at.min(latest);
        }
        if state.pause(now).is_none() {
            self.join(&mut state);
        }
        // A fetch that fails postpones the refresh by a second at least.
        now + Duration::from_secs(1)
    }

    /// The fetch in progress, or a new one.
    fn join(self: &Arc<Self>, state: &mut CacheState) -> watch::Receiver<Option<FetchResult>> {
        if let Some(fetching) = state.fetching.as_ref().filter(|fetching| fetching.has_changed().is_ok()) {
            return fetching.clone();
        }
        let (result, fetching) = watch::channel(None);
        state.fetching = Some(fetching.clone());
        let cache = Arc::clone(self);
        let task = async move {
            let deadline = Instant::now() + FETCH_TIMEOUT;
            let fetched = timeout_at(deadline, (cache.fetch)(deadline)).await;
            let fetched = fetched.unwrap_or_else(|_| Err(Error::timeout())).map(Arc::new);
            cache.store(&fetched);
            result.send_replace(Some(fetched));
        };
        tokio::spawn(in_current_request(task));
        fetching
    }

    fn store(&self, fetched: &FetchResult) {
        let mut state = self.lock();
        let now = self.clock.instant();
        state.fetching = None;
        state.rejected = None;
        state.rate_limited = fetched.as_ref().err().filter(|error| error.retry_at.is_some()).cloned();
        match fetched {
            Ok(token) => state.cached = Some(CachedToken::new(Arc::clone(token))),
            Err(error) => {
                if error.failure == Failure::CredentialsRejected {
                    state.rejected = Some((now + REJECTED_PAUSE, error.clone()));
                }
                if let Some(cached) = &mut state.cached {
                    cached.postpone_refresh(now);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        // Nothing panics while the lock is held, and each write leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheState {
    fn usable(&self, now: Instant) -> Option<&CachedToken> {
        self.cached.as_ref().filter(|cached| now < cached.usable_until)
    }

    /// Why no token is fetched now: the credential was rejected, or the token endpoint is rate limited.
    fn pause(&self, now: Instant) -> Option<&Error> {
        let rejection = self.rejected.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error);
        rejection.or(self.rate_limited.as_ref().filter(|error| error.retry_at.is_some_and(|at| now < at)))
    }
}

impl CachedToken {
    /// The time of the refresh is random, so that replicas that got their tokens together do not refresh them together.
    fn new(token: Arc<AccessToken>) -> Self {
        let AccessToken { issued_at, lifetime, .. } = *token;
        let refresh_at = issued_at + lifetime.mul_f64(rand::random_range(0.75..0.85));
        Self { token, refresh_at, usable_until: issued_at + lifetime - EXPIRY_MARGIN.min(lifetime / 10) }
    }

    /// Waits after a failed refresh for a quarter of the time that is left, so that a short lifetime has several tries too.
    fn postpone_refresh(&mut self, now: Instant) {
        let left = self.usable_until.saturating_duration_since(now);
        self.refresh_at = now + (left / 4).clamp(Duration::from_secs(1), REJECTED_PAUSE);
    }
}

#[cfg(test)]
mod tests;
