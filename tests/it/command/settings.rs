//! Settings from options, variables and files, and the errors of a start.

use super::*;

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
fn user_and_password_of_a_url_are_in_no_error() {
    for (option, url) in [
        ("--auth0-proxy", "http://me:s3cret@proxy:3128"),
        ("--auth0-proxy", "http://me:s3cret/@proxy"),
        ("--auth0-proxy", "me:s3cret@proxy:3128"),
        ("--auth0-endpoint", "a.eu.auth0.com=https//me:s3cret@gateway"),
        ("--choose-url", "https://me:s3cret@login.example/path"),
    ] {
        let (code, output) = finish(&[], &["serve", option, url]);
        assert_eq!(code, 64, "{output}");
        assert!(output.contains(option) && !output.contains("s3cret"), "{url}: {output}");
        let variable = format!("SESSION_CHECKER{}", option[1..].replace('-', "_").to_uppercase());
        let (code, output) = finish(&[(&variable, url)], &["serve"]);
        assert!(code == 64 && !output.contains("s3cret"), "{variable}: {output}");
    }
}

#[test]
fn number_that_would_switch_off_a_part_is_refused() {
    for (option, value) in [
        ("--max-in-flight", "0"),
        ("--max-in-flight", "18446744073709551615"),
        ("--max-connections", "0"),
        ("--max-connections-per-source", "0"),
        ("--ledger-timeout", "0s"),
        ("--replicas", "0"),
    ] {
        let (code, output) = finish(&[], &["serve", "--ledger", "redis://127.0.0.1:1", option, value]);
        assert!(code == 64 && output.contains(option), "{option} {value}: {output}");
    }
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
    let (process, _) = Process::serve_folder(&tenant, &folder, &[("RUST_LOG", "debug")], &[]).await;
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
