//! `session-checker probe`: what it takes for an answer of the service, and what not.

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::json;

use crate::common::{TOKEN, callers, credentials, folder, policy, strings, tenant};
use crate::process::{Process, finished, place};

/// The exit code and the output of the command.
async fn probe(options: &[&str]) -> (i32, String) {
    finished(&[&["probe"], options].concat()).await
}

/// A server that answers `/readyz` and `/check` with this, whatever is asked.
async fn answering(status: StatusCode, body: &'static str) -> SocketAddr {
    let answer = move || async move { (status, body) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/readyz", get(answer)).route("/check", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_succeeds_on_a_running_service() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (_process, service) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    let (admin, check) = (format!("http://{}", service.admin_address), format!("http://{}/check", service.address));
    let (code, text) = probe(&["--wait=30s", "--admin-url", &admin, "--url", &check]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("/readyz: ready") && text.contains("rejects a caller without a token"), "{text}");

    let place = place();
    let file = place.path().join("token");
    let with_token = |token: &str| {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        ["--url".to_owned(), check.clone(), "--token-file".to_owned(), file.to_str().unwrap().to_owned()]
    };
    let known = with_token(TOKEN);
    let (code, text) = probe(&strings(&known)).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("answers checks ("), "{text}");
    let unknown = with_token("a-token-of-nobody");
    let (code, text) = probe(&strings(&unknown)).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("unexpected answer: 401 Unauthorized") && !text.contains("of-nobody"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_another_server_fail_the_probe() {
    // An ingress without a backend, a login page, and an ingress with a login of its own.
    for (status, body) in [
        (StatusCode::SERVICE_UNAVAILABLE, "no backend"),
        (StatusCode::OK, "<html>log in</html>"),
        (StatusCode::UNAUTHORIZED, "log in"),
        (StatusCode::FOUND, ""),
    ] {
        let address = answering(status, body).await;
        let (code, text) = probe(&["--url", &format!("http://{address}/check")]).await;
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("/check: unexpected answer: ") && text.contains(body), "{text}");
    }
    let address = answering(StatusCode::SERVICE_UNAVAILABLE, "policies are not loaded").await;
    let (code, text) = probe(&["--admin-url", &format!("http://{address}")]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("not ready: 503") && text.contains("policies are not loaded"), "{text}");
    let (code, text) = probe(&["--admin-url", "http://127.0.0.1:1"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("http://127.0.0.1:1/readyz: ") && text.contains("refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_without_a_url_is_a_wrong_usage() {
    for options in [&[][..], &["--token-file=x", "--admin-url=http://x"], &["--url=x"]] {
        assert_eq!(probe(options).await.0, 64, "{options:?}");
    }
}
