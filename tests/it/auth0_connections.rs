//! The connections to a tenant: how many open, when, and what becomes of one that fails. Counted at a tenant that speaks HTTP/2
//! over TLS on real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use h2::server::SendResponse;
use rustls::HandshakeKind;
use serde_json::json;
use session_checker::auth0::{Observer, TenantClient};
use session_checker::policy::{Failure, Tenant};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::auth0_client::{
    DOMAIN, Recorder, SECRET, TOKEN, USER, certificate, credentials, failure, late, list, upstream, within,
};
use crate::clock::drive;
use crate::common::eventually;

/// A tenant behind a network that a test can cut.
pub(crate) struct Peer {
    port: u16,
    pub(crate) ca: String,
    /// How many requests at once each connection permits.
    streams: u32,
    /// How many connections were accepted, and how many of them finished the TLS handshake.
    accepted: AtomicUsize,
    connections: AtomicUsize,
    /// How many connections resumed the TLS session of an earlier one.
    resumed: AtomicUsize,
    tokens: AtomicUsize,
    requests: AtomicUsize,
    /// Whether requests of the API are answered. While they are not, they wait.
    answers: watch::Sender<bool>,
    /// Whether new connections get an answer to their TLS handshake.
    pub(crate) shakes_hands: AtomicBool,
    /// Stops the bytes of all connections that are open now, and closes none of them.
    freeze: Notify,
    /// Closes all connections that are open now, in order.
    pub(crate) close: Notify,
    /// Sends a GOAWAY on all connections that are open now: the requests that are open are answered, later ones are not taken.
    drain: Notify,
}

impl Peer {
    pub(crate) async fn start(streams: u32) -> Arc<Self> {
        let (tls, ca) = certificate();
        let (network, inside) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let inner = inside.local_addr().unwrap();
        let peer = Arc::new(Self {
            port: network.local_addr().unwrap().port(),
            ca,
            streams,
            accepted: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            answers: watch::Sender::new(true),
            shakes_hands: AtomicBool::new(true),
            freeze: Notify::new(),
            close: Notify::new(),
            drain: Notify::new(),
        });
        let serving = Arc::clone(&peer);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((connection, _)) = inside.accept().await {
                let (peer, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(connection) = acceptor.accept(connection).await {
                        peer.connections.fetch_add(1, Ordering::SeqCst);
                        if connection.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                            peer.resumed.fetch_add(1, Ordering::SeqCst);
                        }
                        peer.serve(connection).await;
                    }
                });
            }
        });
        let relaying = Arc::clone(&peer);
        tokio::spawn(async move {
            while let Ok((outer, _)) = network.accept().await {
                relaying.accepted.fetch_add(1, Ordering::SeqCst);
                let peer = Arc::clone(&relaying);
                tokio::spawn(async move { peer.relay(outer, TcpStream::connect(inner).await.unwrap()).await });
            }
        });
        peer
    }

    async fn relay(&self, outer: TcpStream, inner: TcpStream) {
        if !self.shakes_hands.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let ((mut from, mut to), (mut back_from, mut back_to)) = (outer.into_split(), inner.into_split());
        let there = copy(&mut from, &mut back_to);
        let back = copy(&mut back_from, &mut to);
        tokio::select! {
            _ = there => {}
            _ = back => {}
            () = self.freeze.notified() => std::future::pending().await,
        }
    }

    async fn serve(self: Arc<Self>, connection: TlsStream<TcpStream>) {
        let mut builder = h2::server::Builder::new();
        let Ok(mut connection) = builder.max_concurrent_streams(self.streams).handshake(connection).await else {
            return;
        };
        let peer = Arc::clone(&self);
        let (close, drain) = (peer.close.notified(), peer.drain.notified());
        tokio::pin!(close, drain);
        let mut is_draining = false;
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(Ok((request, respond))) = accepted else { return };
                    tokio::spawn(Arc::clone(&self).answer(request.uri().path() == TOKEN, respond));
                }
                () = &mut drain, if !is_draining => {
                    is_draining = true;
                    connection.graceful_shutdown();
                }
                () = &mut close => return,
            }
        }
    }

    async fn answer(self: Arc<Self>, is_token: bool, mut respond: SendResponse<bytes::Bytes>) {
        if is_token {
            self.tokens.fetch_add(1, Ordering::SeqCst);
        } else {
            self.requests.fetch_add(1, Ordering::SeqCst);
            self.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
        }
        let answer = json!({ "access_token": "t0ken", "expires_in": 86400, "sessions": [{ "id": "s1" }] });
        if let Ok(mut body) = respond.send_response(axum::http::Response::new(()), false) {
            let _ = body.send_data(answer.to_string().into(), true);
        }
    }

    /// A client with a token, and with no connection for lists.
    async fn client(&self) -> TenantClient {
        self.observed(Arc::new(Recorder::default())).await
    }

    async fn observed(&self, observer: Arc<dyn Observer>) -> TenantClient {
        let upstream = upstream(&[(DOMAIN, &self.url())], Some(&self.ca), observer);
        let tenant = Tenant::new(DOMAIN, None).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(SECRET, DOMAIN)).unwrap();
        client.verify(late()).await.unwrap();
        assert_eq!(self.connections.swap(0, Ordering::SeqCst), 1, "for the token");
        self.accepted.store(0, Ordering::SeqCst);
        client
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn tokens(&self) -> usize {
        self.tokens.load(Ordering::SeqCst)
    }

    /// Closes all connections, and waits until the client knows.
    pub(crate) async fn close_all(&self, client: &TenantClient) {
        self.close.notify_waiters();
        eventually("the client knows", async || !client.is_connected()).await;
    }

    async fn reached(&self, requests: usize) {
        eventually("the requests arrive", async || self.requests.load(Ordering::SeqCst) >= requests).await;
    }
}

/// Sends this many lists at once, and returns how many the tenant holds at the same time, and over how many connections.
async fn burst(peer: &Arc<Peer>, client: &TenantClient, lists: usize) -> (usize, usize) {
    peer.answers.send_replace(false);
    let context = late().into();
    let release = async {
        peer.reached(lists).await;
        let seen = (peer.requests(), peer.connections());
        peer.answers.send_replace(true);
        seen
    };
    let (lists, seen) = tokio::join!(join_all((0..lists).map(|_| client.list_sessions(USER, &context))), release);
    assert!(lists.iter().all(Result::is_ok));
    seen
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_what_the_peer_permits() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let client = peer.client().await;
    list(&client).await.unwrap();
    peer.requests.store(0, Ordering::SeqCst);
    assert_eq!(burst(&peer, &client, 100).await, (100, 1));
    for _ in 0..10 {
        list(&client).await.unwrap();
    }
    assert_eq!(peer.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_connection_opens_when_the_streams_are_used_up() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(10).await;
    let client = peer.client().await;
    // The peer says how many it permits with the first answer.
    list(&client).await.unwrap();
    peer.requests.store(0, Ordering::SeqCst);
    assert_eq!(burst(&peer, &client, 35).await, (35, 4));
}

#[tokio::test(start_paused = true)]
async fn thousand_lists_at_once_wait_for_no_other() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let client = peer.client().await;
    list(&client).await.unwrap();
    peer.requests.store(0, Ordering::SeqCst);
    // Each is at the tenant while none is answered: all of them cost one round trip.
    assert_eq!(burst(&peer, &client, 1_000).await, (1_000, 10));
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_the_surplus_waits() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(2).await;
    let recorder = Arc::new(Recorder::default());
    let client = peer.observed(Arc::clone(&recorder) as _).await;
    list(&client).await.unwrap();
    peer.requests.store(0, Ordering::SeqCst);
    peer.answers.send_replace(false);
    let context = late().into();
    let lists = join_all((0..60).map(|_| client.list_sessions(USER, &context)));
    let release = async {
        peer.reached(48).await;
        // Of the surplus none is sent: it waits here for a free stream.
        sleep(Duration::from_millis(50)).await;
        assert_eq!((peer.requests(), peer.connections()), (48, 24));
        peer.answers.send_replace(true);
    };
    let (lists, ()) = tokio::join!(lists, release);
    assert!(lists.iter().all(Result::is_ok));
    assert_eq!(peer.connections(), 24);
    assert!(recorder.lines().contains(&"connection wait".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn dead_connection_costs_a_second_and_no_login() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let recorder = Arc::new(Recorder::default());
    let client = peer.observed(Arc::clone(&recorder) as _).await;
    list(&client).await.unwrap();
    peer.freeze.notify_waiters();
    let started = Instant::now();
    let lists = join_all((0..50).map(|_| list(&client))).await;
    assert!(lists.iter().all(Result::is_ok), "each is sent again on a connection that works");
    assert!(started.elapsed() < Duration::from_secs(3), "the default timeout of a check");
    assert_eq!(peer.connections(), 2);
    let lines = recorder.lines();
    assert_eq!(lines.iter().filter(|line| *line == "list unreachable").count(), 50);
    assert!(lines.contains(&"connection dead".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("breaker")), "the connection is blamed, not the tenant");
}

#[tokio::test(start_paused = true)]
async fn connecting_is_bounded_by_the_deadline_of_the_check() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let client = peer.client().await;
    peer.shakes_hands.store(false, Ordering::SeqCst);
    let deadline = within(300);
    let error = client.list_sessions(USER, &deadline.into()).await.unwrap_err();
    assert!(Instant::now() >= deadline);
    assert_eq!(error.failure, Failure::UpstreamUnreachable);
    assert_eq!(error.detail, "there was no connection before the deadline");
    // One that hangs does not keep a check that has time from another.
    peer.shakes_hands.store(true, Ordering::SeqCst);
    assert!(list(&client).await.is_ok());
    assert_eq!(peer.accepted(), 2);
}

#[tokio::test(start_paused = true)]
async fn timeout_retires_the_connection() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let client = peer.client().await;
    list(&client).await.unwrap();
    peer.answers.send_replace(false);
    assert_eq!(failure(client.list_sessions(USER, &within(300).into()).await), Failure::UpstreamTimeout);
    peer.answers.send_replace(true);
    list(&client).await.unwrap();
    assert_eq!(peer.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn connection_that_the_peer_closed_costs_no_retry() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let recorder = Arc::new(Recorder::default());
    let client = peer.observed(Arc::clone(&recorder) as _).await;
    for count in 1..4 {
        list(&client).await.unwrap();
        assert_eq!(peer.connections(), count);
        peer.close.notify_waiters();
        eventually("it is noticed", async || {
            recorder.lines().iter().filter(|line| *line == "connection closed").count() == count
        })
        .await;
    }
    assert_eq!(peer.requests(), 3);
    assert_eq!(peer.resumed.load(Ordering::SeqCst), 3, "all but the one for the token, whose session they resume");
}

#[tokio::test(start_paused = true)]
async fn connection_that_the_peer_drains_costs_no_retry() {
    let _clock = drive(Duration::from_millis(10));
    let peer = Peer::start(100).await;
    let recorder = Arc::new(Recorder::default());
    let client = peer.observed(Arc::clone(&recorder) as _).await;
    list(&client).await.unwrap();
    peer.answers.send_replace(false);
    let context = late().into();
    let under_way = client.list_sessions(USER, &context);
    let later = async {
        peer.reached(2).await;
        peer.drain.notify_waiters();
        let lists = join_all((0..5).map(|_| client.list_sessions(USER, &context)));
        let release = async {
            peer.reached(7).await;
            peer.answers.send_replace(true);
        };
        tokio::join!(lists, release).0
    };
    let (under_way, later) = tokio::join!(under_way, later);
    assert!(under_way.is_ok() && later.iter().all(Result::is_ok));
    list(&client).await.unwrap();
    assert_eq!((peer.requests(), peer.connections()), (8, 2));
    assert!(!recorder.lines().contains(&"list unreachable".to_owned()));
}
