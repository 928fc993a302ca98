//! The tenant client against a scripted server, over real sockets.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests")]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value, json};
use session_checker::auth0::{
    BreakerState, ConnectionEnd, Error, ListBound, MemoryBound, Observer, Operation, Outcome, QuotaConfig, RateLimit,
    Revoked, TenantClient, Upstream, UpstreamOptions,
};
use session_checker::policy::{Completeness, Failure, SessionList, Tenant};
use session_checker::secret::{CREDENTIALS_TYPE, Credentials};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::common::eventually;

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
        ca_pem: ca_pem.map(|pem| pem.as_bytes().to_vec()),
        proxy: None,
        quotas: QuotaConfig::default(),
        observer,
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

// Lists -----------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn list_request_is_as_the_api_documents_it() {
    let (server, client) = pair().await;
    server.api([sessions(&["s1", "s2"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 2);
    let call = &server.calls()[0];
    assert_eq!(
        (call.method.as_str(), call.target.as_str()),
        ("GET", "/api/v2/users/auth0%7C5f7c8ec7c33c6c004bbafe82/sessions?take=50",)
    );
    assert_eq!(call.header("authorization"), Some("Bearer t0ken-1"));
    assert_eq!(call.header("host"), Some(server.url().strip_prefix("http://").unwrap()));
    assert_eq!(call.header("user-agent"), Some(concat!("session-checker/", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn odd_user_id_is_one_segment_of_the_request_path() {
    let (server, client) = pair().await;
    for (id, path) in [("auth0|a/b", "auth0%7Ca%2Fb"), ("waad|x%3A", "waad%7Cx%253A"), ("£?#", "%C2%A3%3F%23")] {
        client.list_sessions(id, &late().into()).await.unwrap();
        assert_eq!(server.calls().last().unwrap().target, format!("/api/v2/users/{path}/sessions?take=50"));
    }
    let before = server.calls().len();
    for id in ["", ".", ".."] {
        assert_eq!(failure(client.list_sessions(id, &late().into()).await), Failure::UpstreamError);
    }
    assert_eq!(server.calls().len(), before, "nothing was sent");
}

#[tokio::test]
async fn pages_are_fetched_to_the_end_with_the_cursor_encoded() {
    let (server, client) = pair().await;
    server.api([
        sessions(&["s1"], &json!("a&b=c/+")),
        sessions(&["s2", "s1"], &json!("d")),
        sessions(&["s3"], &json!(null)),
    ]);
    assert_eq!(list(&client).await.unwrap().len(), 3);
    let queries: Vec<_> = server.calls().iter().map(|call| call.target.split_once('?').unwrap().1.to_owned()).collect();
    assert_eq!(queries, ["take=50", "take=50&from=a%26b%3Dc%2F%2B", "take=50&from=d"]);
}

#[tokio::test]
async fn list_ends_at_a_page_without_a_usable_cursor() {
    for (pages, calls, found) in [
        (vec![sessions(&["s1"], &json!(null))], 1, 1),
        (vec![sessions(&["s1"], &json!(""))], 1, 1),
        (vec![sessions(&["s1"], &json!(5))], 1, 1),
        (vec![sessions(&[], &json!("a"))], 1, 0),
        (vec![sessions(&["s1"], &json!("a")), sessions(&[], &json!("b"))], 2, 1),
        (vec![sessions(&["s1"], &json!("a")), sessions(&["s2"], &json!("a"))], 2, 2),
        (vec![sessions(&["s1"], &json!("a")), sessions(&["s2"], &json!("b")), sessions(&["s3"], &json!("a"))], 3, 3),
        // A page of unusable entries is not an empty page.
        (vec![ok(&json!({"sessions": [null], "next": "a"})), sessions(&["s1"], &json!(null))], 2, 1),
    ] {
        let (server, client) = pair().await;
        server.api(pages);
        assert_eq!(list(&client).await.unwrap().len(), found);
        assert_eq!(server.calls().len(), calls);
    }
}

#[tokio::test]
async fn list_of_more_than_forty_pages_is_read_in_part() {
    let page = |number: usize, last: usize| {
        let next = if number < last { json!(format!("cursor-{number}")) } else { json!(null) };
        sessions(&[&format!("s{number}")], &next)
    };
    let (server, client) = pair().await;
    server.api((1..=40).map(|number| page(number, 40)));
    let whole = list(&client).await.unwrap();
    assert_eq!((whole.len(), whole.completeness()), (40, Completeness::Whole));

    server.api((1..=41).map(|number| page(number, 41)));
    let capped = list(&client).await.unwrap();
    assert_eq!((capped.len(), capped.completeness()), (40, Completeness::Capped));
    assert_eq!(server.calls().len(), 80, "the 41st page is not requested");
}

#[tokio::test]
async fn failed_page_fails_the_list() {
    for (reply, expected) in [
        (status(400), Failure::UpstreamError),
        (status(403), Failure::NotEntitled),
        (status(404), Failure::UpstreamError),
        (http(200, &[], "<html>"), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([sessions(&["s1"], &json!("a")), reply]);
        assert_eq!(failure(list(&client).await), expected);
    }
}

#[tokio::test]
async fn each_answer_has_its_failure() {
    for (reply, expected) in [
        (http(403, &[], r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope),
        (
            http(403, &[], r#"{"message":"Insufficient scope, expected any of: read:sessions"}"#),
            Failure::InsufficientScope,
        ),
        (status(403), Failure::NotEntitled),
        (http(403, &[], "no"), Failure::UpstreamError),
        (http(407, &[], "<html>"), Failure::UpstreamError),
        (status(400), Failure::UpstreamError),
        (status(402), Failure::UpstreamError),
        (status(409), Failure::UpstreamError),
        (http(200, &[], ""), Failure::UpstreamError),
        (http(200, &[], "<html>auth0|5f7c8ec7c33c6c004bbafe82</html>"), Failure::UpstreamError),
        (http(200, &[], "[]"), Failure::UpstreamError),
        (http(200, &[], r#"{"sessions":"auth0|5f7c8ec7c33c6c004bbafe82"}"#), Failure::UpstreamError),
        (http(204, &[], ""), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([reply]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!(server.calls().len(), 1, "none of these is retried");
    }
}

#[tokio::test]
async fn content_type_does_not_matter() {
    let (server, client) = pair().await;
    server.api([http(200, &[("content-type", "text/html; charset=latin1")], r#"{"sessions":[{"id":"s1"}]}"#)]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_user_has_no_sessions_and_is_counted() {
    let server = Server::start().await;
    let recorder = Arc::new(Recorder::default());
    let client = client_of(&server, Arc::clone(&recorder) as _);
    server.api([http(404, &[], r#"{"statusCode":404,"errorCode":"inexistent_user"}"#)]);
    let unknown = list(&client).await.unwrap();
    assert!(unknown.is_empty() && unknown.is_of_unknown_user());
    assert!(recorder.lines().contains(&"unknown user".to_owned()));
    for body in ["", "<html>not here</html>", "[]", "null", "404"] {
        server.api([http(404, &[], body)]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError, "{body}");
    }
    assert_eq!(recorder.lines().iter().filter(|line| *line == "unknown user").count(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for code in [301, 302, 303, 304, 307, 308] {
        let (server, client) = pair().await;
        let elsewhere = format!("{}/elsewhere", server.url());
        server.api([http(code, &[("location", &elsewhere)], "")]);
        server.token([]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError, "{code}");
        assert_eq!(server.calls().len(), 1);
    }
    let (server, client) = pair().await;
    server.token([http(307, &[("location", "/elsewhere")], "")]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test]
async fn page_of_more_than_four_mebibytes_is_an_error() {
    let body = |size: usize| {
        let frame = r#"{"sessions":[],"x":""}"#.len();
        format!(r#"{{"sessions":[],"x":"{}"}}"#, "x".repeat(size - frame))
    };
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::Raw(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes())
    };
    let (server, client) = pair().await;
    server.api([http(200, &[], &body(4 << 20)), chunked(&body(4 << 20))]);
    assert!(list(&client).await.is_ok());
    assert!(list(&client).await.is_ok());
    // Once the headers announce the length, once they do not.
    server.api([http(200, &[], &body((4 << 20) + 1))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    let endless = format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n400001\r\n{}", body((4 << 20) + 1));
    server.api([Reply::Http(endless.into_bytes())]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
}

#[tokio::test]
async fn dropped_entries_are_counted() {
    let server = Server::start().await;
    let recorder = Arc::new(Recorder::default());
    let client = client_of(&server, Arc::clone(&recorder) as _);
    let entries = json!([{"id": "s1", "user_id": USER}, {"id": "s2", "user_id": "auth0|other"}, null, {"id": "a/b"}]);
    server.api([ok(&json!({ "sessions": entries }))]);
    assert_eq!(list(&client).await.unwrap().len(), 2);
    for line in ["2 dropped", "1 unusual"] {
        assert!(recorder.lines().contains(&line.to_owned()), "{:?}", recorder.lines());
    }
}

// Faults ----------------------------------------------------------------------------------------------------------------

fn broken() -> [Reply; 6] {
    [
        Reply::Reset,
        Reply::Raw(vec![]),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"sessions\":[]}".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ses".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
    ]
}

#[tokio::test]
async fn single_failure_is_retried_unnoticed() {
    for reply in broken().into_iter().chain([status(500), status(502), status(503), status(504)]) {
        let (server, client) = pair().await;
        server.token([reply.clone()]);
        server.api([reply.clone(), sessions(&["s1"], &json!("a")), reply.clone(), sessions(&["s2"], &json!(null))]);
        assert_eq!(list(&client).await.unwrap().len(), 2);
        server.api([reply, http(202, &[], "{}")]);
        assert_eq!(client.revoke_session("s1", &late().into()).await.unwrap(), Revoked::Done);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 6));
    }
}

#[tokio::test]
async fn second_failure_is_reported() {
    let unreachable = broken().map(|reply| (reply, Failure::UpstreamUnreachable));
    for (reply, expected) in unreachable.into_iter().chain([(status(503), Failure::UpstreamError)]) {
        let (server, client) = pair().await;
        server.token([reply.clone(), reply.clone()]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 0));
        server.api([reply.clone(), reply]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (3, 2));
    }
}

#[tokio::test]
async fn closed_port_is_unreachable() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let server = Server { port: closed, ..Server::default() };
    let client = client_of(&server, Arc::new(Recorder::default()));
    assert_eq!(failure(list(&client).await), Failure::UpstreamUnreachable);
}

#[tokio::test]
async fn silence_ends_at_the_deadline_without_a_retry() {
    let cut = Reply::Http(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".to_vec());
    for reply in [Reply::Silence, cut] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        server.api([reply]);
        let started = Instant::now();
        assert_eq!(failure(client.list_sessions(USER, &within(200).into()).await), Failure::UpstreamTimeout);
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test]
async fn silent_token_endpoint_is_a_timeout() {
    let (server, client) = pair().await;
    server.token([Reply::Silence]);
    assert_eq!(failure(client.list_sessions(USER, &within(200).into()).await), Failure::UpstreamTimeout);
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 0));
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    assert_eq!(failure(client.list_sessions(USER, &Instant::now().into()).await), Failure::UpstreamTimeout);
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test]
async fn exhausted_limit_is_waited_out_only_before_the_deadline() {
    let closed = |headers: &[(&str, &str)]| http(429, headers, r#"{"errorCode":"too_many_requests"}"#);
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    // The reset is in the past: retried after a second each time.
    server.api([
        closed(&[("retry-after", "0")]),
        closed(&[("x-ratelimit-reset", "1")]),
        sessions(&["s1"], &json!(null)),
    ]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    assert_eq!(server.calls().len(), 3);
    // Without a header the wait is a second.
    server.api([closed(&[])]);
    let started = Instant::now();
    assert!(list(&client).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.calls().len(), 5);
    // The reset is too late: no wait at all.
    for headers in [&[("retry-after", "60")][..], &[("x-ratelimit-reset", "99999999999")], &[]] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        server.api([closed(headers)]);
        let started = Instant::now();
        assert_eq!(failure(client.list_sessions(USER, &within(900).into()).await), Failure::RateLimited);
        assert!(started.elapsed() < Duration::from_millis(900));
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test]
async fn status_429_of_the_token_endpoint_is_rate_limited() {
    let (server, client) = pair().await;
    server.token([http(429, &[("retry-after", "5")], "{}")]);
    let started = Instant::now();
    let in_3s = (started + Duration::from_secs(3)).into();
    assert_eq!(failure(client.list_sessions(USER, &in_3s).await), Failure::RateLimited);
    assert_eq!(failure(client.list_sessions(USER, &in_3s).await), Failure::RateLimited, "the limit is known now");
    assert!(started.elapsed() < Duration::from_secs(3), "neither waited for its deadline");
    // Another credential of the tenant has the same limit.
    let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
    let tenant = Tenant::new(DOMAIN, None).unwrap();
    let [first, second] = [(); 2].map(|()| TenantClient::new(&upstream, &tenant, credentials(SECRET, DOMAIN)).unwrap());
    server.token([http(429, &[("retry-after", "5")], "{}")]);
    for client in [first, second] {
        let deadline = within(3_000);
        assert_eq!(failure(client.list_sessions(USER, &deadline.into()).await), Failure::RateLimited);
        assert!(Instant::now() < deadline);
    }
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 0));
}

/// An answer of a tenant whose clock differs from ours by these seconds. The header is that many seconds later on its clock.
fn on_clock(code: u16, apart: i64, headers: &[(&str, String)], body: &str) -> Reply {
    let date = httpdate_of(unix_now() + apart);
    let mut all = vec![("date", date.as_str())];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    http(code, &all, body)
}

fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn httpdate_of(second: i64) -> String {
    httpdate::fmt_http_date(jiff::Timestamp::from_second(second).unwrap().into())
}

#[tokio::test]
async fn reset_is_judged_by_the_date_of_its_answer() {
    for apart in [240, -240, 100_000] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        let reset = (unix_now() + apart + 1).to_string();
        let spent = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset.clone())];
        server.api([on_clock(200, apart, &spent, r#"{"sessions":[]}"#)]);
        assert!(list(&client).await.is_ok());
        assert!(client.list_sessions(USER, &within(5_000).into()).await.is_ok(), "{apart}");
        assert_eq!(server.calls().len(), 2);
    }
}

#[tokio::test]
async fn assertion_is_valid_on_the_clock_of_the_tenant() {
    for apart in [240, -600] {
        let server = Server::start().await;
        let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem())];
        let tenant = Tenant::new(DOMAIN, None).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(&auth, DOMAIN)).unwrap();
        server.token([
            on_clock(401, apart, &[], r#"{"error":"invalid_client"}"#),
            on_clock(200, apart, &[], r#"{"access_token":"t0ken"}"#),
        ]);
        let before = unix_now();
        client.verify(late()).await.unwrap();
        let expires: Vec<i64> = server
            .tokens_asked()
            .iter()
            .map(|asked| {
                let parts = asked.form("client_assertion").unwrap();
                let claims =
                    base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, parts.split('.').nth(1).unwrap());
                serde_json::from_slice::<Value>(&claims.unwrap()).unwrap()["exp"].as_i64().unwrap()
            })
            .collect();
        assert_eq!(expires.len(), 2, "rejected by the other clock, and accepted");
        let now = unix_now();
        assert!((before + 60..=now + 60).contains(&expires[0]));
        assert!((before + apart + 59..=now + apart + 61).contains(&expires[1]), "{expires:?}");
    }
    // A rejection by a tenant whose clock is ours is final.
    let server = Server::start().await;
    let client = {
        let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem())];
        TenantClient::new(&upstream, &Tenant::new(DOMAIN, None).unwrap(), credentials(&auth, DOMAIN)).unwrap()
    };
    server.token([on_clock(401, 0, &[], r#"{"error":"invalid_client"}"#)]);
    assert_eq!(failure(client.verify(late()).await), Failure::CredentialsRejected);
    assert_eq!(server.tokens_asked().len(), 1);
}

// Tokens ----------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn client_secret_is_sent_in_the_form() {
    let (server, client) = pair().await;
    let scopes = client.verify(late()).await.unwrap().unwrap();
    assert!(scopes.iter().eq(["read:sessions"]));
    let asked = &server.tokens_asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", TOKEN));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("authorization"), None);
    for (key, value) in [
        ("grant_type", Some("client_credentials")),
        ("client_id", Some("machine")),
        ("client_secret", Some("s3cret&=+ ")),
        ("audience", Some("https://acme.eu.auth0.com/api/v2/")),
        ("client_assertion", None),
    ] {
        assert_eq!(asked.form(key).as_deref(), value, "{key}");
    }
}

static KEY: LazyLock<rcgen::KeyPair> = LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());

fn verified(assertion: &str, algorithm: Algorithm, audience: &str) -> Map<String, Value> {
    let mut rules = Validation::new(algorithm);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["machine"]);
    let key = DecodingKey::from_rsa_pem(KEY.public_key_pem().as_bytes()).unwrap();
    decode(assertion, &key, &rules).unwrap().claims
}

#[tokio::test]
async fn private_key_signs_a_new_assertion_for_each_request() {
    let server = Server::start().await;
    // The claims name the tenant's domains, wherever the requests go. The audience always names the canonical domain.
    for (custom_domain, issuer) in
        [(None, "https://acme.eu.auth0.com/"), (Some("login.acme.com"), "https://login.acme.com/")]
    {
        let upstream =
            upstream(&[(DOMAIN, &format!("{}/gateway/", server.url()))], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem()), ("signingAlgorithm", "PS256"), ("keyId", "k1")];
        let tenant = Tenant::new(DOMAIN, custom_domain).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(&auth, DOMAIN)).unwrap();
        let before = server.tokens_asked().len();
        server.token([status(503)]);
        list(&client).await.unwrap();
        let asked = server.tokens_asked().split_off(before);
        let ids: Vec<_> = asked
            .iter()
            .map(|asked| {
                assert_eq!(asked.target, "/gateway/oauth/token");
                assert_eq!(asked.form("audience").unwrap(), "https://acme.eu.auth0.com/api/v2/");
                assert_eq!(asked.form("client_id").unwrap(), "machine");
                assert_eq!(asked.form("client_secret"), None);
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                assert_eq!(asked.form("client_assertion_type").unwrap(), kind);
                verified(&asked.form("client_assertion").unwrap(), Algorithm::PS256, issuer)["jti"].clone()
            })
            .collect();
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1]);
        assert!(server.calls().last().unwrap().target.starts_with("/gateway/api/v2/users/"));
    }
}

#[tokio::test]
async fn concurrent_calls_share_one_token() {
    let (server, client) = pair().await;
    let all = futures::future::join_all((0..50).map(|_| list(&client))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 50));
}

#[tokio::test]
async fn token_that_the_api_rejects_is_replaced_once() {
    let (server, client) = pair().await;
    server.api([status(401), sessions(&["s1"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    let used: Vec<_> = server.calls().iter().map(|call| call.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(used, ["Bearer t0ken-1", "Bearer t0ken-2"]);

    server.api([status(401), status(401)]);
    assert_eq!(failure(list(&client).await), Failure::CredentialsRejected);
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (3, 4));
}

#[tokio::test]
async fn concurrent_calls_replace_a_dead_token_once_and_succeed() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    *server.dead_token.lock().unwrap() = Some("Bearer t0ken-1".to_owned());
    let all = futures::future::join_all((0..50).map(|_| list(&client))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.tokens_asked().len(), 2, "one new token for all calls, however late they report");
}

#[tokio::test]
async fn rejected_credential_is_sent_once() {
    for code in [400, 401, 403] {
        let (server, client) = pair().await;
        server.token([http(code, &[], r#"{"error":"access_denied","error_description":"t0ken s3cret"}"#)]);
        for _ in 0..5 {
            assert_eq!(failure(list(&client).await), Failure::CredentialsRejected);
        }
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn undocumented_answer_of_the_token_endpoint_is_upstream_error() {
    for reply in
        [status(404), status(405), status(418), http(200, &[], "{}"), http(200, &[], "t0ken"), http(204, &[], "")]
    {
        let (server, client) = pair().await;
        server.token([reply]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError);
        assert!(list(&client).await.is_ok(), "the next check fetches again");
    }
}

#[test]
fn credential_is_bound_to_the_domain_of_its_secret() {
    let upstream = upstream(&[], None, Arc::new(Recorder::default()));
    let bound = |domain: &str, custom_domain| {
        TenantClient::new(&upstream, &Tenant::new(domain, custom_domain).unwrap(), credentials(SECRET, DOMAIN)).is_ok()
    };
    assert!(bound("ACME.eu.auth0.com", None));
    assert!(bound(DOMAIN, Some("Login.acme.com")));
    assert!(!bound("evil.example", None));
    assert!(!bound(DOMAIN, Some("evil.example")));
}

// Revocations -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn session_is_revoked_with_its_refresh_tokens() {
    let (server, client) = pair().await;
    server.api([http(202, &[], "{}"), http(204, &[], ""), status(404)]);
    for expected in [Revoked::Done, Revoked::Done, Revoked::AlreadyGone] {
        assert_eq!(client.revoke_session("s1d-of-a-session", &late().into()).await.unwrap(), expected);
    }
    let call = &server.calls()[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/api/v2/sessions/s1d-of-a-session/revoke"));
    assert_eq!((call.header("content-length"), call.body.as_str()), (Some("0"), ""));
    assert_eq!(call.header("authorization"), Some("Bearer t0ken-1"));
}

#[tokio::test]
async fn failed_revocation_has_its_failure() {
    for (reply, expected) in [
        (http(403, &[], r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope),
        (status(403), Failure::NotEntitled),
        (status(400), Failure::UpstreamError),
        (http(302, &[("location", "/")], ""), Failure::UpstreamError),
        (http(404, &[], "<html>no such page</html>"), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([reply]);
        assert_eq!(failure(client.revoke_session("s1d-of-a-session", &late().into()).await), expected);
    }
    let (server, client) = pair().await;
    for sid in ["", ".", ".."] {
        assert_eq!(failure(client.revoke_session(sid, &late().into()).await), Failure::UpstreamError);
    }
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test]
async fn recorded_revocation_is_understood() {
    let path = format!("{}/tests/fixtures/auth0/recordings/TestSessionManager_Revoke.yaml", env!("CARGO_MANIFEST_DIR"));
    let recorded: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let exchange = &recorded["interactions"][0];
    let (server, client) = pair().await;
    let code = u16::try_from(exchange["response"]["code"].as_u64().unwrap()).unwrap();
    server.api([http(code, &[], exchange["response"]["body"].as_str().unwrap())]);
    assert_eq!(client.revoke_session("SessionID", &late().into()).await.unwrap(), Revoked::Done);
    let sent = &server.calls()[0];
    assert_eq!(sent.method, exchange["request"]["method"]);
    let url = exchange["request"]["url"].as_str().unwrap();
    assert!(url.ends_with(&sent.target), "{url}");
}

// Connections -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn private_address_is_reached_only_by_a_named_endpoint() {
    let server = Server::start().await;
    let named = format!("http://localhost:{}", server.port);
    let upstream = upstream(&[(DOMAIN, &named)], None, Arc::new(Recorder::default()));
    let client = |domain: &str| {
        TenantClient::new(&upstream, &Tenant::new(domain, None).unwrap(), credentials(SECRET, domain)).unwrap()
    };
    assert!(list(&client(DOMAIN)).await.is_ok());
}

#[tokio::test]
async fn http1_connection_carries_one_request_after_another() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    let connections = || server.connections.load(Ordering::SeqCst);
    assert_eq!(connections(), 1, "for the token");
    for _ in 0..3 {
        list(&client).await.unwrap();
        server.api([http(202, &[], "{}")]);
        client.revoke_session("s1", &late().into()).await.unwrap();
    }
    assert_eq!(connections(), 2);
    // The rest of an answer that is not read to its end must not precede the next answer.
    server.api([http(404, &[], &"x".repeat(200 << 10))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    server.api([sessions(&["s1"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    assert_eq!(connections(), 3);
    // One that waits holds up no other.
    server.api([Reply::Silence]);
    let context = late().into();
    let waiting = client.list_sessions(USER, &context);
    let other = async {
        eventually("the first arrives", async || server.calls().len() == 9).await;
        list(&client).await
    };
    tokio::select! {
        _ = waiting => panic!("nothing answers it"),
        other = other => assert!(other.is_ok()),
    }
    assert_eq!(connections(), 4);
}

/// A configuration for HTTP/2 over TLS with a certificate of a new CA for `localhost`, and the CA in PEM.
pub(crate) fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(tls), ca_pem)
}

/// Serves one endpoint over TLS with a certificate of a new CA. Returns the port and the CA in PEM.
async fn tls_server() -> (u16, String) {
    let (tls, ca_pem) = certificate();
    let tls = axum_server::tls_rustls::RustlsConfig::from_config(tls);

    let answer = || async { axum::Json(json!({"access_token": "t0ken", "sessions": [{"id": "s1"}]})) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(axum_server::from_tcp_rustls(listener, tls).unwrap().serve(app.into_make_service()));
    (port, ca_pem)
}

#[tokio::test]
async fn additional_ca_is_trusted_and_an_unknown_one_is_not() {
    let (port, ca_pem) = tls_server().await;
    let client = |host: &str, ca_pem| {
        let upstream = upstream(&[(DOMAIN, &format!("https://{host}:{port}"))], ca_pem, Arc::new(Recorder::default()));
        TenantClient::new(&upstream, &Tenant::new(DOMAIN, None).unwrap(), credentials(SECRET, DOMAIN)).unwrap()
    };
    assert_eq!(list(&client("localhost", Some(&*ca_pem))).await.unwrap().len(), 1);
    assert_eq!(failure(list(&client("localhost", None)).await), Failure::UpstreamUnreachable);
    // The name that the certificate must carry is the URL's.
    assert_eq!(failure(list(&client("127.0.0.1", Some(&*ca_pem))).await), Failure::UpstreamUnreachable);
}

// Observation ----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn observer_receives_every_request() {
    let server = Server::start().await;
    let recorder = Arc::new(Recorder::default());
    let client = client_of(&server, Arc::clone(&recorder) as _);
    server.token([status(503)]);
    let budget = [("x-ratelimit-limit", "50"), ("x-ratelimit-remaining", "49"), ("x-ratelimit-reset", "1714568407")];
    server.api([http(200, &budget, r#"{"sessions":[]}"#)]);
    list(&client).await.unwrap();
    server.api([Reply::Silence]);
    _ = client.list_sessions(USER, &within(100).into()).await;
    server.api([status(404)]);
    client.revoke_session("s1", &late().into()).await.unwrap();
    assert_eq!(
        recorder.lines(),
        [
            "token server_error",
            "token ok",
            "token Ok(())",
            "list has Some(49) of Some(50) left",
            "list ok",
            "connection timeout",
            "list timeout",
            "revoke not_found",
        ]
    );
}

mod trace {
    //! Spans, and the context that goes with the requests.

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Records the fields of all spans.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<Vec<String>>>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.lock().unwrap().push(format!("{}={value:?}", field.name()));
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Fields {
        fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            if attributes.metadata().target().starts_with("session_checker") {
                attributes.record(&mut self.clone());
            }
        }

        fn on_record(&self, _: &Id, record: &Record<'_>, _: Context<'_, S>) {
            record.record(&mut self.clone());
        }
    }

    /// Whether a span is enabled is cached for all threads of a process, and the other tests have no subscriber. So this test
    /// runs in a separate process.
    #[test]
    fn requests_are_traced_without_naming_a_user() {
        let name = format!("{}::client_span_names_no_user_and_passes_its_context_on", module_path!());
        let (_, name) = name.split_once("::").unwrap();
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--ignored", "--exact", name]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("1 passed"), "{said}");
    }

    #[tokio::test]
    #[ignore = "run by the test above"]
    async fn client_span_names_no_user_and_passes_its_context_on() {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder().build();
        let fields = Fields::default();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer).with(fields.clone());
        let _guard = tracing::subscriber::set_default(subscriber);

        let (server, client) = pair().await;
        server.api([status(503), status(403)]);
        assert_eq!(failure(list(&client).await), Failure::NotEntitled);

        let traces: Vec<_> = server.calls().iter().map(|call| call.header("traceparent").unwrap().to_owned()).collect();
        assert!(traces.iter().all(|parent| parent.starts_with("00-") && parent.ends_with("-01")), "{traces:?}");
        assert_ne!(traces[0], traces[1]);

        let fields = fields.0.lock().unwrap().clone();
        for expected in [
            "otel.name=\"POST /oauth/token\"",
            "otel.name=\"GET /api/v2/users/{id}/sessions\"",
            "otel.kind=\"client\"",
            "http.request.method=\"GET\"",
            "url.template=\"/api/v2/users/{id}/sessions\"",
            "url.scheme=\"http\"",
            "server.address=\"127.0.0.1\"",
            &format!("server.port={}", server.port),
            "http.response.status_code=200",
            "http.response.status_code=503",
            "error.type=\"503\"",
            "http.request.resend_count=1",
            "error.type=\"403\"",
            "otel.status_code=\"ERROR\"",
        ] {
            assert!(fields.iter().any(|field| field == expected), "{expected} is not in {fields:#?}");
        }
        let all = fields.concat();
        for secret in ["5f7c8ec7c33c6c004bbafe82", "t0ken", "s3cret"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
}
