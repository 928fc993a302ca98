//! The program as a process with its own environment: its input, output, log and exit codes.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use simulator::{Fault, Operation, Session};
use tempfile::TempDir;

use crate::common::{
    APP, DOMAIN, TOKEN, callers, credentials, eventually, folder, options, policy, strings, tenant, write,
};
use crate::process::{LOOPBACK, Process, Unread, VARIABLES, exit_and_output, finish, http, place, program};

const OUTSIDE: [&str; 5] = ["serve", "--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"];

#[tokio::test(flavor = "multi_thread")]
async fn unused_proxy_variables_are_warned_about_once() {
    const WARNING: &str = "proxy variables are set and not used: give --auth0-proxy to reach Auth0 through a proxy";
    let tenant = tenant().await;
    let set = [("HTTPS_PROXY", "http://me:s3cret@proxy:3128"), ("all_proxy", "socks5://proxy"), ("ALL_PROXY", "")];
    let variables = [&VARIABLES[..], &set].concat();
    let (process, _) = Process::serve(&tenant, place(), &variables, &[]).await;
    assert_eq!(process.logged(WARNING).await["variables"], "HTTPS_PROXY, all_proxy");
    let warnings = |process: &Process| process.log().iter().filter(|line| line["message"] == WARNING).count();
    assert_eq!(warnings(&process), 1);
    assert!(!process.log().iter().any(|line| line.to_string().contains("s3cret")));

    // The simulated tenant speaks http, so it is reached directly.
    let (process, service) =
        Process::serve(&tenant, place(), &variables, &["--auth0-proxy", "http://127.0.0.1:1"]).await;
    assert_eq!(service.answer("u", "s1").await["reason"], "within_limit");
    assert_eq!(warnings(&process), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_demo_variables_suffice_on_loopback() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()).client(APP));
    let (process, service) = Process::serve(&tenant, place(), &VARIABLES, &[]).await;
    let answer = service.answer("u", "s2").await;
    assert_eq!((&answer["block"], &answer["policy"]), (&json!(true), &json!("env/auth0")), "{answer}");
    let debug = service.debug().await;
    let terms = &debug["policies"][0]["rule"]["terms"];
    assert_eq!((&terms["limits"], &terms["reentry"]), (&json!("client=1"), &json!("CountOthers")), "{debug}");
    assert_eq!(debug["policies"][0]["rule"]["failure_policy"], "Allow");
    let (status, _) = process.end("TERM").await;
    assert_eq!(status.code(), Some(0));
}

#[test]
fn missing_variable_is_named() {
    for (name, _) in VARIABLES {
        let others: Vec<_> = VARIABLES.into_iter().filter(|(other, _)| *other != name).collect();
        let mut emptied = others.clone();
        emptied.push((name, ""));
        for variables in [others, emptied] {
            let (code, text) = finish(&variables, &LOOPBACK);
            assert_eq!(code, 64, "{text}");
            assert!(text.contains(&format!("{name} is not set")), "{text}");
            assert!(!text.contains("checker-secret"), "{text}");
        }
    }
    let (code, text) = finish(&VARIABLES[..1], &LOOPBACK);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET are not set"), "{text}");
}

#[test]
fn invalid_domain_is_reported() {
    for domain in ["https://acme.eu.auth0.com", "192.0.2.1", "acme"] {
        let mut variables = VARIABLES;
        variables[0].1 = domain;
        let (code, text) = finish(&variables, &LOOPBACK);
        assert_eq!(code, 64, "{domain}: {text}");
        assert!(text.contains("AUTH0_DOMAIN"), "{domain}: {text}");
    }
}

#[test]
fn missing_policy_source_is_reported() {
    let (code, text) = finish(&[], &LOOPBACK);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("--policy-dir") && text.contains("AUTH0_DOMAIN"), "{text}");
    let (code, text) = finish(&[], &[&LOOPBACK[..], &["--policy-dir", "nowhere"]].concat());
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("--policy-dir nowhere: this is not a folder"), "{text}");
}

#[test]
fn broken_kubeconfig_is_reported_without_its_content() {
    let place = place();
    let path = place.path().join("kubeconfig");
    let variables = [("KUBECONFIG", path.to_str().unwrap())];
    let serve = || {
        let (code, text) = exit_and_output(program(&place, &variables, &LOOPBACK).output().unwrap());
        assert_eq!(code, 64, "{text}");
        text
    };
    let text = serve();
    assert!(text.contains("failed to read kubeconfig") && text.contains("No such file"), "{text}");
    std::fs::write(&path, "users:\n- name: a\n  user: { token: hunter2-hunter2, token: [ }\n").unwrap();
    let text = serve();
    assert!(text.contains("no usable kubeconfig: it cannot be parsed: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn invalid_endpoint_of_a_collector_exits_with_64() {
    for name in
        ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"]
    {
        let (code, text) = finish(&[&VARIABLES[..], &[(name, "http://[no url")]].concat(), &LOOPBACK);
        assert_eq!(code, 64, "{text}");
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn invalid_log_filter_is_reported() {
    let place = folder(&[]);
    let arguments = ["check", "--policy-dir", ".", "--user", "u", "--client", APP];
    let run = |filter| exit_and_output(program(&place, &[("RUST_LOG", filter)], &arguments).output().unwrap()).1;
    assert!(run("info=hello=world").contains("RUST_LOG is invalid; the default filter applies"));
    assert!(!run("info").contains("RUST_LOG"));
}

#[test]
fn unusable_settings_file_is_reported_with_its_option() {
    let place = place();
    let file = place.path().join("switch");
    std::fs::write(&file, "maybe").unwrap();
    let file = file.to_str().unwrap();
    let (code, text) = finish(&VARIABLES, &[&LOOPBACK[..], &["--force-audit-file", file]].concat());
    assert_eq!(code, 64, "{text}");
    assert!(text.contains(&format!("--force-audit-file {file}: must contain true or false")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn problem_and_its_end_are_logged_without_duplicate_keys() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({ "limits": { "perClient": 0 } }))]);
    write(folder.path(), "more.yaml", &[callers()]);
    let options = ["--policy-dir", folder.path().to_str().unwrap()];
    let (process, _) = Process::serve(&tenant, place(), &[("RUST_LOG", "debug")], &options).await;
    // Every line that `logged` reads is checked for duplicate keys.
    let line = process.logged("policy condition is False").await;
    assert!(line["detail"].as_str().unwrap().starts_with("spec.limits.perClient"), "{line}");
    let line = process.logged("policy file not used completely").await;
    assert!(line["error"].as_str().unwrap().contains("is defined twice"), "{line}");
    process.logged("policy condition changed").await;

    write(folder.path(), "more.yaml", &[]);
    write(folder.path(), "policies.yaml", &[credentials(), callers(), policy("one", json!({}))]);
    process.logged("policy condition is True again").await;
    process.logged("policy file has no errors any more").await;
}

#[test]
fn service_without_callers_does_not_start_outside_loopback() {
    let place = place();
    std::fs::write(place.path().join("tokens"), "short\n").unwrap();
    let file = place.path().join("tokens");
    let rejected: [(&[(&str, &str)], &[&str]); 3] = [
        (&[], &[]),
        (&[("CALLER_TOKEN", "fifteen-letters")], &[]),
        (&[], &["--caller-token-file", file.to_str().unwrap()]),
    ];
    for (more, options) in rejected {
        let variables = [&VARIABLES[..], more].concat();
        let (code, text) = finish(&variables, &[&OUTSIDE[..], options].concat());
        assert_eq!(code, 64, "{text}");
        assert!(text.contains("no caller authentication is configured for 0.0.0.0:0"), "{text}");
        for way_out in ["CALLER_TOKEN", "--caller-token-file", "--allow-anonymous"] {
            assert!(text.contains(way_out), "{way_out} in {text}");
        }
        assert!(!text.contains("fifteen-letters"), "{text}");
    }
    let (code, _) = finish(&[&VARIABLES[..], &[("CALLER_TOKEN", "fifteen-letters")]].concat(), &LOOPBACK);
    assert_eq!(code, 64, "an invalid token does not allow everyone, not even on loopback");
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_tokens_come_from_the_environment_or_a_file() {
    let tenant = tenant().await;
    let place_of_file = place();
    let file = place_of_file.path().join("tokens");
    std::fs::write(&file, TOKEN).unwrap();
    let file = file.to_str().unwrap();
    let ways: [(&[(&str, &str)], &[&str]); 3] = [
        (&[("CALLER_TOKEN", TOKEN)], &[]),
        (&[], &["--caller-token-file", file]),
        (&[("SESSION_CHECKER_CALLER_TOKEN_FILE", file)], &[]),
    ];
    for (more, options) in ways {
        let variables = [&VARIABLES[..], more].concat();
        let (process, service) = Process::serve(&tenant, place(), &variables, options).await;
        assert_eq!(service.status(Some(TOKEN)).await, 200);
        assert_eq!(service.status(Some("a-token-that-nobody-gave-out")).await, 401);
        assert_eq!(service.status(None).await, 401, "with a token, loopback is no longer open");
        let (status, _) = process.end("TERM").await;
        assert_eq!(status.code(), Some(0));
    }
    let variables = [&VARIABLES[..], &[("SESSION_CHECKER_ALLOW_ANONYMOUS", "true")]].concat();
    let process = Process::start(place(), &variables, &[&OUTSIDE[..], &["--log-format", "json"]].concat());
    process.listening().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_takes_precedence_over_dotenv() {
    let tenant = tenant().await;
    let place = place();
    let text = format!("AUTH0_DOMAIN={DOMAIN}\nAUTH0_CLIENT_ID=checker\nAUTH0_CLIENT_SECRET=wrong\n");
    std::fs::write(place.path().join(".env"), text).unwrap();
    let (_process, service) = Process::serve(&tenant, place, &[("AUTH0_CLIENT_SECRET", "checker-secret")], &[]).await;
    assert_eq!(service.answer("u", "s").await["reason"], "within_limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_reads_policies_reads_dotenv() {
    let tenant = tenant().await;
    let text = format!("AUTH0_DOMAIN={DOMAIN}\nAUTH0_CLIENT_ID=checker\nAUTH0_CLIENT_SECRET=checker-secret\n");
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let run = |arguments: &'static [&'static str]| {
        let (text, variables) = (text.clone(), [("SESSION_CHECKER_AUTH0_ENDPOINT", endpoint.clone())]);
        let run = move || {
            let place = place();
            std::fs::write(place.path().join(".env"), text).unwrap();
            let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
            exit_and_output(program(&place, &variables, arguments).output().unwrap())
        };
        async { tokio::task::spawn_blocking(run).await.unwrap() }
    };
    for user in [&["check", "--user", "serve", "--client", APP][..], &["check", "--user", "u", "--client", APP]] {
        let (code, text) = run(user).await;
        assert_eq!((code, text.contains("Policy env/auth0 applies to this login")), (0, true), "{text}");
    }
    for arguments in
        [&["sessions", "list", "--user", "u"][..], &["--log-format", "json", "sessions", "list", "--user", "serve"]]
    {
        let (code, text) = run(arguments).await;
        assert_eq!((code, text.contains("The user has no sessions.")), (0, true), "{text}");
    }
}

#[test]
fn unreadable_dotenv_is_reported() {
    let place = place();
    std::fs::create_dir(place.path().join(".env")).unwrap();
    for arguments in [&LOOPBACK[..], &["check", "--user", "u", "--client", APP], &["sessions", "list", "--user", "u"]] {
        let (code, text) = exit_and_output(program(&place, &VARIABLES, arguments).output().unwrap());
        assert_eq!(code, 64, "{text}");
        assert!(text.contains(".env cannot be read"), "{text}");
    }
    for (arguments, expected) in [(&["validate", "serve"][..], 1), (&["crd"], 0)] {
        let (code, text) = exit_and_output(program(&place, &[], arguments).output().unwrap());
        assert_eq!((code, text.contains(".env")), (expected, false), "other commands do not read it: {text}");
    }
}

#[test]
fn invalid_dotenv_line_is_reported_and_a_dollar_is_literal() {
    let place = place();
    let lines = "AUTH0_CLIENT_SECRET=hunter2-hunter2\nno assignment\nPORT=$HOME\n";
    std::fs::write(place.path().join(".env"), lines).unwrap();
    let (code, text) = exit_and_output(program(&place, &[], &LOOPBACK).output().unwrap());
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("[2]") && text.contains("$HOME") && !text.contains("hunter2"), "{text}");
}

#[test]
fn port_variable_is_used_and_a_port_in_use_is_reported() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variables = [&VARIABLES[..], &[("PORT", port.as_str()), ("CALLER_TOKEN", TOKEN)]].concat();
    let (code, text) = finish(&variables, &["serve", "--admin-listen", "127.0.0.1:0"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&format!("[::]:{port}")), "{text}");
}

#[test]
fn invalid_command_line_exits_with_64() {
    for arguments in [
        &["--frobnicate"][..],
        &["frobnicate"],
        &[],
        &["serve", "--listen", "nowhere"],
        &["serve", "--drain-timeout", "5"],
        &["serve", "--auth0-endpoint", "no-url"],
        &["serve", "--tls-cert", "cert.pem"],
        &["serve", "--tls-client-ca", "ca.pem"],
        &["serve", "--auth0-ca-only"],
        &["serve", "--caller-jwks-file", "keys.json"],
        &["serve", "--caller-jwt-issuer", "https://acme.eu.auth0.com/"],
        &["validate"],
    ] {
        let (code, text) = finish(&VARIABLES, arguments);
        assert_eq!(code, 64, "{arguments:?}: {text}");
        assert!(!text.is_empty() && !text.contains("checker-secret"), "{arguments:?}: {text}");
    }
    let (code, text) = finish(&[&VARIABLES[..], &[("PORT", "http")]].concat(), &["serve"]);
    assert_eq!(code, 64, "{text}");
}

#[test]
fn help_and_version_succeed() {
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["help", "validate"]] {
        let variables = [&VARIABLES[..], &[("CALLER_TOKEN", TOKEN)]].concat();
        let output = program(&place(), &variables, arguments).output().unwrap();
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        let (code, text) = exit_and_output(output);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        assert!(!text.contains("checker-secret") && !text.contains(TOKEN), "{arguments:?}: {text}");
    }
}

#[test]
fn printed_crd_equals_the_committed_one() {
    let committed = include_str!("../../crds/sessionpolicies.yaml");
    assert_eq!(finish(&[], &["crd"]), (0, committed.to_owned()));
}

#[test]
fn policies_are_validated_in_files_folders_and_standard_input() {
    let good = folder(&[credentials(), policy("good", json!({}))]);
    let bad = folder(&[policy("bad-limit", json!({ "limits": { "perClient": 0 } })), policy("fine", json!({}))]);
    write(bad.path(), "unknown.json", &[policy("bad-field", json!({ "limit": 1 }))]);
    std::fs::write(bad.path().join("broken.yml"), "a: [").unwrap();
    let at = |folder: &TempDir, name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    for path in [at(&good, ""), at(&good, "policies.yaml")] {
        let (code, text) = finish(&[], &["validate", &path]);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("default/good"), "{text}");
    }
    let (code, text) = finish(&[], &["validate", &at(&good, ""), &at(&bad, ""), &at(&bad, "nowhere.yaml")]);
    assert_eq!(code, 1, "{text}");
    for named in ["default/bad-limit", "default/bad-field", "broken.yml", "nowhere.yaml", "perClient"] {
        assert!(text.contains(named), "{named} in {text}");
    }
    for (documents, expected) in
        [(policy("good", json!({})), 0), (policy("bad", json!({ "limits": { "perClient": 0 } })), 1)]
    {
        let place = place();
        let mut command = program(&place, &[], &["validate", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(documents.to_string().as_bytes()).unwrap();
        let (code, text) = exit_and_output(child.wait_with_output().unwrap());
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(documents["metadata"]["name"].as_str().unwrap()), "{text}");
    }
}

/// Sends the request that `curl` would send for a shell line.
async fn curl(http: &reqwest::Client, line: &str) -> Value {
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}; {line}");
    let (code, arguments) = exit_and_output(Command::new("sh").arg("-c").arg(script).output().unwrap());
    assert_eq!(code, 0, "{arguments}");
    let mut arguments = arguments.lines();
    assert_eq!(arguments.next(), Some("-s"));
    let mut request = http.post(arguments.next().unwrap());
    while let (Some(option), Some(value)) = (arguments.next(), arguments.next()) {
        request = match option {
            "-H" => {
                let (name, value) = value.split_once(": ").unwrap();
                request.header(name, value)
            }
            "-d" => request.body(value.to_owned()),
            other => panic!("an option that this test does not know: {other}"),
        };
    }
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_prints_requests_that_work() {
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let process = Process::start(place(), &[], &arguments);
    eventually("what to try", || async { process.out().iter().any(|line| line.contains("Ctrl-C")) }).await;
    let lines: Vec<_> = process.out().into_iter().filter(|line| line.starts_with("curl ")).collect();
    let http = http();
    let mut reasons = Vec::new();
    for line in &lines {
        let answer = curl(&http, line).await;
        let again = curl(&http, line).await;
        assert_eq!((&answer["block"], &answer["reason"]), (&again["block"], &again["reason"]), "trying twice: {line}");
        reasons.push(answer["reason"].as_str().unwrap_or_else(|| panic!("{line}: {answer}")).to_owned());
    }
    assert_eq!(reasons, ["within_limit", "within_limit", "limit_exceeded", "skipped_protocol"]);
    eventually("one line per decision", || async {
        process.err().iter().filter(|line| line.contains("reason=")).count() == 2 * lines.len()
    })
    .await;
    let (status, text) = process.end("INT").await;
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(!text.contains("panicked") && !text.contains("ERROR"), "{text}");
}

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
    let options = ["--policy-dir", folder.path().to_str().unwrap()];
    let (process, service) = Process::serve(&tenant, place(), &[], &options).await;
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
