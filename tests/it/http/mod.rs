//! The HTTP contract: the errors and their order, the callers, the policy that answers, and the fields of an answer. Nothing
//! here needs a socket: requests go straight to the routes.

mod answers;
mod callers;
mod precedence;
mod requests;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Version};
use futures::stream;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use session_checker::auth0::{Auth0Metrics, UpstreamOptions};
use session_checker::metrics::MetricRegistry;
use session_checker::policy::{CallerAccess, ObjectName, TokenDigest};
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
    /// The Secrets that the API server has not answered about.
    awaited: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            caller_access: CallerAccess::default(),
            readiness: Readiness::default(),
            force_audit: false,
            max_in_flight: 10,
            awaited: &[],
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
        let upstream =
            UpstreamOptions { observer: Arc::new(Auth0Metrics::new(&registry)), ..UpstreamOptions::default() };
        let mut observed = ObservedState {
            caller_access: self.caller_access,
            forced_audit: ForcedAudit { by_service: self.force_audit, ..ForcedAudit::default() },
            ..ObservedState::default()
        };
        for secret in self.awaited {
            observed.index.await_secret(&ObjectName::new("default", secret));
        }
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
