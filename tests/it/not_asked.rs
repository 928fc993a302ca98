//! Protocols that a policy limits and that the Action does not ask about are reported. They change no decision.

use serde_json::{Value, json};

use crate::common::{APP, DOMAIN, callers, credentials, eventually, folder, policy, tenant};
use crate::process::Process;

const LINE: &str = "the Action does not ask about a protocol that the policy limits";
const REFRESH: &str = "oauth2-refresh-token";

#[tokio::test(flavor = "multi_thread")]
async fn protocol_that_only_the_action_skips_is_counted_and_logged() {
    let tenant = tenant().await;
    let spec = |client: &str, more: Value| {
        let mut spec = json!({ "callerSecretRef": null, "selector": { "clientIds": [client] } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let folder = folder(&[
        credentials(),
        callers(),
        policy("all", spec(APP, json!({ "skipProtocols": [] }))),
        policy("usual", spec("usual", json!({}))),
        policy("more", spec("more", json!({ "skipProtocols": [REFRESH, "samlp"] }))),
    ]);
    let (process, service) = Process::serve_folder(&tenant, &folder, &[], &["--allow-anonymous"]).await;
    let counted = async |name: &str| {
        let series =
            format!(r#"session_checker_protocols_not_asked_total{{policy="default/{name}",tenant="{DOMAIN}"}} "#);
        let text = service.admin("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
    };
    let ask = async |client: &str, skipped: Option<Value>| {
        let mut body = json!({ "user_id": "u", "client_id": client, "sid": "s" });
        if let Some(skipped) = skipped {
            body["skip_protocols"] = skipped;
        }
        let mut answer: Value = service.check("u", "s").json(&body).send().await.unwrap().json().await.unwrap();
        answer.as_object_mut().unwrap().remove("request_id").unwrap();
        answer
    };
    for name in ["all", "usual", "more"] {
        assert_eq!(counted(name).await.as_deref(), Some("0"), "the series of {name} exists from the start");
    }
    // Those that skip no more than the policy, and those that do not say.
    let clients = [APP, "usual", "more"];
    for (client, skipped) in [
        ("usual", json!([REFRESH])),
        ("more", json!([REFRESH])),
        ("more", json!(["samlp", REFRESH])),
        (APP, json!([])),
        (APP, json!(null)),
        ("nobody", json!([REFRESH])),
    ] {
        ask(client, Some(skipped)).await;
    }
    let mut answers = Vec::new();
    for client in clients {
        answers.push(ask(client, None).await);
    }
    for name in ["all", "usual", "more"] {
        assert_eq!(counted(name).await.as_deref(), Some("0"), "{name}");
    }

    assert_eq!(ask(APP, Some(json!([REFRESH]))).await, answers[0], "the decision is the same");
    assert_eq!(counted("all").await.as_deref(), Some("1"));
    ask("usual", Some(json!([REFRESH, "wsfed"]))).await;
    for _ in 0..8 {
        ask(APP, Some(json!(["samlp"]))).await;
    }
    let line = process.logged(LINE).await;
    assert_eq!(
        [&line["level"], &line["policy"], &line["protocol"], &line["suppressed"]],
        [&json!("WARN"), &json!("default/all"), &json!(REFRESH), &json!(0)]
    );
    let remedy = "set SKIP_PROTOCOLS of the Action to the protocols that all policies of the tenant skip";
    assert_eq!(line["remedy"], remedy);
    let counts = [counted("all").await, counted("usual").await, counted("more").await];
    assert_eq!(counts.map(Option::unwrap), ["9", "1", "0"]);
    let lines = |message: &str| process.log().into_iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    eventually("each check has its line", || async { lines("check").len() == 19 }).await;
    let lines = lines(LINE);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!((&lines[1]["policy"], &lines[1]["protocol"]), (&json!("default/usual"), &json!("wsfed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn protocols_of_a_wrong_shape_are_rejected() {
    let tenant = tenant().await;
    let folder = folder(&[credentials(), policy("one", json!({ "callerSecretRef": null }))]);
    let (_process, service) = Process::serve_folder(&tenant, &folder, &[], &["--allow-anonymous"]).await;
    let wrong = [json!(REFRESH), json!([5]), json!({}), json!(true), json!(vec!["x"; 129]), json!(["x".repeat(301)])];
    for wrong in wrong {
        let body = json!({ "user_id": "u", "client_id": APP, "sid": "s", "skip_protocols": wrong });
        let response = service.check("u", "s").json(&body).send().await.unwrap();
        assert_eq!(response.status(), 422, "{body}");
        let answer: Value = response.json().await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains("skip_protocols"), "{answer}");
    }
}
