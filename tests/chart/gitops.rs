//! The examples for GitOps: Argo CD's health check in the interpreter that Argo CD uses, Flux's expressions, and the types of
//! Secrets.

use std::path::{Path, PathBuf};
use std::process::Command;

use cel::{Context, Program};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gitops")
}

fn documents(file: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&std::fs::read_to_string(folder().join(file)).unwrap()).unwrap()
}

/// A Lua expression for a value.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let fields = map.iter().map(|(key, value)| format!("[{key:?}] = {}", lua(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// The health of a policy with this generation and status, and the message.
fn health(generation: u64, status: &Value) -> (String, String) {
    let map = &documents("argocd-cm.yaml")[0];
    let script = map["data"]["resource.customizations.health.sessionchecker.dev_SessionPolicy"].as_str().unwrap();
    let object = lua(&json!({ "metadata": { "generation": generation }, "status": status }));
    let text = format!(
        "obj = {object}\nlocal function health()\n{script}\nend\nlocal result = health()\nprint(result.status)\nprint(result.message)\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("health.lua");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("glua").arg(&file).output().expect("glua is installed");
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    let (status, message) = said.trim_end().split_once('\n').unwrap();
    (status.to_owned(), message.to_owned())
}

fn status(observed: u64, conditions: &[(&str, &str)]) -> Value {
    let conditions = conditions.iter().map(|(kind, status)| json!({ "type": kind, "status": status, "message": kind }));
    json!({ "observedGeneration": observed, "conditions": conditions.collect::<Vec<_>>() })
}

/// The statuses that the service writes (`kstatus_reads_every_state_as_it_is` and `missing_secret_waits_for_a_person_after_a_minute`
/// show them), and how kstatus reads them.
fn states() -> [(&'static str, Value); 6] {
    let conditions = |ready, reconciling, stalled| {
        status(2, &[("Accepted", "True"), ("Ready", ready), ("Reconciling", reconciling), ("Stalled", stalled)])
    };
    [
        // As the schema defaults it: no service has seen the policy.
        (
            "InProgress",
            json!({ "conditions": status(0, &[("Accepted", "Unknown"), ("Ready", "Unknown")])["conditions"] }),
        ),
        ("InProgress", conditions("Unknown", "True", "False")),
        // A Secret that does not exist, for less than a minute.
        ("InProgress", conditions("False", "True", "False")),
        ("Failed", conditions("False", "False", "True")),
        ("Current", conditions("True", "False", "False")),
        // The status of the version before says nothing about this one.
        ("InProgress", status(1, &[("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True")])),
    ]
}

#[test]
#[ignore = "needs glua: make chart-test"]
fn argo_cd_shows_the_health_of_a_policy() {
    let written = states().map(|(expected, status)| match expected {
        "Current" => ("Healthy", status),
        "Failed" => ("Degraded", status),
        _ => ("Progressing", status),
    });
    let others = [
        ("Progressing", Value::Null),
        ("Progressing", json!({})),
        ("Progressing", status(2, &[])),
        ("Progressing", status(2, &[("Accepted", "True"), ("Ready", "Unknown")])),
        ("Healthy", status(2, &[("Accepted", "True"), ("CredentialsReady", "True"), ("Ready", "True")])),
        // A credential that is not proven yet does not make a policy that works unhealthy.
        ("Healthy", status(2, &[("CredentialsReady", "Unknown"), ("Ready", "True")])),
        ("Degraded", status(2, &[("Accepted", "False"), ("Ready", "False")])),
        ("Degraded", status(2, &[("Ready", "Unknown"), ("Stalled", "True")])),
        ("Healthy", status(2, &[("Ready", "True"), ("Stalled", "False")])),
        ("Progressing", status(1, &[("Ready", "True")])),
        ("Progressing", status(1, &[("Ready", "False")])),
    ];
    for (expected, status) in written.into_iter().chain(others) {
        let (found, message) = health(2, &status);
        assert_eq!(found, expected, "{status}");
        assert!(!message.is_empty() && message != "nil", "{status}");
    }
    assert_eq!(health(2, &status(2, &[("Ready", "False")])).1, "Ready", "the message of the condition");
    assert_eq!(health(2, &status(2, &[("Ready", "False"), ("Stalled", "True")])).1, "Stalled");
}

/// How Flux reads a policy with this generation and status: its generation, then the expressions in this order.
fn read_by_flux(generation: u64, status: &Value) -> &'static str {
    if status["observedGeneration"].as_u64().is_some_and(|observed| observed != generation) {
        return "InProgress";
    }
    let documents = documents("flux.yaml");
    let kustomization = documents.iter().find(|document| document["kind"] == "Kustomization").unwrap();
    let expressions = &kustomization["spec"]["healthCheckExprs"][0];
    assert_eq!(expressions["kind"], "SessionPolicy");
    let mut context = Context::default();
    context.add_variable("status", status).unwrap();
    for (key, meaning) in [("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")] {
        let program = Program::compile(expressions[key].as_str().unwrap()).unwrap();
        if program.execute(&context).unwrap() == true.into() {
            return meaning;
        }
    }
    "InProgress"
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn flux_reads_a_policy_as_kstatus_does() {
    for (expected, status) in states() {
        assert_eq!(read_by_flux(2, &status), expected, "{status}");
    }
    assert_eq!(read_by_flux(2, &json!({})), "InProgress");
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn tools_for_secrets_set_the_type() {
    let mut types = Vec::new();
    for (file, pointer, name) in [
        ("external-secrets.yaml", "/spec/target/template/type", "/spec/target/name"),
        ("sealed-secret.yaml", "/spec/template/type", "/spec/template/metadata/name"),
        ("vault.yaml", "/spec/destination/type", "/spec/destination/name"),
    ] {
        for document in documents(file) {
            assert_eq!(document.pointer(name), document.pointer("/metadata/name"), "{file}");
            types.push(
                document.pointer(pointer).unwrap_or_else(|| panic!("{file}: {pointer}")).as_str().unwrap().to_owned(),
            );
        }
    }
    types.sort();
    assert_eq!(types.first().unwrap(), "sessionchecker.dev/callers");
    assert!(types[1..].iter().all(|kind| kind == "sessionchecker.dev/credentials"), "{types:?}");
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn examples_install_the_versions_of_the_charts() {
    for file in ["argocd-application.yaml", "flux.yaml"] {
        let text = std::fs::read_to_string(folder().join(file)).unwrap();
        let versions = text.lines().filter_map(|line| {
            let (key, value) = line.trim().split_once(": ")?;
            ["targetRevision", "version"].contains(&key).then_some(value)
        });
        let versions: Vec<_> = versions.collect();
        assert_eq!(versions, [env!("CARGO_PKG_VERSION"); 2], "{file}");
    }
}
