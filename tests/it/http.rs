//! The HTTP contract: the errors and their order, the callers, the policy that answers, and the fields of an answer. Nothing
//! here needs a socket: requests go straight to the routes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Version};
use futures::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use session_checker::auth0::{Auth0Metrics, QuotaConfig, TrustedCas, UpstreamOptions};
use session_checker::metrics::MetricRegistry;
use session_checker::policy::{CallerAccess, TokenDigest};
use session_checker::readiness::Readiness;
use session_checker::server::Routes;
use session_checker::snapshot::{ForcedAudit, ObservedState};
use tower::ServiceExt;

use crate::assembly::Assembly;
use crate::common::{APP, DOMAIN, TOKEN, callers, credentials, policy, provider};

const LIMIT: usize = 16_384;
const HOST: HeaderValue = HeaderValue::from_static("checker");
const OTHER_DOMAIN: &str = "other.eu.auth0.com";
const OTHER_TOKEN: &str = "another-token-of-some-length";
const GLOBAL_TOKEN: &str = "a-token-that-no-policy-names";
const NO_SESSION: &str = "You cannot sign in this way. Please use the sign-in page.";
const UNAVAILABLE: &str = "Your sessions could not be checked. Please try again in a moment.";

/// The configuration of a service that cannot reach Auth0: no check of these tests lists sessions.
struct Setup {
    caller_access: CallerAccess,
    readiness: Readiness,
    force_audit: bool,
    max_in_flight: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            caller_access: CallerAccess::default(),
            readiness: Readiness::default(),
            force_audit: false,
            max_in_flight: 10,
        }
    }
}

impl Setup {
    fn anonymous() -> Self {
        Self { caller_access: CallerAccess { allow_anonymous: true, ..CallerAccess::default() }, ..Self::default() }
    }

    fn token(mut self, token: &str) -> Self {
        self.caller_access.tokens.insert(TokenDigest::of(token));
        self
    }

    fn serve(self, documents: &[Value]) -> Service {
        provider();
        let registry = MetricRegistry::new();
        let upstream = UpstreamOptions {
            endpoints: [].into(),
            cas: TrustedCas::default(),
            proxy: None,
            quotas: QuotaConfig::default(),
            observer: Arc::new(Auth0Metrics::new(&registry)),
        };
        let observed = ObservedState {
            caller_access: self.caller_access,
            forced_audit: ForcedAudit { by_service: self.force_audit, ..ForcedAudit::default() },
            ..ObservedState::default()
        };
        let assembly = Assembly::new(registry, upstream, observed, self.max_in_flight, documents);
        Service(assembly.routes(self.readiness, "/sessions"))
    }
}

struct Service(Routes);

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Service {
    async fn send(&self, mut request: Request<Body>) -> Reply {
        request.headers_mut().entry("host").or_insert(HOST);
        self.send_as_it_is(request).await
    }

    async fn send_as_it_is(&self, request: Request<Body>) -> Reply {
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("an answer is JSON, not {body:?}"));
        Reply { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// A request with [`TOKEN`] and the right type.
    async fn post(&self, body: impl Into<Body>) -> Reply {
        self.send(request(Some(TOKEN), body)).await
    }

    async fn ask_as(&self, token: Option<&str>, body: &Value) -> Reply {
        self.send(request(token, body.to_string())).await
    }

    /// The decision for a login of [`TOKEN`]'s caller, with the fields of `more`; without the request id.
    async fn decide(&self, more: Value) -> Value {
        self.decide_as(Some(TOKEN), more).await
    }

    async fn decide_as(&self, token: Option<&str>, more: Value) -> Value {
        let mut reply = self.ask_as(token, &login(more)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let id = reply.body.as_object_mut().unwrap().remove("request_id").unwrap();
        assert_eq!(reply.headers["x-request-id"], id.as_str().unwrap());
        reply.body
    }

    /// The policy that decides such a login.
    async fn active_policy(&self, more: Value) -> String {
        let answer = self.decide(more).await;
        answer["policy"].as_str().unwrap_or_else(|| answer["reason"].as_str().unwrap()).to_owned()
    }
}

impl Reply {
    /// Checks the form of an error and returns its status and word.
    fn error(&self) -> (u16, &str) {
        let keys: Vec<&String> = self.body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "message", "request_id"], "{}", self.body);
        assert!(self.body["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        assert_eq!(self.headers["x-request-id"], self.body["request_id"].as_str().unwrap());
        assert_eq!(self.headers["content-type"], "application/json");
        (self.status, self.body["error"].as_str().unwrap())
    }
}

fn request(token: Option<&str>, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::post("/check").header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body.into()).unwrap()
}

fn login(more: Value) -> Value {
    let mut login = json!({ "user_id": "auth0|1", "client_id": APP, "sid": "s1" });
    let fields = login.as_object_mut().unwrap();
    for (field, value) in more.as_object().unwrap() {
        fields.insert(field.clone(), value.clone());
    }
    login
}

/// A service with one policy without a credential: every check that needs a list is `credentials_missing`.
fn one() -> Service {
    Setup::default().serve(&[callers(), policy("one", json!({}))])
}

fn named(kind: &str, name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": format!("sessionchecker.dev/{kind}"),
        "metadata": { "name": name }, "stringData": data })
}

fn other_tenant() -> Value {
    json!({ "tenant": { "domain": OTHER_DOMAIN } })
}

fn created(mut policy: Value, at: &str) -> Value {
    policy["metadata"]["creationTimestamp"] = at.into();
    policy
}

#[tokio::test]
async fn errors_follow_a_fixed_order() {
    let readiness = Readiness::default();
    let latch = readiness.wait_for("policies");
    let service = Setup { readiness, ..Setup::default() }.serve(&[callers(), policy("one", json!({}))]);
    let all_wrong = || "x".repeat(LIMIT + 1);
    let of_type = |mut request: Request<Body>, content_type: &str| {
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        request
    };

    let nowhere = Request::get("/nowhere").body(Body::from(all_wrong())).unwrap();
    assert_eq!(service.send(nowhere).await.error(), (404, "not_found"));
    let get = Request::get("/check").body(Body::from(all_wrong())).unwrap();
    assert_eq!(service.send(get).await.error(), (405, "method_not_allowed"));
    let stranger = || of_type(request(Some("nobody-knows-this-token"), all_wrong()), "text/plain");
    assert_eq!(service.send(stranger()).await.error(), (503, "not_ready"));
    latch.release();
    assert_eq!(service.send(stranger()).await.error(), (401, "unauthorized"));
    let text = of_type(request(Some(TOKEN), all_wrong()), "text/plain");
    assert_eq!(service.send(text).await.error(), (415, "unsupported_media_type"));
    assert_eq!(service.post(all_wrong()).await.error(), (413, "body_too_large"));
    assert_eq!(service.post("{").await.error(), (400, "invalid_json"));
    assert_eq!(service.post("{}").await.error(), (422, "invalid_request"));
    assert_eq!(service.post(login(json!({})).to_string()).await.status, 200);
}

#[tokio::test]
async fn check_accepts_only_post_and_allow_lists_it() {
    let service = one();
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let request = Request::builder().method(method).uri("/check").header("host", HOST).body(Body::empty()).unwrap();
        let response = service.0.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 405, "{method}");
        assert_eq!(response.headers()["allow"], "POST", "{method}");
    }
    for path in [
        "/",
        "/check//",
        "/Check",
        "/check/x",
        "/sessions",
        "/sessions/x/check",
        "//check",
        "/livez",
        "/readyz",
        "/metrics",
        "/debug/policies",
        "/openapi.json",
    ] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        assert_eq!(service.send(request).await.error(), (404, "not_found"), "{path}");
    }
    let mut with_query = request(Some(TOKEN), login(json!({})).to_string());
    *with_query.uri_mut() = "/check?from=an-action".parse().unwrap();
    assert_eq!(service.send(with_query).await.status, 200);
}

#[tokio::test]
async fn content_type_is_json_with_or_without_parameters() {
    let service = one();
    let send = |content_type: Option<&'static str>| {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        match content_type {
            Some(content_type) => request.headers_mut().insert("content-type", content_type.parse().unwrap()),
            None => request.headers_mut().remove("content-type"),
        };
        service.send(request)
    };
    for good in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json ;a=b"] {
        assert_eq!(send(Some(good)).await.status, 200, "{good}");
    }
    let bad = ["", "text/plain", "text/json", "application/jsonp", "application/problem+json", "application/*"];
    for bad in bad.map(Some).into_iter().chain([None]) {
        assert_eq!(send(bad).await.error(), (415, "unsupported_media_type"), "{bad:?}");
    }
}

#[tokio::test]
async fn body_of_the_maximum_size_is_read_and_one_byte_more_is_not() {
    let service = one();
    let padded = |size: usize| {
        let body = login(json!({ "padding": "" })).to_string();
        body.replace("\"padding\":\"\"", &format!("\"padding\":\"{}\"", "x".repeat(size - body.len())))
    };
    let chunked = |body: String| {
        let chunks: Vec<_> = body.as_bytes().chunks(1000).map(<[u8]>::to_vec).map(Ok::<_, std::io::Error>).collect();
        Body::from_stream(stream::iter(chunks))
    };
    assert_eq!(padded(LIMIT).len(), LIMIT);
    assert_eq!(service.post(padded(LIMIT)).await.status, 200);
    assert_eq!(service.post(chunked(padded(LIMIT))).await.status, 200);
    assert_eq!(service.post(padded(LIMIT + 1)).await.error(), (413, "body_too_large"));
    assert_eq!(service.post(chunked(padded(LIMIT + 1))).await.error(), (413, "body_too_large"));
}

#[tokio::test]
async fn path_may_have_a_last_slash_and_the_prefix() {
    let service = one();
    for path in ["/check", "/check/", "/sessions/check", "/sessions/check/"] {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(service.send(request).await.status, 200, "{path}");
        let get = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(service.send(get).await.error(), (405, "method_not_allowed"), "{path}");
    }
}

#[tokio::test]
async fn healthz_says_whether_checks_are_answered() {
    let readiness = Readiness::default();
    let latch = readiness.wait_for("policies");
    let service = Setup { readiness: readiness.clone(), ..Setup::default() }.serve(&[callers()]);
    let status = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header("host", HOST).body(Body::empty()).unwrap();
        service.0.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    for path in ["/healthz", "/sessions/healthz"] {
        assert_eq!(status("GET", path).await, 503);
    }
    latch.release();
    for path in ["/healthz", "/sessions/healthz"] {
        assert_eq!(
            [status("GET", path).await, status("HEAD", path).await, status("POST", path).await],
            [200, 200, 405]
        );
    }
    readiness.shut_down();
    assert_eq!(status("GET", "/healthz").await, 503, "load balancers stop to send");
}

#[tokio::test]
async fn request_needs_exactly_one_host() {
    let service = one();
    let with = |version: Version, hosts: &[&'static str], path: &'static str| {
        let mut request = request(Some(TOKEN), login(json!({})).to_string());
        *request.version_mut() = version;
        *request.uri_mut() = path.parse().unwrap();
        for host in hosts {
            request.headers_mut().append("host", HeaderValue::from_static(host));
        }
        service.send_as_it_is(request)
    };
    for (version, hosts, status) in [
        (Version::HTTP_11, &["a"][..], 200),
        (Version::HTTP_11, &[], 400),
        (Version::HTTP_11, &["a", "b"], 400),
        (Version::HTTP_11, &["a", "a"], 400),
        (Version::HTTP_10, &[], 200),
        (Version::HTTP_10, &["a", "b"], 400),
        (Version::HTTP_2, &[], 200),
        (Version::HTTP_2, &["a", "b"], 400),
    ] {
        assert_eq!(with(version, hosts, "/check").await.status, status, "{version:?} {hosts:?}");
    }
    assert_eq!(with(Version::HTTP_11, &[], "/nowhere").await.error(), (400, "bad_request"));
}

#[tokio::test]
async fn body_that_is_not_plain_utf8_is_an_unsupported_type() {
    let service = one();
    let good = login(json!({})).to_string();
    let utf16 = |unit: fn(u16) -> [u8; 2]| good.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    for body in [
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
        [&b"\xff\xfe"[..], &utf16(u16::to_le_bytes)].concat(),
        [&b"\xfe\xff"[..], &utf16(u16::to_be_bytes)].concat(),
        good.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(),
    ] {
        let reply = service.post(body).await;
        assert_eq!(reply.error(), (415, "unsupported_media_type"));
        assert!(reply.body["message"].as_str().unwrap().contains("UTF-8"), "{}", reply.body);
    }
    let with = |name: &'static str, value: &'static str| {
        let mut request = request(Some(TOKEN), good.clone());
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        service.send(request)
    };
    for (name, value, named) in [
        ("content-encoding", "gzip", "gzip"),
        ("content-encoding", "br", "br"),
        ("content-type", "application/json; charset=utf-16", "utf-16"),
        ("content-type", "application/json;a=b; Charset=\"ISO-8859-1\"", "ISO-8859-1"),
    ] {
        let reply = with(name, value).await;
        assert_eq!(reply.error(), (415, "unsupported_media_type"), "{value}");
        assert!(reply.body["message"].as_str().unwrap().contains(named), "{}", reply.body);
    }
    assert_eq!(with("content-encoding", "identity").await.status, 200);
    assert_eq!(with("content-type", "application/json; charset=UTF-8").await.status, 200);
    assert_eq!(service.post(format!("\u{feff}{good}")).await.status, 200, "a byte order mark");
}

#[tokio::test]
async fn answer_before_the_body_was_read_closes_the_connection() {
    let service = one();
    let closes = |reply: &Reply| reply.headers.get("connection").is_some_and(|value| value == "close");
    let body = || login(json!({})).to_string();
    let nowhere = Request::post("/nowhere").body(Body::from(body())).unwrap();
    let method = Request::put("/check").body(Body::from(body())).unwrap();
    let type_less = Request::post("/check").header("authorization", format!("Bearer {TOKEN}"));
    for request in [
        nowhere,
        method,
        request(Some("nobody-knows-this-token"), body()),
        type_less.body(Body::from(body())).unwrap(),
        request(Some(TOKEN), "x".repeat(LIMIT + 1)),
    ] {
        let reply = service.send(request).await;
        assert!(reply.status >= 400 && closes(&reply), "{} {:?}", reply.status, reply.headers);
    }
    for request in [
        Request::get("/nowhere").body(Body::empty()).unwrap(),
        request(Some("nobody-knows-this-token"), Body::empty()),
        request(Some(TOKEN), "{"),
        request(Some(TOKEN), "{}"),
        request(Some(TOKEN), body()),
    ] {
        let reply = service.send(request).await;
        assert!(!closes(&reply), "{} {:?}", reply.status, reply.headers);
    }
}

#[tokio::test]
async fn ambiguous_or_malformed_json_is_rejected() {
    let service = one();
    let good = login(json!({})).to_string();
    let open = &good[..good.len() - 1];
    let bad = [
        String::new(),
        " ".to_owned(),
        "nonsense".to_owned(),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("\u{feff}\u{feff}{good}"),
        open.to_owned(),
        format!("{open},}}"),
        format!("{open},\"x\":NaN}}"),
        format!("{open},\"x\":'a'}}"),
        format!("{open},\"x\":\"\n\"}}"),
        format!("{open},\"user_id\":\"auth0|1\"}}"),
        format!("{open},\"user_id\":null}}"),
        format!("{open},\"mfa\":true,\"mfa\":true}}"),
        format!("{open},\"tenant\":null,\"tenant\":null}}"),
        format!(r#"{open},"s\u0069d":"s2"}}"#),
        "[1,".to_owned(),
    ];
    for bad in bad {
        assert_eq!(service.post(bad.clone()).await.error(), (400, "invalid_json"), "{bad}");
    }
    for bytes in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80"] {
        let body = [open.as_bytes(), b",\"x\":\"", bytes, b"\"}"].concat();
        assert_eq!(service.post(body).await.error(), (400, "invalid_json"), "{bytes:?}");
    }
    let broken = stream::iter([Ok(good.clone().into_bytes()), Err(std::io::Error::other("the caller hung up"))]);
    assert_eq!(service.post(Body::from_stream(broken)).await.error(), (400, "invalid_json"));
    for good in [
        format!("{open},\"x\":1,\"x\":2}}"),
        format!("{open},\"x\":{{\"sid\":1,\"sid\":2}}}}"),
        format!("{open},\"x\":1e400}}"),
        format!(" \n\t{good}\r\n"),
    ] {
        assert_eq!(service.post(good.clone()).await.status, 200, "{good}");
    }
}

#[tokio::test]
async fn json_may_be_128_deep_also_in_ignored_fields() {
    let service = one();
    let nested = |field: &str, arrays: usize| {
        let value = format!("{}{}", "[".repeat(arrays), "]".repeat(arrays));
        format!(r#"{{"client_id":"c","sid":"s","{field}":{value}}}"#)
    };
    let ignored = |arrays| nested("x", arrays).replace('{', r#"{"user_id":"u","#);
    assert_eq!(service.post(ignored(127)).await.status, 200);
    assert_eq!(service.post(ignored(128)).await.error(), (400, "invalid_json"));
    assert_eq!(service.post(nested("user_id", 127)).await.error(), (422, "invalid_request"));
    assert_eq!(service.post(nested("user_id", 128)).await.error(), (400, "invalid_json"));
    let objects = format!(r#"{}{}{}"#, r#"{"x":"#.repeat(129), "1", "}".repeat(129));
    assert_eq!(service.post(objects).await.error(), (400, "invalid_json"));
    let in_text = login(json!({ "x": "[".repeat(500), "y": "\"{".repeat(500) }));
    assert_eq!(service.post(in_text.to_string()).await.status, 200);
}

#[tokio::test]
async fn error_for_a_wrong_type_names_the_field() {
    let service = one();
    for other in ["[]", "[{}]", "null", "true", "false", "0", "-1", "1.5", "\"text\"", "123456789012345678901234567890"]
    {
        assert_eq!(service.post(other).await.error(), (422, "invalid_request"), "{other}");
    }
    let long = |length: usize| "é".repeat(length);
    let mut bad: Vec<(&str, Value)> = vec![
        ("sid", json!(long(129))),
        ("sid", json!("a b")),
        ("client_id", json!(long(129))),
        ("user_id", json!(long(1025))),
        ("user_id", json!(".")),
        ("user_id", json!("..")),
        ("mfa", json!("true")),
        ("mfa", json!(1)),
        ("mfa", json!([])),
        ("prompt", json!([1])),
        ("prompt", json!([null])),
        ("prompt", json!(long(301))),
        ("roles", json!("admin")),
        ("roles", json!([["admin"]])),
        ("roles", json!([long(301)])),
        ("roles", json!(vec!["r"; 129])),
        ("prompt", json!(vec!["p"; 129])),
    ];
    let unfit = ["", "a b", " a", "a\n", "a\u{a0}b", "a\u{2028}", "a\u{0}", "\u{7f}", "a\u{85}"];
    bad.extend(unfit.map(|text| ("client_id", json!(text))));
    bad.extend([("user_id", json!("")), ("user_id", Value::Null), ("client_id", Value::Null)]);
    for field in ["user_id", "client_id", "sid", "protocol", "organization_id", "connection", "tenant"] {
        bad.extend([json!(1), json!(true), json!({}), json!(["a"])].map(|value| (field, value)));
    }
    for field in ["protocol", "organization_id", "connection", "tenant"] {
        bad.push((field, json!(long(301))));
    }
    for field in ["prompt", "roles"] {
        bad.extend([json!(1), json!(true), json!({})].map(|value| (field, value)));
    }
    for (field, value) in bad {
        let reply = service.ask_as(Some(TOKEN), &login(json!({ field: value }))).await;
        assert_eq!(reply.error(), (422, "invalid_request"), "{field}: {value}");
        let message = reply.body["message"].as_str().unwrap();
        assert!(message.contains(field), "{field}: {value}: {message}");
    }
    for field in ["user_id", "client_id"] {
        let mut login = login(json!({}));
        login.as_object_mut().unwrap().remove(field);
        let reply = service.ask_as(Some(TOKEN), &login).await;
        assert_eq!(reply.error(), (422, "invalid_request"), "{field}");
        assert!(reply.body["message"].as_str().unwrap().contains(field));
    }
}

#[tokio::test]
async fn fields_at_their_limits_null_and_unknown_are_accepted() {
    let service = one();
    for good in [
        json!({ "user_id": "😀".repeat(1024) }),
        json!({ "user_id": "samlp|acme|Ann Lee\u{a0}\r\n" }),
        json!({ "user_id": "waad|a/b?c=d%2F", "client_id": "https://app.example/cb" }),
        json!({ "client_id": "é".repeat(128), "sid": "é".repeat(128) }),
        json!({ "protocol": "é".repeat(300), "organization_id": "é".repeat(300), "connection": "é".repeat(300) }),
        json!({ "prompt": "login" }),
        json!({ "prompt": ["login", "consent"] }),
        json!({ "prompt": [], "roles": [] }),
        json!({ "prompt": vec!["é".repeat(30); 128] }),
        json!({ "roles": vec!["é".repeat(30); 128] }),
        json!({ "roles": ["é".repeat(300)], "mfa": false }),
        json!({ "protocol": null, "prompt": null, "organization_id": null, "connection": null, "roles": null,
            "mfa": null, "tenant": null }),
        json!({ "ip": "192.0.2.1", "event": { "user_id": 5 } }),
    ] {
        assert_eq!(service.decide(good.clone()).await["reason"], "credentials_missing", "{good}");
    }
}

#[tokio::test]
async fn plain_request_id_of_the_caller_is_kept() {
    let service = one();
    let send = |id: Vec<u8>, body: String| {
        let mut request = request(Some(TOKEN), body);
        request.headers_mut().insert("x-request-id", id.try_into().unwrap());
        service.send(request)
    };
    let decision = login(json!({})).to_string();
    for body in [decision, "{".to_owned()] {
        for good in ["a", "A.b_c-9", &"x".repeat(64)] {
            let reply = send(good.as_bytes().to_vec(), body.clone()).await;
            assert_eq!(reply.body["request_id"], good);
            assert_eq!(reply.headers["x-request-id"], good);
        }
        for bad in [&b""[..], b"a b", b"a/b", b"\xff", "é".as_bytes(), &[b'x'; 65]] {
            let reply = send(bad.to_vec(), body.clone()).await;
            let id = reply.body["request_id"].as_str().unwrap();
            assert_ne!(id.as_bytes(), bad);
            assert!((1..=64).contains(&id.len()), "{id}");
            assert_eq!(reply.headers["x-request-id"], id);
        }
    }
    let (first, second) = (service.post("{").await, service.post("{").await);
    assert_ne!(first.body["request_id"], second.body["request_id"], "a new one each time");
}

#[tokio::test]
async fn panic_is_answered_as_an_internal_error() {
    let service = one();
    let panics = stream::poll_fn(|_| -> std::task::Poll<Option<Result<Vec<u8>, std::io::Error>>> {
        panic!("a secret detail of the stack")
    });
    let reply = service.post(Body::from_stream(panics)).await;
    assert_eq!(reply.error(), (500, "internal_error"));
    assert!(!reply.body.to_string().contains("secret detail"));
    assert_eq!(service.post(login(json!({})).to_string()).await.status, 200, "the next is answered");
}

#[tokio::test]
async fn answer_without_a_list_has_only_the_fields_that_apply() {
    let some = json!({
        "selector": { "clientIds": ["some"] },
        "overrides": [
            { "name": "over", "users": ["u"], "exempt": true, "expiresAt": "2020-01-01T00:00:00Z" },
            { "name": "staff", "roles": ["staff"], "exempt": true },
        ],
        "message": "Please call us.",
    });
    let mut denying = some.clone();
    denying["selector"] = json!({ "clientIds": ["denying"] });
    denying["missingSession"] = "Deny".into();
    denying["skipProtocols"] = json!([]);
    denying["failurePolicy"] = "Deny".into();
    let service = Setup::default().serve(&[callers(), policy("some", some), policy("denying", denying)]);

    let allowed = |reason: &str| json!({ "block": false, "reason": reason, "revoke_session": false });
    let by = |name: &str, mut answer: Value| {
        answer["policy"] = format!("default/{name}").into();
        answer
    };
    let blocked = |reason: &str, message: &str| {
        by("denying", json!({ "block": true, "reason": reason, "revoke_session": false, "message": message }))
    };
    let ask = |client: &str, more: Value| {
        let mut more = more;
        more["client_id"] = client.into();
        service.decide(more)
    };
    assert_eq!(ask("none", json!({})).await, allowed("no_policy"));
    assert_eq!(ask("some", json!({ "roles": ["a", "staff"] })).await, by("some", allowed("exempt")));
    let refresh = json!({ "protocol": "oauth2-refresh-token", "sid": null });
    assert_eq!(ask("some", refresh.clone()).await, by("some", allowed("skipped_protocol")));
    assert_eq!(ask("some", json!({ "sid": null })).await, by("some", allowed("no_session")));
    assert_eq!(ask("some", json!({ "sid": "" })).await, by("some", allowed("no_session")));
    assert_eq!(ask("some", json!({})).await, by("some", allowed("credentials_missing")));
    let over = ask("some", json!({ "user_id": "u" })).await;
    assert_eq!(over, by("some", allowed("credentials_missing")), "the override has ended");

    assert_eq!(ask("denying", json!({ "roles": ["staff"], "sid": null })).await, by("denying", allowed("exempt")));
    assert_eq!(ask("denying", refresh).await, blocked("no_session", NO_SESSION), "[] skips no protocol");
    assert_eq!(ask("denying", json!({ "sid": "" })).await, blocked("no_session", NO_SESSION));
    assert_eq!(ask("denying", json!({})).await, blocked("credentials_missing", UNAVAILABLE));
}

#[tokio::test]
async fn blocked_user_gets_a_message_and_failures_have_their_own() {
    let spec = json!({ "missingSession": "Deny", "failurePolicy": "Deny" });
    let service = Setup::default().serve(&[callers(), policy("one", spec)]);
    assert_eq!(service.decide(json!({ "sid": null })).await["message"], NO_SESSION);
    assert_eq!(service.decide(json!({})).await["message"], UNAVAILABLE);
    let german = service.decide(json!({ "locale": "de-AT" })).await;
    assert_eq!(
        german["message"],
        "Ihre Sitzungen konnten nicht geprüft werden. Bitte versuchen Sie es in einem Moment erneut."
    );
}

#[tokio::test]
async fn audit_allows_every_login_and_reports_the_enforced_reason() {
    let spec = json!({ "missingSession": "Deny", "failurePolicy": "Deny", "message": "No." });
    let audits = |reason: &str| {
        json!({ "block": false, "reason": "audit", "audited_reason": reason, "revoke_session": false,
            "policy": "default/one" })
    };
    let mut auditing = spec.clone();
    auditing["mode"] = "Audit".into();
    auditing["overrides"] = json!([{ "name": "staff", "roles": ["staff"], "exempt": true }]);
    let by_policy = Setup::default().serve(&[callers(), policy("one", auditing)]);
    let forced = Setup { force_audit: true, ..Setup::default() }.serve(&[callers(), policy("one", spec)]);
    for service in [&by_policy, &forced] {
        assert_eq!(service.decide(json!({ "sid": null })).await, audits("no_session"));
        assert_eq!(service.decide(json!({})).await, audits("credentials_missing"));
    }
    let plain = by_policy.decide(json!({ "roles": ["staff"] })).await;
    assert_eq!(plain, json!({ "block": false, "reason": "exempt", "revoke_session": false, "policy": "default/one" }));

    let lenient = Setup { force_audit: true, ..Setup::default() }.serve(&[callers(), policy("one", json!({}))]);
    let failure = lenient.decide(json!({})).await;
    assert_eq!(
        failure,
        json!({ "block": false, "reason": "credentials_missing", "revoke_session": false, "policy": "default/one" })
    );
}

#[tokio::test]
async fn failure_policy_answers_checks_above_the_concurrency_limit() {
    let denying = json!({ "selector": { "clientIds": ["denying"] }, "failurePolicy": "Deny" });
    let documents = [callers(), credentials(), policy("one", json!({})), policy("denying", denying)];
    let service = Setup { max_in_flight: 0, ..Setup::default() }.serve(&documents);
    let allowed = service.decide(json!({})).await;
    assert_eq!((&allowed["block"], &allowed["reason"]), (&json!(false), &json!("overloaded")), "{allowed}");
    let blocked = service.decide(json!({ "client_id": "denying" })).await;
    assert_eq!((&blocked["block"], &blocked["reason"]), (&json!(true), &json!("overloaded")), "{blocked}");
    assert_eq!(service.decide(json!({ "sid": null })).await["reason"], "no_session", "which needs no place");
}

#[tokio::test]
async fn unknown_caller_is_rejected() {
    let documents = [callers(), policy("one", json!({}))];
    let open = [policy("one", json!({ "callerSecretRef": null }))];
    let closed = Setup::default().serve(&documents);
    let all_named = Setup::anonymous().serve(&documents);
    let anonymous = Setup::anonymous().serve(&open);
    let not_asked_for = Setup::default().serve(&open);
    let body = login(json!({}));

    for (service, token, status) in [
        (&closed, Some(TOKEN), 200),
        (&closed, Some("nobody-knows-this-token"), 401),
        (&closed, None, 401),
        (&all_named, Some(TOKEN), 200),
        (&all_named, Some("nobody-knows-this-token"), 401),
        (&all_named, None, 401),
        (&anonymous, None, 200),
        (&anonymous, Some("nobody-knows-this-token"), 401),
        (&not_asked_for, None, 401),
        (&not_asked_for, Some(TOKEN), 401),
    ] {
        let reply = service.ask_as(token, &body).await;
        assert_eq!(reply.status, status, "{token:?}: {}", reply.body);
        if status == 401 {
            assert_eq!(reply.error().1, "unauthorized");
        }
    }
    let nothing = Setup::anonymous().serve(&[]);
    assert_eq!(nothing.decide_as(None, json!({})).await["reason"], "no_policy");
    assert_eq!(Setup::default().serve(&[]).ask_as(None, &body).await.error(), (401, "unauthorized"));
}

#[tokio::test]
async fn caller_is_identified_by_exactly_one_bearer_token() {
    let service = Setup::anonymous().serve(&[
        callers(),
        policy("open", json!({ "callerSecretRef": null })),
        policy("one", json!({ "priority": 1 })),
    ]);
    let send = |values: &[&str]| {
        let mut request = request(None, login(json!({})).to_string());
        for value in values {
            request.headers_mut().append("authorization", value.parse().unwrap());
        }
        service.send(request)
    };
    for good in [format!("Bearer {TOKEN}"), format!("bearer {TOKEN}"), format!("BEARER  {TOKEN} ")] {
        assert_eq!(send(&[&good]).await.body["policy"], "default/one", "{good}");
    }
    let bearer = format!("Bearer {TOKEN}");
    let two = [bearer.as_str(), bearer.as_str()];
    let others = [
        &[""][..],
        &["Bearer"],
        &["Bearer "],
        &[TOKEN],
        &["Basic YTpi"],
        &["Digest x"],
        &["Bearer a-callers-token-of-some-lengt"],
        &["Bearer A-CALLERS-TOKEN-OF-SOME-LENGTH"],
        &two,
    ];
    for bad in others {
        assert_eq!(send(bad).await.error(), (401, "unauthorized"), "{bad:?}");
    }
}

#[tokio::test]
async fn caller_uses_only_its_own_policies() {
    let service = Setup::anonymous().token(GLOBAL_TOKEN).serve(&[
        callers(),
        named("callers", "others", json!({ "a": OTHER_TOKEN })),
        policy("mine", json!({ "selector": { "clientIds": ["mine"] } })),
        policy("theirs", json!({ "selector": { "clientIds": ["theirs"] }, "callerSecretRef": { "name": "others" } })),
        policy("open", json!({ "selector": { "clientIds": ["open"] }, "callerSecretRef": null })),
    ]);
    let callers = [(Some(TOKEN), "mine"), (Some(OTHER_TOKEN), "theirs"), (Some(GLOBAL_TOKEN), "open"), (None, "open")];
    for (token, own) in callers {
        for client in ["mine", "theirs", "open", "elsewhere"] {
            let answer = service.decide_as(token, json!({ "client_id": client })).await;
            let expected = if client == own { "credentials_missing" } else { "no_policy" };
            assert_eq!(answer["reason"], expected, "{token:?} {client}");
        }
    }
}

#[tokio::test]
async fn token_in_two_secrets_uses_the_policies_of_both() {
    let service = Setup::default().serve(&[
        callers(),
        named("callers", "others", json!({ "a": TOKEN, "b": OTHER_TOKEN })),
        policy("mine", json!({ "selector": { "clientIds": ["mine"] } })),
        policy("theirs", json!({ "selector": { "clientIds": ["theirs"] }, "callerSecretRef": { "name": "others" } })),
    ]);
    assert_eq!(service.active_policy(json!({ "client_id": "mine" })).await, "default/mine");
    assert_eq!(service.active_policy(json!({ "client_id": "theirs" })).await, "default/theirs");
    let other = service.decide_as(Some(OTHER_TOKEN), json!({ "client_id": "mine" })).await;
    assert_eq!(other["reason"], "no_policy");
}

#[tokio::test]
async fn short_token_does_not_disable_the_others_in_its_secret() {
    let tokens = json!({ "old": format!(" {TOKEN}\n"), "new": OTHER_TOKEN, "short": "fifteen-letters", "empty": "",
        "least": "sixteen-letters." });
    let service = Setup::default().serve(&[named("callers", "callers", tokens), policy("one", json!({}))]);
    for good in [TOKEN, OTHER_TOKEN, "sixteen-letters."] {
        assert_eq!(service.decide_as(Some(good), json!({})).await["policy"], "default/one", "{good}");
    }
    for bad in ["fifteen-letters", "", "old"] {
        assert_eq!(service.ask_as(Some(bad), &login(json!({}))).await.error(), (401, "unauthorized"), "{bad}");
    }
    let wrong_type = named("credentials", "callers", json!({ "a": TOKEN }));
    let service = Setup::anonymous().serve(&[wrong_type, policy("one", json!({}))]);
    assert_eq!(service.ask_as(Some(TOKEN), &login(json!({}))).await.error(), (401, "unauthorized"));
}

#[tokio::test]
async fn tenant_of_a_request_selects_the_policies() {
    let mut acme = json!({ "priority": 5 });
    acme["tenant"] = json!({ "customDomain": "Login.Acme.com" });
    let service = Setup::default().serve(&[callers(), policy("acme", acme), policy("other", other_tenant())]);

    let ambiguous = json!({ "block": false, "reason": "tenant_ambiguous", "revoke_session": false });
    for none in [json!({}), json!({ "tenant": "" }), json!({ "tenant": null })] {
        assert_eq!(service.decide(none.clone()).await, ambiguous, "{none}");
    }
    for name in [DOMAIN, "ACME.EU.Auth0.com", "login.acme.com", "LOGIN.acme.COM"] {
        assert_eq!(service.active_policy(json!({ "tenant": name })).await, "default/acme", "{name}");
    }
    assert_eq!(service.active_policy(json!({ "tenant": OTHER_DOMAIN })).await, "default/other");
    for unknown in ["acme.us.auth0.com", "acme.eu.auth0.com.", "https://acme.eu.auth0.com", "acme"] {
        assert_eq!(service.active_policy(json!({ "tenant": unknown })).await, "tenant_unknown", "{unknown}");
    }
}

#[tokio::test]
async fn policies_that_do_not_match_cause_no_ambiguity() {
    let mut other = other_tenant();
    other["selector"] = json!({ "clientIds": ["shared", "theirs"] });
    let mine = json!({ "selector": { "clientIds": ["shared", "mine"] } });
    let service = Setup::default().serve(&[callers(), policy("mine", mine), policy("theirs", other)]);
    assert_eq!(service.active_policy(json!({ "client_id": "mine" })).await, "default/mine");
    assert_eq!(service.active_policy(json!({ "client_id": "theirs" })).await, "default/theirs");
    assert_eq!(service.active_policy(json!({ "client_id": "shared" })).await, "tenant_ambiguous");
    assert_eq!(service.active_policy(json!({ "client_id": "none" })).await, "no_policy");
}

#[tokio::test]
async fn priority_takes_precedence_over_selector_specificity() {
    let of = |name: &str, priority: i32, selector: Value| {
        policy(name, json!({ "priority": priority, "selector": selector }))
    };
    let service = Setup::default().serve(&[
        callers(),
        of("all", 0, json!({})),
        of("two", 0, json!({ "organizations": ["org_1"], "connections": ["db"] })),
        of("organization", 0, json!({ "organizations": ["org_1", "org_3"] })),
        of("client", 0, json!({ "clientIds": ["named"] })),
        of("client-and-connection", 0, json!({ "clientIds": ["named"], "connections": ["db"] })),
        of("urgent", 7, json!({ "organizations": ["org_2"] })),
        of("last", -3, json!({ "clientIds": ["low"] })),
    ]);
    for (more, expected) in [
        (json!({}), "all"),
        (json!({ "client_id": "low" }), "all"),
        (json!({ "client_id": "named" }), "client"),
        (json!({ "client_id": "Named" }), "all"),
        (json!({ "client_id": "named", "organization_id": "org_1" }), "client"),
        (json!({ "client_id": "named", "connection": "db" }), "client-and-connection"),
        (json!({ "client_id": "named", "connection": "db", "organization_id": "org_2" }), "urgent"),
        (json!({ "organization_id": "org_1" }), "organization"),
        (json!({ "organization_id": "org_1", "connection": "db" }), "two"),
        (json!({ "organization_id": "org_3", "connection": "db" }), "organization"),
        (json!({ "organization_id": "ORG_1" }), "all"),
        (json!({ "connection": "db" }), "all"),
    ] {
        assert_eq!(service.active_policy(more.clone()).await, format!("default/{expected}"), "{more}");
    }
}

#[tokio::test]
async fn older_policy_takes_precedence_then_the_first_by_name() {
    let old = created(policy("z-old", json!({})), "2026-01-01T00:00:00Z");
    let new = created(policy("a-new", json!({})), "2026-06-01T00:00:00Z");
    let ageless = |name| policy(name, json!({}));
    let active_policy = async |documents: &[Value]| {
        let documents = [&[callers()], documents].concat();
        Setup::default().serve(&documents).active_policy(json!({})).await
    };
    assert_eq!(active_policy(&[new.clone(), old.clone()]).await, "default/z-old");
    assert_eq!(active_policy(&[old, new.clone(), ageless("a-ageless")]).await, "default/z-old");
    assert_eq!(active_policy(&[new]).await, "default/a-new", "it takes over when the older goes");
    assert_eq!(active_policy(&[ageless("b"), ageless("a")]).await, "default/a");
}

#[tokio::test]
async fn invalid_policy_answers_for_the_readable_part_of_its_selector() {
    let broken = |name: &str, more: Value| {
        let mut broken = policy(name, more);
        broken["spec"]["limits"] = json!({ "perClient": 0 });
        broken
    };
    let strict = json!({ "selector": { "clientIds": ["strict"] }, "failurePolicy": "Deny", "message": "Ask us." });
    let odd = json!({ "selector": { "clientIds": ["odd"] }, "failurePolicy": "Perhaps" });
    let auditing = json!({ "selector": { "clientIds": ["audited"] }, "failurePolicy": "Deny", "mode": "Audit" });
    let service = Setup::default().serve(&[
        callers(),
        policy("good", json!({})),
        broken("strict", strict),
        broken("odd", odd),
        broken("auditing", auditing),
    ]);
    assert_eq!(
        service.decide(json!({ "client_id": "strict", "sid": null })).await,
        json!({ "block": true, "reason": "policy_invalid", "revoke_session": false, "policy": "default/strict",
            "message": UNAVAILABLE })
    );
    assert_eq!(
        service.decide(json!({ "client_id": "odd" })).await,
        json!({ "block": false, "reason": "policy_invalid", "revoke_session": false, "policy": "default/odd" })
    );
    assert_eq!(
        service.decide(json!({ "client_id": "audited" })).await,
        json!({ "block": false, "reason": "audit", "audited_reason": "policy_invalid", "revoke_session": false,
            "policy": "default/auditing" })
    );
    assert_eq!(service.decide(json!({})).await["reason"], "credentials_missing");

    let unreadable = broken("unreadable", json!({ "selector": { "clientIds": "strict" }, "failurePolicy": "Deny" }));
    let all = Setup::default().serve(&[callers(), unreadable]);
    assert_eq!(all.decide(json!({ "client_id": "any" })).await["reason"], "policy_invalid");
    let nowhere = broken("nowhere", json!({ "tenant": { "domain": "https://acme" }, "failurePolicy": "Deny" }));
    let nothing = Setup::default().token(TOKEN).serve(&[callers(), nowhere]);
    assert_eq!(nothing.decide(json!({})).await["reason"], "no_policy");
}
