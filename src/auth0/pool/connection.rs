//! One connection to a tenant: HTTP/2 with as many requests at once as the peer permits, or HTTP/1.1 with one.
//!
//! A task drives each connection. Over HTTP/2 it also finds out whether the peer is still there: a peer that sends nothing
//! while a request is open gets a ping, and one that does not answer the ping is dead. A NAT or a firewall that forgot a
//! connection closes nothing, so without pings every request on it would wait for its deadline.
//!
//! `h2` is used directly, because hyper's HTTP/2 client has one interval for pings in use and while idle, and spawns a task
//! for each request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong, RecvStream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::auth0::observer::ConnectionEnd;

/// After this silence a connection with open requests is pinged. With [`MIN_PONG_TIME`] it is under a second, so that a dead
/// connection costs a login less than a second.
pub(super) const BUSY_PING: Duration = Duration::from_millis(400);
/// After this silence an idle connection is pinged: often enough for the NATs and load balancers that forget a connection
/// after 30 s (the shortest that is common), and for the next login to find a connection that works.
pub(super) const IDLE_PING: Duration = Duration::from_secs(15);
/// How long the answer to a ping may take, or [`ROUND_TRIPS_OF_PONG`] round trips where these are longer.
pub(super) const MIN_PONG_TIME: Duration = Duration::from_millis(500);
/// How many round trips an answer to a ping may take: a lost packet is sent again within three.
const ROUND_TRIPS_OF_PONG: u32 = 4;
/// The most requests at once on one connection, however many the peer permits: more only share its congestion window.
const MAX_STREAMS: usize = 250;
/// What may arrive unread on a connection. With the most connections of a tenant (16) it is the memory that a tenant's answers may
/// take (32 MiB).
const CONNECTION_WINDOW: u32 = 2 << 20;
/// What may arrive unread of one answer: more than ten pages of 50 sessions.
const STREAM_WINDOW: u32 = 1 << 20;
/// The longest header of an answer. Auth0's have 1 to 2 KiB.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How long the first frames of HTTP/2 may take to be written. They fit into the send buffer of a new socket.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

/// A byte stream to a tenant.
pub(in crate::auth0) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A byte stream that was just opened.
pub(in crate::auth0) struct Opened {
    pub io: Box<dyn Io>,
    pub is_http2: bool,
    /// About the time of a round trip.
    pub round_trip: Duration,
}

/// A connection. When it is dropped, it closes.
pub(super) struct Connection {
    protocol: Protocol,
    state: Arc<State>,
    /// Ends the task that drives it.
    _close: oneshot::Sender<Infallible>,
}

enum Protocol {
    /// The sender is taken while a request uses it.
    Http1(Mutex<Option<http1::SendRequest<Empty<Bytes>>>>),
    Http2(SendRequest<Bytes>),
}

struct State {
    /// The requests that use it.
    open: AtomicUsize,
    /// How many requests it takes at once.
    limit: AtomicUsize,
    /// How many requests it took.
    requests: AtomicU64,
    /// How often something arrived.
    reads: AtomicU64,
    /// Whether a request was answered on it.
    has_answered: AtomicBool,
    ended: OnceLock<ConnectionEnd>,
    /// Is called when it ends, and when the peer permits more or fewer requests.
    on_change: Box<dyn Fn() + Send + Sync>,
}

/// A place on a connection for one request. It is free again when this is dropped.
pub(super) struct Place {
    connection: Arc<Connection>,
    /// `None` only while this is dropped.
    sender: Option<Sender>,
    /// Whether the answer was read to its end, so that HTTP/1.1 can send the next request.
    is_whole: bool,
    reads_before: u64,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(SendRequest<Bytes>),
}

/// An answer whose body is not read yet.
pub(in crate::auth0) struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Body,
}

enum Body {
    Http1(Incoming),
    Http2(RecvStream),
}

/// The connection failed or broke, or the answer was not HTTP.
#[derive(Debug, thiserror::Error)]
pub(in crate::auth0) enum Broken {
    #[error("the connection went dead: the tenant did not answer a ping")]
    Dead,
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    #[error("HTTP/1.1: {}", crate::auth0::error::with_causes(.0))]
    Http1(#[from] hyper::Error),
}

impl Connection {
    /// Begins to speak HTTP. Until the peer says how many requests at once it permits, an HTTP/2 connection takes
    /// `expected_places`.
    ///
    /// # Errors
    /// When the first frames cannot be written.
    pub async fn start(
        opened: Opened,
        expected_places: usize,
        on_change: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self, Broken> {
        let Opened { io, is_http2, round_trip } = opened;
        let limit = AtomicUsize::new(if is_http2 { expected_places } else { 1 });
        let state = Arc::new(State {
            open: AtomicUsize::new(0),
            limit,
            requests: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            has_answered: AtomicBool::new(false),
            ended: OnceLock::new(),
            on_change,
        });
        let io = WatchedIo { io, state: Arc::clone(&state) };
        let (close, closed) = oneshot::channel();
        let protocol = if is_http2 {
            let handshake = h2::client::Builder::new()
                .initial_max_send_streams(expected_places)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEADER_BYTES)
                .enable_push(false)
                .handshake(io);
            let (sender, mut connection) = timeout(PREFACE_TIMEOUT, handshake)
                .await
                .unwrap_or_else(|_| Err(h2::Error::from(h2::Reason::SETTINGS_TIMEOUT)))?;
            let ping_pong = connection.ping_pong();
            let pong_time = MIN_PONG_TIME.max(round_trip * ROUND_TRIPS_OF_PONG);
            let driver = Driver::new(connection, ping_pong, pong_time, Arc::clone(&state), closed);
            tokio::spawn(driver.run());
            Protocol::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                tokio::select! {
                    _ = connection => state.end(ConnectionEnd::Closed),
                    _ = closed => {}
                }
            });
            Protocol::Http1(Mutex::new(Some(sender)))
        };
        Ok(Self { protocol, state, _close: close })
    }

    /// A place for a request; `None` when there is none, or the connection takes no further requests. Not to be called by
    /// several tasks at once.
    pub fn place(self: &Arc<Self>) -> Option<Place> {
        let state = &self.state;
        if !self.is_usable() || state.open.load(Ordering::Relaxed) >= state.limit.load(Ordering::Relaxed) {
            return None;
        }
        let sender = match &self.protocol {
            Protocol::Http1(sender) => Sender::Http1(sender.lock().unwrap_or_else(PoisonError::into_inner).take()?),
            Protocol::Http2(sender) => Sender::Http2(sender.clone()),
        };
        state.open.fetch_add(1, Ordering::Relaxed);
        state.requests.fetch_add(1, Ordering::Relaxed);
        let reads_before = state.reads.load(Ordering::Relaxed);
        Some(Place { connection: Arc::clone(self), sender: Some(sender), is_whole: false, reads_before })
    }

    /// Whether it takes further requests, now or when a place is free.
    fn is_usable(&self) -> bool {
        self.state.ended.get().is_none()
    }

    pub fn is_idle(&self) -> bool {
        self.state.open.load(Ordering::Relaxed) == 0
    }

    /// How many requests it has taken.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// How many requests it takes at once.
    pub fn limit(&self) -> usize {
        self.state.limit.load(Ordering::Relaxed)
    }

    pub fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2(_))
    }

    pub fn has_answered(&self) -> bool {
        self.state.has_answered.load(Ordering::Relaxed)
    }

    /// Why it ended.
    pub fn end(&self) -> Option<ConnectionEnd> {
        self.state.ended.get().copied()
    }

    /// Takes no further requests. It closes when those that use it have ended.
    pub fn retire(&self, why: ConnectionEnd) {
        self.state.end(why);
    }
}

impl State {
    fn end(&self, why: ConnectionEnd) {
        if self.ended.set(why).is_ok() {
            (self.on_change)();
        }
    }
}

impl Place {
    /// Waits until the connection takes the request. False when it takes none any more: nothing was sent.
    pub async fn is_ready(&mut self) -> bool {
        match self.sender() {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => poll_fn(|cx| sender.poll_ready(cx)).await.is_ok(),
        }
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// When the connection fails before the answer.
    pub async fn send(&mut self, mut request: Request<()>) -> Result<Response, Broken> {
        let (head, body) = match self.sender() {
            Sender::Http1(sender) => {
                // The origin form, with the host in a header.
                let path = request.uri().path_and_query().cloned();
                if let Some(host) = request.uri().authority().and_then(|host| host.as_str().parse().ok()) {
                    request.headers_mut().insert(HOST, host);
                }
                *request.uri_mut() = path.map(Into::into).unwrap_or_default();
                let response = sender.send_request(request.map(|()| Empty::new())).await?;
                let (head, body) = response.into_parts();
                (head, Body::Http1(body))
            }
            Sender::Http2(sender) => {
                let response = match sender.send_request(request, true) {
                    Ok((response, _)) => response.await,
                    Err(error) => Err(error),
                };
                let (head, body) = response.map_err(|error| self.broken(error))?.into_parts();
                (head, Body::Http2(body))
            }
        };
        self.connection.state.has_answered.store(true, Ordering::Relaxed);
        Ok(Response { status: head.status, headers: head.headers, body })
    }

    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection fails before the end.
    pub async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Broken> {
        match &mut response.body {
            Body::Http1(body) => {
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
                self.is_whole = true;
                Ok(None)
            }
            Body::Http2(body) => {
                let Some(data) = body.data().await else { return Ok(None) };
                let data = data.map_err(|error| self.broken(error))?;
                // It fails only for a stream that has ended.
                let _ = body.flow_control().release_capacity(data.len());
                Ok(Some(data))
            }
        }
    }

    fn sender(&mut self) -> &mut Sender {
        self.sender.as_mut().expect("it is taken when this is dropped")
    }

    fn broken(&self, error: h2::Error) -> Broken {
        if self.connection.end() == Some(ConnectionEnd::Dead) { Broken::Dead } else { Broken::Http2(error) }
    }

    /// Whether nothing arrived on the connection since this place was taken, although it worked before. Then a failure says
    /// something about the connection and nothing about the tenant.
    pub fn is_connections_fault(&self) -> bool {
        let state = &self.connection.state;
        let is_silent = state.reads.load(Ordering::Relaxed) == self.reads_before;
        let has_ended = matches!(self.connection.end(), Some(ConnectionEnd::Dead | ConnectionEnd::Closed));
        self.connection.has_answered() && (is_silent || has_ended)
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Connection { protocol, state, .. } = &*self.connection;
        if let (Protocol::Http1(slot), Some(Sender::Http1(sender))) = (protocol, self.sender.take()) {
            if self.is_whole && !sender.is_closed() {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
            } else {
                // The rest of the answer would precede the next one.
                state.end(ConnectionEnd::Closed);
            }
        }
        state.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts what arrives.
struct WatchedIo {
    io: Box<dyn Io>,
    state: Arc<State>,
}

impl AsyncRead for WatchedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.reads.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for WatchedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Drives an HTTP/2 connection, and pings the peer.
struct Driver {
    connection: h2::client::Connection<WatchedIo, Bytes>,
    ping_pong: Option<PingPong>,
    pong_time: Duration,
    state: Arc<State>,
    closed: oneshot::Receiver<Infallible>,
    timer: Pin<Box<Sleep>>,
    reads: u64,
    is_busy: bool,
    /// When something arrived last, or the connection became busy.
    alive_at: Instant,
    ping_sent_at: Option<Instant>,
}

impl Driver {
    fn new(
        connection: h2::client::Connection<WatchedIo, Bytes>,
        ping_pong: Option<PingPong>,
        pong_time: Duration,
        state: Arc<State>,
        closed: oneshot::Receiver<Infallible>,
    ) -> Self {
        let alive_at = Instant::now();
        let timer = Box::pin(sleep_until(alive_at + IDLE_PING));
        Self {
            connection,
            ping_pong,
            pong_time,
            state,
            closed,
            timer,
            reads: 0,
            is_busy: false,
            alive_at,
            ping_sent_at: None,
        }
    }

    async fn run(mut self) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let state = Arc::clone(&self.state);
        // The reason is known before the requests fail, which happens when the connection is dropped.
        if let Some(end) = end {
            state.end(end);
        }
        drop(self);
    }

    /// `None` when nobody needs the connection any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ConnectionEnd>> {
        if Pin::new(&mut self.closed).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            if Pin::new(&mut self.connection).poll(cx).is_ready() {
                return Poll::Ready(Some(ConnectionEnd::Closed));
            }
            let limit = self.connection.max_concurrent_send_streams().min(MAX_STREAMS);
            if self.state.limit.swap(limit, Ordering::Relaxed) != limit {
                (self.state.on_change)();
            }
            match self.watch(cx, Instant::now()) {
                // A timer that is too early costs less than to set it at each request.
                Ok(next) if next < self.timer.deadline() || self.timer.is_elapsed() => self.timer.as_mut().reset(next),
                Ok(_) => {}
                Err(end) => return Poll::Ready(Some(end)),
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Pings the peer when it was silent for too long. Returns when to look again.
    fn watch(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Instant, ConnectionEnd> {
        let (reads, is_busy) = (self.state.reads.load(Ordering::Relaxed), self.state.open.load(Ordering::Relaxed) > 0);
        if reads != self.reads || (is_busy && !self.is_busy) {
            self.alive_at = now;
        }
        (self.reads, self.is_busy) = (reads, is_busy);
        let Some(ping_pong) = &mut self.ping_pong else { return Ok(now + IDLE_PING) };
        if self.ping_sent_at.is_some() && ping_pong.poll_pong(cx).is_ready() {
            self.ping_sent_at = None;
        }
        if let Some(sent_at) = self.ping_sent_at {
            let dead_at = sent_at.max(self.alive_at) + self.pong_time;
            return if now < dead_at { Ok(dead_at) } else { Err(ConnectionEnd::Dead) };
        }
        let due = self.alive_at + if is_busy { BUSY_PING } else { IDLE_PING };
        if now < due {
            return Ok(due);
        }
        if ping_pong.send_ping(Ping::opaque()).is_err() {
            return Err(ConnectionEnd::Closed);
        }
        self.ping_sent_at = Some(now);
        // Registers for the answer.
        let _ = ping_pong.poll_pong(cx);
        Ok(now + self.pong_time)
    }
}
