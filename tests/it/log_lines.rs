//! A problem is logged once: when it begins, and when it ends.

use serde_json::{Value, json};
use simulator::{Fault, Operation};

use crate::common::{callers, credentials, eventually, folder, policy, tenant, write};
use crate::process::Process;

fn lines(process: &Process, message: &str) -> Vec<Value> {
    process.log().into_iter().filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_secret_is_logged_once_and_so_is_its_end() {
    let tenant = tenant().await;
    let folder = folder(&[callers(), policy("one", json!({}))]);
    let (process, _) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    let line = process.logged("policy condition is False").await;
    assert_eq!((&line["condition"], &line["reason"]), (&json!("CredentialsReady"), &json!("SecretMissing")), "{line}");

    write(folder.path(), "secret.yaml", &[credentials()]);
    // The tenant accepts the credential a moment later, which needs no line of its own.
    let ends = || {
        ["policy condition is no longer False", "policy condition is True again"].map(|it| lines(&process, it)).concat()
    };
    eventually("the end is logged", || async { !ends().is_empty() }).await;
    assert_eq!((lines(&process, "policy condition is False").len(), ends().len()), (1, 1), "{:?}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_is_logged_once_for_all_its_checks() {
    let tenant = tenant().await;
    tenant.fault(Operation::List, Fault::Reset);
    let folder = folder(&[credentials(), policy("one", json!({ "callerSecretRef": null }))]);
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &["--allow-anonymous"]).await;
    // Fewer than open the circuit breaker, which is another reason.
    for user in ["u1", "u2", "u3"] {
        assert_eq!(service.answer(user, "s").await["reason"], "upstream_unreachable");
    }
    // The log is written in the background, and in order.
    eventually("each check has its line", || async { lines(&process, "check").len() == 3 }).await;
    let logged = lines(&process, "the user's sessions could not be listed");
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(
        (&logged[0]["level"], &logged[0]["tenant"], &logged[0]["suppressed"]),
        (&json!("WARN"), &json!(crate::common::DOMAIN), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_is_not_read_is_logged_once() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    write(folder.path(), "two.txt", &[policy("two", json!({}))]);
    let (process, _) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    write(folder.path(), "three.txt", &[policy("three", json!({}))]);
    let about = |name: &str| process.log().iter().filter(|line| line.to_string().contains(name)).count();
    eventually("both are logged", || async { about("two.txt") > 0 && about("three.txt") > 0 }).await;
    // The lines of one change are written together, and this one comes after them.
    write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("four", json!({}))]);
    eventually("the next change is logged", || async { about("default/four") > 0 }).await;
    assert_eq!((about("two.txt"), about("three.txt")), (1, 1), "{:?}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn abandoned_check_is_logged_with_its_request_id() {
    let tenant = tenant().await;
    let hang = tenant.fault(Operation::List, Fault::Hang);
    let folder = folder(&[credentials(), policy("one", json!({ "callerSecretRef": null }))]);
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &["--allow-anonymous"]).await;
    for (number, user) in ["u1", "u2"].into_iter().enumerate() {
        let request = service.check(user, "s").header("x-request-id", format!("request-{number}"));
        let waiting = tokio::spawn(request.send());
        hang.struck(number as u64 + 1).await;
        waiting.abort();
        let series = "session_checker_checks_abandoned_total";
        eventually("it is counted", async || service.metric(series).await == number as f64 + 1.0).await;
    }
    let message = "the caller left before the answer: its failure mode decides the login, unless it asks again";
    let line = process.logged(message).await;
    assert_eq!(
        (&line["level"], &line["request_id"], &line["suppressed"]),
        (&json!("WARN"), &json!("request-0"), &json!(0)),
        "{line}"
    );
    assert_eq!(lines(&process, message).len(), 1, "the second comes within the minute");
}
