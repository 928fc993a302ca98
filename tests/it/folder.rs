//! A folder of policies and Secrets while the service runs: valid, invalid and missing files, and what stays active.

use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_checker::server::TlsFiles;
use simulator::{Application, Session, Simulator};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, Running, TOKEN, callers, credentials, eventually, folder, policy, provider, tenant, write,
};
use crate::https::{Https, write_certificate};

const OTHER_TOKEN: &str = "another-token-of-some-length";

fn empty() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The three documents that a service needs; the policy has this limit.
fn limited(limit: u32) -> [Value; 3] {
    [credentials(), callers(), policy("one", json!({ "limits": { "perClient": limit } }))]
}

fn text(documents: &[Value]) -> String {
    documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

async fn serve(tenant: &Simulator, folder: &TempDir) -> Running {
    Running::path(tenant, folder.path(), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_file_takes_effect_without_a_restart() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.limits("default/one").await, "client=1");
    write(folder.path(), "policies.yaml", &limited(2));
    service.limits_become("default/one", "client=2").await;
    // Also a file that is written in place and keeps its length.
    std::fs::write(folder.path().join("policies.yaml"), text(&limited(3))).unwrap();
    service.limits_become("default/one", "client=3").await;
    assert_eq!(service.check("u", APP, "s").await["limit"], 3);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn added_and_removed_files_add_and_remove_policies() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    let service = serve(&tenant, &folder).await;
    let two = |limit: u32| policy("two", json!({ "priority": 1, "limits": { "perClient": null, "perUser": limit } }));
    write(folder.path(), "two.yml", &[two(5)]);
    service.limits_become("default/two", "user=5").await;
    assert_eq!(service.check("u", APP, "s").await["policy"], "default/two");
    // The extension decides whether a file is read. JSON is read as well as YAML.
    std::fs::remove_file(folder.path().join("two.yml")).unwrap();
    write(folder.path(), "two.json", &[two(6)]);
    service.limits_become("default/two", "user=6").await;
    std::fs::rename(folder.path().join("two.json"), folder.path().join("two.txt")).unwrap();
    eventually("gone", || async { service.policy("default/two").await.is_null() }).await;
    assert_eq!(service.check("v", APP, "s").await["policy"], "default/one");
    let gone = r#"policy="default/two""#;
    assert!(!service.admin("/metrics").await.contains(gone), "the series of a removed policy end");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn subfolders_and_hidden_files_are_not_read() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    std::fs::create_dir(folder.path().join("more.yaml")).unwrap();
    write(&folder.path().join("more.yaml"), "two.yaml", &[policy("two", json!({}))]);
    write(folder.path(), ".three.yaml", &[policy("three", json!({}))]);
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.debug().await["policies"].as_array().unwrap().len(), 1);
    let reports = service.broken_files(1).await;
    assert!(reports.contains("more.yaml/two.yaml") && reports.contains("is not read"), "{reports}");
    service.stop().await.unwrap();
}

/// Mounts files as kubelet does: each is a link through the link `..data` to a folder with a timestamp in its name.
fn mount(mounted: &Path, version: &str, files: &[(&str, String)]) {
    let version = format!("..2026_01_01_00_00_{version}");
    std::fs::create_dir(mounted.join(&version)).unwrap();
    for (name, content) in files {
        std::fs::write(mounted.join(&version).join(name), content).unwrap();
    }
    symlink(&version, mounted.join("..data_tmp")).unwrap();
    let last = std::fs::read_link(mounted.join("..data")).ok();
    std::fs::rename(mounted.join("..data_tmp"), mounted.join("..data")).unwrap();
    for (name, _) in files {
        if mounted.join(name).symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), mounted.join(name)).unwrap();
        }
    }
    let stale = |name: &str| !files.iter().any(|(kept, _)| *kept == name) && !name.starts_with("..");
    for entry in std::fs::read_dir(mounted).unwrap().map(Result::unwrap) {
        if stale(entry.file_name().to_str().unwrap()) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    if let Some(last) = last {
        std::fs::remove_dir_all(mounted.join(last)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_data_link_of_a_mounted_config_map_is_followed() {
    let (tenant, folder) = (tenant().await, empty());
    let two = text(&[policy("two", json!({ "priority": 1 }))]);
    mount(folder.path(), "1", &[("one.yaml", text(&limited(1))), ("two.yaml", two)]);
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.limits("default/one").await, "client=1");
    assert_eq!(service.limits("default/two").await, "client=1");
    mount(folder.path(), "2", &[("one.yaml", text(&limited(7)))]);
    service.limits_become("default/one", "client=7").await;
    eventually("gone", || async { service.policy("default/two").await.is_null() }).await;
    assert_eq!(service.broken_files(0).await, "[]");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_file_keeps_its_last_good_content() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    let service = serve(&tenant, &folder).await;
    let path = folder.path().join("policies.yaml");
    let other_kind = json!({ "apiVersion": "v1", "metadata": { "name": "no-kind" } });
    let broken = [
        "spec: [".to_owned(),
        format!("{}\n---\n{}", text(&limited(9)), other_kind),
        format!("{}\n---\n{{\"kind\": \"SessionPolicy\", \"metadata\": {{\"name\": \"x\"}}}}", text(&limited(9))),
    ];
    for content in broken {
        std::fs::write(&path, &content).unwrap();
        let reports = service.broken_files(1).await;
        assert!(reports.contains("policies.yaml"), "{reports}");
        assert_eq!(service.limits("default/one").await, "client=1", "{content}");
        assert_eq!(service.reason("u", "s").await, "within_limit");
        write(folder.path(), "policies.yaml", &limited(1));
        service.broken_files(0).await;
    }
    // A file that cannot be read: a link without a target.
    std::fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    let reports = service.broken_files(1).await;
    assert!(reports.contains("cannot be read"), "{reports}");
    assert_eq!(service.limits("default/one").await, "client=1");
    write(folder.path(), "policies.yaml", &limited(2));
    service.limits_become("default/one", "client=2").await;
    assert_eq!(service.broken_files(0).await, "[]");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_folder_keeps_its_last_good_content() {
    let (tenant, outer) = (tenant().await, empty());
    let inner = outer.path().join("policies");
    std::fs::create_dir(&inner).unwrap();
    write(&inner, "policies.yaml", &limited(1));
    let service = Running::path(&tenant, &inner, &[]).await;
    std::fs::rename(&inner, outer.path().join("away")).unwrap();
    let reports = service.broken_files(1).await;
    assert!(reports.contains("cannot be read"), "{reports}");
    assert_eq!(service.reason("u", "s").await, "within_limit");
    std::fs::rename(outer.path().join("away"), &inner).unwrap();
    service.broken_files(0).await;
    write(&inner, "policies.yaml", &limited(2));
    service.limits_become("default/one", "client=2").await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn initially_invalid_file_does_not_prevent_readiness() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    std::fs::write(folder.path().join("two.yaml"), format!("{}\n---\n}}", policy("two", json!({})))).unwrap();
    let service = serve(&tenant, &folder).await;
    service.becomes_ready().await;
    let reports = service.broken_files(1).await;
    assert!(reports.contains("two.yaml"), "{reports}");
    assert!(service.policy("default/two").await.is_null());
    assert_eq!(service.reason("u", "s").await, "within_limit", "the other files are used");
    write(folder.path(), "two.yaml", &[policy("two", json!({ "priority": 1 }))]);
    service.limits_become("default/two", "client=1").await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_resource_keeps_its_last_good_version() {
    let (tenant, folder) = (tenant().await, empty());
    let file = |one: Value, limit: u32| {
        let two = policy("two", json!({ "priority": -1, "limits": { "perClient": null, "perUser": limit } }));
        write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", one), two]);
    };
    file(json!({}), 1);
    let service = serve(&tenant, &folder).await;
    let invalid_specs = [
        json!({ "limits": { "perClient": 0 } }),
        json!({ "limit": { "perClient": 3 } }),
        json!({ "overrides": [{ "name": "o", "users": ["u"], "exempt": true, "reason": "unknown" }] }),
    ];
    for (limit, invalid) in (2..).zip(invalid_specs) {
        file(invalid.clone(), limit);
        service.limits_become("default/two", &format!("user={limit}")).await;
        let one = service.policy("default/one").await;
        assert_eq!((&one["in_force"], &one["ready"]), (&json!("last_good"), &json!(false)), "{invalid}: {one}");
        assert_eq!(one["rule"]["terms"]["limits"], "client=1", "{invalid}: {one}");
        assert!(!one["errors"].as_array().unwrap().is_empty(), "{invalid}: {one}");
        assert_eq!(service.check("u", APP, "s").await["policy"], "default/one");
    }
    file(json!({ "limits": { "perClient": 4 } }), 9);
    service.limits_become("default/one", "client=4").await;
    assert_eq!(service.policy("default/one").await["in_force"], "newest");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn initially_invalid_resource_answers_by_its_failure_policy() {
    let tenant = tenant().await;
    let bad = policy("one", json!({ "limit": 3, "failurePolicy": "Deny", "message": "Later." }));
    let service = Running::folder(&tenant, &[credentials(), callers(), bad], &[]).await;
    service.becomes_ready().await;
    let one = service.policy("default/one").await;
    assert_eq!(one["in_force"], "failure_policy", "{one}");
    assert!(one["errors"].to_string().contains("limit"), "{one}");
    let answer = service.check("u", APP, "s").await;
    assert_eq!((&answer["block"], &answer["reason"]), (&json!(true), &json!("policy_invalid")), "{answer}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_kinds_are_ignored() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    let others = [
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" }, "data": { "a": "b" } }),
        json!({ "apiVersion": "example.com/v2", "kind": "Policy", "metadata": { "name": "new" } }),
        policy("two", json!({ "priority": 1 })),
    ];
    write(folder.path(), "others.yaml", &others);
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.broken_files(0).await, "[]");
    let debug = service.debug().await;
    let names: Vec<_> = debug["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["default/one", "default/two"]);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn first_of_two_definitions_is_used_and_the_second_reported() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    write(folder.path(), "zz.yaml", &[policy("one", json!({ "limits": { "perClient": 5 } })), callers()]);
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.limits("default/one").await, "client=1");
    let reports = service.debug().await["broken_files"].to_string();
    assert!(reports.contains("zz.yaml") && reports.contains("policies.yaml"), "{reports}");
    assert!(reports.contains("default/one") && reports.contains("default/callers"), "{reports}");
    assert_eq!(
        service.metric("session_checker_policy_files_broken").await,
        Some(1.0),
        "the metric counts files, not errors"
    );
    std::fs::remove_file(folder.path().join("policies.yaml")).unwrap();
    service.limits_become("default/one", "client=5").await;
    service.broken_files(0).await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_belong_to_the_namespace_of_the_policy() {
    let tenant = tenant().await;
    let mut far = policy("far", json!({ "priority": 1 }));
    far["metadata"]["namespace"] = json!("team-b");
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("near", json!({})), far], &[]).await;
    let far = service.policy("team-b/far").await;
    assert!(far["credentials"].as_str().unwrap().contains("team-b/tenant does not exist"), "{far}");
    assert!(far["callers"].as_str().unwrap().contains("team-b/callers does not exist"), "{far}");
    assert_eq!(service.check("u", APP, "s").await["policy"], "default/near", "no caller may use the other policy");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn string_data_of_a_secret_overrides_data() {
    let tenant = tenant().await;
    let mut secret = credentials();
    secret["stringData"] = json!({ "clientSecret": "checker-secret" });
    secret["data"] = json!({
        "domain": BASE64.encode(DOMAIN), "clientId": BASE64.encode("checker\n"), "clientSecret": BASE64.encode("wrong"),
    });
    let service = Running::folder(&tenant, &[secret, callers(), policy("one", json!({}))], &[]).await;
    assert_eq!(service.reason("u", "s").await, "within_limit");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_of_another_type_or_domain_is_not_used() {
    let tenant = tenant().await;
    for (pointer, value, problem) in [
        ("/type", "Opaque", "sessionchecker.dev/credentials"),
        ("/type", "sessionchecker.dev/callers", "sessionchecker.dev/credentials"),
        ("/stringData/domain", "other.eu.auth0.com", "is not for acme.eu.auth0.com"),
        ("/stringData/clientSecret", "", "clientSecret"),
    ] {
        let mut secret = credentials();
        *secret.pointer_mut(pointer).unwrap() = json!(value);
        let service = Running::folder(&tenant, &[secret, callers(), policy("one", json!({}))], &[]).await;
        assert_eq!(service.reason("u", "s").await, "credentials_missing", "{pointer} {value}");
        let one = service.policy("default/one").await;
        assert!(one["credentials"].as_str().unwrap().contains(problem), "{one}");
        assert_eq!(service.metric(&ready_series()).await, Some(0.0));
        service.stop().await.unwrap();
    }
    assert_eq!(tenant.requests().len(), 0, "no request was sent");
}

fn ready_series() -> String {
    format!(r#"session_checker_policy_ready{{policy="default/one",tenant="{DOMAIN}"}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn domain_is_case_insensitive() {
    let tenant = tenant().await;
    let mut secret = credentials();
    secret["stringData"]["domain"] = json!(DOMAIN.to_uppercase());
    secret["stringData"]["customDomain"] = json!("login.acme.example");
    let service = Running::folder(&tenant, &[secret, callers(), policy("one", json!({}))], &[]).await;
    assert_eq!(service.reason("u", "s").await, "within_limit", "an unused custom domain changes nothing");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_domain_must_be_allowed_by_the_secret() {
    let tenant = tenant().await;
    let custom = policy("one", json!({ "tenant": { "customDomain": "login.acme.example" } }));
    let service = Running::folder(&tenant, &[credentials(), callers(), custom], &[]).await;
    assert_eq!(service.reason("u", "s").await, "credentials_missing");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_follows_its_secret_and_survives_an_invalid_one() {
    let (tenant, folder) = (tenant().await, folder(&[callers(), policy("one", json!({}))]));
    write(folder.path(), "secret.yaml", &[credentials()]);
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.reason("u1", "s").await, "within_limit");

    tenant.add_application(Application::with_secret("next", "next-secret"));
    let mut next = credentials();
    next["stringData"]["clientId"] = json!("next");
    next["stringData"]["clientSecret"] = json!("next-secret");
    write(folder.path(), "secret.yaml", std::slice::from_ref(&next));
    let used =
        || tenant.requests().iter().any(|request| String::from_utf8_lossy(&request.body).contains("next-secret"));
    let mut attempts = 0;
    while !used() {
        attempts += 1;
        assert!(attempts < 1_000, "the new credential is never used");
        assert_eq!(service.reason(&format!("v{attempts}"), "s").await, "within_limit");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let mut wrong = next.clone();
    wrong["stringData"].as_object_mut().unwrap().remove("clientSecret");
    write(folder.path(), "secret.yaml", &[wrong]);
    let state = || async { service.policy("default/one").await["credentials"].as_str().unwrap().to_owned() };
    eventually("the error is reported", || async { state().await.contains("last good version stays in use") }).await;
    assert_eq!(service.reason("u2", "s").await, "within_limit");
    assert_eq!(service.metric(&ready_series()).await, Some(0.0));

    std::fs::remove_file(folder.path().join("secret.yaml")).unwrap();
    eventually("the missing Secret is reported", || async { state().await.contains("does not exist") }).await;
    assert_eq!(service.reason("u3", "s").await, "credentials_missing");
    assert_eq!(service.ready().await, 200, "a ready service stays ready");

    write(folder.path(), "secret.yaml", &[next]);
    eventually("ready again", || async { state().await == "ready" }).await;
    assert_eq!(service.reason("u4", "s").await, "within_limit");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_credential_does_not_replace_the_working_one() {
    let (tenant, folder) = (tenant().await, folder(&[callers(), policy("one", json!({ "recheckAfter": "0s" }))]));
    write(folder.path(), "secret.yaml", &[credentials()]);
    let service = serve(&tenant, &folder).await;
    let reasons = || async {
        let conditions = service.policy("default/one").await["conditions"].take();
        let of = |kind: &str| {
            conditions.as_array().unwrap().iter().find(|one| one["type"] == kind).unwrap()["reason"].clone()
        };
        (of("CredentialsReady"), of("Ready"))
    };
    let becomes = |credentials: &'static str, ready: &'static str| {
        eventually(ready, move || async move { reasons().await == (json!(credentials), json!(ready)) })
    };
    becomes("Proven", "Ready").await;

    let mut next = credentials();
    next["stringData"]["clientId"] = json!("next");
    next["stringData"]["clientSecret"] = json!("next-secret");
    write(folder.path(), "secret.yaml", std::slice::from_ref(&next));
    becomes("NewCredentialsRejected", "NewCredentialsRejected").await;
    assert_eq!(service.reason("u1", "s").await, "within_limit", "with the old credential");
    assert_eq!(service.metric(&ready_series()).await, Some(0.0));

    // A credential without a needed scope does not replace the working one either.
    tenant.add_application(Application::with_secret("narrow", "narrow-secret").scopes(["read:users"]));
    next["stringData"]["clientId"] = json!("narrow");
    next["stringData"]["clientSecret"] = json!("narrow-secret");
    write(folder.path(), "secret.yaml", std::slice::from_ref(&next));
    eventually("the missing scope is reported", || async {
        service.policy("default/one").await["credentials"].as_str().unwrap().contains("lacks read:sessions")
    })
    .await;
    assert_eq!(service.reason("u2", "s").await, "within_limit", "with the old credential");

    tenant.add_application(Application::with_secret("good", "good-secret"));
    next["stringData"]["clientId"] = json!("good");
    next["stringData"]["clientSecret"] = json!("good-secret");
    write(folder.path(), "secret.yaml", std::slice::from_ref(&next));
    let used =
        || tenant.requests().iter().any(|request| request.form().get("client_id").is_some_and(|id| id == "good"));
    eventually("the valid credential requests a token", || async { used() }).await;
    becomes("Proven", "Ready").await;
    let tokens = tenant.count(simulator::Operation::Token);
    assert_eq!(service.reason("u3", "s").await, "within_limit");
    assert_eq!(tenant.count(simulator::Operation::Token), tokens, "checks use the token of the probe");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_caller_tokens_allow_rotation_and_a_short_one_is_skipped() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), policy("one", json!({}))]);
    let rotate = |tokens: Value| {
        let mut secret = callers();
        secret["stringData"] = tokens;
        write(folder.path(), "callers.yaml", &[secret]);
    };
    rotate(json!({ "previous": TOKEN }));
    let service = serve(&tenant, &folder).await;
    assert_eq!((service.status(TOKEN).await, service.status(OTHER_TOKEN).await), (200, 401));
    rotate(json!({ "previous": TOKEN, "current": format!("  {OTHER_TOKEN}\n"), "next": "fifteen-letters" }));
    eventually("both tokens are valid", || async { service.status(OTHER_TOKEN).await == 200 }).await;
    assert_eq!((service.status(TOKEN).await, service.status("fifteen-letters").await), (200, 401));
    let callers_report = service.policy("default/one").await["callers"].to_string();
    assert!(callers_report.contains("next") && !callers_report.contains("fifteen-letters"), "{callers_report}");
    rotate(json!({ "current": OTHER_TOKEN }));
    eventually("only the new token is valid", || async { service.status(TOKEN).await == 401 }).await;
    assert_eq!(service.status(OTHER_TOKEN).await, 200);
    std::fs::remove_file(folder.path().join("callers.yaml")).unwrap();
    eventually("no token is valid", || async { service.status(OTHER_TOKEN).await == 401 }).await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_token_file_is_followed_and_kept_when_unreadable() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), policy("one", json!({ "callerSecretRef": null }))]);
    let file = folder.path().join("tokens");
    std::fs::write(&file, format!("# the Action's\n\n  {TOKEN}\r\nshort\n")).unwrap();
    let options = ["--caller-token-file", file.to_str().unwrap()];
    let service = Running::path(&tenant, folder.path(), &options).await;
    assert_eq!((service.status(TOKEN).await, service.status("short").await), (200, 401));
    assert_eq!(service.status("# the Action's").await, 401);
    std::fs::write(&file, format!("{TOKEN}\n{OTHER_TOKEN}\n")).unwrap();
    eventually("both tokens are valid", || async { service.status(OTHER_TOKEN).await == 200 }).await;
    assert_eq!(service.status(TOKEN).await, 200);
    std::fs::write(&file, OTHER_TOKEN).unwrap();
    eventually("only the new token is valid", || async { service.status(TOKEN).await == 401 }).await;
    std::fs::remove_file(&file).unwrap();
    // A change of the folder that takes effect shows that a scan happened after the file was removed.
    for limit in [2, 3] {
        let changed = policy("one", json!({ "callerSecretRef": null, "limits": { "perClient": limit } }));
        write(folder.path(), "policies.yaml", &[credentials(), changed]);
        service.limits_become("default/one", &format!("client={limit}")).await;
    }
    assert_eq!(service.status(OTHER_TOKEN).await, 200);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn force_audit_file_switches_all_policies_without_a_restart() {
    let (tenant, folder, settings) = (tenant().await, empty(), tempfile::tempdir().unwrap());
    let one = policy("one", json!({ "missingSession": "Deny" }));
    write(folder.path(), "policies.yaml", &[credentials(), callers(), one]);
    let file = settings.path().join("force-audit");
    std::fs::write(&file, "false\n").unwrap();
    let options = ["--force-audit-file", file.to_str().unwrap()];
    let service = Running::path(&tenant, folder.path(), &options).await;
    let blocks = || async { service.check("auth0|anna", APP, "").await["block"] == true };
    assert!(blocks().await);

    std::fs::write(&file, "true\n").unwrap();
    eventually("audit", || async { !blocks().await }).await;
    assert_eq!(service.check("auth0|anna", APP, "").await["audited_reason"], "no_session");
    assert_eq!(service.metric("session_checker_force_audit").await, Some(1.0));
    std::fs::write(&file, "false\n").unwrap();
    eventually("enforced again", || async { blocks().await }).await;
    assert_eq!(service.metric("session_checker_force_audit").await, Some(0.0));
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_output_contains_no_secrets_and_no_users() {
    let (tenant, folder) = (tenant().await, empty());
    let vip = json!({ "name": "vip", "users": ["auth0|anna-secretly", "auth0|bert"], "exempt": true });
    let one = policy("one", json!({ "overrides": [vip] }));
    write(folder.path(), "policies.yaml", &[credentials(), callers(), one]);
    // The syntax error is at the secret, so that the report is as likely to quote it as possible.
    let broken = text(&[credentials()]).replace(r#""checker-secret""#, r#""checker-secret"#);
    std::fs::write(folder.path().join("broken.yaml"), broken).unwrap();
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.reason("u", "s").await, "within_limit");
    let debug = service.debug().await;
    let output = debug.to_string();
    assert_eq!(debug["policies"][0]["rule"]["terms"]["overrides"][0]["users"], 2, "{debug}");
    service.broken_files(1).await;
    for secret in ["checker-secret", TOKEN, "auth0|anna-secretly", "auth0|bert"] {
        assert!(!output.contains(secret), "{secret} in {output}");
        assert!(!service.admin("/metrics").await.contains(secret), "{secret} in the metrics");
    }
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_change_does_not_request_a_new_token() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    tenant.add_session("u1", Session::new("s", tenant.now()));
    let service = serve(&tenant, &folder).await;
    assert_eq!(service.reason("u1", "s").await, "within_limit");
    write(folder.path(), "policies.yaml", &limited(2));
    service.limits_become("default/one", "client=2").await;
    assert_eq!(service.reason("u2", "s").await, "within_limit");
    assert_eq!(tenant.count(simulator::Operation::Token), 1);
    service.stop().await.unwrap();
}

/// Whether a new connection that trusts only this certificate is served.
async fn is_served(address: std::net::SocketAddr, certificate: &reqwest::Certificate) -> bool {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([certificate.clone()]).build().unwrap();
    let body = json!({ "user_id": "u", "client_id": APP });
    http.post(format!("https://{address}/check")).bearer_auth(TOKEN).json(&body).send().await.is_ok_and(|response| {
        assert_eq!(response.status(), 200);
        true
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn https_uses_the_configured_certificate() {
    let (tenant, folder) = (tenant().await, folder(&limited(1)));
    let trusted = write_certificate(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let options = ["--tls-cert", &path("cert.pem"), "--tls-key", &path("key.pem")];
    let service = Running::path(&tenant, folder.path(), &options).await;
    assert!(is_served(service.address, &trusted).await);
    assert!(
        !is_served(service.address, &write_certificate(empty().path())).await,
        "another certificate is not trusted"
    );
    // The admin listener stays plain.
    service.becomes_ready().await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_reloaded_and_an_invalid_one_is_ignored() {
    provider();
    let folder = empty();
    let first = write_certificate(folder.path());
    let tls =
        TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem"), client_ca: None };
    let config = tls.load().await.unwrap();
    let https = Https::serve(config.clone());
    assert!(is_served(https.address, &first).await);

    let second = write_certificate(folder.path());
    tls.reload(&config).await.unwrap();
    assert!(is_served(https.address, &second).await && !is_served(https.address, &first).await);

    write_certificate(folder.path());
    std::fs::copy(folder.path().join("cert.pem"), folder.path().join("key.pem")).unwrap();
    let error = tls.reload(&config).await.unwrap_err().to_string();
    assert!(error.contains("cert.pem") && error.contains("key.pem"), "{error}");
    assert!(is_served(https.address, &second).await);
    https.stop().await;
}
