//! The traces and the records of decisions that a collector receives from the real program.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use simulator::{Options, Session};

use crate::common::{APP, DOMAIN, TOKEN, callers, credentials, eventually, folder, policy, tenant_as_is};
use crate::process::Process;

/// A collector that keeps what it receives: unary gRPC calls, which are length-prefixed messages over HTTP/2.
#[derive(Clone, Default)]
struct Collector(Arc<Received>);

#[derive(Default)]
struct Received {
    traces: Mutex<Vec<ExportTraceServiceRequest>>,
    logs: Mutex<Vec<ExportLogsServiceRequest>>,
    /// The status of the answers to logs: 0 takes them.
    logs_status: AtomicU8,
}

impl Collector {
    async fn start(self) -> SocketAddr {
        async fn message<M: Message + Default>(body: Body) -> M {
            let frame: Bytes = body.collect().await.unwrap().to_bytes();
            M::decode(&frame[5..]).unwrap()
        }
        fn answer(status: u8) -> Response<Body> {
            let trailers: HeaderMap =
                [("grpc-status".parse().unwrap(), HeaderValue::from(u16::from(status)))].into_iter().collect();
            let empty = BytesMut::zeroed(5).freeze();
            let body = Body::new(Full::new(empty).with_trailers(async move { Some(Ok(trailers)) }));
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        }
        async fn traces(State(Collector(received)): State<Collector>, body: Body) -> Response<Body> {
            let request = message(body).await;
            received.traces.lock().unwrap().push(request);
            answer(0)
        }
        async fn logs(State(Collector(received)): State<Collector>, body: Body) -> Response<Body> {
            let request = message(body).await;
            let status = received.logs_status.load(Ordering::Relaxed);
            if status == 0 {
                received.logs.lock().unwrap().push(request);
            }
            answer(status)
        }
        let router = Router::new()
            .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(traces))
            .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(logs))
            .with_state(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The logs so far, in their order.
    fn logs(&self) -> Vec<LogRecord> {
        let received = self.0.logs.lock().unwrap();
        let resources = received.iter().flat_map(|request| &request.resource_logs);
        resources.flat_map(|resource| &resource.scope_logs).flat_map(|scope| scope.log_records.clone()).collect()
    }
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_continues_the_callers_trace_and_is_flushed() {
    let tenant = tenant_as_is(Options::new(DOMAIN)).await;
    tenant.add_session("auth0|trace-user", Session::new("sid-of-the-trace", tenant.now()));
    let folder = folder(&[credentials(), callers(), policy("one", serde_json::json!({}))]);
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.clone().start().await);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let (program, service) = Process::serve_folder(&tenant, &folder, &variables, &[]).await;
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

    let received = collector.0.traces.lock().unwrap();
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

/// The text of an attribute of a log.
fn log_text<'a>(log: &'a LogRecord, key: &str) -> Option<&'a str> {
    let attribute = log.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_decisions_reach_the_collector_and_losses_are_counted() {
    let tenant = tenant_as_is(Options::new(DOMAIN)).await;
    tenant.add_session("auth0|log-user", Session::new("sid-of-the-laptop", tenant.now()).client(APP));
    let folder = folder(&[credentials(), callers(), policy("one", serde_json::json!({}))]);
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.clone().start().await);
    // The processor of the SDK gathers for a second by default.
    let variables = [("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint.as_str()), ("OTEL_BLRP_SCHEDULE_DELAY", "10")];
    let (program, service) = Process::serve_folder(&tenant, &folder, &variables, &[]).await;
    eventually("the service is ready", || async { service.admin("/readyz").await.contains(r#""ready":true"#) }).await;
    let check = |sid: &'static str| service.check("auth0|log-user", sid).bearer_auth(TOKEN);
    let answer: serde_json::Value = check("sid-of-the-phone").send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["reason"], "limit_exceeded");
    eventually("the record arrives", || async { collector.logs().len() == 1 }).await;

    // A collector without logs: the records are lost, and that is counted.
    let unexported = "session_checker_decision_records_unexported_total";
    assert!(service.admin("/metrics").await.contains(&format!("{unexported} 0\n")));
    collector.0.logs_status.store(12, Ordering::Relaxed);
    check("sid-of-the-tablet").send().await.unwrap();
    let lost = || async { service.admin("/metrics").await.contains(&format!("{unexported} 1\n")) };
    eventually("the loss is counted", lost).await;
    // What is left at the end is flushed.
    collector.0.logs_status.store(0, Ordering::Relaxed);
    check("sid-of-the-watch").send().await.unwrap();
    let (ended, _) = program.end("TERM").await;
    assert!(ended.success(), "{ended}");

    let logs = collector.logs();
    assert_eq!(logs.len(), 2, "{logs:?}");
    let log = &logs[0];
    assert_eq!((log.event_name.as_str(), log.severity_text.as_str()), ("session_checker.decision", "INFO"));
    let Some(Value::StringValue(body)) = log.body.as_ref().and_then(|body| body.value.clone()) else { panic!() };
    let record: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&record["request_id"], &record["sessions"][0]["limits"][0]), (&answer["request_id"], &"client".into()));
    for (key, expected) in [
        ("session_checker.decision", Some("block")),
        ("session_checker.reason", Some("limit_exceeded")),
        ("session_checker.policy", Some("default/one")),
        ("session_checker.tenant", Some(DOMAIN)),
        ("session_checker.client_id", Some(APP)),
        ("session_checker.request_id", answer["request_id"].as_str()),
        ("session_checker.user", record["user"].as_str()),
    ] {
        assert_eq!(log_text(log, key), expected, "{key}");
    }
    assert!(collector.0.traces.lock().unwrap().is_empty(), "the endpoint is that of logs alone");
    let exported = format!("{:?}", collector.0.logs.lock().unwrap());
    for private in ["log-user", "sid-of-the", TOKEN, "checker-secret"] {
        assert!(!exported.contains(private), "{private} is in the records");
    }
}
