//! `session-checker doctor`: what it finds in a tenant that works and in tenants that do not, from here and from a running
//! service.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Application, Clock, Fault, Operation, Options, Simulator, Tls};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, callers, closed_port, credentials, folder, options, policy, strings, tenant, tenant_with,
    write,
};
use crate::process::{finished, first_json};
use crate::redis_proxy::RedisProxy;
use crate::redis_server::RedisServer;

/// Runs the command, and returns its exit code and its lines as `[subject, step, status]`, with the whole output.
async fn doctor(options: &[&str]) -> (i32, Vec<[String; 3]>, String) {
    let (code, text) = finished(&[&["doctor", "-o", "json"], options].concat()).await;
    let report = first_json(&text);
    let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = report["lines"].as_array().unwrap().iter();
    let lines = lines.map(|line| ["subject", "step", "status"].map(|name| field(line, name))).collect();
    (code, lines, text)
}

/// Runs the command on a folder of policies for a simulated tenant.
async fn examine(tenant: &Simulator, folder: &TempDir, more: &[&str]) -> (i32, Vec<[String; 3]>, String) {
    doctor(&[&strings(&options(tenant, folder.path()))[..], more].concat()).await
}

fn status<'a>(lines: &'a [[String; 3]], step: &str) -> Option<&'a str> {
    lines.iter().find(|line| line[1] == step).map(|line| line[2].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_works_has_no_problem() {
    let (tenant, folder) = (tenant().await, folder(&[credentials(), callers(), policy("one", json!({}))]));
    let (code, lines, text) = examine(&tenant, &folder, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(lines.iter().all(|line| line[2] == "ok"), "{text}");
    for step in
        ["accepted", "mode", "name", "proxy", "connection", "TLS", "token", "clock", "scopes", "plan", "rate limit"]
    {
        assert_eq!(status(&lines, step), Some("ok"), "{step}: {text}");
    }
    assert_eq!((tenant.count(Operation::Token), tenant.count(Operation::List)), (1, 1), "it asks once");
    assert_eq!(tenant.count(Operation::Revoke), 0);
}

/// A fault, and the line that it makes.
struct Case {
    step: &'static str,
    status: &'static str,
    remedy: &'static str,
    /// What the tenant of the case differs in.
    options: fn(&mut Options),
    fault: fn(&Simulator),
    /// Options of the command beside folder and endpoint.
    more: Vec<String>,
    policy: Value,
}

impl Case {
    fn new(step: &'static str, status: &'static str, remedy: &'static str) -> Self {
        Self { step, status, remedy, options: |_| {}, fault: |_| {}, more: Vec::new(), policy: json!({}) }
    }
}

/// A clock that runs this many seconds ahead.
fn ahead(seconds: i64) -> Clock {
    let clock = Clock::stopped_at(Timestamp::now() + SignedDuration::from_secs(seconds));
    clock.run();
    clock
}

/// A list that says how many requests are left.
fn list_with_requests_left(left: &'static str) -> Fault {
    let header =
        |fault: Fault, name, value| fault.header(HeaderName::from_static(name), HeaderValue::from_static(value));
    let list = Fault::json(StatusCode::OK, r#"{"sessions":[]}"#);
    let list = header(list, "x-ratelimit-limit", "10");
    header(header(list, "x-ratelimit-remaining", left), "x-ratelimit-reset", "4102444800")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_makes_a_line_of_its_step_with_a_remedy() {
    let (_port, closed) = closed_port();
    let ledger = vec!["--ledger".to_owned(), format!("redis://{closed}")];
    let cases = [
        Case {
            fault: |tenant| {
                let body = r#"{"error":"access_denied","error_description":"Unauthorized"}"#;
                drop(tenant.fault(Operation::Token, Fault::json(StatusCode::UNAUTHORIZED, body)));
            },
            ..Case::new("token", "problem", "compare clientId and clientSecret")
        },
        Case {
            fault: |tenant| drop(tenant.fault(Operation::Token, Fault::status(StatusCode::SERVICE_UNAVAILABLE))),
            ..Case::new("token", "problem", "see Auth0's status page")
        },
        Case {
            fault: |tenant| drop(tenant.fault(Operation::List, Fault::not_entitled())),
            ..Case::new("plan", "problem", "the plan of the tenant has no Management API for sessions")
        },
        Case {
            fault: |tenant| drop(tenant.fault(Operation::List, Fault::status(StatusCode::SERVICE_UNAVAILABLE))),
            ..Case::new("plan", "problem", "see Auth0's status page")
        },
        Case {
            fault: |tenant| {
                tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(["read:sessions"]));
            },
            policy: json!({ "strategy": "RevokeOldest" }),
            ..Case::new("scopes", "problem", "grant them to the application")
        },
        Case {
            fault: |tenant| {
                tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(["read:users"]));
            },
            ..Case::new("plan", "problem", "grant read:sessions to the application")
        },
        Case {
            options: |options| options.clock = ahead(18),
            ..Case::new("clock", "notice", "synchronize the clock of the node")
        },
        Case {
            options: |options| options.clock = ahead(600),
            ..Case::new("clock", "problem", "synchronize the clock of the node")
        },
        Case {
            fault: |tenant| drop(tenant.fault(Operation::List, list_with_requests_left("1"))),
            ..Case::new("rate limit", "notice", "see who else uses the Management API")
        },
        Case {
            fault: |tenant| drop(tenant.fault(Operation::List, list_with_requests_left("0"))),
            ..Case::new("rate limit", "problem", "find who else uses the Management API")
        },
        Case { more: ledger, ..Case::new("round trip", "problem", "check the URL of --ledger") },
        Case {
            more: ["--replicas", "2"].map(str::to_owned).to_vec(),
            ..Case::new("round trip", "problem", "set --ledger")
        },
        Case {
            policy: json!({ "mode": "Audit" }),
            ..Case::new("mode", "notice", "write mode: Enforce when the numbers are what you expect")
        },
        Case {
            policy: json!({ "limits": { "perClient": 0 } }),
            ..Case::new("accepted", "problem", "`session-checker validate` shows each problem with its line")
        },
        Case {
            policy: json!({ "callerSecretRef": { "name": "nothing" } }),
            ..Case::new("callers", "problem", "correct the Secret of callerSecretRef")
        },
        Case {
            policy: json!({ "tenant": { "credentialsSecretRef": { "name": "nothing" } } }),
            ..Case::new("credential", "problem", "correct the Secret of tenant.credentialsSecretRef")
        },
        Case {
            policy: json!({ "selector": { "connections": ["con_a1b2c3d4e5f6g7h8"] } }),
            ..Case::new("values", "notice", "correct the value, or remove it")
        },
    ];
    for Case { step, status: expected, remedy, options: change, fault, more, policy: spec } in cases {
        let mut options = Options::new(DOMAIN);
        change(&mut options);
        let tenant = tenant_with(options).await;
        fault(&tenant);
        let folder = folder(&[credentials(), callers(), policy("one", spec)]);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let (code, lines, text) = examine(&tenant, &folder, &more).await;
        assert_eq!(status(&lines, step), Some(expected), "{step}: {text}");
        assert_eq!(code, i32::from(lines.iter().any(|line| line[2] == "problem")), "{step}: {text}");
        assert_remedies(&text, step, remedy);
    }
}

/// Asserts that each line is ok or has a remedy, and that of the step has this one. No line contains a secret.
fn assert_remedies(text: &str, step: &str, remedy: &str) {
    for line in first_json(text)["lines"].as_array().unwrap() {
        let given = line["remedy"].as_str().unwrap_or_default();
        assert_eq!(given.is_empty(), line["status"] == "ok", "{line}");
        let address = session_checker::book::doctor_step(line["step"].as_str().unwrap());
        assert_eq!(line["help"].as_str(), (line["status"] != "ok").then_some(&*address), "{line}");
        if line["step"] == step && line["status"] != "ok" {
            assert!(given.contains(remedy), "{remedy}: {line}");
        }
    }
    assert!(!text.contains("checker-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_cannot_be_reached_names_the_step() {
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (_port, closed) = closed_port();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Some(Tls { certificate: cert.pem(), key: signing_key.serialize_pem().into() });
    let untrusted = tenant_with(Options { tls, ..Options::new(DOMAIN) }).await;
    for (url, step, remedy) in [
        (format!("http://{closed}"), "connection", "allow egress to the tenant on port 443"),
        ("http://no-such-host.invalid".to_owned(), "name", "check tenant.domain"),
        (untrusted.url().replace("127.0.0.1", "localhost"), "TLS", "check the clock and the CA certificates"),
    ] {
        let endpoint = format!("{DOMAIN}={url}");
        let options = ["--policy-dir", folder.path().to_str().unwrap(), "--auth0-endpoint", &endpoint];
        let (code, lines, text) = doctor(&options).await;
        assert_eq!((code, status(&lines, step)), (1, Some("problem")), "{text}");
        assert_eq!(status(&lines, "token"), None, "later steps are not taken: {text}");
        assert_remedies(&text, step, remedy);
    }
    let proxy = format!("http://{closed}");
    let options = ["--policy-dir", folder.path().to_str().unwrap(), "--auth0-proxy", &proxy];
    let (code, lines, text) = doctor(&options).await;
    assert_eq!((code, status(&lines, "proxy")), (1, Some("problem")), "{text}");
    assert_remedies(&text, "proxy", "check --auth0-proxy and its credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_that_is_too_slow_is_a_problem() {
    let Some(redis) = RedisServer::start().await else { return };
    let proxy = RedisProxy::start(redis.port()).await;
    proxy.delay(Duration::from_secs(3600));
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (code, lines, text) = examine(&tenant, &folder, &["--ledger", &proxy.url()]).await;
    assert_eq!((code, status(&lines, "round trip")), (1, Some("problem")), "{text}");
    assert_remedies(&text, "round trip", "reaches the server within --ledger-timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_secrets_and_ledger_are_examined() {
    let tenant = tenant().await;
    let folder = folder(&[callers(), policy("one", json!({ "mode": "Audit", "limits": { "perClient": 0 } }))]);
    std::fs::write(folder.path().join("broken.yaml"), "a: [").unwrap();
    let (code, lines, text) = examine(&tenant, &folder, &["--replicas", "2"]).await;
    assert_eq!(code, 1, "{text}");
    for step in ["read", "accepted", "round trip"] {
        assert_eq!(status(&lines, step), Some("problem"), "{step}: {text}");
    }
    assert_eq!(status(&lines, "mode"), Some("notice"), "{text}");
    assert_remedies(&text, "read", "`session-checker validate` shows the line");
    write(folder.path(), "policies.yaml", &[callers(), policy("one", json!({}))]);
    let (_, lines, text) = examine(&tenant, &folder, &[]).await;
    assert_eq!(status(&lines, "credential"), Some("problem"), "the Secret is missing: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_service_examines_itself_and_knows_its_last_check() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    service.check("u", APP, "s").await;
    let admin = format!("http://{}", service.admin_address);
    let (code, lines, text) = doctor(&["--admin-url", &admin]).await;
    assert_eq!(
        (code, status(&lines, "last check"), status(&lines, "log stream")),
        (0, Some("ok"), Some("notice")),
        "{text}"
    );
    assert_eq!(status(&lines, "plan"), Some("ok"), "{text}");
    assert_remedies(&text, "log stream", "set up a log stream");
    // A second one within seconds asks the tenant nothing.
    let lists = tenant.count(Operation::List);
    doctor(&["--admin-url", &admin]).await;
    assert_eq!(tenant.count(Operation::List), lists);
    service.stop().await.unwrap();
    let (code, text) = finished(&["doctor", "--admin-url", &admin]).await;
    assert!(code == 1 && text.contains("127.0.0.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn service_without_policies_or_with_forced_audit_has_notices() {
    let tenant = tenant().await;
    for (documents, options, step, remedy) in [
        (vec![], &[][..], "policies", "apply a SessionPolicy"),
        (
            vec![credentials(), callers(), policy("one", json!({}))],
            &["--force-audit"],
            "forced audit",
            "switch forced audit off",
        ),
        (
            vec![credentials(), callers(), policy("one", json!({}))],
            &["--force-audit"],
            "mode",
            "switch forced audit off",
        ),
        (vec![credentials(), callers(), policy("one", json!({}))], &[], "last check", "log in once"),
    ] {
        let service = Running::folder(&tenant, &documents, options).await;
        let (code, lines, text) = doctor(&["--admin-url", &format!("http://{}", service.admin_address)]).await;
        assert_eq!((code, status(&lines, step)), (0, Some("notice")), "{step}: {text}");
        assert_remedies(&text, step, remedy);
        service.stop().await.unwrap();
    }
}
