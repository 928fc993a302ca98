//! `explainEvictions`: before a session ends for another login, its metadata says why. No failure of it changes a check.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{Application, Fault, Operation, Session, Simulator};

use crate::common::{APP, DOMAIN, Running, callers, credentials, policy, tenant};

const SCOPES: [&str; 4] = ["read:sessions", "update:sessions", "delete:sessions", "delete:refresh_tokens"];

/// A tenant whose user `u` has a session with the application, with this metadata, and logs in with `me`.
async fn scene(metadata: Value) -> Simulator {
    let tenant = tenant().await;
    tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(SCOPES));
    add(&tenant, "u", metadata);
    tenant
}

fn add(tenant: &Simulator, user: &str, metadata: Value) {
    let now = tenant.now();
    let old = Session::new(format!("{user}-old"), now - SignedDuration::from_hours(2)).client(APP);
    tenant.add_session(user, if metadata.is_null() { old } else { old.field("session_metadata", metadata) });
    tenant.add_session(user, Session::new(format!("{user}-me"), now));
}

async fn service(tenant: &Simulator, more: Value) -> Running {
    let mut spec = json!({ "strategy": "RevokeOldest", "explainEvictions": true });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Running::folder(tenant, &[credentials(), callers(), policy("one", spec)], &[]).await
}

/// Checks a login that evicts the user's other session.
async fn evict(service: &Running, tenant: &Simulator, user: &str) {
    let answer = service.check(user, APP, &format!("{user}-me")).await;
    assert_eq!((&answer["block"], &answer["reason"]), (&json!(false), &json!("evicted")), "{answer}");
    let left: Vec<_> = tenant.sessions_of(user).iter().map(|session| session.id().to_owned()).collect();
    assert_eq!(left, [format!("{user}-me")]);
}

/// The requests for sessions, in their order, and the metadata that was written.
fn sent(tenant: &Simulator) -> (Vec<Operation>, Vec<Value>) {
    let requests = tenant.requests();
    let operations = requests.iter().filter_map(|request| request.operation);
    let of_sessions = [Operation::Read, Operation::Update, Operation::Revoke];
    let operations = operations.filter(|operation| of_sessions.contains(operation)).collect();
    let updates = requests.iter().filter(|request| request.operation == Some(Operation::Update));
    let bodies = updates.map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    (operations, bodies.map(|mut body| body["session_metadata"].take()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_session_says_why_beside_its_own_metadata() {
    for (own, written) in [
        (Value::Null, json!({ "session_checker_reason": "evicted" })),
        (json!({ "org": "org_1" }), json!({ "org": "org_1", "session_checker_reason": "evicted" })),
    ] {
        let tenant = scene(own).await;
        let service = service(&tenant, json!({})).await;
        evict(&service, &tenant, "u").await;
        let (operations, metadata) = sent(&tenant);
        assert_eq!(operations, [Operation::Read, Operation::Update, Operation::Revoke]);
        assert_eq!(metadata, [written]);
        let read = format!(
            "session_checker_auth0_requests_total{{operation=\"annotate\",outcome=\"ok\",tenant=\"{DOMAIN}\"}}"
        );
        assert_eq!(service.metric(&read).await, Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_by_default_or_under_audit() {
    for (more, revocations) in [(json!({ "explainEvictions": false }), 1), (json!({ "mode": "Audit" }), 0)] {
        let tenant = scene(Value::Null).await;
        let service = service(&tenant, more).await;
        service.check("u", APP, "u-me").await;
        assert_eq!(sent(&tenant).0, vec![Operation::Revoke; revocations]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failure_of_the_reason_stops_no_eviction_and_pauses_it() {
    let retry_after = (HeaderName::from_static("retry-after"), HeaderValue::from_static("30"));
    let too_many = Fault::status(StatusCode::TOO_MANY_REQUESTS).header(retry_after.0, retry_after.1);
    for operation in [Operation::Read, Operation::Update] {
        for fault in [
            Fault::not_entitled(),
            Fault::status(StatusCode::BAD_REQUEST),
            Fault::status(StatusCode::INTERNAL_SERVER_ERROR),
            Fault::status(StatusCode::BAD_GATEWAY),
            Fault::json(StatusCode::OK, if operation == Operation::Read { "[]" } else { "" }),
            Fault::Reset,
            Fault::CutShort,
            Fault::NotHttp,
            Fault::Hang,
        ] {
            let tenant = scene(Value::Null).await;
            add(&tenant, "v", Value::Null);
            let service = service(&tenant, json!({ "timeout": "10s" })).await;
            tenant.fault(operation, fault.clone());
            evict(&service, &tenant, "u").await;
            let reads = tenant.count(Operation::Read);
            assert_eq!(reads, 1, "it is sent once: {operation:?} {fault:?}");
            evict(&service, &tenant, "v").await;
            let is_answer = operation == Operation::Update && matches!(&fault, Fault::Answer(StatusCode::OK, ..));
            let expected = if is_answer { 2 } else { 1 };
            assert_eq!(tenant.count(Operation::Read), expected, "{operation:?} {fault:?}");
            let breaker = format!("session_checker_auth0_breaker_state{{tenant=\"{DOMAIN}\"}}");
            assert_eq!(service.metric(&breaker).await, Some(0.0));
        }
    }
    // What it says about the rate limit holds for all requests.
    let tenant = scene(Value::Null).await;
    tenant.fault(Operation::Read, too_many);
    let service = service(&tenant, json!({ "timeout": "2s" })).await;
    let answer = service.check("u", APP, "u-me").await;
    assert_eq!(answer["reason"], "rate_limited", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_without_the_scope_or_the_room() {
    let tenant = scene(Value::Null).await;
    tenant.add_application(Application::with_secret("checker", "checker-secret"));
    let service = service(&tenant, json!({})).await;
    evict(&service, &tenant, "u").await;
    assert_eq!(sent(&tenant).0, [Operation::Revoke]);

    let full = (0..25).map(|n| (format!("key-{n}"), json!("value"))).collect();
    let tenant = scene(Value::Object(full)).await;
    let service = self::service(&tenant, json!({})).await;
    evict(&service, &tenant, "u").await;
    assert_eq!(sent(&tenant).0, [Operation::Read, Operation::Revoke]);
}

#[tokio::test(flavor = "multi_thread")]
async fn update_of_a_session_is_that_of_auth0() {
    let tenant = scene(Value::Null).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "checker"),
        ("client_secret", "checker-secret"),
        ("audience", "https://acme.eu.auth0.com/api/v2/"),
    ];
    let token = http.post(format!("{}/oauth/token", tenant.url())).form(&form).send().await.unwrap();
    let token = token.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned();
    let update = async |sid: &str, body: Value| {
        let request = http.patch(format!("{}/api/v2/sessions/{sid}", tenant.url())).bearer_auth(&token).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let metadata = |sessions: Vec<Session>| sessions[0].entry()["session_metadata"].clone();
    let (status, entry) = update("u-old", json!({ "session_metadata": { "a": "1" } })).await;
    assert_eq!((status, &entry["session_metadata"], &entry["id"]), (200, &json!({ "a": "1" }), &json!("u-old")));
    update("u-old", json!({ "session_metadata": { "b": "2" } })).await;
    assert_eq!(metadata(tenant.sessions_of("u")), json!({ "b": "2" }), "it replaces");
    assert_eq!(update("gone", json!({ "session_metadata": {} })).await.0, 404);
    let many: serde_json::Map<_, _> = (0..26).map(|n| (n.to_string(), json!("x"))).collect();
    for wrong in [
        json!({}),
        json!({ "session_metadata": { "a": 1 } }),
        json!({ "session_metadata": { "a": "x".repeat(256) } }),
        json!({ "session_metadata": many }),
        json!({ "session_metadata": {}, "more": 1 }),
    ] {
        assert_eq!(update("u-old", wrong.clone()).await.0, 400, "{wrong}");
    }
    assert_eq!(update("u-old", json!({ "session_metadata": null })).await.0, 200);
    assert_eq!(metadata(tenant.sessions_of("u")), json!({}));
}
