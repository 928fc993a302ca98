//! What the observer and the traces receive.

use super::*;
use crate::clock::drive;

#[tokio::test(start_paused = true)]
async fn observer_receives_every_request() {
    let _clock = drive(Duration::from_millis(10));
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
