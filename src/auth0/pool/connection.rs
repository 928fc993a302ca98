//! One connection to a tenant: HTTP/2 with as many requests at once as the peer permits, or HTTP/1.1 with one.
//!
//! `h2` is used directly, because hyper's HTTP/2 client has one interval for pings in use and while idle, and spawns a task
//! for each request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::driver::Driver;
use super::state::{ConnectionState, Io, watch};
use crate::auth0::observer::ConnectionEnd;

/// What may arrive unread on a connection: at most 48 MiB on the most connections of a tenant (24). That is beside the memory of
/// answers (`auth0::memory`, 32 MiB a tenant), which counts what is read. An answer is read as it arrives, so little waits unread.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// What may arrive unread of one answer: more than ten pages of 50 sessions.
const STREAM_WINDOW: u32 = 1 << 20;
/// The longest header of an answer. Auth0's have 1 to 2 KiB.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How long the first frames of HTTP/2 may take to be written. They fit into the send buffer of a new socket.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);

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
    state: Arc<ConnectionState>,
    /// Ends the task that drives it.
    _close: oneshot::Sender<Infallible>,
}

enum Protocol {
    /// The sender is taken while a request uses it.
    Http1(Mutex<Option<http1::SendRequest<Empty<Bytes>>>>),
    Http2(SendRequest<Bytes>),
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
        let state = Arc::new(ConnectionState::new(if is_http2 { expected_places } else { 1 }, on_change));
        let io = watch(io, Arc::clone(&state));
        let (close, closed) = oneshot::channel();
        let protocol = if is_http2 {
            let handshake = h2::client::Builder::new()
                .initial_max_send_streams(expected_places)
                .initial_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(MAX_HEADER_BYTES)
                .enable_push(false)
                .handshake(io);
            let (sender, connection) = timeout(PREFACE_TIMEOUT, handshake)
                .await
                .unwrap_or_else(|_| Err(h2::Error::from(h2::Reason::SETTINGS_TIMEOUT)))?;
            let driver = Driver::new(connection, round_trip, Arc::clone(&state), closed);
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
