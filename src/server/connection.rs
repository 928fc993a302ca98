//! One connection, from the TLS handshake to its end.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connections::ConnectionPermit;
use super::metrics::{ConnectionMetrics, Ended};
use super::strict_lines::{HeaderProgress, StrictLines};
use super::write_deadline::WriteDeadline;
use crate::sampler::LogSampler;

/// The maximum size of a request's header, and of HTTP/1.1's buffer. A check's header takes less than 2 KiB; common servers
/// and proxies allow 8 to 32 KiB.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The maximum number of requests at once on an HTTP/2 connection. With [`MAX_HEADER_BYTES`] and the windows below, a
/// connection holds at most a few hundred KiB. A proxy with more opens another connection.
const MAX_STREAMS: u32 = 16;
/// How many bytes of a body a peer may send before the service reads it: the maximum size of a body.
const STREAM_WINDOW: u32 = 16 * 1024;
/// The same for all bodies of an HTTP/2 connection: the protocol's initial window, which cannot be less.
const CONNECTION_WINDOW: u32 = 65_535;
/// How many bytes of answers an HTTP/2 stream buffers. An answer to a check takes less than 2 KiB.
const SEND_BUFFER: usize = 16 * 1024;
/// How long a connection may take to end after it was asked to, when it was idle.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may leave a connection waiting.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// From the accepted connection to its first request, with the TLS handshake.
    pub first_request: Duration,
    /// Without a request.
    pub idle: Duration,
    /// While an answer is written and the peer reads nothing.
    pub write: Duration,
}

/// How requests of a socket are told from others: every request of a connection has this extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What the connections of one listener share.
pub(super) struct ConnectionServer {
    pub(super) router: Router,
    pub(super) tls: Option<RustlsConfig>,
    pub(super) timeouts: ConnectionTimeouts,
    pub(super) metrics: ConnectionMetrics,
    pub(super) draining: CancellationToken,
    http: Builder<TokioExecutor>,
    log: LogSampler,
}

/// What the requests of a connection do.
struct Activity {
    begun: Instant,
    in_flight: AtomicUsize,
    /// Milliseconds from `begun` to the end of the last request; 0 before the first.
    last_request: AtomicU64,
}

struct InFlight(Arc<Activity>);

impl Default for ConnectionTimeouts {
    /// A slow network gets 10 s for what a healthy one does in milliseconds. The idle timeout is longer than that of common
    /// proxies (60 s), so that the proxy closes the connection: if this side did, a request could already be on its way.
    fn default() -> Self {
        Self { first_request: Duration::from_secs(10), idle: Duration::from_secs(75), write: Duration::from_secs(10) }
    }
}

impl ConnectionServer {
    pub(super) fn new(
        router: Router,
        tls: Option<RustlsConfig>,
        timeouts: ConnectionTimeouts,
        metrics: ConnectionMetrics,
        draining: CancellationToken,
    ) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1().timer(TokioTimer::new()).header_read_timeout(timeouts.idle).max_buf_size(MAX_HEADER_BYTES);
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        let log = LogSampler::new(1, Duration::from_secs(60));
        Self { router, tls, timeouts, metrics, draining, http, log }
    }

    /// Serves a connection to its end, which is counted when this side ended it.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _permit: ConnectionPermit) {
        let begun = Instant::now();
        // An answer is one small write: it must not wait for the peer's acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        let stream = WriteDeadline::new(stream, self.timeouts.write);
        let served = match &self.tls {
            None => self.serve_http(stream, peer, begun).await,
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.get_inner()).accept(stream);
                let stream = tokio::select! {
                    biased;
                    () = self.draining.cancelled() => return,
                    stream = timeout(self.timeouts.first_request, handshake) => stream,
                };
                match stream {
                    Ok(Ok(stream)) => self.serve_http(stream, peer, begun).await,
                    Ok(Err(_)) => Err(Ended::Tls),
                    Err(_) => Err(Ended::FirstRequestTimeout),
                }
            }
        };
        if let Err(ended) = served {
            self.metrics.ended(ended);
            if let Some(suppressed) = self.log.admit() {
                let listener = self.metrics.listener();
                tracing::info!(listener, source = %peer.ip(), reason = ended.as_str(), suppressed, "connection ended");
            }
        }
    }

    async fn serve_http<S>(&self, stream: S, peer: SocketAddr, begun: Instant) -> Result<(), Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity { begun, in_flight: AtomicUsize::new(0), last_request: AtomicU64::new(0) });
        let extension = Peer(peer);
        let progress = HeaderProgress::new();
        let stream = StrictLines::new(stream, Arc::clone(&progress));
        let service = service_fn(|mut request: Request<Incoming>| {
            let in_flight = InFlight::begin(&activity);
            request.extensions_mut().insert(extension);
            let is_http1 = request.version() < Version::HTTP_2;
            let body_length = request.body().size_hint().exact();
            let answer = self.router.clone().call(request);
            let progress = Arc::clone(&progress);
            async move {
                let Ok(mut answer): Result<Response, Infallible> = answer.await;
                if is_http1 && progress.answered(body_length) {
                    // A request that came before this answer was not checked, and no client needs to send one.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                drop(in_flight);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            served = connection.as_mut() => return served.or_else(|error| Ended::by(&*error)),
            () = self.draining.cancelled() => None,
            ended = activity.expired(self.timeouts) => Some(ended),
        };
        match ended {
            Some(Ended::FirstRequestTimeout) => Err(Ended::FirstRequestTimeout),
            Some(ended) => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(GOODBYE_TIMEOUT, connection).await;
                Err(ended)
            }
            None => {
                connection.as_mut().graceful_shutdown();
                let unused = async {
                    match activity.expired(self.timeouts).await {
                        Ended::FirstRequestTimeout => {}
                        // The drain timeout bounds it.
                        _ => std::future::pending().await,
                    }
                };
                tokio::select! {
                    served = connection => served.or_else(|error| Ended::by(&*error)),
                    () = unused => Err(Ended::FirstRequestTimeout),
                }
            }
        }
    }
}

impl Ended {
    /// The reason of an error of a connection. A peer that breaks its own connection is not an event.
    fn by(error: &(dyn Error + 'static)) -> Result<(), Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                if error.is_parse_too_large() {
                    return Err(Self::HeadersTooLarge);
                }
                if error.is_parse() {
                    return Err(Self::Malformed);
                }
                if error.is_timeout() {
                    return Err(Self::Idle);
                }
            }
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                return Err(Self::WriteTimeout);
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl Activity {
    /// Waits until the connection has had no request for too long.
    async fn expired(&self, timeouts: ConnectionTimeouts) -> Ended {
        loop {
            let last = self.last_request.load(Ordering::Relaxed);
            let (bound, ended) = match last {
                0 => (timeouts.first_request, Ended::FirstRequestTimeout),
                _ => (timeouts.idle, Ended::Idle),
            };
            let due = match self.in_flight.load(Ordering::Relaxed) {
                0 => self.begun + Duration::from_millis(last) + bound,
                _ => Instant::now() + bound,
            };
            if due <= Instant::now() {
                return ended;
            }
            // Requests do not wake this: it looks again when the connection would have expired without them.
            sleep_until(due.min(Instant::now() + timeouts.idle)).await;
        }
    }
}

impl InFlight {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let last = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.last_request.store(last, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
