//! Which Secrets a policy uses, and their rotation.

use super::*;

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
