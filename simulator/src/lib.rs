//! A simulated Auth0 tenant for the demo, the tests and the benchmarks, over real sockets.
//!
//! It is stateful. A login makes a session, a completed login adds its application, a revocation ends the session, and the
//! Management API shows each of these a moment later, as Auth0 does. The simulator authenticates the client (secret, Basic,
//! or a signed assertion), checks its scopes, splits lists into pages, and limits the rate.
//!
//! ```text
//!             connection    router                    token_endpoint ──▶ applications, assertions, tokens
//!  socket ──▶ (reset, …) ──▶ record ─▶ fault? ─▶ rate ─┤
//!                                                      management ─────▶ users and their sessions
//!                                                                          ▲
//!  browser ──▶ login_host ──▶ Action, callback ────────────────────────────┤
//!  test, demo ──▶ Simulator: sessions, logins, faults, clock ──────────────┘
//!                                       └──▶ log_stream ──▶ webhook
//! ```
//!
//! `tenant` holds the state, and everything above works on it.
//!
//! Tests compare the answers with Auth0's OpenAPI documents and with recorded exchanges. Where neither decides, the
//! simulator does what is harder for a client: an expired session stays in the list, a list has the order in which sessions
//! were added and not that of a date, and a token is valid only on the host that issued it. Refresh tokens, which a
//! revocation ends too, are not modelled.
//!
//! Time comes from the tenant's [`Clock`]. A test with a stopped clock decides when a token expires, when a change becomes
//! visible and when the rate limit allows the next request, without waiting for any of them.

mod answer;
mod application;
mod assertion;
mod clock;
mod connection;
mod faults;
mod log_stream;
mod login;
mod login_host;
mod management;
mod operation;
mod options;
mod rate_limit;
mod requests;
mod router;
mod session;
mod tenant;
mod token_endpoint;
mod tokens;
mod users;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub use application::Application;
pub use clock::Clock;
pub use faults::{Fault, InjectedFault, When};
pub use log_stream::{LogFormat, LogStream, StreamedLogs};
pub use login::Login;
pub use operation::Operation;
pub use options::{Options, Tls};
pub use rate_limit::RateLimit;
pub use requests::RecordedRequest;
pub use session::Session;

use connection::FaultyAcceptor;
use tenant::Tenant;

/// A running tenant. Clones are the same tenant. It stops at [`Simulator::shutdown`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Simulator(Arc<Running>);

struct Running {
    tenant: Arc<Tenant>,
    url: String,
    handle: Handle<SocketAddr>,
    server: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Simulator {
    /// Starts a tenant. It serves requests when this returns.
    ///
    /// # Errors
    ///
    /// The tenant cannot listen on the address, or the certificate or key is unreadable.
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
        let service = Router::new().fallback(router::answer).with_state(Arc::clone(&tenant)).into_make_service();
        let handle = Handle::new();
        let server = axum_server::Server::<SocketAddr>::from_listener(listener).handle(handle.clone());
        let server = match tls {
            Some(config) => tokio::spawn(server.acceptor(FaultyAcceptor(RustlsAcceptor::new(config))).serve(service)),
            None => tokio::spawn(server.acceptor(FaultyAcceptor(DefaultAcceptor::new())).serve(service)),
        };
        Ok(Self(Arc::new(Running { tenant, url, handle, server: Mutex::new(Some(server)) })))
    }

    /// The tenant's URL: `http://127.0.0.1:PORT`, with `https` under TLS.
    pub fn url(&self) -> String {
        self.0.url.clone()
    }

    /// Stops the tenant. Connections end, also those with a request in flight.
    ///
    /// # Errors
    ///
    /// The server had already ended with an error.
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

    /// Registers an application. It replaces one with the same client id.
    pub fn add_application(&self, application: Application) {
        self.0.tenant.add_application(application);
    }

    /// Adds a user without sessions. A user who exists is not changed.
    pub fn add_user(&self, user_id: &str) {
        self.0.tenant.users.add(user_id);
    }

    /// Adds a session to a user. An unknown user is added.
    pub fn add_session(&self, user_id: &str, session: Session) {
        self.0.tenant.users.add_session(user_id, session);
    }

    /// The sessions that a user really has, whatever the Management API shows.
    pub fn sessions_of(&self, user_id: &str) -> Vec<Session> {
        self.0.tenant.users.true_sessions(user_id)
    }

    /// Begins a login: the user has authenticated, and the post-login Actions are next. `cookie` is the session id that the
    /// browser has. When that session is the user's and has not expired, the login continues it. Otherwise the login gets a
    /// new session. An unknown user is added.
    pub fn begin_login(&self, user_id: &str, client_id: &str, cookie: Option<&str>) -> Login {
        Login::begin(Arc::clone(&self.0.tenant), user_id, client_id, cookie)
    }

    /// Runs Actions in browsers' logins: each handler is sent to this URL as JSON of `handler` and `event`, and the answer has
    /// `redirect`, `revoke` or `deny` with its URL or message, or none of them. Without this, no login has an Action.
    pub fn run_actions_at(&self, url: &str) {
        self.0.tenant.login_host.run_actions_at(url);
    }

    /// Starts a log stream: it reports the logins that end from now on.
    pub fn stream_logs(&self, stream: LogStream) -> StreamedLogs {
        self.0.tenant.log_streams.start(stream)
    }

    /// Ends a session, as a logout does. False when there is none.
    pub fn end_session(&self, session_id: &str) -> bool {
        let tenant = &self.0.tenant;
        tenant.users.end_session(session_id, tenant.now(), tenant.visibility_delay())
    }

    /// Injects a fault.
    pub fn fault(&self, when: impl Into<When>, fault: Fault) -> InjectedFault {
        self.0.tenant.faults.inject(when.into(), fault)
    }

    /// Ends all faults. Requests that hang because of them continue.
    pub fn clear_faults(&self) {
        self.0.tenant.faults.clear();
    }

    /// Invalidates all access tokens.
    pub fn revoke_tokens(&self) {
        self.0.tenant.tokens.revoke_all();
    }

    /// How many requests of an operation have arrived, including those that met a fault or the rate limit.
    pub fn count(&self, operation: Operation) -> u64 {
        self.0.tenant.requests.count(operation)
    }

    /// Waits until `count` requests of an operation have arrived.
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
