//! What the clients of all tenants share, built once, and where the requests of each tenant go.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::http::uri::{Authority, Scheme};
use reqwest::{Client, Url, redirect};
use rustls::ClientConfig;

use super::dns::{Resolver, ResolverOfTokens};
use super::limiter::{QuotaConfig, TenantLimiter};
use super::memory::TotalMemory;
use super::observer::{Observer, Unobserved};
use super::pool::{ConnectionCount, Connector, Pool, Proxy, ProxyOptions, TrustedCas, tls_config};
use super::transport::{Endpoint, PRODUCT};
use crate::clock::ServiceClock;
use crate::policy::Tenant;

/// How long connecting for a token may take: as long as its fetch.
const TOKEN_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection for tokens is kept: less than the time after which common load balancers forget it. A tenant
/// needs a token about once in its lifetime, which is a day by default.
const TOKEN_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an HTTP/2 connection for tokens is pinged while in use, and how long the answer may take.
const TOKEN_PING_INTERVAL: Duration = Duration::from_secs(1);

/// The options of [`Upstream::new`].
pub struct UpstreamOptions {
    /// Endpoints that replace those of tenants, by canonical or custom domain in lower case. `http`, a path and private
    /// addresses are allowed.
    pub endpoints: BTreeMap<String, Url>,
    /// The CAs that are trusted for tenants.
    pub cas: TrustedCas,
    /// The proxy for everything that is sent to tenants.
    pub proxy: Option<ProxyOptions>,
    /// Where the tenants' quotas are kept.
    pub quotas: QuotaConfig,
    /// Receives what happens, for the metrics.
    pub observer: Arc<dyn Observer>,
}

/// Tenants at their own names, reached without a proxy. Nothing is observed.
impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            endpoints: BTreeMap::new(),
            cas: TrustedCas::default(),
            proxy: None,
            quotas: QuotaConfig::default(),
            observer: Arc::new(Unobserved),
        }
    }
}

/// What the clients of all tenants share.
pub struct Upstream {
    /// Reaches public addresses only.
    public_only: Network,
    /// Reaches private addresses too. It is separate so that no policy reaches the host of a named endpoint by naming it as a
    /// tenant.
    unguarded: Network,
    /// Reaches everything through a proxy, whose own address may be private.
    proxied: Option<Network>,
    /// For new connections.
    tls: Arc<ArcSwap<ClientConfig>>,
    /// The endpoints that the operator names, by domain.
    overrides: HashMap<String, Url>,
    quotas: QuotaConfig,
    /// By canonical domain.
    limiters: InUse<String, TenantLimiter>,
    /// By canonical domain and base.
    pools: InUse<(String, Url), Pool>,
    /// By canonical domain.
    connection_counts: InUse<String, ConnectionCount>,
    observer: Arc<dyn Observer>,
    memory: TotalMemory,
    clock: ServiceClock,
}

/// Values that all callers share while any of them keeps its value.
struct InUse<K, T>(Mutex<HashMap<K, Weak<T>>>);

/// How hosts are reached.
struct Network {
    resolver: Arc<Resolver>,
    /// For tokens.
    http: Arc<ArcSwap<Client>>,
    proxy: Option<Arc<Proxy>>,
}

/// Why an [`Upstream`] cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An endpoint is not a usable URL.
    #[error(
        "--auth0-endpoint for {domain} must be an http or https URL with a host and without user, query or fragment"
    )]
    Endpoint {
        /// The tenant's domain.
        domain: String,
    },
    /// No CA would be trusted.
    #[error("--auth0-ca-only needs --auth0-ca-file FILE with the CA certificates to trust")]
    NoCas,
    /// TLS cannot be set up, for instance because the platform has no root certificates.
    #[error("cannot set up TLS for Auth0: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client for tokens cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl Upstream {
    /// Builds the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// An endpoint is unusable, or TLS cannot be set up.
    pub fn new(options: UpstreamOptions) -> Result<Self, SetupError> {
        let tls = tls_config(&options.cas)?;
        let mut overrides = HashMap::new();
        for (domain, base) in options.endpoints {
            if !is_base(&base) {
                return Err(SetupError::Endpoint { domain });
            }
            overrides.insert(domain.to_ascii_lowercase(), base);
        }
        let proxy = options.proxy.map(Proxy::new).map(Arc::new);
        Ok(Self {
            public_only: Network::new(Resolver::new(true), None, &tls)?,
            unguarded: Network::new(Resolver::new(false), None, &tls)?,
            proxied: proxy.map(|proxy| Network::new(Resolver::new(false), Some(proxy), &tls)).transpose()?,
            tls: Arc::new(ArcSwap::from_pointee(tls)),
            overrides,
            quotas: options.quotas,
            limiters: InUse::default(),
            pools: InUse::default(),
            connection_counts: InUse::default(),
            observer: options.observer,
            memory: TotalMemory::default(),
            clock: ServiceClock::default(),
        })
    }

    /// Trusts other CAs from now on, for new connections.
    ///
    /// # Errors
    /// TLS cannot be set up. The CAs stay as they are.
    pub fn trust(&self, cas: &TrustedCas) -> Result<(), SetupError> {
        let tls = tls_config(cas)?;
        let networks = || [&self.public_only, &self.unguarded].into_iter().chain(&self.proxied);
        let clients = networks()
            .map(|network| token_client(&network.resolver, network.proxy.as_ref(), &tls))
            .collect::<Result<Vec<_>, _>>()?;
        for (network, client) in networks().zip(clients) {
            network.http.store(Arc::new(client));
        }
        self.tls.store(Arc::new(tls));
        Ok(())
    }

    /// Lets tokens, limits and circuit breakers follow this clock in place of the system's.
    #[must_use]
    pub fn with_clock(self, clock: ServiceClock) -> Self {
        Self { clock, ..self }
    }

    /// The limiter of a tenant. All callers get the same one while any of them keeps it.
    pub fn limiter(&self, tenant: &Tenant) -> Arc<TenantLimiter> {
        self.limiters.get_or_make(tenant.domain().to_owned(), || {
            let (observer, memory) = (Arc::clone(&self.observer), Arc::clone(&self.memory));
            Arc::new(TenantLimiter::new(tenant.domain(), &self.quotas, observer, memory, self.clock.clone()))
        })
    }

    /// Where the requests of a tenant go: to the endpoint for its custom domain, else to the endpoint for its canonical
    /// domain, else to the custom domain, else to the canonical one. Token requests and API calls share it, because Auth0
    /// accepts a token only on the host that issued it.
    pub(super) fn endpoint(&self, tenant: &Tenant) -> Endpoint {
        let named = tenant.custom_domain().and_then(|domain| self.overrides.get(domain));
        let (network, base) = match named.or_else(|| self.overrides.get(tenant.domain())) {
            Some(named) => (&self.unguarded, named),
            None => (&self.public_only, tenant.origin()),
        };
        let is_proxied = |network: &&Network| network.proxy.as_ref().is_some_and(|proxy| proxy.applies_to(base));
        let network = self.proxied.as_ref().filter(is_proxied).unwrap_or(network);
        let (pool, http) = (self.pool(tenant, network, base), Arc::clone(&network.http));
        let (observer, limiter) = (Arc::clone(&self.observer), self.limiter(tenant));
        Endpoint::new(http, pool, (base.clone(), origin(base)), tenant.domain().into(), observer, limiter)
    }

    /// The connections of a tenant. All its credentials share them.
    fn pool(&self, tenant: &Tenant, network: &Network, base: &Url) -> Arc<Pool> {
        let domain = tenant.domain();
        self.pools.get_or_make((domain.to_owned(), base.clone()), || {
            let is_https = base.scheme() == "https";
            let connector = Connector {
                host: base.host_str().unwrap_or_default().into(),
                port: base.port_or_known_default().unwrap_or(443),
                tls: is_https.then(|| Arc::clone(&self.tls)),
                resolver: Arc::clone(&network.resolver),
                proxy: network.proxy.clone(),
            };
            let new_count = || Arc::new(ConnectionCount::new(domain, Arc::clone(&self.observer)));
            let count = self.connection_counts.get_or_make(domain.to_owned(), new_count);
            Pool::new(Box::new(connector), is_https, count)
        })
    }
}

impl<K, T> Default for InUse<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, T> InUse<K, T> {
    /// The value of a key. `make` makes it when nobody keeps one.
    fn get_or_make(&self, key: K, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = values.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        values.retain(|_, value| value.strong_count() > 0);
        let value = make();
        values.insert(key, Arc::downgrade(&value));
        value
    }
}

impl Network {
    fn new(resolver: Resolver, proxy: Option<Arc<Proxy>>, tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        let resolver = Arc::new(resolver);
        let http = token_client(&resolver, proxy.as_ref(), tls)?;
        Ok(Self { resolver, http: Arc::new(ArcSwap::from_pointee(http)), proxy })
    }
}

/// The client for tokens.
fn token_client(
    resolver: &Arc<Resolver>,
    proxy: Option<&Arc<Proxy>>,
    tls: &ClientConfig,
) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .user_agent(PRODUCT)
        .redirect(redirect::Policy::none())
        // `Endpoint::send` retries, and counts each request in the budget. hyper still sends a request on another
        // connection when it could not write it at all: the tenant saw none of it.
        .retry(reqwest::retry::never())
        .no_proxy()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(ResolverOfTokens(Arc::clone(resolver)))
        .connect_timeout(TOKEN_CONNECT_TIMEOUT)
        .pool_idle_timeout(TOKEN_IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(TOKEN_PING_INTERVAL)
        .http2_keep_alive_timeout(TOKEN_PING_INTERVAL);
    if let Some(proxy) = proxy.cloned() {
        builder = builder.proxy(reqwest::Proxy::custom(move |_| Some(proxy.url_with_credentials())));
    }
    builder.build()
}

/// Scheme and authority of a base. Its host is one that `Url` accepted.
fn origin(base: &Url) -> (Scheme, Authority) {
    let scheme = if base.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
    let authority = &base[url::Position::BeforeHost..url::Position::AfterPort];
    (scheme, authority.parse().unwrap_or_else(|_| Authority::from_static("invalid.invalid")))
}

fn is_base(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use tokio::time::Instant;

    use super::super::call::{Operation, Priority};
    use super::super::error::Error;
    use super::super::transport::TenantRequest;
    use super::*;
    use crate::policy::Failure;

    fn upstream(endpoints: &[(&str, &str)]) -> Result<Upstream, SetupError> {
        Upstream::new(UpstreamOptions {
            endpoints: endpoints.iter().map(|(domain, url)| ((*domain).to_owned(), url.parse().unwrap())).collect(),
            ..UpstreamOptions::default()
        })
    }

    fn base(upstream: &Upstream, domain: &str, custom_domain: Option<&str>) -> String {
        upstream.endpoint(&Tenant::new(domain, custom_domain).unwrap()).url("/oauth/token").to_string()
    }

    #[test]
    fn endpoint_precedes_custom_and_canonical_domain() {
        let plain = upstream(&[]).unwrap();
        assert_eq!(base(&plain, "Acme.eu.auth0.com", None), "https://acme.eu.auth0.com/oauth/token");
        assert_eq!(base(&plain, "acme.eu.auth0.com", Some("Login.acme.com")), "https://login.acme.com/oauth/token");

        let named = upstream(&[("acme.eu.auth0.com", "http://gateway:8080/auth0/")]).unwrap();
        let gateway = "http://gateway:8080/auth0/oauth/token";
        assert_eq!(base(&named, "acme.eu.auth0.com", None), gateway);
        assert_eq!(base(&named, "acme.eu.auth0.com", Some("login.acme.com")), gateway);
        assert_eq!(base(&named, "other.eu.auth0.com", None), "https://other.eu.auth0.com/oauth/token");

        let custom = upstream(&[("login.acme.com", "http://a/x"), ("acme.eu.auth0.com", "http://b")]).unwrap();
        assert_eq!(base(&custom, "acme.eu.auth0.com", Some("login.acme.com")), "http://a/x/oauth/token");
        assert_eq!(base(&custom, "acme.eu.auth0.com", None), "http://b/oauth/token");
    }

    #[test]
    fn unusable_endpoint_is_an_error_that_names_its_domain() {
        for url in ["ftp://a/", "data:x", "http://me@a/", "http://:pw@a/", "http://a/?q", "http://a/#f"] {
            let Err(SetupError::Endpoint { domain }) = upstream(&[("acme.eu.auth0.com", url)]) else {
                panic!("{url} was accepted");
            };
            assert_eq!(domain, "acme.eu.auth0.com");
        }
    }

    #[tokio::test]
    async fn private_address_is_named_with_what_to_do() {
        for (address, words) in [
            ("100.64.7.1", "100.64.0.0/10"),
            ("198.18.0.9", "198.18.0.0/15"),
            ("240.0.0.5", "240.0.0.0/4"),
            ("10.0.0.1", "private"),
            ("fd00::1", "private"),
        ] {
            let mut upstream = upstream(&[]).unwrap();
            upstream.public_only =
                Network::new(Resolver::fixed(address.parse().unwrap()), None, &upstream.tls.load()).unwrap();
            let tenant = Tenant::new("acme.eu.auth0.com", None).unwrap();
            let endpoint = upstream.endpoint(&tenant);
            let context = (Instant::now() + Duration::from_secs(20)).into();
            let token = || {
                endpoint
                    .reqwest_request(Operation::Token, "/oauth/token")
                    .build()
                    .map(TenantRequest::Reqwest)
                    .map_err(|_| Error::ended())
            };
            let list = || endpoint.api_request(Operation::List, "/", HeaderValue::from_static("t"));
            let errors = [
                endpoint.send(Operation::Token, Priority::Login, &context, token).await,
                endpoint.send(Operation::List, Priority::Login, &context, list).await,
            ];
            for error in errors.map(|result| result.err().unwrap()) {
                assert_eq!(error.failure, Failure::UpstreamUnreachable);
                let remedy = error.remedy().unwrap();
                for word in ["acme.eu.auth0.com", address, words, "--auth0-endpoint"] {
                    assert!(remedy.contains(word), "{remedy}");
                }
            }
        }
    }
}
