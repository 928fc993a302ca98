//! How many connections a listener holds, in all and for each source.
//!
//! A connection costs memory before its caller is known: the buffer of an unfinished header, and the buffers of TLS. The
//! limits bound that memory, and the file descriptors that connections take from the rest of the process.
//!
//! Strangers could hold all of them and send nothing. At a limit a new connection therefore takes the room of one that nobody
//! uses: that has no open request, and on which no known caller was answered.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

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
    by_source: HashMap<ConnectionSource, OfSource>,
    next_number: u64,
}

#[derive(Default)]
struct OfSource {
    total: usize,
    /// Those that may be ended to make room, by their number: the first waits longest.
    unused: BTreeMap<u64, CancellationToken>,
}

/// One open connection. Dropping it makes room for another.
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    source: ConnectionSource,
    number: u64,
    /// Whether it took the room of another one, whose socket is open until its task runs.
    pub(super) has_shed: bool,
    /// Whether a known caller was answered on it: then it is never ended to make room.
    is_proven: AtomicBool,
    /// How many requests are open, until it is proven. Changed under the lock of the connections.
    open_requests: AtomicUsize,
    /// Is cancelled when its room was given to another connection.
    shed: CancellationToken,
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

    /// Counts a new connection. At a limit it takes the room of one that nobody uses: of the same source at the limit of the
    /// source, else of the source that has most of them.
    ///
    /// # Errors
    /// A limit is reached, and all connections are in use.
    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Result<ConnectionPermit, ConnectionRejection> {
        let source = ConnectionSource::from(peer.ip());
        let mut open = self.lock();
        let of_source = open.by_source.get(&source).map_or(0, |of_source| of_source.total);
        let is_full = of_source >= self.limits.per_source || open.total >= self.limits.total;
        if of_source >= self.limits.per_source {
            self.shed(&mut open, source).ok_or(ConnectionRejection::Source)?;
        } else if open.total >= self.limits.total {
            let most = open.by_source.iter().max_by_key(|(_, of_source)| of_source.unused.len());
            let source = most.map(|(source, _)| *source);
            source.and_then(|source| self.shed(&mut open, source)).ok_or(ConnectionRejection::Total)?;
        }
        let (number, shed) = (open.next_number, CancellationToken::new());
        open.next_number += 1;
        open.total += 1;
        let of_source = open.by_source.entry(source).or_default();
        of_source.total += 1;
        of_source.unused.insert(number, shed.clone());
        self.metrics.opened();
        let (is_proven, open_requests) = (AtomicBool::new(false), AtomicUsize::new(0));
        let connections = Arc::clone(self);
        Ok(ConnectionPermit { connections, source, number, has_shed: is_full, is_proven, open_requests, shed })
    }

    /// Ends the connection of a source that is unused for longest. `None` when all are in use.
    fn shed(&self, open: &mut Open, source: ConnectionSource) -> Option<()> {
        let (_, shed) = open.by_source.get_mut(&source)?.unused.pop_first()?;
        shed.cancel();
        open.forget(source);
        self.metrics.closed();
        Some(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn forget(&mut self, source: ConnectionSource) {
        self.total -= 1;
        if let Some(of_source) = self.by_source.get_mut(&source) {
            of_source.total -= 1;
            if of_source.total == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

impl ConnectionPermit {
    /// A request arrived: until it ends, the connection is in use.
    pub(super) fn request_begun(&self) {
        if self.is_proven.load(Ordering::Relaxed) {
            return;
        }
        let mut open = self.connections.lock();
        self.open_requests.fetch_add(1, Ordering::Relaxed);
        if let Some(of_source) = open.by_source.get_mut(&self.source) {
            of_source.unused.remove(&self.number);
        }
    }

    /// A request ended. One of a known caller proves the connection; others anybody can send.
    pub(super) fn request_ended(&self, is_proof: bool) {
        if self.is_proven.fetch_or(is_proof, Ordering::Relaxed) || is_proof {
            return;
        }
        let mut open = self.connections.lock();
        if self.open_requests.fetch_sub(1, Ordering::Relaxed) == 1
            && !self.shed.is_cancelled()
            && let Some(of_source) = open.by_source.get_mut(&self.source)
        {
            of_source.unused.insert(self.number, self.shed.clone());
        }
    }

    /// Waits until the room of this connection is needed.
    pub(super) async fn shed(&self) {
        self.shed.cancelled().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        // The lock is held: nobody sheds it now. A connection that was shed no longer counts.
        if self.shed.is_cancelled() {
            return;
        }
        if let Some(of_source) = open.by_source.get_mut(&self.source) {
            of_source.unused.remove(&self.number);
        }
        open.forget(self.source);
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

    /// A connection with an open request.
    fn in_use(connections: &Arc<Connections>, peer: &str) -> Result<ConnectionPermit, ConnectionRejection> {
        admit(connections, peer).inspect(ConnectionPermit::request_begun)
    }

    fn is_shed(permit: &ConnectionPermit) -> bool {
        permit.shed.is_cancelled()
    }

    #[test]
    fn source_at_its_limit_leaves_room_for_another() {
        let connections = connections(3, 2);
        let held = [in_use(&connections, "192.0.2.1"), in_use(&connections, "::ffff:192.0.2.1")];
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(admit(&connections, "192.0.2.1").err(), Some(ConnectionRejection::Source));
        let other = in_use(&connections, "192.0.2.2");
        assert!(other.is_ok());
        assert_eq!(admit(&connections, "192.0.2.3").err(), Some(ConnectionRejection::Total));
        drop(held);
        assert!(admit(&connections, "192.0.2.1").is_ok());
    }

    #[test]
    fn silent_connection_makes_room_for_a_new_one() {
        let connections = connections(4, 3);
        let [first, second, third] = [(); 3].map(|()| admit(&connections, "192.0.2.1").unwrap());
        let caller = admit(&connections, "192.0.2.2").unwrap();
        let fourth = admit(&connections, "192.0.2.1").unwrap();
        assert!(is_shed(&first) && !is_shed(&second), "at the limit of a source its oldest one goes");
        let other = admit(&connections, "192.0.2.3").unwrap();
        assert!(is_shed(&second) && !is_shed(&caller), "at the limit of all the source goes that has most");
        assert!(!other.shed.is_cancelled() && other.has_shed);
        drop((first, second));
        assert_eq!(connections.lock().total, 4, "one that was shed counts no more when it ends");
        drop((third, fourth, caller, other));
        assert!(connections.lock().by_source.is_empty());
    }

    #[test]
    fn only_a_known_caller_keeps_a_connection_without_a_request() {
        let connections = connections(1, 1);
        let stranger = in_use(&connections, "192.0.2.1").unwrap();
        stranger.request_begun();
        stranger.request_ended(false);
        assert!(admit(&connections, "192.0.2.2").is_err(), "one request is open");
        stranger.request_ended(false);
        let caller = in_use(&connections, "192.0.2.2").unwrap();
        assert!(is_shed(&stranger));
        stranger.request_begun();
        stranger.request_ended(false);
        caller.request_ended(true);
        assert!(admit(&connections, "192.0.2.3").is_err());
        caller.request_begun();
        caller.request_ended(false);
        assert!(admit(&connections, "192.0.2.3").is_err(), "it stays proven");
    }

    proptest! {
        #[test]
        fn limits_hold_after_any_order_of_connections(
            steps in prop::collection::vec((0u8..6, 0u8..4), 1..200)
        ) {
            let connections = connections(8, 3);
            let mut held: Vec<(u8, bool, ConnectionPermit)> = Vec::new();
            for (host, step) in steps {
                let of_host = held.iter().filter(|(other, ..)| *other == host).count();
                let silent = |host| held.iter().filter(|(of, is_used, _)| host == *of && !is_used).count();
                match step {
                    0 | 1 => match admit(&connections, &format!("192.0.2.{host}")) {
                        Ok(permit) => {
                            held.retain(|(.., permit)| !is_shed(permit));
                            held.push((host, false, permit));
                        }
                        Err(ConnectionRejection::Source) => prop_assert_eq!((of_host, silent(host)), (3, 0)),
                        Err(ConnectionRejection::Total) => {
                            prop_assert_eq!((held.len(), (0..6).map(silent).sum::<usize>()), (8, 0));
                        }
                    },
                    2 => if let Some((_, is_used, permit)) = held.iter_mut().find(|(of, is_used, _)| host == *of && !is_used) {
                        permit.request_begun();
                        *is_used = true;
                    },
                    _ => if let Some(at) = held.iter().position(|(other, ..)| *other == host) {
                        held.swap_remove(at);
                    },
                }
                prop_assert_eq!(connections.lock().total, held.len());
                prop_assert!(held.len() <= 8 && (0..6).all(|host| held.iter().filter(|(of, ..)| *of == host).count() <= 3));
            }
            held.clear();
            prop_assert!(connections.lock().by_source.is_empty(), "a source that is gone takes no memory");
        }
    }
}
