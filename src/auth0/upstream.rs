//! What the clients of all tenants share, built once, and where the requests of each tenant go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::http::uri::{Authority, Scheme};
use reqwest::{Client, Url, redirect};
use rustls::ClientConfig;

use super::dns::{Resolver, ResolverOfTokens};
use super::limiter::{QuotaConfig, TenantLimiter};
use super::memory::TotalMemory;
use super::observer::Observer;
use super::pool::{Connector, Pool, Proxy, ProxyOptions, certificates, tls_config};
use super::transport::{Endpoint, PRODUCT};
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
    /// CA certificates in PEM that are trusted for tenants, in addition to the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// The proxy for everything that is sent to tenants.
    pub proxy: Option<ProxyOptions>,
    /// Where the tenants' quotas are kept.
    pub quotas: QuotaConfig,
    /// Receives what happens, for the metrics.
    pub observer: Arc<dyn Observer>,
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
    tls: Arc<ClientConfig>,
    /// The endpoints that the operator names, by domain.
    overrides: HashMap<String, Url>,
    quotas: QuotaConfig,
    /// By canonical domain, while they are in use.
    limiters: Mutex<HashMap<String, Weak<TenantLimiter>>>,
    /// By canonical domain and base, while they are in use.
    pools: Mutex<HashMap<(String, Url), Weak<Pool>>>,
    observer: Arc<dyn Observer>,
    memory: TotalMemory,
}

/// How hosts are reached.
struct Network {
    resolver: Arc<Resolver>,
    /// For tokens.
    http: Client,
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
    /// The additional CA certificates are unreadable.
    #[error("--auth0-ca-file contains no readable PEM certificate")]
    Ca,
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
    /// An endpoint or the extra certificates are unusable, or TLS cannot be set up.
    pub fn new(options: UpstreamOptions) -> Result<Self, SetupError> {
        let extra = options.ca_pem.as_deref().map_or_else(|| Ok(Vec::new()), certificates);
        let tls = tls_config(extra.map_err(|_| SetupError::Ca)?)?;
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
            tls: Arc::new(tls),
            overrides,
            quotas: options.quotas,
            limiters: Mutex::default(),
            pools: Mutex::default(),
            observer: options.observer,
            memory: TotalMemory::default(),
        })
    }

    /// The limiter of a tenant. All callers get the same one while any of them keeps it.
    pub fn limiter(&self, tenant: &Tenant) -> Arc<TenantLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = limiters.get(tenant.domain()).and_then(Weak::upgrade) {
            return limiter;
        }
        limiters.retain(|_, limiter| limiter.strong_count() > 0);
        let (observer, memory) = (Arc::clone(&self.observer), Arc::clone(&self.memory));
        let limiter = Arc::new(TenantLimiter::new(tenant.domain(), &self.quotas, observer, memory));
        limiters.insert(tenant.domain().to_owned(), Arc::downgrade(&limiter));
        limiter
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
        let (pool, http) = (self.pool(tenant, network, base), network.http.clone());
        let (observer, limiter) = (Arc::clone(&self.observer), self.limiter(tenant));
        Endpoint::new(http, pool, (base.clone(), origin(base)), tenant.domain().into(), observer, limiter)
    }

    /// The connections of a tenant. All its credentials share them.
    fn pool(&self, tenant: &Tenant, network: &Network, base: &Url) -> Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.domain().to_owned(), base.clone());
        if let Some(pool) = pools.get(&key).and_then(Weak::upgrade) {
            return pool;
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let is_https = base.scheme() == "https";
        let connector = Connector {
            host: base.host_str().unwrap_or_default().into(),
            port: base.port_or_known_default().unwrap_or(443),
            tls: is_https.then(|| Arc::clone(&self.tls)),
            resolver: Arc::clone(&network.resolver),
            proxy: network.proxy.clone(),
        };
        let pool = Pool::new(tenant.domain(), Box::new(connector), is_https, Arc::clone(&self.observer));
        pools.insert(key, Arc::downgrade(&pool));
        pool
    }
}

impl Network {
    fn new(resolver: Resolver, proxy: Option<Arc<Proxy>>, tls: &ClientConfig) -> Result<Self, reqwest::Error> {
        let resolver = Arc::new(resolver);
        let mut builder = Client::builder()
            .user_agent(PRODUCT)
            .redirect(redirect::Policy::none())
            // `Endpoint::send` retries, and counts each request in the budget. hyper still sends a request on another
            // connection when it could not write it at all: the tenant saw none of it.
            .retry(reqwest::retry::never())
            .no_proxy()
            .tls_backend_preconfigured(tls.clone())
            .dns_resolver(ResolverOfTokens(Arc::clone(&resolver)))
            .connect_timeout(TOKEN_CONNECT_TIMEOUT)
            .pool_idle_timeout(TOKEN_IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(TOKEN_PING_INTERVAL)
            .http2_keep_alive_timeout(TOKEN_PING_INTERVAL);
        if let Some(proxy) = proxy.clone() {
            builder = builder.proxy(reqwest::Proxy::custom(move |_| Some(proxy.url_with_credentials())));
        }
        Ok(Self { resolver, http: builder.build()?, proxy })
    }
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
    use super::super::observer::Unobserved;
    use super::super::transport::TenantRequest;
    use super::*;
    use crate::policy::Failure;

    fn upstream(endpoints: &[(&str, &str)], ca_pem: Option<&[u8]>) -> Result<Upstream, SetupError> {
        Upstream::new(UpstreamOptions {
            endpoints: endpoints.iter().map(|(domain, url)| ((*domain).to_owned(), url.parse().unwrap())).collect(),
            ca_pem: ca_pem.map(<[u8]>::to_vec),
            proxy: None,
            quotas: QuotaConfig::default(),
            observer: Arc::new(Unobserved),
        })
    }

    fn base(upstream: &Upstream, domain: &str, custom_domain: Option<&str>) -> String {
        upstream.endpoint(&Tenant::new(domain, custom_domain).unwrap()).url("/oauth/token").to_string()
    }

    #[test]
    fn endpoint_precedes_custom_and_canonical_domain() {
        let plain = upstream(&[], None).unwrap();
        assert_eq!(base(&plain, "Acme.eu.auth0.com", None), "https://acme.eu.auth0.com/oauth/token");
        assert_eq!(base(&plain, "acme.eu.auth0.com", Some("Login.acme.com")), "https://login.acme.com/oauth/token");

        let named = upstream(&[("acme.eu.auth0.com", "http://gateway:8080/auth0/")], None).unwrap();
        let gateway = "http://gateway:8080/auth0/oauth/token";
        assert_eq!(base(&named, "acme.eu.auth0.com", None), gateway);
        assert_eq!(base(&named, "acme.eu.auth0.com", Some("login.acme.com")), gateway);
        assert_eq!(base(&named, "other.eu.auth0.com", None), "https://other.eu.auth0.com/oauth/token");

        let custom = upstream(&[("login.acme.com", "http://a/x"), ("acme.eu.auth0.com", "http://b")], None).unwrap();
        assert_eq!(base(&custom, "acme.eu.auth0.com", Some("login.acme.com")), "http://a/x/oauth/token");
        assert_eq!(base(&custom, "acme.eu.auth0.com", None), "http://b/oauth/token");
    }

    #[test]
    fn unusable_endpoint_is_an_error_that_names_its_domain() {
        for url in ["ftp://a/", "data:x", "http://me@a/", "http://:pw@a/", "http://a/?q", "http://a/#f"] {
            let Err(SetupError::Endpoint { domain }) = upstream(&[("acme.eu.auth0.com", url)], None) else {
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
            let mut upstream = upstream(&[], None).unwrap();
            upstream.public_only =
                Network::new(Resolver::fixed(address.parse().unwrap()), None, &upstream.tls).unwrap();
            let tenant = Tenant::new("acme.eu.auth0.com", None).unwrap();
            let endpoint = upstream.endpoint(&tenant);
            let context = (Instant::now() + Duration::from_secs(20)).into();
            let token = || endpoint.token_request().build().map(TenantRequest::Token).map_err(|_| Error::ended());
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

    #[test]
    fn ca_file_without_a_certificate_is_an_error() {
        for pem in [&b""[..], b"no", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(upstream(&[], Some(pem)), Err(SetupError::Ca)), "{}", String::from_utf8_lossy(pem));
        }
    }
}
