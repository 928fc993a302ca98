//! The output and the effects of `check` and `sessions`, with a simulated tenant.

use std::process::Command;

use jiff::SignedDuration;
use serde_json::{Value, json};
use simulator::{Fault, Operation, Session, Simulator};
use tempfile::TempDir;

use crate::common::{APP, DOMAIN, callers, credentials, folder, options, policy, strings, tenant, write};
use crate::process::{finish, finished, first_json};

const USER: &str = "auth0|anna";

/// A tenant in which Anna is signed in on her laptop and now logs in on her phone, and a folder with this policy.
async fn scene(spec: Value) -> (Simulator, TempDir) {
    let tenant = tenant().await;
    tenant.add_session(USER, Session::new("laptop", tenant.now()).client(APP));
    tenant.add_session(USER, Session::new("phone", tenant.now()));
    (tenant, folder(&[credentials(), callers(), policy("one", spec)]))
}

/// Runs the program with a folder as its source. Returns its exit code and its output.
async fn run(tenant: &Simulator, folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    finished(&[arguments, &strings(&options(tenant, folder.path()))].concat()).await
}

fn ids(tenant: &Simulator) -> Vec<String> {
    tenant.sessions_of(USER).iter().map(|session| session.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_explains_the_decision_and_changes_nothing() {
    let (tenant, folder) =
        scene(json!({ "overrides": [{ "name": "staff", "roles": ["staff"], "exempt": true }] })).await;
    let check = ["check", "--user", USER, "--client", APP, "--sid", "phone"];
    let (code, text) = run(&tenant, &folder, &check).await;
    assert_eq!(code, 2, "{text}");
    for expected in [
        "Policy default/one applies to this login",
        "Limits: client=1.",
        "counts towards the client limit              laptop began",
        "is the session of this login                 phone began",
        "The login is blocked: limit_exceeded. 1 other session uses this application; the limit is 1. The Action ends the session.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!((ids(&tenant).len(), tenant.count(Operation::Revoke)), (2, 0));

    let staff = [&check[..], &["--role", "staff"]].concat();
    let (code, text) = run(&tenant, &folder, &staff).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("The login is allowed: exempt."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_sessions_to_revoke_and_revokes_none() {
    let (tenant, folder) = scene(json!({ "strategy": "RevokeOldest" })).await;
    let (code, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP, "--sid", "phone"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Sessions that would be revoked: laptop.") && text.contains("allowed: evicted"), "{text}");
    assert_eq!((ids(&tenant).len(), tenant.count(Operation::Revoke)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_check_prints_the_cause_and_the_failure_policys_answer() {
    let (tenant, folder) = scene(json!({ "failurePolicy": "Deny" })).await;
    tenant.fault(Operation::List, Fault::not_entitled());
    let (code, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP, "--sid", "phone"]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("could not be listed") && text.contains("blocked: not_entitled"), "{text}");
    assert!(!text.contains("checker-secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_only_for_their_user() {
    let (tenant, folder) = scene(json!({})).await;
    tenant.add_session("auth0|bert", Session::new("bert", tenant.now()));
    let (code, text) = run(&tenant, &folder, &["sessions", "list", "--user", USER]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("LAST USED") && text.contains("laptop") && text.contains(APP), "{text}");
    let (_, text) = run(&tenant, &folder, &["sessions", "list", "--user", USER, "-o", "json"]).await;
    assert_eq!(first_json(&text)["sessions"][0]["clients"], json!([APP]), "{text}");

    let end = ["sessions", "end", "--user", USER];
    let (code, text) = run(&tenant, &folder, &[&end[..], &["--all"]].concat()).await;
    assert_eq!((code, text.contains("give --yes")), (1, true), "nobody can be asked: {text}");
    let end = ["sessions", "end", "--user", USER, "--yes"];
    let (code, text) = run(&tenant, &folder, &[&end[..], &["--sid", "laptop", "--sid", "bert"]].concat()).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("bert is not a session of the user. No session was ended"), "{text}");
    assert_eq!(tenant.count(Operation::Revoke), 0);

    let (code, text) = run(&tenant, &folder, &[&end[..], &["--sid", "laptop"]].concat()).await;
    assert_eq!((code, text.contains("laptop ended")), (0, true), "{text}");
    tenant.fault(Operation::Revoke, Fault::not_entitled());
    let (code, text) = run(&tenant, &folder, &[&end[..], &["--all"]].concat()).await;
    assert_eq!((code, text.contains("could not be ended")), (1, true), "{text}");

    let (code, text) = run(&tenant, &folder, &end).await;
    assert_eq!((code, text.contains("--sid")), (64, true), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sessions_end_by_the_credential_that_may() {
    let (tenant, folder) = scene(json!({})).await;
    // The credential of the first policy may only read.
    let read = simulator::Application::with_secret("reader", "reader-secret").scopes(["read:sessions"]);
    tenant.add_application(read);
    let mut reader = credentials();
    reader["metadata"]["name"] = "reader".into();
    (reader["stringData"]["clientId"], reader["stringData"]["clientSecret"]) =
        ("reader".into(), "reader-secret".into());
    let spec = json!({ "tenant": { "credentialsSecretRef": { "name": "reader" } }, "priority": 1 });
    let evicts = policy("two", json!({ "strategy": "RevokeOldest" }));
    write(folder.path(), "policies.yaml", &[reader.clone(), policy("one", spec.clone()), credentials(), evicts]);
    let end = ["sessions", "end", "--user", USER, "--yes", "--others-than"];
    let (code, text) = run(&tenant, &folder, &[&end[..], &["nobody"]].concat()).await;
    assert_eq!((code, text.contains("No session was ended")), (1, true), "{text}");
    let (code, text) = run(&tenant, &folder, &[&end[..], &["phone"]].concat()).await;
    assert_eq!((code, ids(&tenant)), (0, vec!["phone".to_owned()]), "{text}");
    // A credential that may not names the scopes.
    write(folder.path(), "policies.yaml", &[reader, policy("one", spec)]);
    let (code, text) = run(&tenant, &folder, &["sessions", "end", "--user", USER, "--yes", "--all"]).await;
    assert_eq!((code, text.contains("Grant delete:sessions and delete:refresh_tokens")), (1, true), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_with_their_device_and_their_place() {
    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0";
    let tenant = tenant().await;
    let ago = |minutes| tenant.now() - SignedDuration::from_mins(minutes);
    let device = json!({ "initial_user_agent": "curl/8", "last_user_agent": FIREFOX });
    tenant.add_session(USER, Session::new("laptop", ago(30)).client(APP).field("device", device));
    tenant.add_session(USER, Session::new("phone", ago(60)).client(APP));
    let spec = json!({ "limits": { "perClient": 2, "perUser": 3 }, "activeWithin": "2h" });
    let folder = folder(&[credentials(), callers(), policy("one", spec)]);
    let list = ["sessions", "list", "--user", USER];
    let (code, text) = run(&tenant, &folder, &list).await;
    let rows: Vec<&str> = text.lines().collect();
    assert!(code == 0 && rows[0].contains("DEVICE") && rows[0].ends_with("PLACES"), "{text}");
    assert!(rows[1].starts_with("laptop") && rows[1].contains("Firefox on Linux"), "the latest used first: {text}");
    assert!(rows[1].ends_with("client 2 of 2, user 2 of 3"), "{text}");
    assert!(rows[2].contains("unknown") && rows[2].ends_with("client 1 of 2, user 1 of 3"), "{text}");
    assert!(!text.contains("Gecko"), "a user agent is not printed: {text}");
    // Another application, and then two of them: whose places are meant has to be said.
    let (_, text) = run(&tenant, &folder, &[&list[..], &["--client", "other", "-o", "json"]].concat()).await;
    let session = &first_json(&text)["sessions"][0];
    assert_eq!((&session["browser"], &session["places"]), (&json!("Firefox"), &json!(["user 2 of 3"])), "{text}");
    tenant.add_session(USER, Session::new("tablet", ago(200)).client("other"));
    let (_, text) = run(&tenant, &folder, &list).await;
    assert!(!text.contains("PLACES"), "{text}");
    let (_, text) = run(&tenant, &folder, &[&list[..], &["--client", "other"]].concat()).await;
    assert!(text.lines().last().unwrap().ends_with("none"), "it is unused for longer than activeWithin: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_after_a_yes_at_the_terminal() {
    if Command::new("script").arg("--version").output().is_err() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "script is missing");
        return;
    }
    let (tenant, folder) = scene(json!({})).await;
    for (answer, ended) in [("n", false), ("", false), ("y", true)] {
        let options = options(&tenant, folder.path());
        let end = ["sessions", "end", "--user", USER, "--sid", "laptop"].map(str::to_owned);
        let words = [&[env!("CARGO_BIN_EXE_session-checker").to_owned()][..], &end, &options].concat();
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let typed = folder.path().join("typed.txt");
        std::fs::write(&typed, format!("{answer}\n")).unwrap();
        let mut terminal = Command::new("script");
        terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        terminal.stdin(std::fs::File::open(&typed).unwrap());
        let output = tokio::task::spawn_blocking(move || terminal.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("End 1 of 2 sessions of auth0|anna?"), "{text}");
        assert_eq!((output.status.success(), ids(&tenant).len() == 1), (ended, ended), "{answer}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_tenants_has_to_be_named() {
    let (tenant, folder) = scene(json!({})).await;
    let mut other = credentials();
    other["metadata"]["name"] = "other".into();
    other["stringData"]["domain"] = "other.eu.auth0.com".into();
    let spec = json!({ "tenant": { "domain": "other.eu.auth0.com", "credentialsSecretRef": { "name": "other" } } });
    write(folder.path(), "other.yaml", &[other, policy("two", spec)]);
    let list = ["sessions", "list", "--user", USER];
    let (code, text) = run(&tenant, &folder, &list).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("--tenant: acme.eu.auth0.com, other.eu.auth0.com"), "{text}");
    let (code, text) = run(&tenant, &folder, &[&list[..], &["--tenant", DOMAIN]].concat()).await;
    assert_eq!((code, text.contains("laptop")), (0, true), "{text}");
    let (code, text) = run(&tenant, &folder, &["check", "--user", USER, "--client", APP]).await;
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("Name the tenant with --tenant"), "{text}");
}

/// A file of a user's sessions as Auth0 lists them: a laptop since the morning, and the phone that logs in.
fn sessions_file(folder: &TempDir) -> String {
    let session = |id: &str, created: &str| {
        json!({
            "id": id, "user_id": USER, "created_at": created, "last_interacted_at": created,
            "expires_at": "2026-03-02T08:00:00Z", "clients": [{ "client_id": APP }],
        })
    };
    let sessions = [session("laptop", "2026-03-01T08:00:00Z"), session("phone", "2026-03-01T09:00:00Z")];
    let path = folder.path().join("sessions.txt");
    std::fs::write(&path, json!({ "sessions": sessions }).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_decides_offline_at_a_time() {
    let tenant = tenant().await;
    // No Secret: a decision by given sessions needs no credential.
    let folder = folder(&[policy("one", json!({ "activeWithin": "4h" }))]);
    let file = sessions_file(&folder);
    let check =
        ["check", "--user", USER, "--client", APP, "--sid", "tablet", "--sessions", &file, "-o", "json", "--at"];
    let mut found = Vec::new();
    for time in ["2026-03-01T10:00:00Z", "2026-03-01T14:00:00Z", "2026-03-03T00:00:00Z"] {
        let (code, text) = run(&tenant, &folder, &[&check[..], &[time]].concat()).await;
        let decision = first_json(&text);
        let roles: Vec<_> = decision["sessions"].as_array().unwrap().iter().map(|one| one["role"].clone()).collect();
        found.push((code, decision["outcome"].clone(), decision["active_sessions"].clone(), json!(roles)));
    }
    let expected = [
        (2, json!("blocked"), json!(2), json!(["other", "other"])),
        (0, json!("allowed"), json!(0), json!(["inactive", "inactive"])),
        (0, json!("allowed"), json!(0), json!(["ended", "ended"])),
    ];
    assert_eq!(found, expected);
    assert_eq!(tenant.count(Operation::List), 0, "nobody asks the tenant");
    assert_eq!(tenant.count(Operation::Token), 0, "nobody asks the tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_shows_the_text_for_a_language() {
    let german = json!([{ "language": "de", "limitExceeded": "Das Limit ist erreicht." }]);
    let (tenant, folder) = scene(json!({ "message": "The limit is reached.", "messages": german })).await;
    let check = ["check", "--user", USER, "--client", APP, "--sid", "phone", "-o", "json"];
    for (locale, expected) in [(None, "The limit is reached."), (Some("de-AT"), "Das Limit ist erreicht.")] {
        let locale: Vec<_> = locale.map(|locale| ["--locale", locale]).into_iter().flatten().collect();
        let (_, text) = run(&tenant, &folder, &[&check[..], &locale].concat()).await;
        assert_eq!(first_json(&text)["message"], expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_how_long_the_service_needs_no_list() {
    let tenant = tenant().await;
    for (spec, sid, expected) in [
        (json!({}), "laptop", json!(3_600)),
        (json!({}), "phone", Value::Null),
        (json!({ "recheckAfter": "0s" }), "laptop", Value::Null),
        (json!({ "reentry": "CountOthers", "limits": { "perClient": 2 } }), "laptop", Value::Null),
    ] {
        let folder = folder(&[policy("one", spec)]);
        let file = sessions_file(&folder);
        let check = ["check", "--user", USER, "--client", APP, "--sid", sid, "--sessions", &file];
        let check = [&check[..], &["--at", "2026-03-01T10:00:00Z"]].concat();
        let (_, text) = run(&tenant, &folder, &[&check[..], &["-o", "json"]].concat()).await;
        assert_eq!(first_json(&text)["recheck_after_s"], expected, "{text}");
        let (_, text) = run(&tenant, &folder, &check).await;
        assert_eq!(text.contains("for 60 min after this list (recheckAfter)"), !expected.is_null(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_policies_there_are_when_none_governs() {
    let (tenant, folder) = scene(json!({ "selector": { "clientIds": [APP] } })).await;
    let check = ["check", "--user", USER, "--client", "another"];
    let (code, text) = run(&tenant, &folder, &check).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("default/one: tenant {DOMAIN}; clientIds {APP}")), "{text}");
    let (_, text) = run(&tenant, &folder, &[&check[..], &["-o", "json"]].concat()).await;
    let decision = first_json(&text);
    assert_eq!((&decision["reason"], &decision["policies"]), (&json!("no_policy"), &json!(["default/one"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_rejects_a_file_that_holds_no_sessions() {
    let (tenant, folder) = scene(json!({})).await;
    let path = folder.path().join("sessions.txt");
    for text in ["", "{", "[1]", "[{}]", "\"x\""] {
        std::fs::write(&path, text).unwrap();
        let check = ["check", "--user", USER, "--client", APP, "--sessions", path.to_str().unwrap()];
        let (code, output) = run(&tenant, &folder, &check).await;
        assert_eq!((code, output.contains("--sessions")), (64, true), "{text:?}: {output}");
    }
}

/// Runs `validate` on a folder, and returns its exit code and its output.
fn validate(folder: &TempDir, arguments: &[&str]) -> (i32, String) {
    let path = folder.path().to_str().unwrap();
    finish(&[], &[&["validate", path], arguments].concat())
}

#[test]
fn validate_prints_places_as_compilers_do() {
    let folder = folder(&[]);
    let text = "apiVersion: sessionchecker.dev/v1alpha1\nkind: SessionPolicy\nmetadata: {name: one}\nspec:\n  tenant: \
                {domain: acme.eu.auth0.com, credentialsSecretRef: {name: a}}\n  limits: {perUsr: 1}\n";
    std::fs::write(folder.path().join("one.yaml"), text).unwrap();
    let (code, output) = validate(&folder, &[]);
    assert_eq!(code, 1, "{output}");
    let expected =
        "one.yaml:6:12: error: SessionPolicy default/one: spec.limits.perUsr: no such field: did you mean perUser?";
    assert!(output.contains(expected) && output.contains("1 problem was found"), "{output}");

    let (code, output) = validate(&folder, &["-o", "json"]);
    let report = first_json(&output);
    assert_eq!((code, &report["valid"], &report["policies"]), (1, &json!(false), &json!([])));
    let problem = &report["problems"][0];
    assert_eq!((&problem["line"], &problem["column"], &problem["kind"]), (&json!(6), &json!(12), &json!("field")));
    assert_eq!(problem["field"], "spec.limits.perUsr");
}

#[test]
fn validate_prints_sarif_that_its_schema_accepts() {
    let users = json!({ "overrides": [{ "name": "vip", "users": ["ann@example.com"], "exempt": true }] });
    let folder = folder(&[policy("one", users), policy("two", json!({ "limits": { "perClient": 0 } }))]);
    let (_, output) = validate(&folder, &["--output", "sarif"]);
    let sarif = first_json(&output);
    let run = &sarif["runs"][0];
    let rules: Vec<&Value> =
        run["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    let results = run["results"].as_array().unwrap();
    assert!(results.iter().all(|result| rules.contains(&&result["ruleId"])), "{sarif:#}");
    let levels: Vec<&Value> = results.iter().map(|result| &result["level"]).collect();
    assert!(levels.contains(&&json!("warning")) && levels.contains(&&json!("error")), "{sarif:#}");
    for result in results {
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("policies.yaml"), "{result:#}");
        assert!(place["region"]["startLine"].as_u64() >= Some(1), "{result:#}");
    }
}

#[test]
fn subfolders_are_validated_when_asked_for() {
    let folder = folder(&[policy("one", json!({}))]);
    let sub = folder.path().join("team/shop");
    std::fs::create_dir_all(&sub).unwrap();
    write(&sub, "one.yaml", &[policy("two", json!({ "selector": { "clientIds": ["x"] } }))]);
    let (code, text) = validate(&folder, &[]);
    assert!(code == 1 && text.contains("is not read") && text.contains("--recursive"), "{text}");
    let (code, text) = validate(&folder, &["--recursive"]);
    assert!(code == 0 && text.contains("default/two is valid"), "{text}");
    write(&sub, "two.yaml", &[policy("one", json!({}))]);
    let (code, text) = validate(&folder, &["-R"]);
    assert!(code == 1 && text.contains("SessionPolicy default/one is also in"), "{text}");
}

#[test]
fn files_about_other_things_are_skipped_when_asked_for() {
    let folder = folder(&[]);
    std::fs::write(folder.path().join("chart.yaml"), "a: {{ .Values.a }}\n").unwrap();
    assert_eq!(validate(&folder, &[]).0, 1);
    assert_eq!(validate(&folder, &["--skip-others"]).0, 0);
    write(folder.path(), "one.yaml", &[policy("one", json!({ "limits": { "perClient": 0 } }))]);
    assert_eq!(validate(&folder, &["--skip-others"]).0, 1);
}
