//! One connection, from the TLS handshake to its end.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::HttpBody;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Method, Request, Version};
use axum_server::tls_rustls::RustlsConfig;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectWriter;
use tokio_util::sync::CancellationToken;

use super::connections::ConnectionPermit;
use super::header_lists::WrittenFrames;
use super::metrics::{ConnectionMetrics, Ended};
use super::peer::Peer;
use super::routes::Routes;
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

/// What the connections of one listener share.
pub(super) struct ConnectionServer {
    pub(super) routes: Routes,
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

/// One request.
struct InFlight {
    activity: Arc<Activity>,
    /// Gone when the connection is.
    permit: Weak<ConnectionPermit>,
    /// Whether a known caller was answered.
    is_proof: bool,
}

impl Default for ConnectionTimeouts {
    /// A slow network gets 10 s for what a healthy one does in milliseconds. The idle timeout is longer than that of common
    /// proxies (60 s), so that the proxy closes the connection: if this side did, a request could already be on its way.
    fn default() -> Self {
        Self { first_request: Duration::from_secs(10), idle: Duration::from_secs(75), write: Duration::from_secs(10) }
    }
}

impl ConnectionServer {
    pub(super) fn new(
        routes: Routes,
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
        Self { routes, tls, timeouts, metrics, draining, http, log }
    }

    /// Serves a connection to its end, which is counted when this side ended it.
    pub(super) async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        let permit = Arc::new(permit);
        let served = tokio::select! {
            biased;
            served = self.serve_stream(stream, peer, &permit) => served,
            () = permit.shed() => Err(Ended::Shed),
        };
        if let Err(ended) = served {
            self.metrics.ended(ended);
            if let Some(suppressed) = self.log.admit() {
                let listener = self.metrics.listener();
                tracing::info!(listener, source = %peer.ip(), reason = ended.as_str(), suppressed, "connection ended");
            }
        }
    }

    async fn serve_stream(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: &Arc<ConnectionPermit>,
    ) -> Result<(), Ended> {
        let begun = Instant::now();
        // An answer is one small write: it must not wait for the peer's acknowledgement of the last one.
        let _ = stream.set_nodelay(true);
        let stream = WriteDeadline::new(stream, self.timeouts.write);
        match &self.tls {
            None => self.serve_http(stream, peer, begun, permit).await,
            Some(tls) => {
                // Boxed, so that a connection without TLS has no place for it.
                let handshake = Box::pin(TlsAcceptor::from(tls.get_inner()).accept(stream));
                let stream = tokio::select! {
                    biased;
                    () = self.draining.cancelled() => return Ok(()),
                    stream = timeout(self.timeouts.first_request, handshake) => stream.map(|done| done.map(Box::new)),
                };
                match stream {
                    Ok(Ok(stream)) => Box::pin(self.serve_http(stream, peer, begun, permit)).await,
                    Ok(Err(error)) => Err(Ended::by_handshake(&error)),
                    Err(_) => Err(Ended::FirstRequestTimeout),
                }
            }
        }
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        begun: Instant,
        permit: &Arc<ConnectionPermit>,
    ) -> Result<(), Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity { begun, in_flight: AtomicUsize::new(0), last_request: AtomicU64::new(0) });
        let progress = HeaderProgress::new();
        let stream = StrictLines::new(stream, Arc::clone(&progress));
        let (mut written, metrics) = (WrittenFrames::default(), self.metrics.clone());
        let stream = InspectWriter::new(stream, move |bytes: &[u8]| metrics.header_lists_rejected(written.read(bytes)));
        let service = service_fn(|request: Request<Incoming>| {
            let mut in_flight = InFlight::begin(&activity, permit);
            let is_post = request.method() == Method::POST;
            let is_http1 = request.version() < Version::HTTP_2;
            let body_length = request.body().size_hint().exact();
            let answer = self.routes.answer(request, Some(Peer(peer)));
            let progress = Arc::clone(&progress);
            async move {
                let mut answer = answer.await;
                if is_http1 && progress.answered(body_length) {
                    // A request that came before this answer was not checked, and no client needs to send one. After a chunked
                    // body it may have.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                // Strangers get no other success than that of a GET.
                in_flight.is_proof = is_post && answer.status().is_success();
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
    /// The reason of a TLS handshake that failed. Only certificates of clients are verified here.
    fn by_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|error| error.downcast_ref()) {
            Some(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                Self::ClientCertificate
            }
            _ => Self::Tls,
        }
    }

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
    fn begin(activity: &Arc<Activity>, permit: &Arc<ConnectionPermit>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        permit.request_begun();
        Self { activity: Arc::clone(activity), permit: Arc::downgrade(permit), is_proof: false }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Self { activity, permit, is_proof } = self;
        let last = u64::try_from(activity.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        activity.last_request.store(last, Ordering::Relaxed);
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(permit) = permit.upgrade() {
            permit.request_ended(*is_proof);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call of the function would make, without the call.
    fn future_size<T>(_: impl FnOnce(Arc<ConnectionServer>, TcpStream, ConnectionPermit) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn idle_connection_takes_few_bytes() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let size = future_size(|server, stream, permit| server.serve(stream, peer, permit));
        assert!(size <= 4_000, "{size}");
    }
}
