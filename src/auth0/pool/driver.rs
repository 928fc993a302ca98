//! The task that drives an HTTP/2 connection.
//!
//! It also finds out whether the peer is still there: a peer that sends nothing while a request is open gets a ping, and one
//! that does not answer the ping is dead. A NAT or a firewall that forgot a connection closes nothing, so without pings every
//! request on it would wait for its deadline.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::state::{ConnectionState, WatchedIo};
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

/// Drives an HTTP/2 connection, and pings the peer.
pub(super) struct Driver {
    connection: h2::client::Connection<WatchedIo, Bytes>,
    ping_pong: PingPong,
    pong_time: Duration,
    state: Arc<ConnectionState>,
    closed: oneshot::Receiver<Infallible>,
    timer: Pin<Box<Sleep>>,
    reads: u64,
    is_busy: bool,
    /// When something arrived last, or the connection became busy.
    alive_at: Instant,
    ping_sent_at: Option<Instant>,
}

impl Driver {
    pub fn new(
        mut connection: h2::client::Connection<WatchedIo, Bytes>,
        round_trip: Duration,
        state: Arc<ConnectionState>,
        closed: oneshot::Receiver<Infallible>,
    ) -> Self {
        let ping_pong = connection.ping_pong().expect("nobody took it from this connection before");
        let alive_at = Instant::now();
        let pong_time = MIN_PONG_TIME.max(round_trip * ROUND_TRIPS_OF_PONG);
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

    pub async fn run(mut self) {
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
        let ping_pong = &mut self.ping_pong;
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
