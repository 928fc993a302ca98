//! The connections to one tenant, for lists and revocations.
//!
//! ```text
//!            place ─────────────▶ a free place on an open connection, at once
//!  request ──┤
//!            └─ none is free ───▶ wait ◀── a place becomes free
//!                                  │  ▲
//!                                  ▼  └──── a connection opens
//!                              open another (connector.rs), as many as the waiting requests need
//! ```
//!
//! A peer limits the requests at once on a connection (over HTTP/2, 100 are usual; over HTTP/1.1, one). When all places are
//! taken, another connection opens, up to a bound. Connections open in tasks: a check that gives up leaves the connection to
//! those that follow. Nothing here sends a request twice.
//!
//! A pool that is kept warm opens its first connection by itself, and again when it ends, so that a login after a quiet
//! hour finds one. Further connections close when they are idle.

mod connection;
mod connector;
mod count;
mod driver;
mod proxy;
mod state;
mod tls;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, interval, sleep, timeout};

use super::observer::ConnectionEnd;
use crate::backoff::backoff;
use connection::{Connection, Place};
use count::PoolShare;

pub use proxy::{ProxyCredentials, ProxyLogin, ProxyOptions};
pub use tls::{CaError, TrustedCas};

pub(super) use connection::{Broken, Response};
pub(super) use connector::{Connect, ConnectError, Connector};
pub(super) use count::ConnectionCount;
pub(super) use proxy::{Proxy, ProxyError};
pub(super) use tls::config as tls_config;

/// The most HTTP/2 connections to a tenant: with the usual 100 requests each they carry the default of `--max-in-flight`
/// (2,048) and some revocations.
const MAX_HTTP2_CONNECTIONS: usize = 24;
/// The most HTTP/1.1 connections to a tenant, each with one request. Only gateways speak it: Auth0 speaks HTTP/2. It leaves most of
/// the usual 1,024 file descriptors to the rest of the process.
const MAX_HTTP1_CONNECTIONS: usize = 256;
/// How many requests at once a peer probably permits over HTTP/2: the least that RFC 9113 recommends, and the usual number.
const USUAL_STREAMS: usize = 100;
/// How long a connection may take to open: the longest `timeout` of a policy, so no check waits longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After this time without a connection a second one is tried beside it: a lost first packet is sent again after a second, and one
/// broken host of several must not take the whole time of a check.
const NEXT_ATTEMPT_AFTER: Duration = Duration::from_secs(1);
/// The most attempts at the same time while there is no connection.
const MAX_HEDGED_ATTEMPTS: usize = 3;
/// How long a connection that is not needed stays open: the time between two bursts of logins.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that lasted this long ended in the ordinary way, and is replaced at once.
const ORDINARY_LIFE: Duration = Duration::from_secs(60);
/// The first and the longest pause before a warm connection that did not last is opened again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The connections to one tenant.
pub(super) struct Pool {
    connector: Box<dyn Connect>,
    count: Arc<ConnectionCount>,
    state: Mutex<PoolState>,
    is_warm: AtomicBool,
    /// Wakes the task that keeps the pool warm: a connection ended, an attempt failed, or the pool is dropped.
    lost: Arc<Notify>,
}

struct PoolState {
    connections: Vec<Pooled>,
    share: PoolShare,
    /// How many attempts are under way.
    connecting: usize,
    waiting: VecDeque<oneshot::Sender<Result<PooledPlace, ConnectError>>>,
    /// How many requests a new connection takes, by the latest one.
    expected_places: usize,
    max_connections: usize,
    /// How many connections in a row did not open, or ended soon without an answer.
    short_lives: u32,
}

struct Pooled {
    connection: Arc<Connection>,
    since: Instant,
    /// How many requests it had taken when idle connections were looked for last.
    requests_before: u64,
}

/// A place on a connection of a pool. It is free again when this is dropped.
pub(super) struct PooledPlace {
    /// `None` only while it is dropped.
    place: Option<Place>,
    pool: Arc<Pool>,
}

impl Pool {
    /// A pool without connections. `is_http2` is what the tenant probably speaks.
    pub fn new(connector: Box<dyn Connect>, is_http2: bool, count: Arc<ConnectionCount>) -> Arc<Self> {
        let (expected_places, max_connections) =
            if is_http2 { (USUAL_STREAMS, MAX_HTTP2_CONNECTIONS) } else { (1, MAX_HTTP1_CONNECTIONS) };
        let state = PoolState {
            connections: Vec::new(),
            share: count.share(),
            connecting: 0,
            waiting: VecDeque::new(),
            expected_places,
            max_connections,
            short_lives: 0,
        };
        let (state, is_warm, lost) = (Mutex::new(state), AtomicBool::new(false), Arc::default());
        Arc::new(Self { connector, count, state, is_warm, lost })
    }

    /// A place on a connection that takes a request.
    ///
    /// # Errors
    /// There is no connection, and none came about.
    pub async fn place(self: &Arc<Self>) -> Result<PooledPlace, ConnectError> {
        loop {
            let waiting = {
                let mut state = self.lock();
                match state.free_place() {
                    Some(place) => Ok(place),
                    None => {
                        let (sender, waiting) = oneshot::channel();
                        state.waiting.push_back(sender);
                        self.open_needed(&mut state);
                        if state.is_full() {
                            self.count.observer().connection_wait(self.count.tenant());
                        }
                        Err(waiting)
                    }
                }
            };
            let mut place = match waiting {
                Ok(place) => self.pooled(place),
                // The sender is dropped with the pool only, which this call holds.
                Err(waiting) => waiting.await.unwrap_or(Err(ConnectError::TimedOut(CONNECT_TIMEOUT)))?,
            };
            if place.is_ready().await {
                return Ok(place);
            }
            // It ended a moment ago. Nothing was sent on it.
            place.retire(ConnectionEnd::Closed);
        }
    }

    fn pooled(self: &Arc<Self>, place: Place) -> PooledPlace {
        PooledPlace { place: Some(place), pool: Arc::clone(self) }
    }

    /// The proxy on the way to the tenant, as HOST:PORT.
    pub fn proxy(&self) -> Option<String> {
        self.connector.proxy()
    }

    /// Whether a connection is open.
    pub fn is_connected(&self) -> bool {
        !self.lock().connections.is_empty()
    }

    /// Keeps one connection open from now on, until the pool is dropped.
    pub fn keep_warm(self: &Arc<Self>) {
        if !self.is_warm.swap(true, Ordering::Relaxed) {
            tokio::spawn(keep_warm(Arc::downgrade(self), Arc::clone(&self.lost)));
        }
    }

    /// Opens as many connections as the waiting requests need.
    fn open_needed(self: &Arc<Self>, state: &mut PoolState) {
        if state.is_full() || !state.needs_connections() {
            return;
        }
        // Those that gave up need none. Only here they are worth looking for in the whole queue.
        state.waiting.retain(|waiting| !waiting.is_closed());
        while !state.is_full() && state.needs_connections() {
            self.open(state);
        }
    }

    fn open(self: &Arc<Self>, state: &mut PoolState) {
        let pool = Arc::clone(self);
        state.connecting += 1;
        tokio::spawn(async move {
            let connecting = timeout(CONNECT_TIMEOUT, pool.connect());
            tokio::pin!(connecting);
            let connected = tokio::select! {
                connected = &mut connecting => connected,
                () = sleep(NEXT_ATTEMPT_AFTER) => {
                    pool.hedge();
                    connecting.await
                }
            };
            pool.attempt_ended(connected.unwrap_or(Err(ConnectError::TimedOut(CONNECT_TIMEOUT))));
        });
    }

    async fn connect(self: &Arc<Self>) -> Result<Connection, ConnectError> {
        let opened = self.connector.connect().await?;
        let this = Arc::downgrade(self);
        let on_change = Box::new(move || {
            if let Some(pool) = this.upgrade() {
                pool.refresh();
            }
        });
        // What the latest connection took, where it spoke the same.
        let expected = match self.lock().expected_places {
            1 => USUAL_STREAMS,
            places => places,
        };
        Connection::start(opened, expected, on_change).await.map_err(|error| ConnectError::Http(Arc::new(error)))
    }

    /// Tries a second connection beside one that takes long.
    fn hedge(self: &Arc<Self>) {
        let mut state = self.lock();
        let is_needed = state.waiting.iter().any(|waiting| !waiting.is_closed());
        if is_needed && state.connections.is_empty() && state.connecting < MAX_HEDGED_ATTEMPTS {
            self.open(&mut state);
        }
    }

    fn attempt_ended(self: &Arc<Self>, connected: Result<Connection, ConnectError>) {
        let failed = {
            let mut state = self.lock();
            state.connecting -= 1;
            match connected {
                Ok(connection) => {
                    state.max_connections =
                        if connection.is_http2() { MAX_HTTP2_CONNECTIONS } else { MAX_HTTP1_CONNECTIONS };
                    state.connections.push(Pooled {
                        connection: Arc::new(connection),
                        since: Instant::now(),
                        requests_before: 0,
                    });
                    None
                }
                Err(error) => {
                    state.short_lives = state.short_lives.saturating_add(1);
                    // Those that wait for a place on another connection may still get one.
                    let is_last = state.connecting == 0 && state.connections.is_empty();
                    Some((if is_last { std::mem::take(&mut state.waiting) } else { VecDeque::new() }, error))
                }
            }
        };
        if let Some((waiting, error)) = failed {
            for waiting in waiting {
                let _ = waiting.send(Err(error.clone()));
            }
            self.lost.notify_one();
        }
        self.refresh();
    }

    /// Forgets connections that ended, and gives free places to those that wait.
    fn refresh(self: &Arc<Self>) {
        let mut lost = Vec::new();
        {
            let mut state = self.lock();
            let PoolState { connections, short_lives, .. } = &mut *state;
            connections.retain(|Pooled { connection, since, .. }| {
                let Some(end) = connection.end() else { return true };
                let has_lasted = since.elapsed() >= ORDINARY_LIFE || connection.has_answered();
                *short_lives = if has_lasted { 0 } else { short_lives.saturating_add(1) };
                // Dropped below, because that may take the lock.
                lost.push((Arc::clone(connection), end));
                false
            });
            if let Some(newest) = state.connections.last() {
                state.expected_places = newest.connection.limit().max(1);
            }
            let open = state.connections.len();
            state.share.set(open);
        }
        for (_, end) in &lost {
            self.count.observer().connection_ended(self.count.tenant(), *end);
        }
        if !lost.is_empty() {
            self.lost.notify_one();
        }
        self.serve();
    }

    /// Gives free places to the requests that wait, the first first.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            while state.waiting.pop_front_if(|waiting| waiting.is_closed()).is_some() {}
            if state.waiting.is_empty() {
                return;
            }
            let Some(place) = state.free_place() else {
                self.open_needed(&mut state);
                return;
            };
            let waiting = state.waiting.pop_front();
            drop(state);
            // A request that gave up at this moment drops the place, which gives it to another.
            if let Some(waiting) = waiting {
                drop(waiting.send(Ok(self.pooled(place))));
            }
        }
    }

    /// Opens a connection when there is none and none is being opened. Returns how many in a row did not last.
    fn open_first(self: &Arc<Self>) -> u32 {
        let mut state = self.lock();
        if state.connections.is_empty() && state.connecting == 0 {
            self.open(&mut state);
        }
        state.short_lives
    }

    /// Closes the connections that took no request since the last call, except the first.
    fn close_idle(&self) {
        let mut idle = Vec::new();
        for pooled in self.lock().connections.iter_mut().skip(1) {
            let requests = pooled.connection.requests();
            if pooled.connection.is_idle() && requests == pooled.requests_before {
                idle.push(Arc::clone(&pooled.connection));
            }
            pooled.requests_before = requests;
        }
        for connection in idle {
            connection.retire(ConnectionEnd::Idle);
        }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lost.notify_one();
    }
}

impl PoolState {
    /// A place on the first connection that has one, so that the others become idle when there are few requests.
    fn free_place(&self) -> Option<Place> {
        self.connections.iter().find_map(|pooled| pooled.connection.place())
    }

    fn is_full(&self) -> bool {
        self.connections.len() + self.connecting >= self.max_connections
    }

    /// Whether more requests wait than the connections that are being opened will take.
    fn needs_connections(&self) -> bool {
        self.connecting * self.expected_places < self.waiting.len()
    }
}

/// Keeps one connection open, and closes those that are not needed, for as long as the pool exists.
async fn keep_warm(pool: Weak<Pool>, lost: Arc<Notify>) {
    let mut idle_checks = interval(IDLE_TIMEOUT);
    loop {
        let Some(short_lives) = pool.upgrade().map(|pool| pool.open_first()) else { return };
        tokio::select! {
            () = lost.notified() => sleep(pause(short_lives)).await,
            _ = idle_checks.tick() => {
                if let Some(pool) = pool.upgrade() {
                    pool.close_idle();
                }
            }
        }
    }
}

/// The pause after this many connections in a row that did not last. It is random, so that replicas whose connections end
/// together do not come back together.
fn pause(short_lives: u32) -> Duration {
    match short_lives {
        0 => Duration::from_millis(rand::random_range(0..100)),
        lives => backoff(BACKOFF, lives - 1).mul_f64(rand::random_range(1.0..1.2)),
    }
}

impl PooledPlace {
    /// Sends a request without a body.
    ///
    /// # Errors
    /// When the connection fails before the answer.
    pub async fn send(&mut self, request: Request<()>) -> Result<Response, Broken> {
        self.place_mut().send(request).await
    }

    /// The next part of the body of an answer; `None` at its end.
    ///
    /// # Errors
    /// When the connection fails before the end.
    pub async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Broken> {
        self.place_mut().chunk(response).await
    }

    /// Whether a failure says something about the connection and nothing about the tenant.
    pub fn is_connections_fault(&self) -> bool {
        self.place.as_ref().is_some_and(Place::is_connections_fault)
    }

    /// Lets no further request use the connection.
    pub fn retire(&self, why: ConnectionEnd) {
        if let Some(place) = &self.place {
            place.connection().retire(why);
        }
    }

    async fn is_ready(&mut self) -> bool {
        self.place_mut().is_ready().await
    }

    fn place_mut(&mut self) -> &mut Place {
        self.place.as_mut().expect("it is taken when this is dropped")
    }
}

impl Drop for PooledPlace {
    fn drop(&mut self) {
        drop(self.place.take());
        self.pool.serve();
    }
}

#[cfg(test)]
mod tests;
