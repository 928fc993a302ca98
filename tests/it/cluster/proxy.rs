//! A proxy between a replica and the API server, which does what proxies and API servers do on bad days.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use kube::{Client, Config};
use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::service::Source;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control_plane::Namespace;

/// A running proxy; it ends with its test.
pub struct Proxy {
    address: SocketAddr,
    namespace: String,
    inner: Arc<Inner>,
}

struct Inner {
    /// With the rights of the namespace's service account.
    client: Client,
    answers: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<String>>,
    line: Mutex<Line>,
}

/// What bodies that are under way come through, until somebody pulls.
#[derive(Clone, Default)]
struct Line {
    /// They end.
    cut: CancellationToken,
    /// Nothing comes any more, and nobody says so.
    silenced: CancellationToken,
}

/// What is answered in place of the API server, so many times.
struct Answer {
    kind: Asked,
    resources: &'static str,
    response: fn() -> Response,
    times: usize,
}

/// A kind of request for policies or Secrets.
#[derive(Clone, Copy, PartialEq)]
pub enum Asked {
    /// The first one, for all there is.
    List,
    /// The one that stays open.
    Watch,
}

impl Proxy {
    pub async fn start(team: &Namespace<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = team.client().await;
        let inner = Inner { client, answers: Mutex::default(), asked: Mutex::default(), line: Mutex::default() };
        let inner = Arc::new(inner);
        let router = Router::new().fallback(forward).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, namespace: team.name.clone(), inner }
    }

    /// The cluster as it is seen through the proxy.
    pub fn source(&self) -> Source {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_namespace.clone_from(&self.namespace);
        Source::Cluster(Cluster { config: Some(Box::new(config)), namespaces: Namespaces::Own })
    }

    /// Answers the next requests of a kind for these resources itself.
    pub fn answer(&self, kind: Asked, resources: &'static str, times: usize, response: fn() -> Response) {
        self.inner.answers.lock().unwrap().push(Answer { kind, resources, response, times });
    }

    /// Whether all of these answers were given.
    pub fn has_answered(&self) -> bool {
        self.inner.answers.lock().unwrap().iter().all(|answer| answer.times == 0)
    }

    /// Ends everything that is under way.
    pub fn hang_up(&self) {
        std::mem::take(&mut *self.inner.line.lock().unwrap()).cut.cancel();
    }

    /// Forgets what is under way, and tells nobody. What comes later is forwarded.
    pub fn forget(&self) {
        std::mem::take(&mut *self.inner.line.lock().unwrap()).silenced.cancel();
    }

    /// How often a kind of request has come for these resources.
    pub fn asked(&self, kind: Asked, resources: &str) -> usize {
        let what = format!("{} {resources}", kind.as_str());
        self.inner.asked.lock().unwrap().iter().filter(|asked| **asked == what).count()
    }
}

impl Asked {
    fn of(request: &Request) -> Option<(Self, String)> {
        let resources = request.uri().path().rsplit('/').next()?;
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let kind = if is_watch { Self::Watch } else { Self::List };
        matches!(resources, "sessionpolicies" | "secrets").then(|| (kind, resources.to_owned()))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
        }
    }
}

async fn forward(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    if let Some((kind, resources)) = Asked::of(&request) {
        inner.asked.lock().unwrap().push(format!("{} {resources}", kind.as_str()));
        let mut answers = inner.answers.lock().unwrap();
        let strikes = |answer: &&mut Answer| (answer.kind, answer.resources) == (kind, &resources) && answer.times > 0;
        if let Some(answer) = answers.iter_mut().find(strikes) {
            answer.times -= 1;
            return (answer.response)();
        }
    }
    let (mut parts, body) = request.into_parts();
    // The client knows the API server's.
    parts.headers.remove("host");
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    match inner.client.send(Request::from_parts(parts, kube::client::Body::from(body.to_vec()))).await {
        Ok(answer) => answer.map(|body| under_way(body, inner.line.lock().unwrap().clone())),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// A body that comes through a line.
fn under_way(body: kube::client::Body, line: Line) -> Body {
    let state = (Body::new(body).into_data_stream(), line);
    Body::from_stream(stream::unfold(state, |(mut data, line)| async {
        tokio::select! {
            () = line.cut.cancelled() => None,
            () = line.silenced.cancelled() => std::future::pending().await,
            next = data.next() => next.map(|next| (next, (data, line))),
        }
    }))
}

/// The 410 that ends a watch which fell too far behind, before it begins.
pub fn gone() -> Response {
    status(410, "Expired", "too old resource version: 1 (2)").into_response()
}

/// The same as an event of a watch that has begun.
pub fn gone_in_the_middle() -> Response {
    let event = json!({ "type": "ERROR", "object": status(410, "Expired", "too old resource version: 1 (2)").1.0 });
    format!("{event}\n").into_response()
}

/// The 403 of an account that may not.
pub fn forbidden() -> Response {
    status(403, "Forbidden", "secrets is forbidden: the account cannot watch them").into_response()
}

/// The 500 of an API server that has trouble of its own.
pub fn broken() -> Response {
    status(500, "InternalError", "etcdserver: request timed out").into_response()
}

/// The 429 of an API server that has too much to do.
pub fn too_many() -> Response {
    let mut answer = status(429, "TooManyRequests", "please try again later").into_response();
    answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    answer
}

fn status(code: u16, reason: &str, message: &str) -> (StatusCode, axum::Json<Value>) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), axum::Json(status))
}
