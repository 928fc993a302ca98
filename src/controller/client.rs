//! The client of the API server: how long it waits, and what it notes.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, Layer, Service};

use super::metrics::{ControllerMetrics, Watch};

/// How long the API server may take to begin an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may say nothing. On a watch there is a bookmark every minute, so one that is silent for longer is
/// dead without having said so: a proxy on the way dropped it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(100);

pub(super) fn client(mut config: kube::Config, metrics: Arc<ControllerMetrics>) -> Result<kube::Client, kube::Error> {
    config.read_timeout = Some(IDLE_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok(ClientBuilder::try_from(config)?.with_layer(&ContactLayer(metrics)).build())
}

/// Bounds the wait for an answer, and notes when the API server was last heard of by a watch.
struct ContactLayer(Arc<ControllerMetrics>);

impl<S> Layer<S> for ContactLayer {
    type Service = ContactService<S>;

    fn layer(&self, inner: S) -> ContactService<S> {
        ContactService { inner, metrics: Arc::clone(&self.0) }
    }
}

struct ContactService<S> {
    inner: S,
    metrics: Arc<ControllerMetrics>,
}

impl<S, B> Service<Request<Body>> for ContactService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: axum::body::HttpBody<Data = bytes::Bytes> + Send + 'static,
{
    type Response = Response<UnsyncBoxBody<bytes::Bytes, B::Error>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watch = watch_of(request.uri().path());
        let metrics = Arc::clone(&self.metrics);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
            let answer = answer.map_err(|_| BoxError::from("the API server did not answer in time"))??;
            let good = answer.status() == StatusCode::OK;
            Ok(answer.map(|body| {
                let noted = body.map_frame(move |frame| {
                    if let Some(watch) = watch.filter(|_| good) {
                        metrics.contact(watch);
                    }
                    frame
                });
                noted.boxed_unsync()
            }))
        })
    }
}

fn watch_of(path: &str) -> Option<Watch> {
    match path.rsplit('/').next() {
        Some("sessionpolicies") => Some(Watch::Policies),
        Some("secrets") => Some(Watch::Secrets),
        _ => None,
    }
}
