//! Every combination of values that is supported, and some that are not.

use std::collections::HashSet;

use session_checker::policy::compile;
use session_checker::source::{Document, read_documents};

use crate::render::{chart, refusal, scenarios, template, with, with_file};

#[test]
#[ignore = "needs Helm: make chart-test"]
fn every_scenario_gives_each_object_once_and_in_a_namespace() {
    for path in scenarios() {
        let mut seen = HashSet::new();
        for manifest in with_file(&path).0 {
            let (kind, metadata) = (manifest["kind"].as_str().unwrap().to_owned(), &manifest["metadata"]);
            let name = metadata["name"].as_str().unwrap().to_owned();
            assert!(seen.insert((kind.clone(), metadata["namespace"].to_string(), name)), "{kind} {}", path.display());
            let extra = metadata["labels"].is_null();
            let cluster_wide = kind == "CustomResourceDefinition" || kind.starts_with("ClusterRole");
            assert_eq!(metadata["namespace"].is_null(), extra || cluster_wide, "{kind} of {}", path.display());
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn values_that_contradict_each_other_are_refused_with_what_to_write() {
    for (values, message) in [
        (&["watch.allNamespaces=true", "watch.namespaces={a}"][..], "not both"),
        (&["ingress.enabled=true"], "ingress.hosts: name at least one host"),
        (&["httpRoute.enabled=true"], "httpRoute.parentRefs: name at least one Gateway"),
        (&["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"], "not both"),
        (&["autoscaling.enabled=true", "autoscaling.maxReplicas=1"], "minReplicas is above maxReplicas"),
        (&["autoscaling.enabled=true", "resources.requests=null"], "set resources.requests.cpu"),
        (&["examplePolicy.enabled=true"], "write the tenant's canonical domain"),
    ] {
        let said = refusal(values);
        assert!(said.contains(message), "{values:?}: {said}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn a_value_that_is_not_there_or_of_the_wrong_kind_is_refused() {
    for value in [
        "replicas=3",
        "ledger.url=redis://x",
        "metrics.serviceMonitor.label=x",
        "image.digest=latest",
        "replicaCount=two",
        "ledger.timeout=50",
        "log.format=logfmt",
        "service.type=ExternalName",
        "shutdown.drainSeconds=0",
        "examplePolicy.perClient=0",
        "auth0.endpoints.acme=ftp://x",
    ] {
        let said = refusal(&[value]);
        assert!(said.contains("meet the specifications of the schema"), "{value}: {said}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn the_example_policy_is_one_that_the_service_takes() {
    let values = ["examplePolicy.enabled=true", "examplePolicy.domain=acme.eu.auth0.com"];
    let set = values.iter().flat_map(|value| ["--set", value]);
    let text = template(&chart(), set.chain(["--show-only", "templates/examplepolicy.yaml"])).unwrap();
    let documents = read_documents(&text).unwrap();
    let [Document::Policy(manifest)] = documents.as_slice() else { panic!("one policy: {text}") };
    assert_eq!(compile(manifest).err(), None);
    assert_eq!(with(&values).the("SessionPolicy")["spec"]["mode"], "Audit");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn the_definition_and_with_it_all_policies_outlive_the_release_unless_the_values_say_otherwise() {
    let policy = |values: &[&str]| {
        with(values).the("CustomResourceDefinition")["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(&[]), "keep");
    assert!(policy(&["crds.keep=false"]).is_null());
    assert!(with(&["crds.enabled=false"]).of("CustomResourceDefinition").is_empty());
}
