//! The way out to all tenants: one connection pool, built once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use super::dns::PublicOnly;
use super::limiter::{QuotaConfig, TenantLimiter};
use super::observer::Observer;
use super::transport::Endpoint;
use crate::policy::Tenant;

const USER_AGENT: &str = concat!("session-checker/", env!("CARGO_PKG_VERSION"));

/// Below the idle time after which common load balancers forget a connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// An HTTP/2 connection carries all requests to a host, so one that went silent must be found out while it is in use:
/// it would otherwise swallow every check until the kernel gives it up, a quarter of an hour later.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// What [`Upstream::new`] is built from.
pub struct UpstreamOptions {
    /// Where the traffic of a tenant goes instead, by canonical or custom domain in lower case. `http` and a path are
    /// allowed, and so are private addresses.
    pub endpoints: BTreeMap<String, Url>,
    /// Certificates in PEM that are trusted towards tenants, besides the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// Where the tenants' ceilings are kept.
    pub quotas: QuotaConfig,
    /// Who counts.
    pub observer: Arc<dyn Observer>,
}

/// Towards all tenants: the connections, what every request has to pass, and who counts.
pub struct Upstream {
    guarded: Client,
    overrides: HashMap<String, EndpointOverride>,
    quotas: QuotaConfig,
    /// By canonical domain, as long as anybody uses them.
    limiters: Mutex<HashMap<String, Weak<TenantLimiter>>>,
    observer: Arc<dyn Observer>,
}

/// An endpoint named by the operator. Its client resolves private names too; it is a client of its own so that no policy
/// can reach the same host by naming it as a tenant.
struct EndpointOverride {
    base: Url,
    http: Client,
}

/// Why the way out cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An endpoint that requests cannot be sent to.
    #[error("the endpoint for {domain} must be an http or https URL with a host, and without user, query and fragment")]
    Endpoint {
        /// The tenant's domain.
        domain: String,
    },
    /// The extra certificates.
    #[error("the CA file for Auth0 holds no readable PEM certificate")]
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
                overrides.insert(domain.to_ascii_lowercase(), EndpointOverride { base, http: http.clone() });
            }
        }
        let guarded = builder().dns_resolver(PublicOnly).build()?;
        let (quotas, observer) = (options.quotas, options.observer);
        Ok(Self { guarded, overrides, quotas, limiters: Mutex::default(), observer })
    }

    /// What every request to a tenant has to pass: the same for all who ask for it while any of them keeps it.
    pub fn limiter(&self, tenant: &Tenant) -> Arc<TenantLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = limiters.get(tenant.domain()).and_then(Weak::upgrade) {
            return limiter;
        }
        limiters.retain(|_, limiter| limiter.strong_count() > 0);
        let limiter = Arc::new(TenantLimiter::new(tenant.domain(), &self.quotas, Arc::clone(&self.observer)));
        limiters.insert(tenant.domain().to_owned(), Arc::downgrade(&limiter));
        limiter
    }

    /// Where the requests of a tenant go: to the endpoint that names its custom or canonical domain, else to the custom
    /// domain, else to the canonical one. Tokens and API calls share it, because a token is only good on the host that
    /// issued it.
    pub(super) fn endpoint(&self, tenant: &Tenant) -> Endpoint {
        let named = tenant.custom_domain().and_then(|domain| self.overrides.get(domain));
        let (http, base) = match named.or_else(|| self.overrides.get(tenant.domain())) {
            Some(named) => (named.http.clone(), named.base.clone()),
            None => (self.guarded.clone(), tenant.origin().clone()),
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
    fn requests_go_to_the_custom_domain_unless_an_endpoint_names_either() {
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
    fn an_endpoint_that_cannot_be_sent_to_is_refused_by_name() {
        for url in ["ftp://a/", "data:x", "http://me@a/", "http://:pw@a/", "http://a/?q", "http://a/#f"] {
            let Err(SetupError::Endpoint { domain }) = upstream(&[("acme.eu.auth0.com", url)], None) else {
                panic!("{url} was taken");
            };
            assert_eq!(domain, "acme.eu.auth0.com");
        }
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        for pem in [&b""[..], b"no", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(upstream(&[], Some(pem)), Err(SetupError::Ca)), "{}", String::from_utf8_lossy(pem));
        }
    }
}
