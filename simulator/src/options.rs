//! The options of a simulated tenant.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;

use super::clock::Clock;
use super::rate_limit::RateLimit;

/// The options of a tenant.
#[derive(Clone, Debug)]
pub struct Options {
    /// The canonical domain, for example `demo.eu.auth0.com`. The audience of tokens is `https://<domain>/api/v2/`.
    pub domain: String,
    /// The custom domain. The audience of an assertion may name it instead of the canonical one.
    pub custom_domain: Option<String>,
    /// The certificate for HTTPS (HTTP/1.1 and HTTP/2). `None` = plain HTTP.
    pub tls: Option<Tls>,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How long the Management API still shows a session that ended, and does not yet show an application that joined one.
    pub visibility_delay: Duration,
    /// The rate limit of the Management API.
    pub rate_limit: Option<RateLimit>,
    /// The rate limit of the token endpoint.
    pub token_rate_limit: Option<RateLimit>,
    /// The lifetime of an access token, in whole seconds.
    pub token_lifetime: Duration,
    /// The largest page, also when a request asks for more.
    pub page_size_cap: usize,
    /// How many of the latest requests are kept for [`Simulator::requests`](super::Simulator::requests). 0 keeps none.
    pub recorded_requests: usize,
    /// Whether the Management API knows every user. A user whom nobody added has no sessions then, instead of 404.
    pub knows_every_user: bool,
    /// The clock of the tenant.
    pub clock: Clock,
}

/// A TLS certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: SecretString,
}

impl Options {
    /// A tenant over plain HTTP on a free port of loopback. It shows changes at once, has no rate limit and pages of 50, its
    /// tokens live for a day, it keeps 1,000 requests, and it knows the users who were added.
    pub fn new(domain: impl Into<String>) -> Self {
        Self {
            domain: domain.into(),
            custom_domain: None,
            tls: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            visibility_delay: Duration::ZERO,
            rate_limit: None,
            token_rate_limit: None,
            token_lifetime: Duration::from_secs(86_400),
            page_size_cap: 50,
            recorded_requests: 1_000,
            knows_every_user: false,
            clock: Clock::system(),
        }
    }
}
