//! The tenant client against a scripted server, over real sockets.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests")]

mod connections;
mod faults;
mod lists;
mod observation;
mod revocations;
mod tokens;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value, json};
use session_checker::auth0::{
    BreakerState, ConnectionEnd, Error, ListBound, ListField, MemoryBound, Observer, Operation, Outcome, RateLimit,
    Revoked, TenantClient, TrustedCas, Upstream, UpstreamOptions,
};
use session_checker::policy::{Completeness, Failure, SessionList, Tenant};
use session_checker::secret::{CREDENTIALS_TYPE, Credentials};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::authority::Authority;
use crate::common::provider;

pub(crate) const DOMAIN: &str = "acme.eu.auth0.com";
pub(crate) const USER: &str = "auth0|5f7c8ec7c33c6c004bbafe82";
pub(crate) const TOKEN: &str = "/oauth/token";

// The server ------------------------------------------------------------------------------------------------------------

/// What the server does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and keeps the connection.
    Http(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Resets the connection.
    Reset,
    /// Sends nothing until the client closes the connection.
    Silence,
}

pub(crate) fn http(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    Reply::Http(format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

pub(crate) fn ok(body: &Value) -> Reply {
    http(200, &[], &body.to_string())
}

pub(crate) fn status(status: u16) -> Reply {
    http(status, &[], &json!({"statusCode": status, "error": "Scripted", "message": "scripted"}).to_string())
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    method: String,
    /// The raw target: path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl SeenRequest {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn form(&self, key: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://form/?{}", self.body)).unwrap();
        url.query_pairs().find(|(known, _)| known == key).map(|(_, value)| value.into_owned())
    }
}

/// A server with two scripts, one for the token endpoint and one for the API. At the end of its script, a token request gets
/// the next token and an API request an empty list.
#[derive(Default)]
pub(crate) struct Server {
    port: u16,
    connections: AtomicUsize,
    seen: Mutex<Vec<SeenRequest>>,
    token: Mutex<VecDeque<Reply>>,
    api: Mutex<VecDeque<Reply>>,
    /// An `Authorization` that the API always answers with 401.
    dead_token: Mutex<Option<String>>,
}

impl Server {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(Self { port, ..Self::default() });
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let server = Arc::clone(&serving);
                tokio::spawn(async move { server.serve(connection).await });
            }
        });
        server
    }

    async fn serve(&self, connection: TcpStream) {
        let mut stream = BufReader::new(connection);
        while let Some(request) = read(&mut stream).await {
            match self.reply(request) {
                Reply::Http(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Reply::Raw(bytes) => {
                    stream.write_all(&bytes).await.unwrap();
                    stream.shutdown().await.unwrap();
                    return;
                }
                Reply::Reset => return stream.get_ref().set_zero_linger().unwrap(),
                Reply::Silence => drop(stream.read(&mut [0]).await),
            }
        }
    }

    fn reply(&self, request: SeenRequest) -> Reply {
        let is_token = request.target.ends_with(TOKEN);
        let is_dead = self
            .dead_token
            .lock()
            .unwrap()
            .as_deref()
            .is_some_and(|dead| request.header("authorization") == Some(dead));
        let count = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request);
            seen.iter().filter(|request| request.target.ends_with(TOKEN)).count()
        };
        if is_dead {
            return status(401);
        }
        let script = if is_token { &self.token } else { &self.api };
        let line = script.lock().unwrap().pop_front();
        line.unwrap_or_else(|| match is_token {
            true => {
                ok(&json!({"access_token": format!("t0ken-{count}"), "expires_in": 86400, "scope": "read:sessions"}))
            }
            false => ok(&json!({"sessions": []})),
        })
    }

    pub(crate) fn token(&self, replies: impl IntoIterator<Item = Reply>) {
        self.token.lock().unwrap().extend(replies);
    }

    pub(crate) fn api(&self, replies: impl IntoIterator<Item = Reply>) {
        self.api.lock().unwrap().extend(replies);
    }

    pub(crate) fn tokens_asked(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().iter().filter(|request| request.target.ends_with(TOKEN)).cloned().collect()
    }

    pub(crate) fn calls(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().iter().filter(|request| !request.target.ends_with(TOKEN)).cloned().collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<SeenRequest> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut seen = SeenRequest { method, target, headers, body: String::new() };
    let mut body = vec![0; seen.header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}

// The client ------------------------------------------------------------------------------------------------------------

/// An observer that records what it receives.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, tenant: &str, line: String) {
        assert_eq!(tenant, DOMAIN);
        self.0.lock().unwrap().push(line);
    }
}

impl Observer for Recorder {
    fn request(&self, tenant: &str, operation: Operation, outcome: Outcome, took: Duration) {
        assert!(took < Duration::from_secs(30));
        self.note(tenant, format!("{} {}", operation.as_str(), outcome.as_str()));
    }

    fn rate_limit(&self, tenant: &str, operation: Operation, limit: &RateLimit) {
        self.note(tenant, format!("{} has {:?} of {:?} left", operation.as_str(), limit.remaining, limit.limit));
    }

    fn token(&self, tenant: &str, result: Result<(), Failure>) {
        self.note(tenant, format!("token {result:?}"));
    }

    fn unknown_user(&self, tenant: &str) {
        self.note(tenant, "unknown user".to_owned());
    }

    fn dropped_entries(&self, tenant: &str, count: usize) {
        self.note(tenant, format!("{count} dropped"));
    }

    fn missing_fields(&self, tenant: &str, field: ListField, count: usize) {
        self.note(tenant, format!("{count} without {}", field.as_str()));
    }

    fn unusual_ids(&self, tenant: &str, count: usize) {
        self.note(tenant, format!("{count} unusual"));
    }

    fn oversized_list(&self, tenant: &str, bound: ListBound) {
        self.note(tenant, format!("oversized {}", bound.as_str()));
    }

    fn memory_refusal(&self, tenant: &str, bound: MemoryBound) {
        self.note(tenant, format!("no memory {}", bound.as_str()));
    }

    fn breaker(&self, tenant: &str, state: BreakerState) {
        if state != BreakerState::Closed {
            self.note(tenant, format!("breaker {state:?}"));
        }
    }

    fn connection_wait(&self, tenant: &str) {
        self.note(tenant, "connection wait".to_owned());
    }

    fn connection_ended(&self, tenant: &str, why: ConnectionEnd) {
        self.note(tenant, format!("connection {}", why.as_str()));
    }
}

pub(crate) fn upstream(endpoints: &[(&str, &str)], ca_pem: Option<&str>, observer: Arc<dyn Observer>) -> Upstream {
    let endpoints = endpoints.iter().map(|(domain, url)| ((*domain).to_owned(), url.parse().unwrap())).collect();
    Upstream::new(UpstreamOptions {
        endpoints,
        cas: ca_pem.map(|pem| TrustedCas::parse(pem.as_bytes()).unwrap()).unwrap_or_default(),
        observer,
        ..UpstreamOptions::default()
    })
    .unwrap()
}

pub(crate) fn credentials(auth: &[(&str, &str)], domain: &str) -> Arc<Credentials> {
    let base = [("domain", domain), ("customDomain", "login.acme.com"), ("clientId", "machine")];
    let data = base.iter().chain(auth).map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    Arc::new(Credentials::from_secret(CREDENTIALS_TYPE, &data).unwrap())
}

pub(crate) const SECRET: &[(&str, &str)] = &[("clientSecret", "s3cret&=+ ")];

pub(crate) fn client_of(server: &Server, observer: Arc<dyn Observer>) -> TenantClient {
    let upstream = upstream(&[(DOMAIN, &server.url())], None, observer);
    TenantClient::new(&upstream, &Tenant::new(DOMAIN, None).unwrap(), credentials(SECRET, DOMAIN)).unwrap()
}

pub(crate) async fn pair() -> (Arc<Server>, TenantClient) {
    let server = Server::start().await;
    let client = client_of(&server, Arc::new(Recorder::default()));
    (server, client)
}

pub(crate) fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// A deadline late enough for every test that is not about time.
pub(crate) fn late() -> Instant {
    within(20_000)
}

pub(crate) async fn list(client: &TenantClient) -> Result<SessionList, Error> {
    client.list_sessions(USER, &late().into()).await
}

/// The failure of an error, whose detail must not contain a secret or a personal id.
pub(crate) fn failure<T: Debug>(result: Result<T, Error>) -> Failure {
    let error = result.unwrap_err();
    for secret in [USER, "5f7c8ec7c33c6c004bbafe82", "s1d-of-a-session", "t0ken", "s3cret"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    error.failure
}

pub(crate) fn sessions(ids: &[&str], next: &Value) -> Reply {
    ok(&json!({"sessions": ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>(), "next": next}))
}

static KEY: LazyLock<rcgen::KeyPair> = LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());

/// A configuration for HTTP/2 over TLS with a certificate of a new CA for `localhost`, and the CA in PEM.
pub(crate) fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    provider();
    let ca = Authority::new();
    let (leaf, key) = ca.sign(rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap());
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(tls), ca.pem)
}
