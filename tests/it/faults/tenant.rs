//! A tenant with one fault: it answers each request as Auth0 would, up to the operation that has the fault.
//!
//! It serves one check. The token, the list and the revocation of a check follow each other, so a fault of a connection begins
//! when the operation before it was answered: that answer ends its connection, and the next connection has the fault.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use session_checker::auth0::Operation;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::certificate::{Certificate, Certificates};
use super::http2;

/// The pause between two pieces of what is sent slowly or for ever. A test drives this time.
const PAUSE: Duration = Duration::from_millis(20);

/// How a connection to the tenant speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// What the tenant does instead of the answer of Auth0.
#[derive(Clone)]
pub enum Act {
    /// No socket listens.
    Refused,
    /// The connection ends before TLS.
    Dropped(End),
    /// These bytes come instead of the TLS handshake.
    NotTls(&'static [u8], End),
    /// The certificate is not that of the tenant.
    Presents(Certificate),
    /// These bytes come over TLS instead of an answer.
    Raw(When, Vec<u8>, End),
    /// The answer to each request of the operation, by its number.
    Answers(Arc<dyn Fn(usize) -> Answer + Send + Sync>),
    /// The HTTP/2 stream is reset.
    ResetStream(h2::Reason),
    /// The HTTP/2 connection ends with a GOAWAY.
    GoAway(h2::Reason),
}

/// When bytes are sent over TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Before the request.
    Connected,
    /// After the header of the request.
    Requested,
}

/// What follows the bytes that were sent.
#[derive(Clone)]
pub enum End {
    /// The connection closes, without a close_notify of TLS.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing until the client closes the connection.
    Silence,
    /// These bytes, again and again.
    Repeat(Vec<u8>),
    /// The same, as fast as they go, and what the client sends is never read.
    Flood(Vec<u8>),
}

/// One answer.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone)]
pub enum Body {
    Whole(Vec<u8>),
    /// A part of the body that is announced.
    Part(Vec<u8>, Cut),
    /// Of this size, announced.
    Announced(usize),
    /// Pieces of this size without an end, or with this pause between them.
    Endless(usize, Duration),
}

/// What follows a part of a body.
#[derive(Clone, Copy)]
pub enum Cut {
    Close,
    Reset,
    Silence,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer of Auth0: one other session of the application, which can be revoked.
    pub fn usual(operation: Operation) -> Self {
        match operation {
            Operation::Token => Self::new(
                200,
                json!({
                    "access_token": "t0ken", "token_type": "Bearer", "expires_in": 86400,
                    "scope": "read:sessions delete:sessions delete:refresh_tokens",
                })
                .to_string(),
            ),
            Operation::List => Self::new(200, json!({ "sessions": [old_session()] }).to_string()),
            Operation::Revoke => Self::new(202, "{}"),
            // No operation of these checks.
            Operation::Read | Operation::Annotate => Self::new(404, ""),
        }
    }
}

/// The session that the check evicts.
pub fn old_session() -> serde_json::Value {
    json!({
        "id": "old", "user_id": super::USER, "created_at": "2024-05-01T10:00:00.000Z",
        "clients": [{ "client_id": super::APP }],
    })
}

/// One tenant.
pub struct Tenant {
    pub protocol: Protocol,
    pub operation: Operation,
    pub act: Act,
    /// Whether new connections have the fault.
    pub is_due: AtomicBool,
    /// Ends the listener. The listener answers when it has ended.
    ends: Notify,
    ended: Notify,
    /// How many requests of the operation came.
    pub asked: AtomicUsize,
    /// How many connections are open.
    pub open: AtomicUsize,
    /// Keeps the port from other tests when nobody listens.
    _port: TcpSocket,
}

/// A connection that is counted while it is open.
struct Opened(Arc<Tenant>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The least size of a segment that every network carries, in bytes.
const SMALL_SEGMENT: u32 = 536;

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(Certificates::new);

/// The CA of the tenants, in PEM.
pub fn ca() -> &'static str {
    &CERTIFICATES.ca
}

/// A socket with this address. Several may have it while one of them listens.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

impl Tenant {
    /// Starts a tenant on a free port, and returns its URL too. Its tasks end with the set.
    pub async fn start(
        protocol: Protocol,
        operation: Operation,
        act: Act,
        tasks: &mut JoinSet<()>,
    ) -> (Arc<Self>, String) {
        let held = bound("127.0.0.1:0".parse().unwrap());
        let address = held.local_addr().unwrap();
        let tenant = Arc::new(Self {
            protocol,
            operation,
            act,
            is_due: AtomicBool::new(false),
            ends: Notify::new(),
            ended: Notify::new(),
            asked: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            _port: held,
        });
        let url = format!("{}://{address}", if tenant.is_plain() { "http" } else { "https" });
        if operation == Operation::Token && matches!(tenant.act, Act::Refused) {
            return (tenant, url);
        }
        tenant.is_due.store(operation == Operation::Token, Ordering::Relaxed);
        let socket = bound(address);
        if matches!(tenant.act, Act::Raw(_, _, End::Flood(_))) {
            // With small segments the client has a small buffer for what it sends, which is full after fewer frames.
            SockRef::from(&socket).set_tcp_mss(SMALL_SEGMENT).unwrap();
        }
        let listener = socket.listen(16).unwrap();
        tasks.spawn(Arc::clone(&tenant).listen(listener));
        (tenant, url)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (connection, _) = tokio::select! {
                accepted = listener.accept() => accepted.unwrap(),
                () = self.ends.notified() => break,
            };
            self.open.fetch_add(1, Ordering::Relaxed);
            let opened = Opened(Arc::clone(&self));
            connections.spawn(async move {
                opened.0.serve(connection).await;
            });
        }
        drop(listener);
        self.ended.notify_one();
        connections.join_all().await;
    }

    /// Whether the tenant speaks without TLS. That is less work, and whole answers are the same over both.
    fn is_plain(&self) -> bool {
        self.protocol == Protocol::Http1 && matches!(self.act, Act::Answers(_))
    }

    /// Serves one connection. What the client breaks off ends it.
    async fn serve(self: &Arc<Self>, mut connection: TcpStream) {
        // Otherwise the kernel holds small pieces back for the time of a delayed acknowledgement.
        connection.set_nodelay(true).unwrap();
        let due = self.is_due.load(Ordering::Relaxed).then_some(&self.act);
        let resets =
            matches!(due, Some(Act::Dropped(End::Reset) | Act::NotTls(_, End::Reset) | Act::Raw(_, _, End::Reset)))
                || matches!(&self.act, Act::Answers(answer) if matches!(answer(0).body, Body::Part(_, Cut::Reset)));
        if resets {
            connection.set_zero_linger().unwrap();
        }
        let certificate = match due {
            Some(Act::Dropped(end)) => {
                let _ = finish(&mut connection, end).await;
                return;
            }
            Some(Act::NotTls(bytes, end)) => {
                // The client sends its hello first.
                let _ = connection.read(&mut [0; 4096]).await;
                let _ = connection.write_all(bytes).await;
                let _ = finish(&mut connection, end).await;
                return;
            }
            Some(Act::Presents(certificate)) => *certificate,
            _ => Certificate::Right,
        };
        if self.is_plain() {
            let _ = self.serve_http1(connection).await;
            return;
        }
        let acceptor = TlsAcceptor::from(CERTIFICATES.config(certificate, self.protocol));
        let Ok(mut connection) = acceptor.accept(connection).await else { return };
        if let Some(Act::Raw(when, bytes, end)) = due {
            let requested = match (when, self.protocol) {
                (When::Connected, _) => true,
                (When::Requested, Protocol::Http1) => read_head(&mut connection).await.is_some(),
                (When::Requested, Protocol::Http2) => http2::read_request(&mut connection).await.is_ok(),
            };
            if requested && send(&mut connection, bytes).await.is_ok() {
                let _ = finish(&mut connection, end).await;
            }
            return;
        }
        match self.protocol {
            Protocol::Http1 => drop(self.serve_http1(connection).await),
            Protocol::Http2 => http2::serve(self, connection).await,
        }
    }

    async fn serve_http1(self: &Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
        loop {
            let head = read_head(&mut stream).await?;
            let mut body = vec![0; content_length(&head)];
            stream.read_exact(&mut body).await.ok()?;
            let (answer, is_last) = self.answer(operation(head.split(' ').nth(1)?)).await?;
            let mut text = format!("HTTP/1.1 {} x\r\n", answer.status);
            for (name, value) in &answer.headers {
                text += &format!("{name}: {value}\r\n");
            }
            if is_last {
                text += "connection: close\r\n";
            }
            text += &match (&answer.body, answer.status) {
                (Body::Whole(_), 101 | 204 | 304) => String::new(),
                (Body::Whole(body), _) => format!("content-length: {}\r\n", body.len()),
                (Body::Part(body, _), _) => format!("content-length: {}\r\n", body.len() + 1_000),
                (Body::Announced(size), _) => format!("content-length: {size}\r\n"),
                (Body::Endless(..), _) => "transfer-encoding: chunked\r\n".to_owned(),
            };
            stream.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
            match answer.body {
                Body::Whole(_) if matches!(answer.status, 101 | 204 | 304) => {}
                Body::Whole(body) => stream.write_all(&body).await.ok()?,
                Body::Part(body, cut) => {
                    stream.write_all(&body).await.ok()?;
                    return finish(&mut stream, &cut.into()).await.ok();
                }
                Body::Announced(size) => stream.write_all(&vec![b' '; size]).await.ok()?,
                Body::Endless(size, pause) => loop {
                    let piece = [format!("{size:x}\r\n").into_bytes(), vec![b' '; size], b"\r\n".to_vec()].concat();
                    send(&mut stream, &piece).await.ok()?;
                    sleep(pause).await;
                },
            }
            stream.flush().await.ok()?;
            if is_last {
                return Some(());
            }
        }
    }

    /// The answer to a request, and whether its connection ends with it. `None` for a stream that has no answer.
    pub async fn answer(&self, operation: Operation) -> Option<(Answer, bool)> {
        if operation == self.operation {
            let number = self.asked.fetch_add(1, Ordering::Relaxed);
            return match &self.act {
                Act::Answers(answer) => Some((answer(number), false)),
                _ => None,
            };
        }
        let is_before = matches!(
            (operation, self.operation),
            (Operation::Token, Operation::List) | (Operation::List, Operation::Revoke)
        );
        let is_of_connections = !matches!(self.act, Act::Answers(_) | Act::ResetStream(_) | Act::GoAway(_));
        let is_last = is_before && is_of_connections;
        if is_last {
            self.is_due.store(true, Ordering::Relaxed);
            if matches!(self.act, Act::Refused) {
                self.ends.notify_one();
                self.ended.notified().await;
            }
        }
        Some((Answer::usual(operation), is_last))
    }
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Close => Self::Close,
            Cut::Reset => Self::Reset,
            Cut::Silence => Self::Silence,
        }
    }
}

/// The operation of a request.
pub fn operation(path: &str) -> Operation {
    match path {
        path if path.ends_with("/oauth/token") => Operation::Token,
        path if path.ends_with("/revoke") => Operation::Revoke,
        _ => Operation::List,
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Ends a connection. A connection that resets was prepared for it, so that dropping it is enough.
async fn finish(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), end: &End) -> std::io::Result<()> {
    send(stream, b"").await?;
    match end {
        End::Close | End::Reset => Ok(()),
        End::Silence => {
            while stream.read(&mut [0; 4096]).await? > 0 {}
            Ok(())
        }
        End::Flood(bytes) => loop {
            send(stream, bytes).await?;
            tokio::task::yield_now().await;
        },
        End::Repeat(bytes) => loop {
            let mut received = vec![0; 64 << 10];
            send(stream, bytes).await?;
            sleep(PAUSE).await;
            // What the client answered, without waiting for more.
            if let Ok(read) = timeout(Duration::ZERO, stream.read(&mut received)).await
                && read? == 0
            {
                return Ok(());
            }
        },
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.map_or(0, |length| length.trim().parse().unwrap())
}

/// Sends a body over HTTP/2 as the answer says.
pub async fn send_body(mut stream: h2::SendStream<Bytes>, body: Body) -> Result<(), h2::Error> {
    match body {
        Body::Whole(body) => stream.send_data(body.into(), true),
        Body::Announced(size) => stream.send_data(vec![b' '; size].into(), true),
        Body::Part(body, Cut::Silence) => {
            stream.send_data(body.into(), false)?;
            // Until the client gives up.
            std::future::poll_fn(|context| stream.poll_reset(context)).await.map(drop)
        }
        Body::Part(body, Cut::Close | Cut::Reset) => {
            stream.send_data(body.into(), false)?;
            // The connection ends under it.
            std::future::poll_fn(|context| stream.poll_reset(context)).await.map(drop)
        }
        Body::Endless(size, pause) => loop {
            stream.reserve_capacity(size);
            match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
                Some(Ok(granted)) => stream.send_data(vec![b' '; granted.min(size)].into(), false)?,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
            sleep(pause).await;
        },
    }
}
