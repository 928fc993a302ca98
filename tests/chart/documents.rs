//! The texts of the chart (README, schema, notes) and the files that it contains (rules, dashboard).

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use session_checker::policy::compile;
use session_checker::source::{Document, read_documents};

use crate::render::{chart, template, with};

/// The charts of the project. The second has the CustomResourceDefinition alone.
const CHARTS: [&str; 2] = ["session-checker", "session-checker-crds"];

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).unwrap()
}

#[test]
#[ignore = "needs helm-docs: make chart-test"]
fn readmes_match_the_comments_in_values() {
    for chart in CHARTS.map(|name| chart().with_file_name(name)) {
        let output = Command::new("helm-docs")
            .args(["--dry-run", "--log-level=warning", "--sort-values-order=file", "--chart-search-root"])
            .arg(&chart)
            .output()
            .expect("helm-docs is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let committed = std::fs::read_to_string(chart.join("README.md")).unwrap();
        let generated = String::from_utf8(output.stdout).unwrap();
        assert!(generated.trim() == committed.trim(), "{} is out of date: run make chart", chart.display());
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn values_have_a_description_and_a_schema() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let readme = read("README.md");
    let undescribed = readme.lines().filter(|line| line.starts_with("| ") && line.ends_with("|  |"));
    assert_eq!(undescribed.collect::<Vec<_>>(), Vec::<&str>::new());
    compare("", &values, &schema);
}

/// Asserts that each object of the values has exactly the keys of its schema, if the schema lists keys.
fn compare(path: &str, values: &Value, schema: &Value) {
    assert!(!schema.is_null(), "{path} has no schema");
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else { return };
    // `global` has the keys of other charts, too.
    assert!(path == ".global" || schema["additionalProperties"] == false, "{path}");
    for (key, value) in values {
        compare(&format!("{path}.{key}"), value, properties.get(key).unwrap_or(&Value::Null));
    }
    let unknown = properties.keys().filter(|key| !values.contains_key(*key));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "{path}");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn rules_and_dashboard_are_rendered_unchanged() {
    let values = ["metrics.prometheusRule.enabled=true", "metrics.dashboard.enabled=true"];
    let manifests = with(&values);
    let rules: Value = serde_saphyr::from_str(&read("files/rules.yaml")).unwrap();
    assert_eq!(manifests.the("PrometheusRule")["spec"]["groups"], rules["groups"]);
    let maps = manifests.of("ConfigMap");
    let dashboard = maps.iter().find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    assert_eq!(dashboard["data"]["session-checker.json"], read("files/dashboard.json"));
    // The API server limits a ConfigMap to 1 MiB.
    assert!(read("files/dashboard.json").len() < 1_000_000);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn one_value_leads_all_links_to_other_runbooks() {
    let enabled = ["metrics.prometheusRule.enabled=true", "metrics.dashboard.enabled=true"];
    let url = "https://wiki.example.com/runbooks";
    let manifests = with(&[enabled[0], enabled[1], &format!("metrics.runbooksUrl={url}/")]);
    let rendered = manifests.the("PrometheusRule").to_string() + &json!(manifests.of("ConfigMap")).to_string();
    let links = |base: &str, text: &str| text.matches(&format!("{base}/")).count();
    let own = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks");
    let written = read("files/rules.yaml") + &read("files/dashboard.json");
    assert_eq!((links(own, &rendered), links(url, &rendered)), (0, links(own, &written)));
    assert!(links(own, &written) > 50);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn alerts_can_be_disabled_and_labelled() {
    let manifests = with(&[
        "metrics.prometheusRule.enabled=true",
        "metrics.prometheusRule.disabled={SessionCheckerDown}",
        "metrics.prometheusRule.alertLabels.team=identity",
    ]);
    let groups = manifests.the("PrometheusRule")["spec"]["groups"].as_array().unwrap().clone();
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let alerts: Vec<_> = rules.iter().filter(|rule| !rule["alert"].is_null()).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert_ne!(alert["alert"], "SessionCheckerDown");
        assert_eq!(alert["labels"]["team"], "identity");
        assert!(alert["labels"]["severity"].is_string());
    }
    // Recorded series do not get the labels of alerts, because another label set is another series.
    assert!(rules.iter().filter(|rule| !rule["record"].is_null()).all(|rule| rule["labels"]["team"].is_null()));
}

/// The names of the thresholds in the rules, with the number before each.
fn thresholds(rules: &str) -> BTreeSet<(String, String)> {
    let lines = rules.lines().filter_map(|line| line.split_once(" # threshold: "));
    lines.map(|(before, name)| (name.to_owned(), before.rsplit(' ').next().unwrap().to_owned())).collect()
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn thresholds_of_alerts_are_values_with_the_same_defaults() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let values = values["metrics"]["prometheusRule"]["thresholds"].as_object().unwrap();
    let expected: BTreeSet<_> = values.iter().map(|(name, number)| (name.clone(), number.to_string())).collect();
    assert!(expected.len() > 10);
    assert_eq!(thresholds(&read("files/rules.yaml")), expected);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn thresholds_replace_every_number_of_their_name() {
    let expressions = |values: &[&str]| -> String {
        let manifests = with(&[&["metrics.prometheusRule.enabled=true"], values].concat());
        let groups = manifests.the("PrometheusRule")["spec"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        rules.map(|rule| format!("{}\n", rule["expr"].as_str().unwrap())).collect()
    };
    let before = thresholds(&expressions(&[]));
    for (name, number) in &before {
        let changed = thresholds(&expressions(&[&format!("metrics.prometheusRule.thresholds.{name}=7")]));
        let mut expected = before.clone();
        expected.remove(&(name.clone(), number.clone()));
        expected.insert((name.clone(), "7".to_owned()));
        assert_eq!(changed, expected, "{name}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn rules_match_every_name_of_the_job() {
    // The job is the name of the release, so that two releases in one namespace have two jobs.
    let label = "app.kubernetes.io/instance";
    let values = ["metrics.prometheusRule.enabled=true", "metrics.serviceMonitor.enabled=true", "nameOverride=limits"];
    let manifests = with(&values);
    assert_eq!(manifests.the("ServiceMonitor")["spec"]["jobLabel"], label);
    assert_eq!(with(&["metrics.podMonitor.enabled=true"]).the("PodMonitor")["spec"]["jobLabel"], label);
    let pods = &manifests.the("Deployment")["spec"]["template"];
    for monitored in manifests.of("Service").into_iter().chain([pods]) {
        assert_eq!(monitored["metadata"]["labels"][label], "session-checker");
    }
    let rules: Value = serde_saphyr::from_str(&read("files/rules.yaml")).unwrap();
    assert_eq!(manifests.the("PrometheusRule")["spec"]["groups"], rules["groups"]);
    let groups = rules["groups"].as_array().unwrap().iter();
    for rule in groups.flat_map(|group| group["rules"].as_array().unwrap()) {
        let expression = rule["expr"].as_str().unwrap();
        assert!(!expression.contains("job=") && !expression.contains("pod="), "a rule selects a name: {expression}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn values_for_load_balancers_are_those_of_the_documentation() {
    let operations = std::fs::read_to_string(chart().join("../../docs/operations.md")).unwrap();
    for (cloud, file) in [("gke", "../../examples/values/gke.yaml"), ("alb", "ci/alb-values.yaml")] {
        let values = read(file);
        assert!(operations.contains(&format!("```yaml\n{values}```")), "{cloud}");
        assert!(values.contains("/healthz"));
    }
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn no_command_leaves_out_the_default_values_of_a_newer_chart() {
    // With `--reuse-values`, an upgrade to a chart with new values fails, and that in an emergency.
    let mut texts = vec![read("templates/NOTES.txt"), read("../session-checker-crds/README.md.gotmpl")];
    for folder in ["../../docs", "../../docs/runbooks"] {
        for entry in std::fs::read_dir(chart().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            texts.extend(entry.extension().filter(|it| *it == "md").map(|_| std::fs::read_to_string(&entry).unwrap()));
        }
    }
    assert!(texts.len() > 30, "{}", texts.len());
    assert!(texts.iter().any(|text| text.contains(" --reset-then-reuse-values ")));
    assert!(texts.iter().all(|text| !text.contains(" --reuse-values ")));
}

#[test]
#[ignore = "runs with the other tests of the chart: make chart-test"]
fn annotations_for_artifact_hub_hold() {
    let manifest: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    let annotation = |name: &str| -> Value {
        let text = manifest["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap();
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let repository = values["image"]["repository"].as_str().unwrap();
    let version = manifest["appVersion"].as_str().unwrap();
    assert_eq!(annotation("images")[0]["image"], format!("{repository}:{version}"));
    let definition: Value = serde_saphyr::from_str(&session_checker::crd::manifest().unwrap()).unwrap();
    let crd = &annotation("crds")[0];
    assert_eq!(crd["name"], definition["metadata"]["name"]);
    assert_eq!(crd["version"], definition["spec"]["versions"][0]["name"]);
    for example in annotation("crdsExamples").as_array().unwrap() {
        let documents = read_documents(&example.to_string()).unwrap();
        let [Document::Policy(policy)] = documents.as_slice() else { panic!("{example}") };
        assert_eq!(compile(policy).err(), None);
    }
    let main = concat!(env!("CARGO_PKG_REPOSITORY"), "/");
    for link in annotation("links").as_array().unwrap() {
        let url = link["url"].as_str().unwrap().strip_prefix(main).unwrap();
        let path = url.split_once("/main/").map(|(_, path)| chart().join("../..").join(path));
        assert!(path.is_none_or(|path| path.exists()), "{url}");
    }
    for change in annotation("changes").as_array().unwrap() {
        let kinds = ["added", "changed", "deprecated", "removed", "fixed", "security"];
        assert!(kinds.iter().any(|kind| change["kind"] == *kind) && change["description"].is_string(), "{change}");
    }
}

/// The rendered notes. Helm prints them only with a cluster, so this renders them as part of a manifest.
fn notes(values: &[&str]) -> String {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("session-checker");
    let copied = Command::new("cp").arg("-r").arg(chart()).arg(&to).status().unwrap();
    assert!(copied.success());
    std::fs::rename(to.join("templates/NOTES.txt"), to.join("files/NOTES.txt")).unwrap();
    let manifest = r#"notes: {{ tpl (.Files.Get "files/NOTES.txt") . | toJson }}"#;
    std::fs::write(to.join("templates/notes.yaml"), manifest).unwrap();
    let set = values.iter().flat_map(|value| ["--set", value]);
    let text = template(&to, set.chain(["--show-only", "templates/notes.yaml"])).unwrap();
    let rendered: Value = serde_saphyr::from_str(&text).unwrap();
    rendered["notes"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn notes_name_the_next_steps_and_missing_settings() {
    let (ledger, scraping, outside) = ("without a shared ledger", "Nothing scrapes the metrics", "from outside");
    let default = notes(&[]);
    for words in ["rollout status deployment/session-checker", "create secret generic", ledger, scraping, outside] {
        assert!(default.contains(words), "{words}: {default}");
    }
    let complete = notes(&[
        "ledger.urlSecret.name=redis",
        "metrics.podMonitor.enabled=true",
        "ingress.enabled=true",
        "ingress.hosts={sessions.example.com}",
    ]);
    assert!(!complete.contains("Check these settings"), "{complete}");
    assert!(!notes(&["replicaCount=1"]).contains(ledger));
    assert!(notes(&["forceAudit=true"]).contains("forceAudit is on"));
    assert!(notes(&["allowAnonymous=true"]).contains("can ask about any user"));
    assert!(notes(&["watch.allNamespaces=true"]).contains("every Secret of the cluster"));
}
