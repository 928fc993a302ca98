//! Renders the chart with Helm and finds objects among the manifests.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{CommandFactory, Parser};
use serde_json::Value;
use session_checker::args::{self, Args, ServeArgs};

/// The Kubernetes version to render for. Without it, a Helm that was built by `go install` assumes 1.20.
const KUBERNETES: &str = "1.33.0";

pub const NAMESPACE: &str = "session-checker";

pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/session-checker")
}

/// The values files of all supported scenarios, and of the examples for platforms with kinds of their own.
pub fn scenarios() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for (folder, at_least) in [(chart().join("ci"), 6), (chart().join("../../examples/values"), 3)] {
        let found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(found.len() >= at_least, "{found:?}");
        files.extend(found);
    }
    files.sort();
    files
}

/// Renders the chart with these values, each in the syntax of `--set`.
pub fn with(values: &[&str]) -> Manifests {
    let set = set(values);
    Manifests::parse(&template(&chart(), set).unwrap())
}

/// Renders the chart with a values file.
pub fn with_file(path: &Path) -> Manifests {
    Manifests::parse(&template(&chart(), ["--values", path.to_str().unwrap()]).unwrap())
}

/// The error of Helm for values that it rejects.
pub fn render_error(values: &[&str]) -> String {
    let set = set(values);
    template(&chart(), set).expect_err("Helm rejects the values")
}

/// The arguments for values. `--set-string` among them makes texts of all values after it.
fn set<'a>(values: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut option = "--set";
    let pairs = values.iter().map(move |value| match *value {
        "--set-string" => {
            option = "--set-string";
            None
        }
        value => Some([option, value]),
    });
    pairs.collect::<Vec<_>>().into_iter().flatten().flatten()
}

/// The output of `helm template`, or its error.
pub fn template<'a>(chart: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Result<String, String> {
    template_release("session-checker", chart, arguments)
}

/// The same for a release of another name.
pub fn template_release<'a>(
    release: &str,
    chart: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<String, String> {
    let mut helm = Command::new("helm");
    helm.args(["template", release]).arg(chart);
    helm.args(["--namespace", NAMESPACE, "--kube-version", KUBERNETES]).args(arguments);
    let output = helm.output().expect("helm is installed");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The rendered manifests.
pub struct Manifests(pub Vec<Value>);

impl Manifests {
    pub fn parse(text: &str) -> Self {
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

    /// A variable of the service's container.
    pub fn variable(&self, name: &str) -> Option<&Value> {
        let variables = self.container()["env"].as_array().unwrap();
        let mut found = variables.iter().filter(|variable| variable["name"] == name);
        let variable = found.next();
        assert!(found.next().is_none(), "{name} is set twice");
        variable
    }

    /// The options of a command that runs in the Pod, such as `["check", "--user", "u"]`, from these arguments and the Pod's
    /// environment. The environment of the test process has no part in them.
    pub fn args(&self, line: &[&str]) -> Result<Args, clap::Error> {
        let root = Args::command();
        let names = line.iter().take_while(|word| !word.starts_with('-'));
        let command = names.clone().try_fold(&root, |command, name| command.find_subcommand(name)).unwrap();
        let mut words: Vec<String> = vec!["session-checker".to_owned()];
        words.extend(names.clone().map(ToString::to_string));
        let given = |long: &str| line.iter().any(|word| word.split('=').next() == Some(&format!("--{long}")));
        for option in command.get_arguments().chain(root.get_arguments()) {
            let (Some(long), Some(variable)) = (option.get_long(), option.get_env()) else { continue };
            let value = self.variable(variable.to_str().unwrap()).and_then(|variable| variable["value"].as_str());
            // An argument takes precedence over its variable.
            match value.filter(|_| !given(long)) {
                None => {}
                Some("true") if !option.get_action().takes_values() => words.push(format!("--{long}")),
                Some(value) => words.push(format!("--{long}={value}")),
            }
        }
        words.extend(line.iter().skip(names.count()).map(ToString::to_string));
        Args::try_parse_from(words)
    }

    /// The options of the service.
    pub fn serve(&self) -> ServeArgs {
        let arguments = self.arguments();
        let line: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match self.args(&line).unwrap_or_else(|error| panic!("{error}")).command {
            args::Command::Serve(serve) => *serve,
            other => panic!("the Pods serve, not {other:?}"),
        }
    }
}
