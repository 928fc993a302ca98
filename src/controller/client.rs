//! The connection to a cluster: where its API server is, how long a response may take, and when a watch last heard of it.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use futures::future::BoxFuture;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::client::{Body, ClientBuilder};
use kube::config::{InferConfigError, KubeconfigError};
use tower::layer::layer_fn;
use tower::{BoxError, Layer, Service};

use super::metrics::ControllerMetrics;
use super::watch_failures::WatchId;
use crate::crd::DEFAULT_CLASS;

/// The field manager of the Lease, and what those of policies begin with.
pub(super) const FIELD_MANAGER: &str = "session-checker";
/// The longest name of a field manager that the API server accepts.
const MAX_FIELD_MANAGER_CHARS: usize = 128;

/// How long the API server may take to begin a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be silent. A watch receives a bookmark every minute, so a watch that is silent for longer
/// is dead: a proxy dropped its connection without closing it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(100);

/// The namespaces whose policies are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// The namespace of the Pod, or of the kubeconfig's context.
    #[default]
    Own,
    /// These namespaces.
    Named(BTreeSet<String>),
    /// All namespaces.
    All,
}

/// The settings of a connection to a cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// How to reach the API server. `None` means as in a Pod, or as the kubeconfig says.
    pub config: Option<Box<kube::Config>>,
    /// The namespaces to watch.
    pub namespaces: Namespaces,
    /// The class of the policies to use; `None` means the default class.
    pub class_name: Option<String>,
    /// The name of the ConfigMaps that force policies to audit; `None` means that there are none.
    pub audit_switch: Option<String>,
}

/// An error in the settings of a connection.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is neither a service account nor a usable kubeconfig.
    #[error("this is not a Pod with a service account, and there is no usable kubeconfig: {}", kubeconfig_error(.0))]
    NoCluster(#[source] Box<InferConfigError>),
    /// The configuration of the API server is invalid.
    #[error("the connection to the API server cannot be set up: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// What is wrong with the kubeconfig. Its lines are not quoted, because they hold secrets.
fn kubeconfig_error(error: &InferConfigError) -> String {
    match error.source().and_then(<dyn Error>::downcast_ref) {
        Some(KubeconfigError::Parse(error)) => format!("it cannot be parsed: {}", error.without_snippet()),
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// A connection to the API server of a cluster.
#[derive(Clone)]
pub struct ClusterConnection {
    /// The client that all watches and writes share.
    pub client: kube::Client,
    /// The namespace that the service runs in.
    pub namespace: String,
    /// The namespaces to watch; a single `None` stands for all.
    pub(super) watched_namespaces: Vec<Option<String>>,
    /// For more clients of the same API server.
    pub(super) config: Arc<kube::Config>,
    /// Counts what all clients receive.
    pub(super) metrics: Arc<ControllerMetrics>,
    /// The class of the policies to use.
    pub(super) class_name: String,
    /// The name of the ConfigMaps that force policies to audit.
    pub(super) audit_switch: Option<String>,
}

impl ClusterConnection {
    /// The namespaces in which a ConfigMap may force policies to audit: those that are watched, and the service's own. A single
    /// `None` stands for all.
    pub(super) fn switch_namespaces(&self) -> BTreeSet<Option<String>> {
        if self.audit_switch.is_none() {
            return BTreeSet::new();
        }
        let all = self.watched_namespaces.contains(&None);
        let own = (!all).then(|| Some(self.namespace.clone()));
        self.watched_namespaces.iter().cloned().chain(own).collect()
    }

    /// The field manager of the statuses that a release writes: of the replicas that share a Lease. Another release that sees
    /// the same policies has another one, so that the fields of a policy show who wrote them.
    pub(super) fn field_manager(&self, lease: &str) -> String {
        let mut manager = format!("{FIELD_MANAGER}/{}/{lease}", self.namespace);
        manager.truncate(manager.floor_char_boundary(MAX_FIELD_MANAGER_CHARS));
        manager
    }
}

impl Cluster {
    /// Sets up the connection without sending a request.
    ///
    /// # Errors
    /// When no API server is configured, or its configuration is invalid.
    pub async fn connect(self, metrics: Arc<ControllerMetrics>) -> Result<ClusterConnection, ClusterError> {
        let config = match self.config {
            Some(config) => *config,
            None => kube::Config::infer().await.map_err(|error| ClusterError::NoCluster(Box::new(error)))?,
        };
        let namespace = config.default_namespace.clone();
        let watched_namespaces = match self.namespaces {
            Namespaces::Own => vec![Some(namespace.clone())],
            Namespaces::Named(names) => names.into_iter().map(Some).collect(),
            Namespaces::All => vec![None],
        };
        let config = Arc::new(config);
        let client = client(kube::Config::clone(&config), Arc::clone(&metrics)).map_err(Box::new)?;
        let class_name = self.class_name.unwrap_or_else(|| DEFAULT_CLASS.to_owned());
        let audit_switch = self.audit_switch;
        Ok(ClusterConnection { client, namespace, watched_namespaces, config, metrics, class_name, audit_switch })
    }
}

fn client(mut config: kube::Config, metrics: Arc<ControllerMetrics>) -> Result<kube::Client, kube::Error> {
    config.read_timeout = Some(IDLE_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&contact_layer(metrics)).build())
}

/// The layer that every client has.
pub(super) fn contact_layer<S>(metrics: Arc<ControllerMetrics>) -> impl Layer<S, Service = ContactService<S>> {
    layer_fn(move |inner| ContactService { inner, metrics: Arc::clone(&metrics) })
}

/// Limits the wait for a response and for each of its frames, and records every frame that a list or watch receives as a
/// contact.
pub(super) struct ContactService<S> {
    inner: S,
    metrics: Arc<ControllerMetrics>,
}

impl<S, B> Service<Request<Body>> for ContactService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<bytes::Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = WatchId::of_request(request.uri().path(), request.uri().query());
        let metrics = Arc::clone(&self.metrics);
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = tokio::time::timeout(RESPONSE_TIMEOUT, response).await;
            let response = response.map_err(|_| BoxError::from("the API server did not respond in time"))??;
            let is_ok = response.status() == StatusCode::OK;
            Ok(response.map(|body| {
                let recorded = never_silent(body).map_frame(move |frame| {
                    if let Some(watch) = watch.as_ref().filter(|_| is_ok) {
                        metrics.contact(watch);
                    }
                    frame
                });
                recorded.boxed_unsync()
            }))
        })
    }
}

/// A body that fails when no frame arrives for the idle timeout. Watches that share a connection have no timeout of the
/// connection: another watch may keep it busy.
fn never_silent<B>(body: B) -> impl axum::body::HttpBody<Data = bytes::Bytes, Error = BoxError> + Send
where
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    StreamBody::new(stream::unfold(Some(Box::pin(body)), async |body| {
        let mut body = body?;
        match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(body))),
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(_) => Some((Err(BoxError::from("the API server sent nothing for too long")), None)),
        }
    }))
}

/// The message of the innermost source of an error, which says most.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Why a request to the API server failed, in one line.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => {
            format!("the API server answered {} {}: {}", status.code, status.reason, status.message)
        }
        error => format!("the request to the API server failed: {}", innermost(error)),
    }
}
