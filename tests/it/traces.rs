//! The traces that a collector receives from the real program.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use simulator::{Options, Session};

use crate::common::{DOMAIN, TOKEN, callers, credentials, eventually, folder, policy, tenant_as_is};
use crate::process::{Process, place};

type Received = Arc<Mutex<Vec<ExportTraceServiceRequest>>>;

/// A collector that keeps what it receives: one unary gRPC call, which is a length-prefixed message over HTTP/2.
async fn collector() -> (SocketAddr, Received) {
    async fn export(State(received): State<Received>, body: Body) -> Response<Body> {
        let frame: Bytes = body.collect().await.unwrap().to_bytes();
        received.lock().unwrap().push(ExportTraceServiceRequest::decode(&frame[5..]).unwrap());
        let trailers: HeaderMap =
            [("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))].into_iter().collect();
        let empty = BytesMut::zeroed(5).freeze();
        let body = Body::new(Full::new(empty).with_trailers(async move { Some(Ok(trailers)) }));
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    }
    let received = Received::default();
    let route = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let router = Router::new().route(route, post(export)).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_continues_the_callers_trace_and_is_flushed() {
    let tenant = tenant_as_is(Options::new(DOMAIN)).await;
    tenant.add_session("auth0|trace-user", Session::new("sid-of-the-trace", tenant.now()));
    let folder = folder(&[credentials(), callers(), policy("one", serde_json::json!({}))]);
    let (collector, received) = collector().await;
    let endpoint = format!("http://{collector}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let options = ["--policy-dir", folder.path().to_str().unwrap()];
    let (program, service) = Process::serve(&tenant, place(), &variables, &options).await;
    eventually("the service is ready", || async { service.admin("/readyz").await.contains(r#""ready":true"#) }).await;

    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    // Auth0 does not know the second user.
    let unknown_trace_id = "1af7651916cd43dd8448eb211c80319c";
    for (user, trace_id) in [("auth0|trace-user", trace_id), ("auth0|trace-user-2", unknown_trace_id)] {
        let request = service.check(user, "sid-of-the-trace").bearer_auth(TOKEN);
        let request = request.header("traceparent", format!("00-{trace_id}-b7ad6b7169203331-01"));
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success());
    }
    let list = tenant.requests().into_iter().find(|request| request.path.contains("/sessions")).unwrap();
    assert!(list.header("traceparent").unwrap().contains(trace_id), "the trace continues to Auth0");

    let (ended, _) = program.end("TERM").await;
    assert!(ended.success(), "SIGTERM ends it with 0: {ended}");

    let received = received.lock().unwrap();
    let resources = received.iter().flat_map(|request| &request.resource_spans);
    let spans: Vec<&Span> =
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans).collect();
    let of = |trace_id: &str, name: &str| {
        let hex = |id: &[u8]| id.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        spans.iter().find(|span| span.name == name && hex(&span.trace_id) == trace_id).copied()
    };
    let of_trace = |name: &str| of(trace_id, name);
    let server = of_trace("POST /check").expect("the server's span");
    assert_eq!(attribute(server, "http.response.status_code"), Some(&Value::IntValue(200)));
    assert_eq!(attribute(server, "http.route"), Some(&Value::StringValue("/check".to_owned())));
    let text = |span, key: &str| match attribute(span, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    };
    let unknown = of(unknown_trace_id, "POST /check").expect("the server's span");
    for (span, reason) in [(server, "within_limit"), (unknown, "unknown_user")] {
        assert_eq!(text(span, "session_checker.decision"), "allow");
        assert_eq!(text(span, "session_checker.reason"), reason);
        assert_eq!(text(span, "session_checker.policy"), "default/one");
        assert_eq!(text(span, "session_checker.tenant"), DOMAIN);
    }
    let not_found = of(unknown_trace_id, "GET /api/v2/users/{id}/sessions").expect("the client's span");
    assert_eq!(attribute(not_found, "http.response.status_code"), Some(&Value::IntValue(404)));
    assert_eq!(not_found.status.as_ref().map_or(0, |status| status.code), 0, "an unknown user is no error");
    for request in received.iter().flat_map(|request| &request.resource_spans) {
        let attributes = &request.resource.as_ref().unwrap().attributes;
        let version = attributes.iter().find(|attribute| attribute.key == "service.version").unwrap();
        let version = version.value.as_ref().unwrap().value.as_ref();
        assert_eq!(version, Some(&Value::StringValue(env!("CARGO_PKG_VERSION").to_owned())));
    }
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let client =
        of_trace("GET /api/v2/users/{id}/sessions").unwrap_or_else(|| panic!("the client's span, in {names:?}"));
    assert_eq!(client.parent_span_id, server.span_id);
    let exported = format!("{received:?}");
    for private in ["trace-user", "sid-of-the-trace", TOKEN, "checker-secret"] {
        assert!(!exported.contains(private), "{private} is in the traces");
    }
}
