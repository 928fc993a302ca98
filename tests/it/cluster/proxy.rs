//! A proxy between a replica and the API server that injects failures of both.

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
use session_checker::controller::Cluster;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control_plane::Namespace;

/// A running proxy. It ends with the runtime of its test.
pub struct Proxy {
    address: SocketAddr,
    namespace: String,
    state: Arc<ProxyState>,
}

struct ProxyState {
    /// With the rights of the namespace's service account.
    client: Client,
    injected: Mutex<Vec<InjectedResponse>>,
    requests: Mutex<Vec<String>>,
    connections: Mutex<Connections>,
}

/// Interrupts the response bodies that are being forwarded.
#[derive(Clone, Default)]
struct Connections {
    /// Ends the bodies.
    closed: CancellationToken,
    /// Keeps the bodies open, and forwards nothing more.
    silenced: CancellationToken,
}

/// A response that is sent in place of the API server's, `times` times.
struct InjectedResponse {
    kind: RequestKind,
    resources: &'static str,
    response: fn() -> Response,
    times: usize,
}

/// A kind of request for policies or Secrets.
#[derive(Clone, Copy, PartialEq)]
pub enum RequestKind {
    /// The request for all objects.
    List,
    /// The request for changes, which stays open.
    Watch,
}

impl Proxy {
    pub async fn start(team: &Namespace<'_>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = team.client().await;
        let state = Arc::new(ProxyState {
            client,
            injected: Mutex::default(),
            requests: Mutex::default(),
            connections: Mutex::default(),
        });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, namespace: team.name.clone(), state }
    }

    /// The cluster behind the proxy.
    pub fn cluster(&self) -> Cluster {
        let mut config = Config::new(format!("http://{}", self.address).parse().unwrap());
        config.default_namespace.clone_from(&self.namespace);
        Cluster { config: Some(Box::new(config)), ..Cluster::default() }
    }

    /// Responds to the next `times` requests of a kind for these resources in place of the API server.
    pub fn inject(&self, kind: RequestKind, resources: &'static str, times: usize, response: fn() -> Response) {
        self.state.injected.lock().unwrap().push(InjectedResponse { kind, resources, response, times });
    }

    /// Injects no response any more.
    pub fn restore(&self) {
        self.state.injected.lock().unwrap().clear();
    }

    /// Whether all injected responses were sent.
    pub fn is_exhausted(&self) -> bool {
        self.state.injected.lock().unwrap().iter().all(|response| response.times == 0)
    }

    /// Closes all open responses, and those of requests that the API server has not answered yet.
    pub fn hang_up(&self) {
        std::mem::take(&mut *self.state.connections.lock().unwrap()).closed.cancel();
    }

    /// Stops forwarding all open responses, and those of requests that the API server has not answered yet, without closing
    /// them. Responses of later requests are forwarded.
    pub fn silence(&self) {
        std::mem::take(&mut *self.state.connections.lock().unwrap()).silenced.cancel();
    }

    /// The number of requests of a kind for these resources.
    pub fn count(&self, kind: RequestKind, resources: &str) -> usize {
        let wanted = format!("{} {resources}", kind.as_str());
        self.state.requests.lock().unwrap().iter().filter(|request| **request == wanted).count()
    }
}

impl RequestKind {
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

async fn forward(State(state): State<Arc<ProxyState>>, request: Request) -> Response {
    // From here on the request belongs to the open responses: one that the API server answers after a `hang_up` is closed too.
    let connections = state.connections.lock().unwrap().clone();
    if let Some((kind, resources)) = RequestKind::of(&request) {
        state.requests.lock().unwrap().push(format!("{} {resources}", kind.as_str()));
        let mut injected = state.injected.lock().unwrap();
        let next = injected
            .iter_mut()
            .find(|next| (next.kind, next.resources) == (kind, resources.as_str()) && next.times > 0);
        if let Some(next) = next {
            next.times -= 1;
            return (next.response)();
        }
    }
    let (mut parts, body) = request.into_parts();
    // The client sets the API server's host.
    parts.headers.remove("host");
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    match state.client.send(Request::from_parts(parts, kube::client::Body::from(body.to_vec()))).await {
        Ok(response) => response.map(|body| interruptible(body, connections)),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// A body that can be closed or silenced.
fn interruptible(body: kube::client::Body, connections: Connections) -> Body {
    let state = (Body::new(body).into_data_stream(), connections);
    Body::from_stream(stream::unfold(state, |(mut data, connections)| async {
        tokio::select! {
            () = connections.closed.cancelled() => None,
            () = connections.silenced.cancelled() => std::future::pending().await,
            next = data.next() => next.map(|next| (next, (data, connections))),
        }
    }))
}

/// The 410 for a watch whose resource version is too old, as the response to its request.
pub fn gone() -> Response {
    status(410, "Expired", "too old resource version: 1 (2)").into_response()
}

/// The 410 for a watch whose resource version is too old, as an event of the open watch.
pub fn gone_event() -> Response {
    let event = json!({ "type": "ERROR", "object": status(410, "Expired", "too old resource version: 1 (2)").1.0 });
    format!("{event}\n").into_response()
}

/// The 403 for an account without the right.
pub fn forbidden() -> Response {
    status(403, "Forbidden", "secrets is forbidden: the account cannot watch them").into_response()
}

/// The 500 of an API server whose etcd does not answer.
pub fn broken() -> Response {
    status(500, "InternalError", "etcdserver: request timed out").into_response()
}

/// The 429 of an overloaded API server.
pub fn too_many() -> Response {
    let mut response = status(429, "TooManyRequests", "please try again later").into_response();
    response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    response
}

fn status(code: u16, reason: &str, message: &str) -> (StatusCode, axum::Json<Value>) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
    });
    (StatusCode::from_u16(code).unwrap(), axum::Json(status))
}
