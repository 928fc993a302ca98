//! The token of one credential: kept, refreshed ahead of its end, fetched by one flight at a time.
//!
//! A check takes the token that is there. When it has lived about four fifths of its life, the check that notices sends a
//! flight for the next one and goes on with the old one, which also stays when the flight fails. Only when there is none do
//! checks wait; they all wait for the same flight, each until its own deadline. The flight is a task, so it ends for those
//! who stay when others leave. A credential that was refused is not shown again for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::error::Error;
use super::grant::Token;
use crate::policy::Failure;

/// The longest that one flight takes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a credential that was refused is not shown again.
const REJECTED_PAUSE: Duration = Duration::from_secs(30);

/// A token is not used in this last part of its life, at most: it must still be good when it arrives.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);

/// Asks for a token until the given moment.
pub(super) type Fetch = Box<dyn Fn(Instant) -> BoxFuture<'static, Result<Token, Error>> + Send + Sync>;

type PendingToken = Result<Arc<Token>, Error>;

pub(super) struct TokenCache {
    fetch: Fetch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// The flight under way; its sender is gone when the task is.
    flight: Option<watch::Receiver<Option<PendingToken>>>,
    /// Until when the credential is not shown again, and why.
    refused: Option<(Instant, Error)>,
}

struct Held {
    token: Arc<Token>,
    refresh_at: Instant,
    good_until: Instant,
}

impl TokenCache {
    pub fn new(fetch: Fetch) -> Self {
        Self { fetch, state: Mutex::default() }
    }

    /// A token that is good now, fetched when there is none.
    ///
    /// # Errors
    /// What the flight failed with, what the credential was refused with in the last 30 s, or
    /// [`Failure::UpstreamTimeout`] when the deadline comes first.
    pub async fn get(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Token>, Error> {
        let mut flight = {
            let mut state = self.lock();
            let now = Instant::now();
            if let Some(held) = state.held.as_ref().filter(|held| now < held.good_until) {
                let token = Arc::clone(&held.token);
                if now >= held.refresh_at && state.refusal(now).is_none() {
                    self.join(&mut state);
                }
                return Ok(token);
            }
            if let Some(refusal) = state.refusal(now) {
                return Err(refusal.clone());
            }
            self.join(&mut state)
        };
        match timeout_at(deadline, flight.wait_for(Option::is_some)).await {
            Ok(Ok(pending)) => pending.clone().unwrap_or_else(|| Err(Error::ended())),
            Ok(Err(_)) => Err(Error::ended()),
            Err(_) => Err(Error::timeout()),
        }
    }

    /// Gives up a token that the API did not accept, unless another has taken its place since.
    pub fn reject(&self, token: &Arc<Token>) {
        self.lock().held.take_if(|held| Arc::ptr_eq(&held.token, token));
    }

    /// Gives up a token that was new and not accepted all the same, and does not ask for another for a while.
    pub fn refuse(&self, token: &Arc<Token>, error: Error) {
        let mut state = self.lock();
        if state.held.take_if(|held| Arc::ptr_eq(&held.token, token)).is_some() {
            state.refused = Some((Instant::now() + REJECTED_PAUSE, error));
        }
    }

    /// The flight under way, or a new one.
    fn join(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Option<PendingToken>> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return flight.clone();
        }
        let (pending, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let cache = Arc::clone(self);
        let task = async move {
            let deadline = Instant::now() + FETCH_TIMEOUT;
            let fetched = timeout_at(deadline, (cache.fetch)(deadline)).await;
            let fetched = fetched.unwrap_or_else(|_| Err(Error::timeout())).map(Arc::new);
            cache.settle(&fetched);
            pending.send_replace(Some(fetched));
        };
        tokio::spawn(task.in_current_span());
        flight
    }

    fn settle(&self, fetched: &PendingToken) {
        let mut state = self.lock();
        let now = Instant::now();
        state.flight = None;
        state.refused = None;
        match fetched {
            Ok(token) => state.held = Some(Held::new(Arc::clone(token))),
            Err(error) => {
                if error.failure == Failure::CredentialsRejected {
                    state.refused = Some((now + REJECTED_PAUSE, error.clone()));
                }
                if let Some(held) = &mut state.held {
                    held.postpone(now);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self, now: Instant) -> Option<&Error> {
        self.refused.as_ref().filter(|(until, _)| now < *until).map(|(_, error)| error)
    }
}

impl Held {
    /// Replicas that got their tokens together do not refresh them together.
    fn new(token: Arc<Token>) -> Self {
        let Token { issued_at, lifetime, .. } = *token;
        let refresh_at = issued_at + lifetime.mul_f64(rand::random_range(0.75..0.85));
        Self { token, refresh_at, good_until: issued_at + lifetime - EXPIRY_MARGIN.min(lifetime / 10) }
    }

    /// After a refresh that failed: a quarter of what is left, so that a short life has several chances too.
    fn postpone(&mut self, now: Instant) {
        let left = self.good_until.saturating_duration_since(now);
        self.refresh_at = now + (left / 4).clamp(Duration::from_secs(1), REJECTED_PAUSE);
    }
}

#[cfg(test)]
mod tests;
