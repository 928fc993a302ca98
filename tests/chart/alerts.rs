//! The alerts as the chart renders them for several clusters under one ruler.

use std::process::Command;

use serde_json::Value;

use crate::render::{chart, with};

const ENABLED: &str = "metrics.prometheusRule.enabled=true";

fn spec(values: &[&str]) -> Value {
    with(&[&[ENABLED], values].concat()).the("PrometheusRule")["spec"].clone()
}

fn rules(spec: &Value) -> Vec<Value> {
    let groups = spec["groups"].as_array().unwrap().iter();
    let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
    assert!(rules.len() > 40);
    rules
}

/// What stands in parentheses after these words.
fn lists<'a>(expression: &'a str, words: &[&str]) -> Vec<&'a str> {
    let after = words.iter().flat_map(|word| expression.split(&format!("{word} (")).skip(1).collect::<Vec<_>>());
    after.map(|rest| rest.split(')').next().unwrap()).collect()
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn cluster_labels_are_in_every_grouping_and_text() {
    let spec = spec(&["metrics.prometheusRule.clusterLabels={region,cluster}"]);
    for rule in rules(&spec) {
        let (expression, description) = (rule["expr"].as_str().unwrap(), &rule["annotations"]["description"]);
        // `on ()` and `group_left ()` match everything.
        for list in lists(expression, &["by", "on"]).into_iter().filter(|list| !list.is_empty()) {
            assert!(list.starts_with("region, cluster, namespace, job"), "{list}: {expression}");
        }
        let Some(description) = description.as_str() else { continue };
        let place = "{{ $labels.region }}/{{ $labels.cluster }}/{{ $labels.namespace }}";
        assert_eq!(description.matches("{{ $labels.namespace }}").count(), description.matches(place).count());
        assert!(description.contains(place), "{description}");
        let queries = description.matches("namespace=%q,job=%q").count();
        assert_eq!(queries, description.matches("region=%q,cluster=%q,namespace=%q,job=%q").count(), "{description}");
        let arguments = "$labels.region $labels.cluster $labels.namespace $labels.job";
        assert_eq!(queries, description.matches(arguments).count(), "{description}");
    }
}

/// What promtool says about a file of tests/alerts with the rules of these values.
fn promtool(tests: &str, values: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, spec(values).to_string()).unwrap();
    let tests = std::fs::read_to_string(chart().join("../../tests/alerts").join(tests)).unwrap();
    let file = folder.path().join("rules_test.yaml");
    std::fs::write(&file, tests.replace("[RULES]", &format!("[{}]", rules.display()))).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&file).output().expect("promtool is installed");
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(said).unwrap()) }
}

#[test]
#[ignore = "needs Helm and promtool: make chart-test"]
fn alerts_of_several_clusters_are_told_apart() {
    promtool("clusters.yaml", &["metrics.prometheusRule.clusterLabels={cluster}"]).unwrap();
    // Without the label the rules would mix the clusters: this is what the tests above are sensitive to.
    let mixed = promtool("clusters.yaml", &[]).unwrap_err();
    for alert in ["SessionCheckerDown", "SessionCheckerManyLoginsBlocked", "SessionCheckerReplicasDisagree"] {
        assert!(mixed.contains(alert), "{mixed}");
    }
}

#[test]
#[ignore = "needs Helm and promtool: make chart-test"]
fn alerts_link_to_the_dashboard_of_the_release() {
    let url = "metrics.prometheusRule.grafanaUrl=https://grafana.example.com/";
    let uid = "metrics.dashboard.uid=two";
    promtool("dashboard_url.yaml", &[url, uid]).unwrap();
    let manifests = with(&["metrics.dashboard.enabled=true", uid]);
    let maps = manifests.of("ConfigMap");
    let map = maps.iter().find(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    let dashboard: Value = serde_json::from_str(map["data"]["session-checker.json"].as_str().unwrap()).unwrap();
    assert_eq!(dashboard["uid"], "two");
}
