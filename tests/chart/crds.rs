//! The chart of the CustomResourceDefinition, and who owns the definition.

use std::path::PathBuf;

use serde_json::Value;

use crate::render::{Manifests, chart, template};

fn crds() -> PathBuf {
    chart().with_file_name("session-checker-crds")
}

fn rendered(values: &[&str]) -> Value {
    let set = values.iter().flat_map(|value| ["--set", value]);
    let manifests = Manifests::parse(&template(&crds(), set).unwrap());
    assert_eq!(manifests.0.len(), 1, "the chart installs the definition and nothing else");
    manifests.the("CustomResourceDefinition").clone()
}

/// Helm writes 1 for 1.0.
fn numbers_as_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(numbers_as_floats).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), numbers_as_floats(value))).collect(),
        other => other.clone(),
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn chart_of_the_definition_installs_the_printed_one() {
    let printed: Value = serde_saphyr::from_str(&session_checker::crd::manifest().unwrap()).unwrap();
    let main = Manifests::parse(&template(&chart(), []).unwrap());
    for definition in [&rendered(&[]), main.the("CustomResourceDefinition")] {
        assert_eq!(numbers_as_floats(&definition["spec"]), numbers_as_floats(&printed["spec"]));
        assert_eq!(definition["metadata"]["name"], printed["metadata"]["name"]);
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(rendered(&["keep=false"])["metadata"]["annotations"].is_null());
    let labelled = rendered(&["labels.team=identity", "annotations.owner=identity"]);
    assert_eq!(labelled["metadata"]["labels"]["team"], "identity");
    assert_eq!(labelled["metadata"]["annotations"]["owner"], "identity");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn both_charts_have_the_version_of_the_program() {
    for chart in [chart(), crds()] {
        let text = std::fs::read_to_string(chart.join("Chart.yaml")).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        for key in ["version", "appVersion"] {
            assert_eq!(manifest[key], env!("CARGO_PKG_VERSION"), "{}", chart.display());
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn unknown_values_of_the_definition_are_rejected() {
    let error = template(&crds(), ["--set", "crds.keep=false"]).unwrap_err();
    assert!(error.contains("additional properties 'crds' not allowed"), "{error}");
    // A parent chart passes its global values to every chart.
    template(&crds(), ["--set", "global.imageRegistry=x"]).unwrap();
}
