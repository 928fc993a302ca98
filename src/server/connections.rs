//! How many connections a listener holds, in all and for each source.
//!
//! A connection costs memory before its caller is known: the buffer of an unfinished header, and the buffers of TLS. The
//! limits bound that memory, and the file descriptors that connections take from the rest of the process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::{ConnectionMetrics, ConnectionRejection};

/// The limits of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The maximum number of open connections.
    pub total: usize,
    /// The maximum number of open connections from one source.
    pub per_source: usize,
}

/// Where a connection comes from: an IPv4 address, or the /64 of an IPv6 address, which one host can use as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionSource(IpAddr);

/// The open connections of one listener.
pub(super) struct Connections {
    limits: ConnectionLimits,
    open: Mutex<Open>,
    metrics: ConnectionMetrics,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_source: HashMap<ConnectionSource, usize>,
}

/// One open connection. Dropping it makes room for another.
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    source: ConnectionSource,
}

impl From<IpAddr> for ConnectionSource {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default(), metrics })
    }

    /// Counts a new connection, unless a limit is reached.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<ConnectionPermit, ConnectionRejection> {
        let source = ConnectionSource::from(peer.ip());
        let mut open = self.lock();
        if open.total >= self.limits.total {
            return Err(ConnectionRejection::Total);
        }
        let of_source = open.by_source.entry(source).or_default();
        if *of_source >= self.limits.per_source {
            return Err(ConnectionRejection::Source);
        }
        *of_source += 1;
        open.total += 1;
        self.metrics.opened();
        Ok(ConnectionPermit { connections: Arc::clone(self), source })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.total -= 1;
        if let Some(of_source) = open.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                open.by_source.remove(&self.source);
            }
        }
        self.connections.metrics.closed();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::MetricRegistry;
    use crate::server::ServerMetrics;

    fn connections(total: usize, per_source: usize) -> Arc<Connections> {
        let metrics = ServerMetrics::new(&MetricRegistry::new());
        Connections::new(ConnectionLimits { total, per_source }, metrics.connections("checks"))
    }

    fn admit(connections: &Arc<Connections>, peer: &str) -> Result<ConnectionPermit, ConnectionRejection> {
        connections.admit(SocketAddr::new(peer.parse().unwrap(), 1))
    }

    #[test]
    fn source_is_an_ipv4_address_or_an_ipv6_subnet() {
        let source = |text: &str| ConnectionSource::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8:1:2:3::4"), source("2001:db8:1:2::"));
        assert_ne!(source("2001:db8:1:2::"), source("2001:db8:1:3::"));
    }

    #[test]
    fn source_at_its_limit_leaves_room_for_another() {
        let connections = connections(3, 2);
        let held = [admit(&connections, "192.0.2.1"), admit(&connections, "::ffff:192.0.2.1")];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(admit(&connections, "192.0.2.1").err(), Some(ConnectionRejection::Source));
        let other = admit(&connections, "192.0.2.2");
        assert!(other.is_ok());
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(ConnectionRejection::Total));
        drop(held);
        assert!(admit(&connections, "192.0.2.1").is_ok());
    }

    proptest! {
        #[test]
        fn limits_hold_after_any_order_of_connections(steps in prop::collection::vec((0u8..6, any::<bool>()), 1..200)) {
            let connections = connections(8, 3);
            let mut held: Vec<(u8, ConnectionPermit)> = Vec::new();
            for (host, opens) in steps {
                let of_host = held.iter().filter(|(other, _)| *other == host).count();
                if opens {
                    match admit(&connections, &format!("192.0.2.{host}")) {
                        Ok(permit) => {
                            prop_assert!(held.len() < 8 && of_host < 3);
                            held.push((host, permit));
                        }
                        Err(ConnectionRejection::Total) => prop_assert_eq!(held.len(), 8),
                        Err(ConnectionRejection::Source) => prop_assert_eq!(of_host, 3),
                    }
                } else if let Some(at) = held.iter().position(|(other, _)| *other == host) {
                    held.swap_remove(at);
                }
                prop_assert_eq!(connections.lock().total, held.len());
            }
            held.clear();
            prop_assert!(connections.lock().by_source.is_empty(), "a source that is gone takes no memory");
        }
    }
}
