//! The connection pool for all tenants, built once, and where the requests of each tenant go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use super::dns::PublicOnly;
use super::limiter::{QuotaConfig, TenantLimiter};
use super::memory::TotalMemory;
use super::observer::Observer;
use super::transport::{CONNECT_TIMEOUT, Endpoint};
use crate::policy::Tenant;

const USER_AGENT: &str = concat!("session-checker/", env!("CARGO_PKG_VERSION"));

/// How long an idle connection is kept: less than the time after which common load balancers forget it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// How often an HTTP/2 connection in use is pinged, and how long the answer may take. The connection carries all requests
/// to a host: without pings, a dead one fails every check until the kernel closes it, a quarter of an hour later.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// The options of [`Upstream::new`].
pub struct UpstreamOptions {
    /// Endpoints that replace those of tenants, by canonical or custom domain in lower case. `http`, a path and private
    /// addresses are allowed.
    pub endpoints: BTreeMap<String, Url>,
    /// CA certificates in PEM that are trusted for tenants, in addition to the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// Where the tenants' quotas are kept.
    pub quotas: QuotaConfig,
    /// Receives what happens, for the metrics.
    pub observer: Arc<dyn Observer>,
}

/// The connections to all tenants, and the limiter of each.
pub struct Upstream {
    /// Connects to public addresses only.
    public_only: Client,
    /// The endpoints that the operator names, by domain. Their client connects to private addresses too. It is a separate
    /// client so that no policy reaches the same host by naming it as a tenant.
    overrides: HashMap<String, (Client, Url)>,
    quotas: QuotaConfig,
    /// By canonical domain, while they are in use.
    limiters: Mutex<HashMap<String, Weak<TenantLimiter>>>,
    observer: Arc<dyn Observer>,
    memory: TotalMemory,
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
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

impl Upstream {
    /// Builds the connection pool. Nothing is sent.
    ///
    /// # Errors
    /// An endpoint or the extra certificates are unusable, or TLS cannot be set up.
    pub fn new(options: UpstreamOptions) -> Result<Self, SetupError> {
        let certificates = options.ca_pem.as_deref().map_or_else(|| Ok(Vec::new()), certificates)?;
        let builder = || {
            Client::builder()
                .user_agent(USER_AGENT)
                .redirect(redirect::Policy::none())
                // `Endpoint::send` retries, and counts each request in the budget. hyper still sends a request on another
                // connection when it could not write it at all: the tenant saw none of it.
                .retry(reqwest::retry::never())
                .no_proxy()
                .tls_certs_merge(certificates.iter().cloned())
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(PING_INTERVAL)
        };
        let mut overrides = HashMap::new();
        if !options.endpoints.is_empty() {
            let http = builder().build()?;
            for (domain, base) in options.endpoints {
                if !is_base(&base) {
                    return Err(SetupError::Endpoint { domain });
                }
                overrides.insert(domain.to_ascii_lowercase(), (http.clone(), base));
            }
        }
        let public_only = builder().dns_resolver(PublicOnly).build()?;
        let (quotas, observer) = (options.quotas, options.observer);
        Ok(Self {
            public_only,
            overrides,
            quotas,
            limiters: Mutex::default(),
            observer,
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
        let (http, base) = match named.or_else(|| self.overrides.get(tenant.domain())) {
            Some(named) => named.clone(),
            None => (self.public_only.clone(), tenant.origin().clone()),
        };
        Endpoint::new(http, base, tenant.domain().into(), Arc::clone(&self.observer), self.limiter(tenant))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, SetupError> {
    match Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SetupError::Ca),
    }
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
    use super::super::observer::Unobserved;
    use super::*;

    fn upstream(endpoints: &[(&str, &str)], ca_pem: Option<&[u8]>) -> Result<Upstream, SetupError> {
        Upstream::new(UpstreamOptions {
            endpoints: endpoints.iter().map(|(domain, url)| ((*domain).to_owned(), url.parse().unwrap())).collect(),
            ca_pem: ca_pem.map(<[u8]>::to_vec),
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

    #[test]
    fn ca_file_without_a_certificate_is_an_error() {
        for pem in [&b""[..], b"no", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(upstream(&[], Some(pem)), Err(SetupError::Ca)), "{}", String::from_utf8_lossy(pem));
        }
    }
}
