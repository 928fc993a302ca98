//! The commands of the book run as they are written: those for a cluster here, on a real API server; those that ask the demo
//! by `.ci/readme`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use session_checker::args::Args;
use session_checker::controller::Cluster;
use session_checker::service::Source;
use simulator::Options;

use super::{fences, pages, root};
use crate::common::{Running, serve_args, tenant_with};
use crate::control_plane::{self, ControlPlane};

/// Who runs a block of commands, and how many blocks nobody runs: such a block is added on purpose, or not at all.
const RUNNERS: [(&str, Option<usize>); 8] = [
    // `.ci/readme`
    ("run", None),
    // The test below.
    ("cluster", None),
    // `plugin`
    ("plugin", None),
    // It needs what only the reader has, such as an address or a user. The program reads the command line, below.
    ("parsed", None),
    // It builds the program. `.ci/run` builds it, runs the same targets, and `.ci/readme` starts the same demo.
    ("source", Some(6)),
    // It needs running Pods, or their log. `make e2e` does the same on a cluster with nodes, in words of its own.
    ("nodes", Some(44)),
    // It needs an image builder. The image job of CI builds and starts the image.
    ("builder", Some(2)),
    // It needs a published release.
    ("release", Some(12)),
];

/// The pages with commands for a cluster, in the order in which a reader uses them. Each continues where the last one ended.
const FIRST: [&str; 7] = [
    "docs/quick-start.md",
    "docs/auth0.md",
    "docs/log-streams.md",
    "docs/kubernetes.md",
    "docs/troubleshooting.md",
    "docs/lock-outs.md",
    // The runbooks go back to the revision before.
    "docs/upgrade.md",
];
const LAST: &str = "docs/uninstall.md";

/// What a reader of a runbook writes in place of these words.
const PLACEHOLDERS: [(&str, &str); 6] = [
    ("NAMESPACE", "session-checker"),
    ("TEAM", "default"),
    ("NAME", "try-it-in-audit"),
    ("CREDENTIAL", "acme-shop-tenant"),
    ("CALLERS", "acme-shop-callers"),
    ("CHART", "charts/session-checker"),
];

/// Only a defect takes as long, on a busy machine too.
const PATIENCE: &str = "300";

/// How a line begins that is a command.
const COMMANDS: [&str; 14] = [
    "$ ",
    "cargo ",
    "cosign ",
    "curl ",
    "docker ",
    "gh ",
    "git ",
    "helm ",
    "kubectl ",
    "make ",
    "openssl ",
    "promtool ",
    "redis-cli ",
    "session-checker ",
];

/// The blocks of commands of a page: what stands after `sh`, and the text.
fn read(page: &Path) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for (info, text) in fences(&std::fs::read_to_string(root().join(page)).unwrap()) {
        let is_command = |line: &str| COMMANDS.iter().any(|command| line.trim_start().starts_with(command));
        assert!(info != "text" || !text.lines().any(is_command), "{}: nothing runs\n{text}", page.display());
        assert!(!matches!(&*info, "bash" | "console" | "shell"), "{}: write ```sh and what runs it", page.display());
        blocks.extend(info.strip_prefix("sh").map(|runner| (runner.trim().to_owned(), text)));
    }
    blocks
}

/// The pages with commands: the book, the examples, the charts and those in the root.
fn all_pages() -> impl Iterator<Item = PathBuf> {
    let folders = ["docs", "examples", "charts"].into_iter().flat_map(pages);
    folders.chain(["README.md", "CONTRIBUTING.md", "SECURITY.md", "SUPPORT.md"].map(PathBuf::from))
}

#[test]
fn every_command_says_what_runs_it() {
    let mut counts = BTreeMap::new();
    for page in all_pages() {
        for (runner, text) in read(&page) {
            assert!(RUNNERS.iter().any(|(name, _)| *name == runner), "{}: nothing runs\n{text}", page.display());
            *counts.entry(runner).or_insert(0) += 1;
        }
    }
    for (name, expected) in RUNNERS {
        let count = counts.get(name).copied().unwrap_or_default();
        assert!(count > 0 && expected.is_none_or(|expected| expected == count), "{name}: {count}");
    }
}

/// The arguments for the program in a line of a shell, without those that an ellipsis stands for.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = [" # ", " > ", " | "].iter().fold(&*line, |line, end| line.split(end).next().unwrap_or(line));
    let command = line.strip_prefix("$ ").unwrap_or(line);
    let in_a_pod = || command.split_once(" -- session-checker ").map(|(_, own)| own);
    let arguments = command.strip_prefix("session-checker ").or_else(in_a_pod)?;
    let words = arguments.split(' ').map(|word| word.trim_matches(['\'', '"']).to_owned());
    Some(words.filter(|word| word != "…").collect())
}

#[test]
fn program_reads_the_command_lines_of_the_book() {
    let mut parsed = 0;
    for page in all_pages() {
        for (info, text) in fences(&std::fs::read_to_string(root().join(&page)).unwrap()) {
            let lines = text.replace("\\\n", " ");
            let lines = lines.lines().filter(|line| match &*info {
                "text transcript" => line.starts_with("$ "),
                info => info.starts_with("sh "),
            });
            for (line, arguments) in lines.filter_map(|line| Some((line, arguments(line)?))) {
                let read = Args::try_parse_from([vec!["session-checker".to_owned()], arguments].concat());
                let is_expected = |error: &clap::Error| match error.kind() {
                    ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                    kind => kind == ErrorKind::MissingRequiredArgument && line.contains('…'),
                };
                let error = read.err().filter(|error| !is_expected(error)).map(|error| error.to_string());
                assert_eq!(error, None, "{}: {line}", page.display());
                parsed += 1;
            }
        }
    }
    assert!(parsed > 15, "{parsed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_for_a_cluster_run_as_written() {
    if !Command::new("helm").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "helm is missing");
        return;
    }
    let Some(plane) = control_plane::own().await else { return };
    // The chart installs it, as for a reader.
    let definition = "sessionpolicies.sessionchecker.dev";
    assert!(plane.kubectl(&["delete", "crd", definition], "").await.is_success);
    let client = plane.admin().await;
    let controllers = tokio::spawn(act_as_controllers(client.clone()));
    let service = tokio::spawn(serve(plane.admin_kubeconfig("session-checker"), client, definition));
    let home = tempfile::tempdir().unwrap();
    let rest = pages("docs").into_iter().map(|page| page.to_str().unwrap().to_owned());
    let rest = rest.filter(|page| !FIRST.contains(&&**page) && page != LAST);
    let order = FIRST.map(str::to_owned).into_iter().chain(rest).chain([LAST.to_owned()]);
    let mut ran = 0;
    for page in order {
        let blocks = read(Path::new(&page)).into_iter().filter(|(runner, _)| runner == "cluster");
        let blocks: Vec<String> = blocks.map(|(_, text)| text).collect();
        if !blocks.is_empty() {
            ran += blocks.len();
            run(&plane, home.path(), &page, &blocks.concat()).await;
        }
    }
    assert!(ran > 20, "{ran}");
    service.abort();
    controllers.abort();
}

/// Runs the commands of a page in one shell, in the root of the repository. The shell prints each command.
async fn run(plane: &ControlPlane, home: &Path, page: &str, commands: &str) {
    let commands =
        PLACEHOLDERS.iter().fold(commands.to_owned(), |text, (word, value)| replace_word(&text, word, value));
    let path = format!("{}:{}", plane.binaries().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("timeout");
    shell.args([PATIENCE, "bash", "-xeuo", "pipefail", "-c", &commands]).current_dir(root()).stdin(Stdio::null());
    shell.env("PATH", path).env("HOME", home).env("KUBECONFIG", plane.admin_kubeconfig("default"));
    let output = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{page}: {}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// Replaces a word that stands alone. `NAMESPACE` contains `NAME`.
fn replace_word(text: &str, word: &str, value: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(word) {
        let is_alone = !before.ends_with(is_part) && !before.ends_with('$') && !after.starts_with(is_part);
        replaced.extend([before, if is_alone { value } else { word }]);
        rest = after;
    }
    replaced + rest
}

/// What the controllers of a cluster with nodes would do: they report that a Deployment is rolled out, and delete a namespace
/// that is empty.
async fn act_as_controllers(client: Client) {
    loop {
        let deployments = Api::<Deployment>::all(client.clone()).list(&ListParams::default()).await.unwrap();
        for deployment in deployments {
            let generation = deployment.metadata.generation;
            if deployment.status.and_then(|status| status.observed_generation) == generation {
                continue;
            }
            let replicas = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
            let status = json!({ "status": {
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas,
            } });
            let namespace = deployment.metadata.namespace.unwrap();
            let api = Api::<Deployment>::namespaced(client.clone(), &namespace);
            // The Deployment may be gone by now.
            let _ = api
                .patch_status(&deployment.metadata.name.unwrap(), &PatchParams::default(), &Patch::Merge(status))
                .await;
        }
        let namespaces = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await.unwrap();
        for mut namespace in namespaces.into_iter().filter(|it| it.metadata.deletion_timestamp.is_some()) {
            namespace.spec = None;
            let path = format!("/api/v1/namespaces/{}/finalize", namespace.metadata.name.as_deref().unwrap());
            let body = serde_json::to_vec(&namespace).unwrap();
            let _ = client.request_text(axum::http::Request::put(path).body(body).unwrap()).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs the service beside the cluster, in place of the Pods, from when the chart is installed. Its tenants are simulated.
async fn serve(kubeconfig: PathBuf, client: Client, definition: &'static str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let established = kube::runtime::conditions::is_crd_established();
    kube::runtime::wait::await_condition(definitions, definition, established).await.unwrap();
    let shop = tenant_with(Options::new("acme-shop.eu.auth0.com")).await;
    let acme = tenant_with(Options::new("acme.eu.auth0.com")).await;
    let endpoints = [format!("acme-shop.eu.auth0.com={}", shop.url()), format!("acme.eu.auth0.com={}", acme.url())];
    let options = ["--auth0-endpoint", &endpoints[0], "--auth0-endpoint", &endpoints[1]];
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let source = Source::Cluster(Cluster { config: Some(Box::new(config)), ..Cluster::default() });
    let _service = Running::serve(serve_args(&options), source).await.unwrap();
    std::future::pending::<Value>().await;
}
