//! Renders the chart with Helm and finds objects among the manifests.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The Kubernetes version to render for. Without it, a Helm that was built by `go install` assumes 1.20.
const KUBERNETES: &str = "1.33.0";

pub const NAMESPACE: &str = "session-checker";

pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/session-checker")
}

/// The values files of all supported scenarios.
pub fn scenarios() -> Vec<PathBuf> {
    let files = std::fs::read_dir(chart().join("ci")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    files
}

/// Renders the chart with these values, each in the syntax of `--set`.
pub fn with(values: &[&str]) -> Manifests {
    let set = values.iter().flat_map(|value| ["--set", value]);
    Manifests::parse(&template(&chart(), set).unwrap())
}

/// Renders the chart with a values file.
pub fn with_file(path: &Path) -> Manifests {
    Manifests::parse(&template(&chart(), ["--values", path.to_str().unwrap()]).unwrap())
}

/// The error of Helm for values that it rejects.
pub fn render_error(values: &[&str]) -> String {
    let set = values.iter().flat_map(|value| ["--set", value]);
    template(&chart(), set).expect_err("Helm rejects the values")
}

/// The output of `helm template`, or its error.
pub fn template<'a>(chart: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    let mut helm = Command::new("helm");
    helm.args(["template", "session-checker"]).arg(chart);
    helm.args(["--namespace", NAMESPACE, "--kube-version", KUBERNETES]).args(arguments);
    let output = helm.output().expect("helm is installed");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The rendered manifests.
pub struct Manifests(pub Vec<Value>);

impl Manifests {
    fn parse(text: &str) -> Self {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        Self(documents.into_iter().filter(|document| !document.is_null()).collect())
    }

    pub fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|manifest| manifest["kind"] == kind).collect()
    }

    pub fn the(&self, kind: &str) -> &Value {
        match *self.of(kind) {
            [manifest] => manifest,
            ref manifests => panic!("{} of kind {kind}", manifests.len()),
        }
    }

    pub fn pod(&self) -> &Value {
        &self.the("Deployment")["spec"]["template"]["spec"]
    }

    pub fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    pub fn arguments(&self) -> Vec<String> {
        self.container()["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()).collect()
    }
}
