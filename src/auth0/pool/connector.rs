//! Opens a byte stream to a tenant: addresses, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::connection::{Broken, Opened};
use super::proxy::{Proxy, ProxyError};
use crate::auth0::dns::{NotPublic, ResolveError, Resolver};

/// How long an address has before the next one is tried beside it, as RFC 8305 recommends.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long sent data may stay unacknowledged: for HTTP/1.1, which has no pings, a connection that went dead costs a login at
/// most this.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(1);

/// Why a connection did not come about.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::auth0) enum ConnectError {
    /// The name has a private address.
    #[error(transparent)]
    NotPublic(NotPublic),
    /// The name has no address.
    #[error("{0}")]
    Resolve(Arc<io::Error>),
    #[error(transparent)]
    Proxy(ProxyError),
    #[error("connecting failed: {0}")]
    Tcp(Arc<io::Error>),
    #[error("TLS: {0}")]
    Tls(Arc<io::Error>),
    #[error("{0}")]
    Http(Arc<Broken>),
    /// It took longer than any check waits.
    #[error("there was no connection within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Opens byte streams to one origin.
pub(in crate::auth0) trait Connect: Send + Sync {
    /// Opens one.
    fn connect(&self) -> BoxFuture<'_, Result<Opened, ConnectError>>;

    /// The proxy on the way, as HOST:PORT.
    fn proxy(&self) -> Option<String> {
        None
    }
}

/// Connects to the host and port of a URL.
pub(in crate::auth0) struct Connector {
    pub host: Box<str>,
    pub port: u16,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ArcSwap<ClientConfig>>>,
    /// Resolves the host, or that of the proxy.
    pub resolver: Arc<Resolver>,
    pub proxy: Option<Arc<Proxy>>,
}

impl Connect for Connector {
    fn connect(&self) -> BoxFuture<'_, Result<Opened, ConnectError>> {
        Box::pin(self.open())
    }

    fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }
}

impl Connector {
    async fn open(&self) -> Result<Opened, ConnectError> {
        let (stream, round_trip) = match &self.proxy {
            None => self.dial(&self.host, self.port).await?,
            Some(proxy) => {
                let (mut stream, _) = self.dial(proxy.host(), proxy.port()).await.map_err(|error| match error {
                    ConnectError::Tcp(error) | ConnectError::Resolve(error) => {
                        ConnectError::Proxy(ProxyError::Unreachable(error))
                    }
                    other => other,
                })?;
                let asked_at = Instant::now();
                proxy.open(&mut stream, &self.host, self.port).await.map_err(ConnectError::Proxy)?;
                (stream, asked_at.elapsed())
            }
        };
        let Some(tls) = &self.tls else {
            return Ok(Opened { io: Box::new(stream), is_http2: false, round_trip });
        };
        let to_tls = |error| ConnectError::Tls(Arc::new(error));
        let name = ServerName::try_from(self.host.trim_matches(['[', ']']))
            .map_err(|error| to_tls(io::Error::other(error)))?;
        let stream = TlsConnector::from(tls.load_full()).connect(name.to_owned(), stream).await.map_err(to_tls)?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Opened { io: Box::new(stream), is_http2, round_trip })
    }
}

impl Connector {
    async fn dial(&self, host: &str, port: u16) -> Result<(TcpStream, Duration), ConnectError> {
        let addresses = self.resolver.addresses(host).await.map_err(|error| match error {
            ResolveError::NotPublic(error) => ConnectError::NotPublic(error),
            ResolveError::Failed(error) => ConnectError::Resolve(error),
        })?;
        dial(&addresses, port).await.map_err(|error| ConnectError::Tcp(Arc::new(error)))
    }
}

/// Connects to the first address that accepts. Returns also how long that took. Addresses of both families alternate, and
/// each is tried while the earlier ones have not answered yet.
async fn dial(addresses: &[IpAddr], port: u16) -> io::Result<(TcpStream, Duration)> {
    let mut left = alternating(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = left.next() {
            attempts.push(connect_to(SocketAddr::new(address, port)));
        }
        tokio::select! {
            Some(result) = attempts.next() => match result {
                Ok(connected) => return Ok(connected),
                Err(error) => failed = error,
            },
            () = sleep(NEXT_ADDRESS_AFTER), if left.len() > 0 => {}
            else => return Err(failed),
        }
    }
}

async fn connect_to(address: SocketAddr) -> io::Result<(TcpStream, Duration)> {
    let started = Instant::now();
    let stream = TcpStream::connect(address).await?;
    let round_trip = started.elapsed();
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIME.max(round_trip * 4)))?;
    Ok((stream, round_trip))
}

/// The addresses so that one of each family comes first.
fn alternating(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let longest = first.len().max(second.len());
    (0..longest).flat_map(|at| [first.get(at), second.get(at)]).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn families_alternate_and_the_resolver_chooses_the_first() {
        let addresses = ["::1", "::2", "::3", "1.1.1.1"].map(|text| text.parse().unwrap());
        let expected = ["::1", "1.1.1.1", "::2", "::3"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(alternating(&addresses), expected);
    }

    #[tokio::test]
    async fn address_that_does_not_accept_costs_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nothing listens on the first.
        let addresses = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().unwrap());
        assert!(dial(&addresses, port).await.is_ok());
        assert!(dial(&addresses[..1], port).await.is_err());
        assert!(dial(&[], port).await.is_err());
    }
}
