//! What nobody reads never means that everybody may log in: unknown kinds, names that are not read, too large files, and
//! no policy at all.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{APP, Running, callers, credentials, eventually, folder, policy, tenant, write};
use crate::process::{LOOPBACK, Process, finish, place};

/// A policy with this `apiVersion` and `kind`, and a limit of 9.
fn typed(api_version: &str, kind: &str) -> Value {
    let mut written = policy("one", json!({ "limits": { "perClient": 9 } }));
    (written["apiVersion"], written["kind"]) = (json!(api_version), json!(kind));
    written
}

/// Documents that are meant for this service, and that it cannot read.
fn unreadable_types() -> Vec<Value> {
    let list = |kind: &str, item: Value| json!({ "apiVersion": "v1", "kind": kind, "items": [item] });
    vec![
        typed("sessionchecker.dev/v1alpha1", "SessionPolcy"),
        typed("sessionchecker.dev/v1alpha1", "sessionpolicy"),
        typed("sessionchecker.dev/v2", "SessionPolicy"),
        typed("sessionchecker.dev", "SessionPolicy"),
        typed("SessionChecker.dev/v1alpha1", "SessionPolicy"),
        typed("session-checker.dev/v1alpha1", "SessionPolicy"),
        list("List", typed("sessionchecker.dev/v2", "SessionPolicy")),
    ]
}

fn path(folder: &TempDir) -> String {
    folder.path().to_str().unwrap().to_owned()
}

#[test]
fn unknown_kind_or_version_is_a_problem_for_validate() {
    for document in unreadable_types() {
        let folder = folder(&[policy("two", json!({})), document.clone()]);
        let (code, text) = finish(&[], &["validate", &path(&folder)]);
        assert_eq!(code, 1, "{document}: {text}");
        assert!(text.contains("default/one") && text.contains("sessionchecker.dev/v1alpha1"), "{document}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_kind_or_version_keeps_the_last_good_version() {
    let (tenant, folder) = (tenant().await, folder(&[credentials(), callers(), policy("one", json!({}))]));
    let service = Running::path(&tenant, folder.path(), &[]).await;
    for document in unreadable_types() {
        write(folder.path(), "policies.yaml", &[credentials(), callers(), document.clone()]);
        let broken = |debug: &Value| debug["policies"][0]["in_force"] == "last_good";
        eventually("the broken version is seen", || async { broken(&service.debug().await) }).await;
        let one = service.debug().await["policies"][0].take();
        assert_eq!(
            (&one["name"], &one["rule"]["terms"]["limits"]),
            (&json!("default/one"), &json!("client=1")),
            "{one}"
        );
        assert_eq!(one["ready"], false, "{one}");
        assert_eq!(service.metric("session_checker_policies{state=\"last_good\"}").await, Some(1.0));
        write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", json!({}))]);
        eventually("it is repaired", || async { service.debug().await["policies"][0]["ready"] == true }).await;
    }
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_lists_are_read_as_lists() {
    let tenant = tenant().await;
    let list =
        |kind: &str, version: &str, items: Vec<Value>| json!({ "apiVersion": version, "kind": kind, "items": items });
    // The items of a typed list may leave their type out.
    let mut bare = policy("two", json!({ "priority": 1 }));
    (bare["apiVersion"], bare["kind"]) = (Value::Null, Value::Null);
    let documents = [
        list("SecretList", "v1", vec![credentials(), callers()]),
        list("SessionPolicyList", "sessionchecker.dev/v1alpha1", vec![policy("one", json!({})), bare]),
    ];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let debug = service.debug().await;
    let names: Vec<&Value> = debug["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["default/one", "default/two"], "{debug}");
    assert_eq!(service.check("u", "app", "s").await["policy"], "default/two");
    service.stop().await.unwrap();
}

/// Writes a policy where it is not read.
fn hide(folder: &Path, name: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, policy("hidden", json!({})).to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_in_a_file_that_is_not_read_is_reported() {
    let tenant = tenant().await;
    for name in ["policy", "policy.yaml.txt", "sub/policy.yaml", "sub/deeper/policy.json", "sub.yaml/policy.YML"] {
        let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
        let service = Running::path(&tenant, folder.path(), &[]).await;
        assert_eq!(service.debug().await["broken_files"], json!([]));
        hide(folder.path(), name);
        let reported = || async { service.debug().await["broken_files"].to_string().contains("is not read") };
        eventually(name, reported).await;
        assert_eq!(service.metric("session_checker_policy_files_broken").await, Some(1.0), "{name}");
        let (code, text) = finish(&[], &["validate", &path(&folder)]);
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.contains("is not read"), "{name}: {text}");
        service.stop().await.unwrap();
    }
}

#[test]
fn other_files_beside_policies_are_no_problem() {
    let folder = folder(&[policy("one", json!({}))]);
    for name in ["README", "notes.txt", "sub/values.yaml", "script.sh"] {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "It is about sessionchecker.dev/v1alpha1.\nlimits: 1\n").unwrap();
    }
    for name in ["README.md", "one.yaml.bak", "one.yaml~", ".one", ".git/one.yaml", "one.yaml.disabled"] {
        hide(folder.path(), name);
    }
    let (code, text) = finish(&[], &["validate", &path(&folder)]);
    assert_eq!(code, 0, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_is_read_in_any_case() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers()]);
    for (name, file) in [("a", "a.YAML"), ("b", "b.Yml"), ("c", "c.JSON")] {
        write(folder.path(), file, &[policy(name, json!({ "selector": { "clientIds": [name] } }))]);
    }
    let service = Running::path(&tenant, folder.path(), &[]).await;
    assert_eq!(service.debug().await["policies"].as_array().unwrap().len(), 3);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn file_over_a_bound_keeps_its_last_good_content() {
    let (tenant, folder) = (tenant().await, folder(&[credentials(), callers(), policy("one", json!({}))]));
    let service = Running::path(&tenant, folder.path(), &[]).await;
    let many: Vec<Value> = (0..1025).map(|number| policy(&format!("p{number}"), json!({}))).collect();
    let wide = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "x": vec![1; 300_000] } });
    for (documents, bound) in [(many, "1024 documents"), (vec![wide], "250000 values")] {
        write(folder.path(), "policies.yaml", &documents);
        let reported = || async { service.debug().await["broken_files"].to_string().contains(bound) };
        eventually(bound, reported).await;
        let debug = service.debug().await;
        assert!(debug["broken_files"].to_string().contains("Split it"), "{debug}");
        assert_eq!(debug["policies"][0]["rule"]["terms"]["limits"], "client=1", "{debug}");
    }
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn service_without_policies_warns_and_says_so() {
    let folder = folder(&[credentials()]);
    let options = ["--log-format", "json", "--policy-dir", folder.path().to_str().unwrap()];
    let process = Process::start(place(), &[], &[&LOOPBACK[..], &options].concat());
    let service = process.listening().await;
    let line = process.logged("no policy is loaded: no login is limited").await;
    assert_eq!(line["level"], "WARN", "{line}");
    eventually("ready without policies", async || {
        let ready = service.admin("/readyz").await;
        ready.contains("\"ready\":true") && ready.contains("\"policies\":0")
    })
    .await;
    write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", json!({}))]);
    process.logged("policy loaded").await;
    write(folder.path(), "policies.yaml", &[credentials()]);
    let warned =
        || process.log().iter().filter(|line| line["message"] == "no policy is loaded: no login is limited").count();
    eventually("the second warning", || async { warned() == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_limit_in_a_folder_is_logged_and_counted() {
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let options = ["--log-format", "json", "--policy-dir", folder.path().to_str().unwrap()];
    let process = Process::start(place(), &[], &[&LOOPBACK[..], &options].concat());
    let service = process.listening().await;
    for (generation, limit) in [(2, 3), (3, 5)] {
        write(
            folder.path(),
            "policies.yaml",
            &[credentials(), callers(), policy("one", json!({ "limits": { "perClient": limit } }))],
        );
        let limits = format!("client={limit}");
        let logged = || {
            let lines = process.log();
            lines.into_iter().any(|line| {
                line["message"] == "policy loaded" && line["generation"] == generation && line["limits"] == limits
            })
        };
        eventually("the change is logged", || async { logged() }).await;
        // The line is written just before the policy takes effect.
        eventually("the generation is shown", async || {
            service.debug().await["policies"][0]["generation"] == generation
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_check_of_each_policy_is_shown() {
    let tenant = tenant().await;
    let other = policy("other", json!({ "selector": { "clientIds": ["none"] } }));
    let documents = [credentials(), callers(), policy("one", json!({})), other];
    let service = Running::folder(&tenant, &documents, &[]).await;
    let times = || async {
        let debug = service.debug().await;
        let policies = debug["policies"].as_array().unwrap().clone();
        policies.into_iter().map(|mut policy| policy["last_check"].take()).collect::<Vec<_>>()
    };
    assert_eq!(times().await, [Value::Null, Value::Null]);
    service.check("u", APP, "s").await;
    let shown = times().await;
    assert!(shown[0].as_str().is_some_and(|time| time.ends_with('Z')), "{shown:?}");
    assert_eq!(shown[1], Value::Null);
    service.stop().await.unwrap();
}
