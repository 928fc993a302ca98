//! A bound socket, with or without TLS, and its graceful shutdown.
//!
//! The accept loop is the service's own, and not that of `axum-server`: a connection over the limit has to be closed before
//! the next one is accepted, an idle HTTP/2 connection gets a GOAWAY, and the errors of connections are counted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{ConnectionServer, ConnectionTimeouts};
use super::connections::{ConnectionLimits, Connections};
use super::metrics::ConnectionMetrics;
use super::routes::Routes;
use crate::sampler::LogSampler;

/// How many connections the system holds until they are accepted. More than the accept loop gets behind by.
const BACKLOG: i32 = 1024;
/// How long the accept loop waits after an error: without a free file descriptor the next attempt fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a line about rejected connections or failed accepts is written.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A bound socket: its address is known before it serves.
pub struct Listener {
    socket: TcpListener,
    tls: Option<RustlsConfig>,
}

/// How a listener serves.
pub struct ServeOptions {
    /// How many connections it holds.
    pub limits: ConnectionLimits,
    /// How long a peer may leave a connection waiting.
    pub timeouts: ConnectionTimeouts,
    /// Counts connections.
    pub metrics: ConnectionMetrics,
    /// Ends the accept loop.
    pub draining: CancellationToken,
    /// How long open connections may take to finish after that.
    pub drain_timeout: Duration,
}

impl Listener {
    /// Binds an address. Port 0 takes any free port. The unspecified IPv6 address serves IPv4 as well, and is the
    /// unspecified IPv4 address on a host without IPv6.
    ///
    /// # Errors
    /// When the address is in use or not available.
    pub fn bind(address: SocketAddr, tls: Option<RustlsConfig>) -> io::Result<Self> {
        let socket = match bind(address) {
            Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() && address.is_ipv6() => {
                bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?
            }
            bound => bound?,
        };
        Ok(Self { socket, tls })
    }

    /// The bound address.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until it drains, then accepts no more connections and gives the open ones the drain timeout to finish.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub async fn serve(self, routes: impl Into<Routes>, options: ServeOptions) -> io::Result<()> {
        let ServeOptions { limits, timeouts, metrics, draining, drain_timeout } = options;
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let connections = Connections::new(limits, metrics.clone());
        let server = ConnectionServer::new(routes.into(), self.tls, timeouts, metrics.clone(), draining.clone());
        let server = Arc::new(server);
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let rejections = LogSampler::new(1, LOG_INTERVAL);
        let failures = LogSampler::new(1, LOG_INTERVAL);
        let listener = metrics.listener();
        loop {
            // Connections that the system has accepted are served, also when the drain begins: closing them would be a reset.
            let accepted = tokio::select! {
                biased;
                accepted = socket.accept() => accepted,
                () = draining.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
                Err(error) => {
                    metrics.accept_failed();
                    if let Some(suppressed) = failures.admit() {
                        tracing::error!(listener, %error, suppressed, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match connections.admit(peer) {
                Ok(permit) => {
                    let has_shed = permit.has_shed;
                    let serve = Arc::clone(&server).serve(stream, peer, permit);
                    // Without a block around it, which would hold the future twice.
                    tasks.spawn(ended.clone().run_until_cancelled_owned(serve));
                    if has_shed {
                        // The one that made room closes its socket before the next one opens.
                        tokio::task::yield_now().await;
                    }
                }
                Err(reason) => {
                    metrics.rejected(reason);
                    if let Some(suppressed) = rejections.admit() {
                        let reason = reason.as_str();
                        tracing::warn!(listener, source = %peer.ip(), reason, suppressed, "connections are rejected");
                    }
                }
            }
        }
        drop(socket);
        tasks.close();
        if timeout(drain_timeout, tasks.wait()).await.is_err() {
            ended.cancel();
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for the connections of the last process.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether the host has no IPv6: the family or the address does not exist.
fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let without = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::PROTONOSUPPORT];
    error.raw_os_error().is_some_and(|code| without.iter().any(|errno| errno.raw_os_error() == code))
}
