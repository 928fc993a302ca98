//! Other files that the service follows, and what it shows of them.

use super::*;

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
