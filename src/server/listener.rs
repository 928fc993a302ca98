//! A bound socket, with or without TLS, and its graceful shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

/// How long a new connection may take to send its first request, with the TLS handshake. Generous for slow networks.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle. Longer than the idle timeout of common proxies (60 s), so that the proxy closes the
/// connection: if this side did, a request could already be on its way.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// A bound socket: its address is known before it serves.
pub struct Listener {
    socket: TcpListener,
    tls: Option<RustlsConfig>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain in PEM.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
}

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate {certificate} and key {key} cannot be used: {source}")]
pub struct TlsError {
    certificate: String,
    key: String,
    source: io::Error,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or is not PEM, or the key does not belong to the certificate.
    pub async fn load(&self) -> Result<RustlsConfig, TlsError> {
        RustlsConfig::from_pem_file(&self.certificate, &self.key).await.map_err(|source| self.error(source))
    }

    /// Reads the files again, for new connections.
    ///
    /// # Errors
    /// As [`load`](Self::load). The old certificate stays in use.
    pub async fn reload(&self, config: &RustlsConfig) -> Result<(), TlsError> {
        config.reload_from_pem_file(&self.certificate, &self.key).await.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> TlsError {
        let show = |path: &PathBuf| path.display().to_string();
        TlsError { certificate: show(&self.certificate), key: show(&self.key), source }
    }
}

impl Listener {
    /// Binds an address. Port 0 takes any free port.
    ///
    /// # Errors
    /// When the address is in use or not available.
    pub fn bind(address: SocketAddr, tls: Option<RustlsConfig>) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls })
    }

    /// The bound address.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `draining`, then accepts no more connections and gives the open ones `drain_timeout` to finish.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn serve(self, router: Router, draining: CancellationToken, drain_timeout: Duration) -> io::Result<()> {
        let handle = Handle::new();
        let service = router.into_make_service();
        let shutdown = {
            let handle = handle.clone();
            async move {
                draining.cancelled().await;
                handle.graceful_shutdown(Some(drain_timeout));
                std::future::pending::<()>().await;
            }
        };
        let serve = async {
            match self.tls {
                None => with_timeouts(axum_server::from_tcp(self.socket)?).handle(handle).serve(service).await,
                Some(tls) => {
                    with_timeouts(axum_server::from_tcp_rustls(self.socket, tls)?).handle(handle).serve(service).await
                }
            }
        };
        tokio::select! {
            served = serve => served,
            () = shutdown => Ok(()),
        }
    }
}

/// Closes idle connections: a client that opens many and sends nothing would otherwise use up the service's sockets.
fn with_timeouts<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_TIMEOUT)
        .keep_alive_timeout(FIRST_REQUEST_TIMEOUT);
    server.first_request_timeout(FIRST_REQUEST_TIMEOUT)
}
