//! `session-checker test`: what it prints and returns for files that pass, fail, or cannot be played.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::provider;
use crate::process::{finished, first_json};

const HEAD: &str = "policy:\n  limits:\n    perClient: 1\npeople:\n  - name: Carla\n    devices: [laptop, phone]\n\
                    applications: [shop]\nsteps:\n";

/// A folder of files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    provider();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

async fn test(path: &Path, more: &[&str]) -> (i32, String) {
    finished(&[&["test", path.to_str().unwrap()], more].concat()).await
}

/// The result of one file with these steps: the exit code, and the report of the file.
async fn of_steps(steps: &str) -> (i32, Value) {
    let folder = folder(&[("a.yaml", &format!("{HEAD}{steps}"))]);
    let (code, text) = test(folder.path(), &["-o", "json"]).await;
    (code, first_json(&text)["files"][0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_tests_of_the_examples_pass() {
    for folder in ["policy-tests", "scenarios"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
        let (code, text) = test(&path, &["-o", "json"]).await;
        let report = first_json(&text);
        assert_eq!((code, &report["passed"]), (0, &true.into()), "{text}");
        assert!(report["files"].as_array().unwrap().len() > 1, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn difference_names_line_expectation_result_and_why() {
    let steps = "  - sign in: Carla on laptop\n    expect: allowed\n  - sign in: Carla on phone\n    expect: allowed\n";
    let folder = folder(&[("a.yaml", &format!("{HEAD}{steps}"))]);
    let (code, text) = test(folder.path(), &[]).await;
    assert_eq!(code, 1, "{text}");
    for expected in [
        "a.yaml: A scenario (1 of 2 as expected)",
        "a.yaml:12: Carla signs in to shop on phone\n",
        "    - expected: allowed\n    + got:      blocked limit_exceeded\n",
        "1 other session counts towards the client limit of 1",
        "session on laptop counts towards the client limit",
        "session on phone is the session of this login",
        "0 files passed, 1 failed.",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let (code, xml) = test(folder.path(), &["-o", "junit"]).await;
    assert_eq!(code, 1, "{xml}");
    for expected in [
        "<testsuites name=\"session-checker test\" tests=\"2\" failures=\"1\" errors=\"0\">",
        "line=\"12\"><failure message=\"expected allowed, got blocked limit_exceeded\">",
    ] {
        assert!(xml.contains(expected), "{expected}: {xml}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outcome_meets_its_own_expectation_alone() {
    let evicting = HEAD.replace("perClient: 1", "perClient: 1\n  strategy: RevokeOldest\n  revokeRequiresMfa: false");
    let audit = HEAD.replace("perClient: 1", "perClient: 1\n  mode: Audit");
    let asking = HEAD.replace("perClient: 1", "perClient: 1\n  strategy: Ask\n  ask: { requireMfa: false }");
    let login = |expect: &str| {
        format!("  - has session: Carla on laptop\n  - pass: 1m\n  - sign in: Carla on phone\n    expect: {expect}\n")
    };
    for (head, ends, others) in [
        (HEAD, "blocked limit_exceeded", ["allowed", "evicts laptop", "blocked no_session"]),
        (&*evicting, "evicts laptop", ["allowed within_limit", "evicts phone", "evicts laptop and phone"]),
        (&*asking, "asks", ["allowed", "evicts laptop", "blocked no_session"]),
        (&*audit, "allowed audit limit_exceeded", ["blocked", "allowed audit evicted", "asks"]),
    ] {
        let files: Vec<(String, String)> = [&[ends][..], &others]
            .concat()
            .into_iter()
            .enumerate()
            .map(|(number, expect)| (format!("{number}.yaml"), format!("{head}{}", login(expect))))
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let folder = folder(&files);
        let (code, text) = test(folder.path(), &["-o", "json"]).await;
        let report = first_json(&text);
        let passed: Vec<bool> =
            report["files"].as_array().unwrap().iter().map(|file| file["passed"].as_bool().unwrap()).collect();
        assert_eq!((code, passed), (1, vec![true, false, false, false]), "{ends}: {text}");
        for file in report["files"].as_array().unwrap() {
            assert_eq!(file["steps"][0]["got"], ends, "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_cannot_be_played_names_the_line_and_the_remedy() {
    for (steps, line, message) in [
        (
            "  - sign in: Carla on laptop\n    expect: alowed\n",
            Some(9),
            "`alowed` is no outcome: did you mean `allowed`?",
        ),
        ("  - sign in: Carla on laptop\n    expect: allowed within_limt\n", Some(9), "did you mean `within_limit`?"),
        ("  - sign in: Carla on laptop\n    expct: allowed\n", Some(9), "did you mean `expect`?"),
        ("  - sing in: Carla on laptop\n", Some(9), "did you mean `sign in`?"),
        ("  - sign in: Carla on laptop\n    expect: evicts watch\n", Some(9), "there is no device `watch`"),
        ("  - sign in: Carla on laptop\n", None, "the file expects nothing"),
    ] {
        let (code, file) = of_steps(steps).await;
        let problem = &file["problems"][0];
        assert_eq!((code, problem["line"].as_u64()), (2, line), "{file}");
        assert!(problem["message"].as_str().unwrap().contains(message), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_policy_names_its_own_file_and_line() {
    let login = "steps:\n  - sign in: Carla on laptop\n    expect: allowed\n";
    let inline = HEAD.replace("perClient: 1", "perClinet: 1").replace("steps:\n", login);
    let people = HEAD.split_once("people:").unwrap().1.replace("steps:\n", login);
    let by_file = format!("policyFile: ../policies/seats.yaml\npeople:{people}");
    let policy = "apiVersion: sessionchecker.dev/v1alpha1\nkind: SessionPolicy\nmetadata: { name: seats }\nspec:\n  limits:\n    \
                  perUser: 0\n";
    let folder = folder(&[("tests/a.yaml", &inline), ("tests/b.yaml", &by_file), ("policies/seats.yaml", policy)]);
    // The policy is in the folder too, and is no test.
    let (code, text) = test(folder.path(), &[]).await;
    assert_eq!(code, 2, "{text}");
    for expected in ["tests/a.yaml:3: the policy: ", "did you mean perClient", "policies/seats.yaml:6: the policy: "] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(text.contains("0 files passed, 0 failed, 2 could not be played."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_without_a_scenario_and_a_manifest_by_name_are_errors() {
    let policy = include_str!("../../examples/policies/newest-login-wins.yaml");
    let folder = folder(&[("policies/seats.yaml", policy)]);
    let (code, text) = test(folder.path(), &[]).await;
    assert!(code == 2 && text.contains("There is no scenario"), "{text}");
    let (code, text) = test(&folder.path().join("policies/seats.yaml"), &[]).await;
    assert!(code == 2 && text.contains("apiVersion"), "{text}");
    let (code, text) = finished(&["test"]).await;
    assert_eq!(code, 64, "{text}");
}
