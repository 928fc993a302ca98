//! What commands print.

use super::*;

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
    let committed = include_str!("../../../crds/sessionpolicies.yaml");
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
