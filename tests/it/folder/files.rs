//! Changed, broken and missing files.

use super::*;

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
async fn replicas_show_whether_their_policies_are_the_same() {
    let tenant = tenant().await;
    let two = |limit: u32| policy("two", json!({ "priority": 1, "limits": { "perClient": limit } }));
    let digest = async |documents: &[Value]| {
        let folder = folder(documents);
        let service = serve(&tenant, &folder).await;
        let digest = service.metric("session_checker_policies_digest").await.unwrap();
        service.stop().await.unwrap();
        digest
    };
    let mut documents = [&limited(1)[..], &[two(5)]].concat();
    let in_order = digest(&documents).await;
    documents.reverse();
    assert_eq!(digest(&documents).await, in_order);
    documents[0] = two(6);
    assert_ne!(digest(&documents).await, in_order, "one limit differs");
}
