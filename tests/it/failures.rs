//! The answer of a check that cannot be decided: each reason, with each failure policy and in audit mode, from a real service
//! and a tenant with injected faults.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use futures::future::join_all;
use serde_json::{Value, json};
use simulator::{Application, Fault, Operation, Session, Simulator};

use crate::common::{APP, DOMAIN, Running, callers, credentials, policy, serve_args, tenant};

/// The messages for people may change, but they must differ from this one for a limit.
const LIMIT_MESSAGE: &str = "You are already signed in elsewhere. Sign out there and try again.";

/// One policy for each answer to a failure. Each selects the application of its name.
fn policies(more: &Value) -> Vec<Value> {
    let of = |name: &str, spec: Value| {
        let mut whole = more.clone();
        let fields = whole.as_object_mut().unwrap();
        fields.insert("selector".to_owned(), json!({ "clientIds": [name] }));
        fields.extend(spec.as_object().unwrap().clone());
        policy(name, whole)
    };
    vec![
        of("allow", json!({ "failurePolicy": "Allow" })),
        of("deny", json!({ "failurePolicy": "Deny" })),
        of("message", json!({ "failurePolicy": "Deny", "message": "Please call us." })),
        of("audit-allow", json!({ "failurePolicy": "Allow", "mode": "Audit" })),
        of("audit-deny", json!({ "failurePolicy": "Deny", "mode": "Audit" })),
    ]
}

/// A service with these policies, each with the additional fields.
async fn start(tenant: &Simulator, more: Value, secrets: &[Value], options: &[&str]) -> Running {
    let documents = [policies(&more), secrets.to_vec()].concat();
    Running::folder(tenant, &documents, options).await
}

async fn service(tenant: &Simulator) -> Running {
    start(tenant, json!({}), &[credentials(), callers()], &[]).await
}

/// Sends a check for every policy. Each answers with this reason, as its failure policy says, and with nothing else.
async fn fails_as(service: &Running, reason: &str) {
    let ask = |name: &'static str| async move {
        let mut answer = service.check("u", name, "s1").await;
        let fields = answer.as_object_mut().unwrap();
        assert!(fields.remove("request_id").unwrap().is_string());
        assert_eq!(fields.remove("policy").unwrap(), format!("default/{name}"));
        answer
    };
    let answers = join_all(["allow", "deny", "message", "audit-allow", "audit-deny"].map(ask)).await;
    let [allow, deny, message, audit_allow, audit_deny] = <[Value; 5]>::try_from(answers).unwrap();

    let allowed = json!({ "block": false, "reason": reason, "revoke_session": false });
    let blocked =
        |message: &Value| json!({ "block": true, "reason": reason, "revoke_session": false, "message": message });
    assert_eq!(allow, allowed);
    assert_eq!(audit_allow, allowed, "a failure that allows the login is no would-block");
    assert_eq!(deny, blocked(&deny["message"]));
    let text = deny["message"].as_str().unwrap();
    assert!(!text.is_empty() && text != LIMIT_MESSAGE, "{text}");
    // The policy's message says that a limit is exceeded, and it is not.
    assert_eq!(message, deny);
    let audited = json!({ "block": false, "reason": "audit", "audited_reason": reason, "revoke_session": false });
    assert_eq!(audit_deny, audited);
}

/// A lasting fault has this reason.
async fn fault_is(operation: Operation, fault: Fault, reason: &str) {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()));
    tenant.fault(operation, fault);
    fails_as(&service(&tenant).await, reason).await;
}

fn text(status: StatusCode, body: &'static str) -> Fault {
    Fault::json(status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_before_the_deadline_is_upstream_timeout() {
    for operation in [Operation::Token, Operation::List] {
        let tenant = tenant().await;
        tenant.fault(operation, Fault::Hang);
        let service = start(&tenant, json!({ "timeout": "2s" }), &[credentials(), callers()], &[]).await;
        fails_as(&service, "upstream_timeout").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_page_that_hangs_fails_the_check() {
    let tenant = tenant().await;
    for number in 0..60 {
        tenant.add_session("u", Session::new(format!("s{number}"), tenant.now()).client("deny"));
    }
    // The token request is another operation, so the first list request succeeds and the second hangs.
    let first = tenant.fault(Operation::List.times(1), Fault::Delay(Duration::ZERO));
    tenant.fault(Operation::List, Fault::Hang);
    let service = start(&tenant, json!({ "timeout": "2s" }), &[credentials(), callers()], &[]).await;
    let answer = service.check("u", "deny", "s-new").await;
    assert_eq!(first.strikes(), 1);
    assert_eq!((&answer["block"], &answer["reason"]), (&json!(true), &json!("upstream_timeout")), "{answer}");
    assert_eq!(answer.get("active_sessions"), None, "nothing was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connection_is_upstream_unreachable() {
    fault_is(Operation::Token, Fault::Reset, "upstream_unreachable").await;
    for fault in [Fault::Reset, Fault::CutShort, Fault::NotHttp] {
        fault_is(Operation::List, fault, "upstream_unreachable").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_port_is_upstream_unreachable() {
    crate::common::provider();
    let (_port, closed) = crate::common::closed_port();
    let documents = [policies(&json!({})), vec![credentials(), callers()]].concat();
    let folder = crate::common::folder(&documents);
    let endpoint = format!("{DOMAIN}=http://{closed}");
    let path = folder.path().to_str().unwrap();
    let args = serve_args(&["--policy-dir", path, "--auth0-endpoint", &endpoint]);
    fails_as(&Running::start(args).await.unwrap(), "upstream_unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_5xx_or_an_undocumented_answer_is_upstream_error() {
    for status in [500, 502, 503] {
        fault_is(Operation::List, Fault::status(StatusCode::from_u16(status).unwrap()), "upstream_error").await;
    }
    fault_is(Operation::Token, text(StatusCode::INTERNAL_SERVER_ERROR, "{}"), "upstream_error").await;
    fault_is(Operation::Token, text(StatusCode::NOT_FOUND, "{}"), "upstream_error").await;
    fault_is(Operation::Token, text(StatusCode::OK, "{}"), "upstream_error").await;
    for (status, body) in [
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, "[]"),
        (StatusCode::OK, r#"{"sessions":{}}"#),
        (StatusCode::BAD_REQUEST, "{}"),
        (StatusCode::NOT_FOUND, "not found"),
    ] {
        fault_is(Operation::List, text(status, body), "upstream_error").await;
    }
    fault_is(
        Operation::List,
        Fault::redirect(HeaderValue::from_static("https://elsewhere.example/")),
        "upstream_error",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_failure_is_invisible() {
    for operation in [Operation::Token, Operation::List] {
        for fault in [Fault::status(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset] {
            let tenant = tenant().await;
            tenant.add_session("u", Session::new("s1", tenant.now()));
            let fault = tenant.fault(operation.times(1), fault);
            let answer = service(&tenant).await.check("u", "deny", "s1").await;
            assert_eq!(answer["reason"], "within_limit", "{answer}");
            assert_eq!(fault.strikes(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lasting_429_is_rate_limited() {
    let tenant = tenant().await;
    let reset = (tenant.now().as_second() + 3600).to_string();
    let limited = || {
        let reset = HeaderValue::from_str(&reset).unwrap();
        Fault::status(StatusCode::TOO_MANY_REQUESTS).header(HeaderName::from_static("x-ratelimit-reset"), reset)
    };
    for operation in [Operation::Token, Operation::List] {
        fault_is(operation, limited(), "rate_limited").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_that_auth0_rejects_is_credentials_rejected() {
    let tenant = tenant().await;
    let mut wrong = credentials();
    wrong["stringData"]["clientSecret"] = "not-the-secret".into();
    fails_as(&start(&tenant, json!({}), &[wrong, callers()], &[]).await, "credentials_rejected").await;
    fault_is(Operation::List, Fault::status(StatusCode::UNAUTHORIZED), "credentials_rejected").await;
    for status in [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN] {
        fault_is(Operation::Token, text(status, r#"{"error":"access_denied"}"#), "credentials_rejected").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_403_says_whether_a_scope_or_the_plan_is_missing() {
    let tenant = tenant().await;
    tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(["delete:sessions"]));
    fails_as(&service(&tenant).await, "insufficient_scope").await;
    fault_is(Operation::List, Fault::not_entitled(), "not_entitled").await;
    for status in [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::PROXY_AUTHENTICATION_REQUIRED] {
        fault_is(Operation::List, text(status, "<html>"), "upstream_error").await;
        fault_is(Operation::Token, text(status, "<html>"), "upstream_error").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_secret_is_credentials_missing_and_sends_nothing() {
    let other_domain = {
        let mut secret = credentials();
        secret["stringData"]["domain"] = "other.eu.auth0.com".into();
        secret
    };
    let other_type = {
        let mut secret = credentials();
        secret["type"] = "Opaque".into();
        secret
    };
    let no_key = {
        let mut secret = credentials();
        secret["stringData"].as_object_mut().unwrap().remove("clientSecret");
        secret
    };
    let tenant = tenant().await;
    for secrets in [vec![], vec![other_domain], vec![other_type], vec![no_key]] {
        let secrets = [secrets, vec![callers()]].concat();
        fails_as(&start(&tenant, json!({}), &secrets, &[]).await, "credentials_missing").await;
    }
    assert!(tenant.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_policy_is_policy_invalid_and_sends_nothing() {
    let tenant = tenant().await;
    let service = start(&tenant, json!({ "limits": { "perClient": 0 } }), &[credentials(), callers()], &[]).await;
    fails_as(&service, "policy_invalid").await;
    assert!(tenant.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_beyond_the_bound_are_overloaded() {
    let tenant = tenant().await;
    let hangs = tenant.fault(Operation::List.of("waits"), Fault::Hang);
    let more = json!({ "timeout": "10s" });
    let service = start(&tenant, more, &[credentials(), callers()], &["--max-in-flight", "1"]).await;
    let overloaded = async {
        hangs.struck(1).await;
        fails_as(&service, "overloaded").await;
        hangs.clear();
    };
    let (waited, ()) = tokio::join!(service.check("waits", "deny", "s1"), overloaded);
    assert_eq!(waited["reason"], "within_limit", "{waited}");
    assert_eq!(service.check("u2", "deny", "s1").await["reason"], "within_limit", "there is room again");
}

/// Logs in with `s1` while the tenant fails, and then with `s2` while it works. Returns the second answer.
async fn next_answer(first: &str) -> Value {
    let tenant = tenant().await;
    for sid in ["s1", "s2"] {
        tenant.add_session("u", Session::new(sid, tenant.now()));
    }
    let mut documents = vec![credentials(), callers()];
    for (name, spec) in [
        ("allow", json!({ "failurePolicy": "Allow" })),
        ("deny", json!({ "failurePolicy": "Deny" })),
        ("audit", json!({ "failurePolicy": "Deny", "mode": "Audit" })),
        ("second", json!({})),
    ] {
        let selector = json!({ "selector": { "connections": [name] }, "admissionWindow": "10m" });
        let mut spec = spec;
        spec.as_object_mut().unwrap().extend(selector.as_object().unwrap().clone());
        documents.push(policy(name, spec));
    }
    let service = Running::folder(&tenant, &documents, &[]).await;
    let ask = async |sid: &str, connection: &str| {
        let login = json!({ "user_id": "u", "client_id": APP, "sid": sid, "connection": connection });
        service.ask(&login).await.1
    };
    let failure = tenant.fault(Operation::List, Fault::status(StatusCode::INTERNAL_SERVER_ERROR));
    let answer = ask("s1", first).await;
    let reason = answer.get("audited_reason").unwrap_or(&answer["reason"]);
    assert_eq!(reason, "upstream_error", "{answer}");
    failure.clear();
    ask("s2", "second").await
}

#[tokio::test(flavor = "multi_thread")]
async fn login_counts_only_when_the_failure_policy_allows_it() {
    for first in ["allow", "audit"] {
        let next = next_answer(first).await;
        assert_eq!((&next["reason"], &next["active_sessions"]), (&json!("limit_exceeded"), &json!(1)), "{first}");
    }
    let next = next_answer("deny").await;
    assert_eq!((&next["reason"], &next["active_sessions"]), (&json!("within_limit"), &json!(0)));
}
