//! The log, and what happens to the process while it serves.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_in_a_cluster_and_text_otherwise() {
    let pod = [&VARIABLES[..], &[("KUBERNETES_SERVICE_HOST", "192.0.2.1")]].concat();
    let process = Process::start(place(), &pod, &LOOPBACK);
    process.listening().await;
    let process = Process::start(place(), &pod, &[&LOOPBACK[..], &["--log-format", "text"]].concat());
    eventually("text", || async { process.err().iter().any(|line| line.contains(" listening ")) }).await;
    assert!(!process.err().iter().any(|line| line.starts_with('{')));
    let process = Process::start(place(), &VARIABLES, &LOOPBACK);
    eventually("text", || async { process.err().iter().any(|line| line.contains(" listening ")) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_log_line_has_the_request_id_and_the_callers_trace() {
    let tenant = tenant().await;
    let (process, service) = Process::serve(&tenant, place(), &VARIABLES, &[]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = service
        .check("u", "s")
        .header("x-request-id", "my-request")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "my-request");
    let line = process.logged("check").await;
    assert_eq!((&line["level"], &line["reason"]), (&json!("INFO"), &json!("within_limit")), "{line}");
    assert_eq!((&line["request_id"], &line["trace_id"]), (&json!("my-request"), &json!(trace)));
    assert_eq!(line["user"].as_str().map(str::len), Some(16), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn user_hash_depends_on_the_key() {
    let tenant = tenant().await;
    let mut hashes = Vec::new();
    for key in ["one-key", "one-key", "another-key"] {
        let variables = [&VARIABLES[..], &[("SESSION_CHECKER_LOG_HASH_KEY", key)]].concat();
        let (process, service) = Process::serve(&tenant, place(), &variables, &[]).await;
        service.answer("u", "s").await;
        hashes.push(process.logged("check").await["user"].clone());
    }
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_contains_no_user_no_session_and_no_secret() {
    let tenant = tenant().await;
    let user = "auth0|secretly-anna";
    tenant.add_session(user, Session::new("sid-of-hers-1", tenant.now()).client(APP));
    tenant.add_session(user, Session::new("sid-of-hers-2", tenant.now()).client(APP));
    let policies =
        folder(&[credentials(), callers(), policy("one", json!({ "strategy": "RevokeOldest", "timeout": "2s" }))]);
    let options = ["--policy-dir", policies.path().to_str().unwrap()];
    let (process, service) = Process::serve(&tenant, place(), &[], &options).await;
    let ask = async |sid: &str| service.check(user, sid).bearer_auth(TOKEN).send().await.unwrap().status().as_u16();

    // Every failure of a list and of a revocation.
    let json = |text: &'static str| Fault::json(axum::http::StatusCode::OK, text);
    let redirect = axum::http::HeaderValue::from_static("https://elsewhere.example/");
    for fault in [
        Fault::status(axum::http::StatusCode::INTERNAL_SERVER_ERROR),
        Fault::status(axum::http::StatusCode::FORBIDDEN),
        Fault::status(axum::http::StatusCode::TOO_MANY_REQUESTS),
        Fault::status(axum::http::StatusCode::UNAUTHORIZED),
        Fault::redirect(redirect),
        Fault::Reset,
        Fault::CutShort,
        Fault::NotHttp,
        json("no"),
        json(r#"{"sessions":[{"id":"sid-of-hers-1","user_id":"auth0|secretly-anna"},4]}"#),
    ] {
        let fault = tenant.fault(Operation::List, fault);
        assert_eq!(ask("sid-of-hers-3").await, 200);
        fault.clear();
        let fault = tenant.fault(Operation::Revoke, Fault::Reset);
        assert_eq!(ask("sid-of-hers-4").await, 200);
        fault.clear();
    }
    tenant.fault(Operation::List, Fault::Hang);
    assert_eq!(ask("sid-of-hers-5").await, 200);
    tenant.clear_faults();
    tenant.fault(Operation::Token, Fault::json(axum::http::StatusCode::FORBIDDEN, r#"{"error":"access_denied"}"#));
    tenant.revoke_tokens();
    assert_eq!(ask("sid-of-hers-6").await, 200);
    tenant.clear_faults();

    // Every error of a request.
    let url = format!("http://{}/check", service.address);
    assert_eq!(service.status(Some("a-wrong-token-of-someone")).await, 401);
    for body in [
        format!(r#"{{"user_id":"{user}","client_id":"{APP} x","sid":"sid-of-hers-7"}}"#),
        format!(r#"{{"user_id":"{user}","client_id":["{user}"],"sid":7}}"#),
        format!(r#"["{user}"]"#),
        format!(r#""{user}""#),
        format!(r#"{{"user_id":"{user}","user_id":"{user}"}}"#),
        format!(r#"{{"user_id":{user}"#),
    ] {
        let request = service.http.post(&url).bearer_auth(TOKEN).header("content-type", "application/json");
        let status = request.body(body.clone()).send().await.unwrap().status().as_u16();
        assert!(matches!(status, 400 | 422), "{status}: {body}");
    }
    let path = format!("http://{}/users/auth0%7Csecretly-anna/sessions", service.address);
    assert_eq!(service.http.get(path).send().await.unwrap().status(), 404);

    eventually("all is logged", || async {
        process.log().iter().filter(|line| line["message"] == "request rejected").count() == 8
    })
    .await;
    assert!(process.log().iter().any(|line| line["level"] == "WARN"), "failures are logged");
    let tokens: Vec<_> =
        tenant.requests().iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect();
    assert!(!tokens.is_empty());
    let (_, text) = process.end("TERM").await;
    let secrets = ["secretly-anna", "sid-of-hers", "checker-secret", TOKEN, "a-wrong-token-of-someone"];
    for secret in secrets.into_iter().chain(tokens.iter().map(|token| token.trim_start_matches("Bearer "))) {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{secret} in {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_that_nobody_reads_stops_no_check() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (unread, service) = Unread::start(place(), &strings(&options(&tenant, folder.path())), 1024);
    // A line has some 300 bytes, and a pipe holds 64 KiB.
    for _ in 0..1000 {
        assert_eq!(service.status(Some(TOKEN)).await, 200);
    }
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_file_descriptors_leave_room_for_probes_and_checks() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    let (_unread, service) = Unread::start(place(), &strings(&options(&tenant, folder.path())), 256);
    let mut held = Vec::new();
    for _ in 0..600 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(service.address).await.unwrap());
    }
    for path in ["livez", "readyz", "metrics"] {
        let url = format!("http://{}/{path}", service.admin_address);
        assert_eq!(service.http.get(url).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(service.status(Some(TOKEN)).await, 200);
    // They send nothing, so all but the last 48 made room.
    for series in [
        "session_checker_connections_ended_total{listener=\"checks\",reason=\"shed\"} 552",
        "session_checker_connections_rejected_total{listener=\"checks\",reason=\"source_limit\"} 0",
        "session_checker_accept_errors_total{listener=\"checks\"} 0",
    ] {
        eventually(series, || async { service.admin("/metrics").await.contains(series) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reads_files_again_and_a_second_signal_is_a_failure() {
    let tenant = tenant().await;
    tenant.fault(Operation::List, Fault::Hang);
    let folder = folder(&[credentials(), callers(), policy("one", json!({ "timeout": "10s" }))]);
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &[]).await;
    process.signal("HUP");
    process.logged("reading files again").await;
    let url = format!("http://{}/livez", service.admin_address);
    assert_eq!(service.http.get(url).send().await.unwrap().status(), 200, "it runs on");

    let body = json!({ "user_id": "u", "client_id": APP, "sid": "s" });
    let check = service.http.post(format!("http://{}/check", service.address)).bearer_auth(TOKEN).json(&body);
    let check = tokio::spawn(check.send());
    eventually("the check is under way", || async { tenant.count(Operation::List) > 0 }).await;
    process.signal("TERM");
    process.logged("shutting down").await;
    let (status, text) = process.end("TERM").await;
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("a second SIGTERM ended the service"), "{text}");
    assert!(check.await.unwrap().is_err());
}
