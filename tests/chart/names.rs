//! Names that YAML would read as numbers, booleans or null: `20261127` is a legal name of a namespace, a release and a Secret.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::render::{Manifests, chart, template_release};

/// Values with `WORD` for each name that the chart writes into a manifest.
const VALUES: &str = r#"
nameOverride: "WORD"
fullnameOverride: "WORD"
namespaceOverride: "WORD"
commonLabels: {team: "WORD"}
className: "WORD"
watch: {namespaces: ["WORD"]}
global: {imagePullSecrets: ["a", "WORD"]}
imagePullSecrets: [{name: "WORD"}]
image: {repository: "WORD", tag: "WORD"}
ledger:
  urlSecret: {name: "WORD", key: "WORD"}
  sentinelMaster: "WORD"
  user: "WORD"
  passwordSecret: {name: "WORD", key: "WORD"}
  ca: {configMapName: "WORD", key: "WORD"}
  keySecret: {name: "WORD", key: "WORD"}
callerTokens: {secretName: "WORD", key: "WORD"}
callerJwt: {jwksConfigMapName: "WORD", key: "WORD", issuer: "WORD", audience: "WORD"}
auth0:
  ca: {configMapName: "WORD", key: "WORD"}
  proxy: {url: "http://proxy:3128", exceptions: ["WORD"], credentialsSecretName: "WORD", key: "WORD"}
tls:
  secretName: "WORD"
  clientCa: {configMapName: "WORD", key: "WORD"}
log:
  filter: "WORD"
  hashKeySecret: {name: "WORD", key: "WORD"}
tracing: {endpoint: "http://otel:4317"}
rbac: {secretNames: ["WORD"]}
serviceAccount: {name: "WORD"}
service: {type: LoadBalancer, loadBalancerClass: "WORD"}
logStream: {enabled: true}
choose:
  enabled: true
  url: https://sessions.example.com
  ticketKeySecret: {name: "WORD", key: "WORD"}
  pagesConfigMapName: "WORD"
  ingress: {enabled: true, className: "WORD", tlsSecretName: "WORD"}
  httpRoute: {enabled: true, parentRefs: [{name: "WORD", namespace: "WORD"}]}
ingress: {enabled: true, className: "WORD", hosts: ["WORD"], tlsSecretName: "WORD"}
httpRoute: {enabled: true, parentRefs: [{name: "WORD", namespace: "WORD"}], hostnames: ["WORD"]}
metrics:
  serviceMonitor: {enabled: true, namespace: "WORD"}
  prometheusRule: {enabled: true, namespace: "WORD", alertLabels: {team: "WORD"}}
  dashboard: {enabled: true, namespace: "WORD", uid: "WORD"}
autoscaling: {enabled: true}
networkPolicy: {enabled: true}
priorityClassName: "WORD"
runtimeClassName: "WORD"
schedulerName: "WORD"
tests:
  url: https://sessions.example.com/check
  tokenSecret: {name: "WORD", key: "WORD"}
examplePolicy: {enabled: true, domain: "WORD", credentialsSecretName: "WORD", callersSecretName: "WORD"}
"#;

/// The objects of a release whose name, namespace and values are all this word, with some other values.
fn rendered(word: &str, more: &[&str]) -> Manifests {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, VALUES.replace("WORD", word)).unwrap();
    let arguments = ["--namespace", word, "--values", file.to_str().unwrap()];
    let set = more.iter().flat_map(|value| ["--set", *value]);
    Manifests::parse(&template_release(word, &chart(), arguments.into_iter().chain(set)).unwrap())
}

/// Adds the type of each value, by its place in the object.
fn add_types(place: &str, value: &Value, types: &mut BTreeMap<String, &'static str>) {
    let name = match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| add_types(&format!("{place}/{key}"), value, types));
            return;
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| add_types(&format!("{place}/{at}"), item, types));
            return;
        }
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
    };
    types.insert(place.to_owned(), name);
}

fn types(word: &str, more: &[&str]) -> BTreeMap<String, &'static str> {
    let mut types = BTreeMap::new();
    for (at, manifest) in rendered(word, more).0.iter().enumerate() {
        add_types(&format!("{at} {}", manifest["kind"].as_str().unwrap()), manifest, &mut types);
    }
    types
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn names_are_strings_whatever_they_look_like() {
    let cluster_wide = [
        "watch.namespaces=null",
        "watch.allNamespaces=true",
        "metrics.serviceMonitor.enabled=false",
        "metrics.podMonitor.enabled=true",
        "metrics.podMonitor.namespace=monitoring",
    ];
    for more in [&[][..], &cluster_wide, &["fullnameOverride=", "nameOverride=", "serviceAccount.name="]] {
        let expected = types("word", more);
        assert!(expected.values().filter(|name| **name == "string").count() > 500, "{}", expected.len());
        for word in ["20261127", "1e3", "0x1f", "true", "null", "no"] {
            let found = types(word, more);
            let other: Vec<_> = found.iter().filter(|(place, name)| expected.get(*place) != Some(name)).collect();
            assert!(other.is_empty() && found.len() == expected.len(), "{word} {more:?}: {other:?}");
        }
    }
}
