//! The output and the effects of `check` and `sessions`, with a simulated tenant.

use serde_json::{Value, json};
use simulator::{Fault, Operation, Session, Simulator};
use tempfile::TempDir;

use crate::common::{APP, DOMAIN, callers, credentials, folder, options, policy, tenant};
use crate::process::finish;

const USER: &str = "auth0|anna";

/// A tenant in which Anna is signed in on her laptop and now logs in on her phone, and a folder with this policy.
async fn scene(spec: Value) -> (Simulator, TempDir) {
    let tenant = tenant().await;
    tenant.add_session(USER, Session::new("laptop", tenant.now()).client(APP));
    tenant.add_session(USER, Session::new("phone", tenant.now()));
    (tenant, folder(&[credentials(), callers(), policy("one", spec)]))
}

/// Runs the program with a folder as its source. Returns its exit code and its output.
async fn run(tenant: &Simulator, folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    let arguments: Vec<String> =
        arguments.iter().map(ToString::to_string).chain(options(tenant, folder.path())).collect();
    let run = move || finish(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn ids(tenant: &Simulator) -> Vec<String> {
    tenant.sessions_of(USER).iter().map(|session| session.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_explains_the_decision_and_changes_nothing() {
    let (tenant, folder) =
        scene(json!({ "overrides": [{ "name": "staff", "roles": ["staff"], "exempt": true }] })).await;
    let check = ["check", "--user", USER, "--client", APP, "--sid", "phone"];
    let (code, text) = run(&tenant, &folder, &check).await;
    assert_eq!(code, 0, "{text}");
    for expected in [
        "Policy default/one applies to this login",
        "Limits: client=1.",
        "counts towards the client limit              laptop began",
        "is the session of this login                 phone began",
        "The login is blocked: limit_exceeded. 1 other session uses this application; the limit is 1. The Action ends the session.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!((ids(&tenant).len(), tenant.count(Operation::Revoke)), (2, 0));

    let staff = [&check[..], &["--role", "staff"]].concat();
    let (_, text) = run(&tenant, &folder, &staff).await;
    assert!(text.contains("The login is allowed: exempt."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_sessions_to_revoke_and_revokes_none() {
    let (tenant, folder) = scene(json!({ "strategy": "RevokeOldest" })).await;
    let (code, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP, "--sid", "phone"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Sessions that would be revoked: laptop.") && text.contains("allowed: evicted"), "{text}");
    assert_eq!((ids(&tenant).len(), tenant.count(Operation::Revoke)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_check_prints_the_cause_and_the_failure_policys_answer() {
    let (tenant, folder) = scene(json!({ "failurePolicy": "Deny" })).await;
    tenant.fault(Operation::List, Fault::not_entitled());
    let (code, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP, "--sid", "phone"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("could not be listed") && text.contains("blocked: not_entitled"), "{text}");
    assert!(!text.contains("checker-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_only_for_their_user() {
    let (tenant, folder) = scene(json!({})).await;
    tenant.add_session("auth0|bert", Session::new("bert", tenant.now()));
    let (code, text) = run(&tenant, &folder, &["sessions", "list", "--user", USER]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("laptop began") && text.contains(&format!("applications {APP}")), "{text}");

    let end = ["sessions", "end", "--user", USER];
    let (code, text) = run(&tenant, &folder, &[&end[..], &["--sid", "laptop", "--sid", "bert"]].concat()).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("bert is not a session of the user. No session was ended"), "{text}");
    assert_eq!(tenant.count(Operation::Revoke), 0);

    let (code, text) = run(&tenant, &folder, &[&end[..], &["--sid", "laptop"]].concat()).await;
    assert_eq!((code, text.contains("laptop ended")), (0, true), "{text}");
    tenant.fault(Operation::Revoke, Fault::not_entitled());
    let (code, text) = run(&tenant, &folder, &[&end[..], &["--all"]].concat()).await;
    assert_eq!((code, text.contains("could not be ended")), (1, true), "{text}");

    let (code, text) = run(&tenant, &folder, &end).await;
    assert_eq!((code, text.contains("--sid")), (64, true), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_tenants_has_to_be_named() {
    let (tenant, folder) = scene(json!({})).await;
    let mut other = credentials();
    other["metadata"]["name"] = "other".into();
    other["stringData"]["domain"] = "other.eu.auth0.com".into();
    let spec = json!({ "tenant": { "domain": "other.eu.auth0.com", "credentialsSecretRef": { "name": "other" } } });
    crate::common::write(folder.path(), "other.yaml", &[other, policy("two", spec)]);
    let list = ["sessions", "list", "--user", USER];
    let (code, text) = run(&tenant, &folder, &list).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("--tenant: acme.eu.auth0.com, other.eu.auth0.com"), "{text}");
    let (code, text) = run(&tenant, &folder, &[&list[..], &["--tenant", DOMAIN]].concat()).await;
    assert_eq!((code, text.contains("laptop")), (0, true), "{text}");
    let (_, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP]).await;
    assert!(text.contains("Name the tenant with --tenant"), "{text}");
}
