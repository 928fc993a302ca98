//! A resolver that rejects names with private addresses, and keeps what it found.
//!
//! Whoever may write a policy chooses the host that a credential is posted to. Without this check, that host could be a
//! service inside the cluster or a cloud's metadata address. The check is made on the addresses that the client then
//! connects to, so it cannot be circumvented by a name that resolves differently the second time.
//!
//! Names are resolved as the system does, because the service must see what every other program of the Pod sees: `/etc/hosts`,
//! the search path, and the plugins of `nsswitch.conf`. The system does not say how long an answer holds, so [`FRESH_TIME`]
//! does.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

/// How long an answer is used as it is: the time for which the DNS servers of Kubernetes keep one.
const FRESH_TIME: Duration = Duration::from_secs(30);
/// How long an answer is used while the next one is looked up, or cannot be had. A tenant's addresses change seldom, and TLS
/// proves who answers.
const STALE_TIME: Duration = Duration::from_secs(300);
/// The most names that are kept. One tenant has one or two; a name beyond is looked up at each connect.
const MAX_NAMES: usize = 1_000;

type Found = Result<Arc<[IpAddr]>, Arc<io::Error>>;
type LookUp = Box<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// Resolves names for the clients of tenants. A look-up is shared by all that wait for it, and goes on when they give up.
pub(super) struct Resolver {
    /// Whether a name with a private address is an error.
    public_only: bool,
    names: Arc<Mutex<HashMap<Box<str>, Entry>>>,
    look_up: LookUp,
}

/// What is known of a name.
#[derive(Default)]
struct Entry {
    found: Option<(Arc<[IpAddr]>, Instant)>,
    under_way: Option<Shared<BoxFuture<'static, Found>>>,
}

/// A name that resolves to a private address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} resolves to {address}, which is not a public address ({}), so no connection is made. If this is intended, set --auth0-endpoint DOMAIN=URL",
    kind(*address)
)]
pub(super) struct NotPublic {
    name: String,
    address: IpAddr,
}

/// Why a name has no usable address.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    #[error("{0}")]
    Failed(Arc<io::Error>),
}

impl Resolver {
    /// Resolves names as the system does.
    pub fn new(public_only: bool) -> Self {
        let look_up = |name: String| {
            async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) }.boxed()
        };
        Self::with(public_only, Box::new(look_up))
    }

    /// Finds this address for every name, and accepts only public ones.
    #[cfg(test)]
    pub fn fixed(address: IpAddr) -> Self {
        Self::with(true, Box::new(move |_| futures::future::ready(Ok(vec![address])).boxed()))
    }

    fn with(public_only: bool, look_up: LookUp) -> Self {
        Self { public_only, names: Arc::default(), look_up }
    }

    /// The addresses of a host name or an address.
    ///
    /// # Errors
    /// The name cannot be resolved, or one of its addresses is not public.
    pub async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, ResolveError> {
        let addresses = match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Arc::from([address]),
            Err(_) => self.find(name).await.map_err(ResolveError::Failed)?,
        };
        match addresses.iter().find(|address| self.public_only && !is_public(**address)) {
            Some(address) => Err(NotPublic { name: name.to_owned(), address: *address }.into()),
            None => Ok(addresses),
        }
    }

    async fn find(&self, name: &str) -> Found {
        let under_way = {
            let mut names = lock(&self.names);
            let now = Instant::now();
            if names.len() >= MAX_NAMES && !names.contains_key(name) {
                names.retain(|_, entry| entry.under_way.is_some() || entry.is_within(STALE_TIME, now));
            }
            let mut unkept = Entry::default();
            let entry = if names.len() < MAX_NAMES || names.contains_key(name) {
                names.entry(name.into()).or_default()
            } else {
                &mut unkept
            };
            if entry.under_way.is_none() && !entry.is_within(FRESH_TIME, now) {
                entry.under_way = Some(self.start(name));
            }
            match (&entry.found, &entry.under_way) {
                (Some((addresses, _)), _) if entry.is_within(STALE_TIME, now) => return Ok(Arc::clone(addresses)),
                (_, Some(under_way)) => under_way.clone(),
                (_, None) => return Err(Arc::new(io::ErrorKind::NotFound.into())),
            }
        };
        under_way.await
    }

    /// Looks a name up in a task, which ends by itself.
    fn start(&self, name: &str) -> Shared<BoxFuture<'static, Found>> {
        let (names, look_up, name) = (Arc::clone(&self.names), (self.look_up)(name.to_owned()), Box::<str>::from(name));
        let task = tokio::spawn(async move {
            let found: Found = look_up.await.map(Arc::from).map_err(Arc::new);
            let mut names = lock(&names);
            if let Some(entry) = names.get_mut(&name) {
                entry.under_way = None;
                match &found {
                    Ok(addresses) => entry.found = Some((Arc::clone(addresses), Instant::now())),
                    Err(_) if entry.found.is_none() => drop(names.remove(&name)),
                    Err(_) => {}
                }
            }
            found
        });
        let ended = |error| Err(Arc::new(io::Error::other(error)));
        task.map(move |result| result.unwrap_or_else(ended)).boxed().shared()
    }
}

impl Entry {
    fn is_within(&self, time: Duration, now: Instant) -> bool {
        self.found.as_ref().is_some_and(|(_, at)| now < *at + time)
    }
}

fn lock(names: &Mutex<HashMap<Box<str>, Entry>>) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for the client that fetches tokens.
pub(super) struct ResolverOfTokens(pub Arc<Resolver>);

impl Resolve for ResolverOfTokens {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// What an address that is not public usually is.
fn kind(address: IpAddr) -> &'static str {
    let IpAddr::V4(address) = address else { return "private or reserved" };
    match address.octets() {
        [100, 64..=127, ..] => "100.64.0.0/10: carriers, overlay networks and some egress gateways use it",
        [198, 18 | 19, ..] => "198.18.0.0/15: VPN clients and transparent proxies that answer DNS themselves use it",
        [240..=255, ..] => "240.0.0.0/4: service meshes that capture DNS use it",
        [127, ..] => "loopback",
        _ => "private or reserved",
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// True outside multicast and the blocks that the IANA registry of special-purpose addresses marks as not globally
/// reachable.
fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// True for global unicast without the blocks that carry other addresses or are for documentation, and for NAT64, by which
/// a cluster without IPv4 reaches a public IPv4 address.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        [0x2001, ..0x200, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, ..0x1000, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, sleep, timeout};

    use super::*;

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn internet_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn private_name_and_private_address_are_errors() {
        let guarded = Resolver::new(true);
        let error = guarded.addresses("localhost").await.unwrap_err().to_string();
        assert!(error.starts_with("localhost resolves to "), "{error}");
        assert!(error.contains("not a public address"), "{error}");
        assert!(guarded.addresses("127.0.0.1").await.is_err() && guarded.addresses("[::1]").await.is_err());
        let open = Resolver::new(false);
        assert!(open.addresses("localhost").await.is_ok() && open.addresses("[::1]").await.is_ok());
    }

    /// A resolver that takes five seconds, and how often it was asked. It fails when the name says so.
    fn slow() -> (Arc<Resolver>, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let look_up = move |name: String| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_secs(5)).await;
                if name == "fails" { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![address(number)]) }
            }
            .boxed()
        };
        (Arc::new(Resolver::with(true, Box::new(look_up))), asked)
    }

    fn address(number: usize) -> IpAddr {
        [1, 1, 1, u8::try_from(number).unwrap()].into()
    }

    #[tokio::test(start_paused = true)]
    async fn look_up_goes_on_when_nobody_waits_and_is_kept() {
        let (resolver, asked) = slow();
        for _ in 0..3 {
            assert!(timeout(Duration::from_secs(1), resolver.addresses("acme")).await.is_err(), "slower than a check");
        }
        sleep(Duration::from_secs(3)).await;
        assert_eq!(*resolver.addresses("acme").await.unwrap(), [address(0)]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        advance(FRESH_TIME - Duration::from_secs(2)).await;
        assert!(resolver.addresses("acme").now_or_never().unwrap().is_ok());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_answer_is_used_while_the_next_is_looked_up() {
        let (resolver, asked) = slow();
        resolver.addresses("acme").await.unwrap();
        advance(FRESH_TIME).await;
        assert_eq!(*resolver.addresses("acme").now_or_never().unwrap().unwrap(), [address(0)]);
        sleep(Duration::from_secs(6)).await;
        assert_eq!(*resolver.addresses("acme").now_or_never().unwrap().unwrap(), [address(1)]);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        advance(STALE_TIME).await;
        assert!(resolver.addresses("acme").now_or_never().is_none(), "too old");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_look_up_is_not_kept() {
        let (resolver, asked) = slow();
        for count in 1..3 {
            assert!(matches!(resolver.addresses("fails").await, Err(ResolveError::Failed(_))));
            assert_eq!((asked.load(Ordering::Relaxed), lock(&resolver.names).len()), (count, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_bounded() {
        let (resolver, _) = slow();
        for number in 0..MAX_NAMES {
            lock(&resolver.names).insert(number.to_string().into(), Entry::default());
            lock(&resolver.names).get_mut(&*number.to_string()).unwrap().found = Some((Arc::from([]), Instant::now()));
        }
        assert!(resolver.addresses("acme").await.is_ok());
        assert_eq!(lock(&resolver.names).len(), MAX_NAMES);
        advance(STALE_TIME).await;
        assert!(resolver.addresses("acme").await.is_ok());
        assert_eq!(lock(&resolver.names).len(), 1);
    }
}
