//! A simulated Auth0 tenant: what the demo, the tests and the benchmarks talk to over real sockets.
//!
//! It is stateful. A login makes a session, a completed login adds its application, a revocation takes the session away,
//! and the Management API shows each a moment later, as Auth0 does. It verifies who asks (secret, Basic, or a signed
//! assertion) and what they may do (scopes), cuts lists into pages, and limits the rate.
//!
//! ```text
//!             wire          tenant                    token       ──▶ applications, assertions, tokens
//!  socket ──▶ (reset, …) ──▶ record ─▶ fault? ─▶ rate ─┤
//!                                                      management  ──▶ users and their sessions
//!                                                                        ▲
//!  test, demo ──▶ Simulator: sessions, logins, faults, clock ────────────┘
//! ```
//!
//! What it answers is held by tests to Auth0's OpenAPI documents and to recorded exchanges. Where neither says, it does
//! what makes life harder for a client: an expired session stays in the list, a list comes in the order in which sessions
//! were added and not by any date, and a token is good only on the host that it was fetched from. Refresh tokens, which a
//! revocation also ends, are not modelled.
//!
//! Time comes from the tenant's [`Clock`]: a test that hands in a stopped one decides when a token expires, when a change
//! becomes visible and when the rate limit lets the next request through, without waiting for any of them.

mod answer;
mod application;
mod assertion;
mod clock;
mod faults;
mod login;
mod management;
mod operation;
mod rate_limit;
mod requests;
mod session;
mod state;
mod tenant;
mod token;
mod wire;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub use application::Application;
pub use clock::Clock;
pub use faults::{Fault, InjectedFault, When};
pub use login::Login;
pub use operation::Operation;
pub use rate_limit::RateLimit;
pub use requests::RecordedRequest;
pub use session::Session;

use tenant::Tenant;
use wire::WireAcceptor;

/// What kind of tenant it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The canonical domain, for example `demo.eu.auth0.com`; the audience of tokens is `https://<domain>/api/v2/`.
    pub domain: String,
    /// The custom domain, which the audience of an assertion may name instead.
    pub custom_domain: Option<String>,
    /// With it the tenant speaks HTTPS (HTTP/1.1 and HTTP/2).
    pub tls: Option<Tls>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// How much later the Management API shows that a session ended, or that an application joined one.
    pub visibility_delay: Duration,
    /// The Management API's rate limit.
    pub rate_limit: Option<RateLimit>,
    /// The token endpoint's own.
    pub token_rate_limit: Option<RateLimit>,
    /// How long an access token lives, in whole seconds.
    pub token_lifetime: Duration,
    /// The largest page that is given, also when more is asked for.
    pub page_size_cap: usize,
    /// How many of the latest requests are kept for [`Simulator::requests`]; 0 keeps none.
    pub recorded_requests: usize,
    /// The time.
    pub clock: Clock,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// The private key.
    pub key: SecretString,
}

impl Options {
    /// A tenant on a free port of loopback, over plain HTTP, that shows changes at once, knows no rate limit, lets tokens
    /// live for a day, gives pages of 50, and keeps 1,000 requests.
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
            clock: Clock::system(),
        }
    }
}

/// A running tenant. Clones are the same tenant; it stops at [`Simulator::shutdown`], or when the last of them is dropped.
#[derive(Clone)]
pub struct Simulator(Arc<Running>);

struct Running {
    tenant: Arc<Tenant>,
    url: String,
    handle: Handle<SocketAddr>,
    server: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Simulator {
    /// Starts a tenant, which serves when this returns.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on, or certificate or key cannot be read.
    pub async fn start(options: Options) -> io::Result<Self> {
        let tls = match &options.tls {
            Some(Tls { certificate, key }) => {
                let key = key.expose_secret().as_bytes().to_vec();
                Some(RustlsConfig::from_pem(certificate.as_bytes().to_vec(), key).await?)
            }
            None => None,
        };
        let listener = TcpListener::bind(options.listen).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);

        let tenant = Arc::new(Tenant::new(options));
        let service = Router::new().fallback(tenant::answer).with_state(Arc::clone(&tenant)).into_make_service();
        let handle = Handle::new();
        let server = axum_server::Server::<SocketAddr>::from_listener(listener).handle(handle.clone());
        let server = match tls {
            Some(config) => tokio::spawn(server.acceptor(WireAcceptor(RustlsAcceptor::new(config))).serve(service)),
            None => tokio::spawn(server.acceptor(WireAcceptor(DefaultAcceptor::new())).serve(service)),
        };
        Ok(Self(Arc::new(Running { tenant, url, handle, server: Mutex::new(Some(server)) })))
    }

    /// Where it listens: `http://127.0.0.1:PORT`, with `https` under TLS.
    pub fn url(&self) -> String {
        self.0.url.clone()
    }

    /// Stops it: connections end, also those with a request under way.
    ///
    /// # Errors
    ///
    /// When the server had already ended with an error.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.0.handle.shutdown();
        match self.0.server.lock().await.take() {
            Some(server) => server.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    /// The tenant's time.
    pub fn now(&self) -> Timestamp {
        self.0.tenant.now()
    }

    /// Registers an application, in place of one with the same client id.
    pub fn add_application(&self, application: Application) {
        self.0.tenant.add_application(application);
    }

    /// Adds a user without sessions; a user who exists stays as they are.
    pub fn add_user(&self, user_id: &str) {
        self.0.tenant.users.add(user_id);
    }

    /// Lists a session under a user, who is added when unknown.
    pub fn add_session(&self, user_id: &str, session: Session) {
        self.0.tenant.users.add_session(user_id, session);
    }

    /// The sessions that a user truly has, whatever the Management API shows yet.
    pub fn sessions_of(&self, user_id: &str) -> Vec<Session> {
        self.0.tenant.users.true_sessions(user_id)
    }

    /// Begins a login: the user has authenticated, and the post-login Actions are next. `cookie` is the session that the
    /// browser had; when it is still the user's and has not expired, the login goes on with it, else it gets a new one.
    /// An unknown user is added.
    pub fn begin_login(&self, user_id: &str, client_id: &str, cookie: Option<&str>) -> Login {
        Login::begin(Arc::clone(&self.0.tenant), user_id, client_id, cookie)
    }

    /// Ends a session truly, as a log-out does; false when there is none.
    pub fn end_session(&self, session_id: &str) -> bool {
        let tenant = &self.0.tenant;
        tenant.users.end_session(session_id, tenant.now(), tenant.visibility_delay())
    }

    /// Injects a fault.
    pub fn fault(&self, when: impl Into<When>, fault: Fault) -> InjectedFault {
        self.0.tenant.faults.inject(when.into(), fault)
    }

    /// Ends all faults, and lets go the requests that hang on them.
    pub fn clear_faults(&self) {
        self.0.tenant.faults.clear();
    }

    /// Makes all access tokens invalid.
    pub fn revoke_tokens(&self) {
        self.0.tenant.tokens.revoke_all();
    }

    /// How many requests of an operation have come, with those that faults struck and the rate limit refused.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.tenant.requests.count(operation)
    }

    /// Waits until `count` requests of an operation have come.
    pub async fn reached(&self, operation: Operation, count: u64) {
        self.0.tenant.requests.reached(operation, count).await;
    }

    /// The latest requests, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.0.tenant.requests.latest()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("url", &self.0.url).finish_non_exhaustive()
    }
}
