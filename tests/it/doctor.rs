//! `session-checker doctor`: what it finds in a tenant that works and in tenants that do not, from here and from a running
//! service.

use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Application, Fault, Operation, Simulator};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, callers, closed_port, credentials, folder, options, policy, strings, tenant, write,
};
use crate::process::{finished, first_json};

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

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_a_problem_of_its_step_with_a_remedy() {
    let rejects = |tenant: &Simulator| {
        let body = r#"{"error":"access_denied","error_description":"Unauthorized"}"#;
        drop(tenant.fault(Operation::Token, Fault::json(StatusCode::UNAUTHORIZED, body)));
    };
    let plan = |tenant: &Simulator| drop(tenant.fault(Operation::List, Fault::not_entitled()));
    let scopes = |tenant: &Simulator| {
        tenant.add_application(Application::with_secret("checker", "checker-secret").scopes(["read:sessions"]));
    };
    let cases: [(&str, &dyn Fn(&Simulator), &str); 3] = [
        ("token", &rejects, "compare clientId and clientSecret"),
        ("plan", &plan, "the plan of the tenant has no Management API for sessions"),
        ("scopes", &scopes, "grant them to the application"),
    ];
    for (step, break_it, remedy) in cases {
        let tenant = tenant().await;
        break_it(&tenant);
        let folder = folder(&[credentials(), callers(), policy("one", json!({ "strategy": "RevokeOldest" }))]);
        let (code, lines, text) = examine(&tenant, &folder, &[]).await;
        assert_eq!((code, status(&lines, step)), (1, Some("problem")), "{step}: {text}");
        assert!(text.contains(remedy), "{step}: {text}");
        assert!(!text.contains("checker-secret"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_that_cannot_be_reached_names_the_step() {
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (_port, closed) = closed_port();
    for (url, step) in [(format!("http://{closed}"), "connection"), ("http://no-such-host.invalid".to_owned(), "name")]
    {
        let endpoint = format!("{DOMAIN}={url}");
        let options = ["--policy-dir", folder.path().to_str().unwrap(), "--auth0-endpoint", &endpoint];
        let (code, lines, text) = doctor(&options).await;
        assert_eq!((code, status(&lines, step)), (1, Some("problem")), "{text}");
        assert_eq!(status(&lines, "token"), None, "later steps are not taken: {text}");
    }
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
    // A second one within seconds asks the tenant nothing.
    let lists = tenant.count(Operation::List);
    doctor(&["--admin-url", &admin]).await;
    assert_eq!(tenant.count(Operation::List), lists);
    service.stop().await.unwrap();
    let (code, text) = finished(&["doctor", "--admin-url", &admin]).await;
    assert!(code == 1 && text.contains("127.0.0.1"), "{text}");
}
