//! `--auth0-ca-file` and `--auth0-ca-only`: which CAs are trusted for tenants, and from when on.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tempfile::TempDir;

use crate::auth0_client::{DOMAIN, certificate};
use crate::auth0_connections::Peer;
use crate::common::{APP, Running, credentials, eventually, folder, policy, provider, serve_args, write_text};
use crate::process::{LOOPBACK, Process, place};

/// The file of CAs.
pub(crate) const FILE: &str = "ca.txt";

/// A policy that anybody may use, and the file of CAs beside it.
pub(crate) fn with_ca(ca: &str) -> TempDir {
    let folder = folder(&[policy("p", json!({ "callerSecretRef": null })), credentials()]);
    write_text(folder.path(), FILE, ca);
    folder
}

/// The reason of the answer to a check of a user.
pub(crate) async fn reason(service: &Running, user: &str) -> String {
    let body = json!({ "user_id": user, "client_id": APP, "sid": "s1" });
    let request = service.http.post(format!("http://{}/check", service.address)).json(&body);
    let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    answer["reason"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_ca_file_decides_new_connections() {
    provider();
    let (peer, (_, other)) = (Peer::start(100).await, certificate());
    let folder = with_ca(&other);
    let (path, ca) = (folder.path().to_str().unwrap(), folder.path().join(FILE));
    let endpoint = format!("{DOMAIN}={}", peer.url());
    let options = ["--policy-dir", path, "--auth0-endpoint", &endpoint, "--auth0-ca-file", ca.to_str().unwrap()];
    let options = [&options[..], &["--allow-anonymous"]].concat();
    let service = Running::start(serve_args(&options)).await.unwrap();
    assert_eq!(reason(&service, "u0").await, "upstream_unreachable");

    // Tokens and lists have different clients: both trust it.
    write_text(folder.path(), FILE, &peer.ca);
    eventually("the new CA is trusted", || async { reason(&service, "u1").await == "within_limit" }).await;

    // What cannot be read changes nothing.
    write_text(folder.path(), FILE, "no certificate");
    peer.close.notify_waiters();
    eventually("lists are connected again", || async { reason(&service, "u2").await == "within_limit" }).await;

    write_text(folder.path(), FILE, &other);
    let users = AtomicUsize::new(3);
    let is_unreachable = async || {
        peer.close.notify_waiters();
        let user = format!("u{}", users.fetch_add(1, Ordering::SeqCst));
        reason(&service, &user).await == "upstream_unreachable"
    };
    eventually("the old CA is trusted no more", is_unreachable).await;
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn system_cas_are_not_trusted_with_auth0_ca_only() {
    provider();
    let (peer, (_, other)) = (Peer::start(100).await, certificate());
    let folder = with_ca(&other);
    let (path, ca) = (folder.path().to_str().unwrap(), folder.path().join(FILE));
    let system = folder.path().join("system.txt");
    std::fs::write(&system, &peer.ca).unwrap();
    let endpoint = format!("{DOMAIN}={}", peer.url());
    for (only, reason) in [("false", "within_limit"), ("true", "upstream_unreachable")] {
        let variables = [
            ("SSL_CERT_FILE", system.to_str().unwrap()),
            ("SESSION_CHECKER_AUTH0_CA_FILE", ca.to_str().unwrap()),
            ("SESSION_CHECKER_AUTH0_CA_ONLY", only),
        ];
        let options =
            ["--log-format", "json", "--auth0-endpoint", &endpoint, "--policy-dir", path, "--allow-anonymous"];
        let process = Process::start(place(), &variables, &[&LOOPBACK[..], &options].concat());
        let service = process.listening().await;
        assert_eq!(service.answer("u", "s").await["reason"], reason, "{only}");
    }
}
