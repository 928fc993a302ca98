//! The supported combinations of values, and values that the chart rejects.

use std::collections::HashSet;

use session_checker::policy::compile;
use session_checker::source::{Document, read_documents};

use crate::render::{chart, render_error, scenarios, template, with, with_file};

#[test]
#[ignore = "needs Helm: make chart-test"]
fn objects_are_unique_and_have_a_namespace() {
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
fn contradictory_values_fail_with_a_remedy() {
    for (values, message) in [
        (&["watch.allNamespaces=true", "watch.namespaces={a}"][..], "not both"),
        (&["tls.clientCa.configMapName=ca"], "set tls.secretName, because client certificates need HTTPS"),
        (&["auth0.ca.only=true"], "set auth0.ca.configMapName"),
        (&["auth0.proxy.exceptions={a}"], "set auth0.proxy.url"),
        (&["auth0.proxy.credentialsSecretName=proxy"], "set auth0.proxy.url"),
        (&["ledger.sentinelMaster=sessions"], "set ledger.urlSecret.name"),
        (&["ledger.user=checker"], "set ledger.urlSecret.name"),
        (&["ledger.passwordSecret.name=redis"], "set ledger.urlSecret.name"),
        (&["ledger.ca.configMapName=redis-ca"], "set ledger.urlSecret.name"),
        (&["rbac.create=false", "rbac.secretNames={a}"], "set rbac.create"),
        (&["serviceAccount.create=false", "serviceAccount.annotations.a=b"], "set serviceAccount.create"),
        (&["tests.tokenSecret.name=callers", "tls.secretName=tls"], "set tests.url"),
        (&["callerJwt.jwksConfigMapName=keys", "callerJwt.audience=a"], "set all three"),
        (&["callerJwt.issuer=https://acme.eu.auth0.com/"], "set all three"),
        (&["ingress.enabled=true"], "ingress.hosts is empty: name at least one host"),
        (&["httpRoute.enabled=true"], "httpRoute.parentRefs is empty: name at least one Gateway"),
        (&["metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"], "not both"),
        (
            &["autoscaling.enabled=true", "autoscaling.maxReplicas=1"],
            "minReplicas is above maxReplicas; lower minReplicas or raise maxReplicas",
        ),
        (&["autoscaling.enabled=true", "resources.requests=null"], "set resources.requests.cpu"),
        (&["examplePolicy.enabled=true"], "write the tenant's canonical domain"),
        (&["podDisruptionBudget.maxUnavailable=2", "podDisruptionBudget.minAvailable=1"], "not both"),
        (&["terminationGracePeriodSeconds=59"], "the shutdown may take 60 seconds; raise it to at least 60"),
        (&["service.nodePort=30000"], "set service.type to NodePort or LoadBalancer"),
        (&["service.externalTrafficPolicy=Local"], "set service.type to NodePort or LoadBalancer"),
        (&["service.loadBalancerClass=x"], "set service.type to LoadBalancer"),
        (
            &["service.type=NodePort", "service.loadBalancerSourceRanges={10.0.0.0/8}"],
            "set service.type to LoadBalancer",
        ),
    ] {
        let error = render_error(values);
        assert!(error.contains(message), "{values:?}: {error}");
    }
    // What they belong to may come from a variable.
    with(&[
        "ledger.passwordSecret.name=redis",
        "extraEnv[0].name=SESSION_CHECKER_LEDGER",
        "extraEnv[0].value=redis://r",
    ]);
    with(&["auth0.proxy.exceptions={a}", "extraEnvFrom[0].secretRef.name=proxy"]);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn unknown_and_malformed_values_are_rejected() {
    for value in [
        "replicas=3",
        "ledger.url=redis://x",
        "metrics.serviceMonitor.label=x",
        "image.digest=latest",
        "replicaCount=two",
        "ledger.timeout=50",
        "ledger.timeout=0s",
        "ledger.timeout=0.0ms0s",
        "replicaCount=10001",
        "autoscaling.maxReplicas=10001",
        "pathPrefix=/a/../b",
        "log.format=logfmt",
        "service.type=ExternalName",
        "shutdown.drainSeconds=0",
        "examplePolicy.perClient=0",
        "auth0.endpoints.acme=ftp://x",
        "auth0.proxy.url=socks5://proxy",
        "auth0.proxy.url=http://me:pw@proxy",
    ] {
        let error = render_error(&[value]);
        assert!(error.contains("meet the specifications of the schema"), "{value}: {error}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn example_policy_compiles_and_is_in_audit_mode() {
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
fn crd_survives_an_uninstall_unless_keep_is_false() {
    let policy = |values: &[&str]| {
        with(values).the("CustomResourceDefinition")["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(&[]), "keep");
    assert!(policy(&["crds.keep=false"]).is_null());
    assert!(with(&["crds.enabled=false"]).of("CustomResourceDefinition").is_empty());
}
