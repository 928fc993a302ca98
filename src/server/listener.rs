//! A bound socket, plain or TLS, and its graceful end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio_util::sync::CancellationToken;

/// How long a new connection may take to send its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// How long a connection may be idle: longer than the idle time of common proxies, which then end it and not this side.
const IDLE: Duration = Duration::from_secs(75);

/// A socket that is bound, so that its address is known before anything is served.
pub struct Listener {
    socket: TcpListener,
    tls: Option<RustlsConfig>,
}

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// The key, PEM.
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the certificate {certificate} and key {key} cannot be used: {source}")]
pub struct TlsError {
    certificate: String,
    key: String,
    source: io::Error,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they are not a PEM chain and its key.
    pub async fn load(&self) -> Result<RustlsConfig, TlsError> {
        RustlsConfig::from_pem_file(&self.certificate, &self.key).await.map_err(|source| self.error(source))
    }

    /// Reads the files again, for new connections.
    ///
    /// # Errors
    /// When they are not a PEM chain and its key; the old ones stay in use.
    pub async fn reload(&self, config: &RustlsConfig) -> Result<(), TlsError> {
        config.reload_from_pem_file(&self.certificate, &self.key).await.map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> TlsError {
        let show = |path: &PathBuf| path.display().to_string();
        TlsError { certificate: show(&self.certificate), key: show(&self.key), source }
    }
}

impl Listener {
    /// Binds an address; port 0 takes any.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr, tls: Option<RustlsConfig>) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, tls })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `draining`, then takes no new connection and gives those there are `drain_timeout` to end.
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
                None => careful(axum_server::from_tcp(self.socket)?).handle(handle).serve(service).await,
                Some(tls) => {
                    careful(axum_server::from_tcp_rustls(self.socket, tls)?).handle(handle).serve(service).await
                }
            }
        };
        tokio::select! {
            served = serve => served,
            () = shutdown => Ok(()),
        }
    }
}

/// Ends connections on which nothing happens: whoever opens many and sends nothing would otherwise hold them for ever.
fn careful<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE).keep_alive_timeout(FIRST_REQUEST);
    server.first_request_timeout(FIRST_REQUEST)
}
