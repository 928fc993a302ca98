//! Values that change objects in one place each: names, labels, annotations, settings of Pods, Services and monitors.

use serde_json::{Value, json};
use session_checker::args::Command;

use crate::render::{Manifests, chart, render_error, scenarios, template, with, with_file};

fn everything() -> Manifests {
    with_file(&chart().join("ci/everything-values.yaml"))
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn every_value_reaches_the_manifests() {
    // Each leaf of the scenario appears in the manifests. A value that the chart accepts and ignores fails here.
    let values: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(chart().join("ci/everything-values.yaml")).unwrap()).unwrap();
    let rendered = serde_json::to_string(&everything().0).unwrap();
    fn leaves(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, found)),
            Value::Array(items) => items.iter().for_each(|item| leaves(path, item, found)),
            Value::Bool(_) | Value::Null => {}
            Value::String(text) => found.push((path.to_owned(), text.clone())),
            other => found.push((path.to_owned(), other.to_string())),
        }
    }
    let mut found = Vec::new();
    leaves("", &values, &mut found);
    assert!(found.len() > 60, "{found:?}");
    for (path, value) in found {
        // The label of a cluster is a part of expressions.
        assert!(rendered.contains(&value), "{path}: {value} has no effect");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn common_labels_and_annotations_are_on_every_object() {
    for manifest in everything().0 {
        let metadata = &manifest["metadata"];
        assert_eq!(metadata["labels"]["team"], "identity", "{metadata}");
        assert_eq!(metadata["annotations"]["example.com/cost-center"], "4711", "{metadata}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn namespace_override_moves_every_object_and_reference() {
    let values = ["namespaceOverride=other", "watch.allNamespaces=true", "metrics.serviceMonitor.enabled=true"];
    for values in [&values[..1], &values[..]] {
        for manifest in with(values).0 {
            let metadata = &manifest["metadata"];
            let cluster_wide = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
            assert!(metadata["namespace"] == "other" || cluster_wide.iter().any(|kind| manifest["kind"] == *kind));
            for subject in manifest["subjects"].as_array().into_iter().flatten() {
                assert_eq!(subject["namespace"], "other", "{manifest}");
            }
            if manifest["kind"].as_str().unwrap().starts_with("Cluster") {
                assert_eq!(metadata["name"], "session-checker-other");
            }
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn labels_of_selectors_cannot_be_replaced() {
    let name = "app\\.kubernetes\\.io/name=x";
    let manifests =
        with(&[&format!("commonLabels.{name}"), &format!("podLabels.{name}"), &format!("service.labels.{name}")]);
    let deployment = &manifests.the("Deployment")["spec"];
    assert_eq!(deployment["selector"]["matchLabels"]["app.kubernetes.io/name"], "session-checker");
    assert_eq!(deployment["template"]["metadata"]["labels"]["app.kubernetes.io/name"], "session-checker");
    assert_eq!(manifests.of("Service")[0]["metadata"]["labels"]["app.kubernetes.io/name"], "session-checker");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pull_secrets_of_the_parent_chart_are_used() {
    let secrets = |values: &[&str]| with(values).pod()["imagePullSecrets"].clone();
    assert!(secrets(&[]).is_null());
    let both = ["global.imagePullSecrets={a,b}", "imagePullSecrets[0].name=b"];
    assert_eq!(secrets(&both), json!([{ "name": "a" }, { "name": "b" }]));
    assert_eq!(secrets(&["global.imagePullSecrets[0].name=a"]), json!([{ "name": "a" }]));
    // A parent chart has keys for other charts there.
    assert!(secrets(&["global.imageRegistry=x"]).is_null());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn lease_is_left_to_the_service_on_request() {
    let manifests = with(&["lease.create=false"]);
    assert!(manifests.of("Lease").is_empty());
    // The service may create it.
    let role =
        manifests.of("Role").into_iter().find(|role| role["metadata"]["name"] == "session-checker-lease").unwrap();
    assert_eq!(
        role["rules"][0],
        json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] })
    );
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn probes_keep_their_path_when_a_setting_changes() {
    let manifests =
        with(&["readinessProbe.periodSeconds=5", "livenessProbe.tcpSocket.port=admin", "startupProbe=null"]);
    let container = manifests.container();
    let ready = json!({ "httpGet": { "path": "/readyz", "port": "admin" }, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 2 });
    assert_eq!(container["readinessProbe"], ready);
    assert!(container["livenessProbe"]["httpGet"].is_null() && !container["livenessProbe"]["tcpSocket"].is_null());
    assert!(container["startupProbe"].is_null());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn null_removes_the_user_for_openshift() {
    for path in scenarios().iter().filter(|path| path.to_str().unwrap().contains("openshift")) {
        let manifests = with_file(path);
        let [probe, doctor] = [0, 1].map(|pod| &manifests.of("Pod")[pod]["spec"]);
        for pod in [manifests.pod(), probe, doctor] {
            let context = &pod["securityContext"];
            for key in ["runAsUser", "runAsGroup", "fsGroup"] {
                assert!(context.as_object().unwrap().get(key).is_none(), "{}: {key}", path.display());
            }
            assert_eq!(context["runAsNonRoot"], true);
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn paths_outside_of_the_cluster_are_answered_by_the_service() {
    let exposed = [
        "ingress.enabled=true",
        "ingress.hosts={a.example.com}",
        "httpRoute.enabled=true",
        "httpRoute.parentRefs[0].name=g",
    ];
    for (prefix, path) in [("", "/check"), ("/sessions", "/sessions/check"), ("/a/b/", "/a/b/check")] {
        let manifests = with(&[&exposed[..], &[&format!("pathPrefix={prefix}")]].concat());
        assert_eq!(manifests.serve().path_prefix, prefix.trim_end_matches('/'));
        assert_eq!(manifests.the("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["path"], path);
        assert_eq!(manifests.the("HTTPRoute")["spec"]["rules"][0]["matches"][0]["path"]["value"], path);
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn monitor_in_another_namespace_selects_that_of_the_release() {
    for (kind, value) in [("ServiceMonitor", "serviceMonitor"), ("PodMonitor", "podMonitor")] {
        let enabled = format!("metrics.{value}.enabled=true");
        assert!(with(&[&enabled]).the(kind)["spec"]["namespaceSelector"].is_null());
        let manifests = with(&[&enabled, &format!("metrics.{value}.namespace=monitoring")]);
        assert_eq!(manifests.the(kind)["metadata"]["namespace"], "monitoring");
        assert_eq!(manifests.the(kind)["spec"]["namespaceSelector"]["matchNames"], json!(["session-checker"]));
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn test_pod_asks_the_services_and_is_not_one_of_them() {
    for path in scenarios() {
        let manifests = with_file(&path);
        let tests = manifests.of("Pod");
        for test in &tests {
            assert_eq!(test["metadata"]["annotations"]["helm.sh/hook"], "test");
            // Helm shows no log of a Pod with several containers.
            assert_eq!(test["spec"]["containers"].as_array().unwrap().len(), 1);
            assert_eq!(test["spec"]["containers"][0]["image"], manifests.container()["image"]);
            for service in manifests.of("Service") {
                let selector = service["spec"]["selector"].as_object().unwrap();
                let selected = selector.iter().all(|(name, value)| &test["metadata"]["labels"][name] == value);
                assert!(!selected, "{}: a Service sends to the Pod of the test", path.display());
            }
        }
        let [probe, doctor] = [0, 1].map(|pod| {
            let words = tests[pod]["spec"]["containers"][0]["args"].as_array().unwrap().iter();
            manifests.args(&words.map(|word| word.as_str().unwrap()).collect::<Vec<_>>()).unwrap().command
        });
        let (Command::Probe(probe), Command::Doctor(doctor)) = (probe, doctor) else { panic!("{tests:?}") };
        let urls = [probe.admin_url, probe.url];
        for url in urls.iter().flatten() {
            let services = manifests.of("Service");
            let service = services.iter().find(|it| url.host_str() == it["metadata"]["name"].as_str()).unwrap();
            assert_eq!(json!(url.port_or_known_default()), service["spec"]["ports"][0]["port"], "{url}");
        }
        assert_eq!(urls[1].is_none(), manifests.serve().tls_cert.is_some(), "{}", path.display());
        assert_eq!(doctor.admin_url, urls[0], "both ask the same admin port");
    }
    assert_eq!(with(&["tests.doctor=false"]).of("Pod").len(), 1);
    assert!(with(&["tests.enabled=false"]).of("Pod").is_empty());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn test_pod_asks_the_urls_of_the_values() {
    let arguments = |values: &[&str]| {
        let manifests = with(values);
        let spec = manifests.of("Pod")[0]["spec"].clone();
        let words = spec["containers"][0]["args"].as_array().unwrap().clone();
        (words.into_iter().map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>(), spec["volumes"].clone())
    };
    let public = "tests.url=https://sessions.example.com/check";
    let (words, volumes) = arguments(&[
        public,
        "tests.adminUrl=http://10.0.0.1:9090",
        "tests.tokenSecret.name=callers",
        "tls.secretName=t",
    ]);
    assert!(words.contains(&"--url=https://sessions.example.com/check".to_owned()), "{words:?}");
    assert!(words.contains(&"--admin-url=http://10.0.0.1:9090".to_owned()), "{words:?}");
    assert!(words.contains(&"--token-file=/etc/session-checker/token/action".to_owned()), "{words:?}");
    assert_eq!(volumes[0]["secret"]["secretName"], "callers");
    // Without a URL that its certificate is for, the test asks for readiness alone.
    let (words, volumes) = arguments(&["tls.secretName=t"]);
    assert_eq!(words.len(), 3, "{words:?}");
    assert!(volumes.is_null());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn network_policy_allows_the_test() {
    let values = ["networkPolicy.enabled=true", "networkPolicy.checksFrom[0].namespaceSelector.matchLabels.a=b"];
    let manifests = with(&values);
    let labels = &manifests.of("Pod")[0]["metadata"]["labels"];
    let rules = manifests.the("NetworkPolicy")["spec"]["ingress"].as_array().unwrap().clone();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        let from = rule["from"].as_array().unwrap();
        let selector = from.last().unwrap()["podSelector"]["matchLabels"].as_object().unwrap();
        assert!(selector.len() == 2 && selector.iter().all(|(name, value)| &labels[name] == value), "{rule}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn typing_mistakes_inside_of_kubernetes_objects_are_rejected() {
    for (value, place) in [
        ("resources.limit.memory=1Gi", "at '/resources': additional properties 'limit' not allowed"),
        ("resources.limits.memroy=1Gi", "at '/resources/limits': additional properties 'memroy' not allowed"),
        ("tests.resources.limit.cpu=1", "at '/tests/resources': additional properties 'limit' not allowed"),
        ("readinessProbe.periodSecond=1", "at '/readinessProbe': additional properties 'periodSecond' not allowed"),
        ("podSecurityContext.runasUser=1", "at '/podSecurityContext': additional properties 'runasUser' not allowed"),
        ("securityContext.readOnlyRootFileSystem=true", "at '/securityContext': additional properties"),
        ("strategy.rollingUpdate.maxSurg=1", "at '/strategy/rollingUpdate': additional properties 'maxSurg'"),
        ("lifecycle.prestop.sleep.seconds=1", "at '/lifecycle': additional properties 'prestop' not allowed"),
        ("dnsConfig.option[0].name=ndots", "at '/dnsConfig': additional properties 'option' not allowed"),
        ("affinity.podAffinty.x=1", "at '/affinity': additional properties 'podAffinty' not allowed"),
        ("extraEnv[0].name=A,extraEnv[0].valeu=x", "at '/extraEnv/0': additional properties 'valeu' not allowed"),
        ("extraEnv[0].value=A", "at '/extraEnv/0': missing property 'name'"),
        ("tolerations[0].kye=a", "at '/tolerations/0': additional properties 'kye' not allowed"),
        ("autoscaling.behavior.scaledown.x=1", "at '/autoscaling/behavior': additional properties 'scaledown'"),
        ("networkPolicy.checksFrom[0].ipblock.cidr=x", "at '/networkPolicy/checksFrom/0': additional properties"),
        ("metrics.podMonitor.relabelings[0].targetlabel=x", "additional properties 'targetlabel' not allowed"),
        ("imagePullSecrets={registry}", "at '/imagePullSecrets/0': got string, want object"),
        ("service.loadBalancerSourceRanges={203.0.113.7}", "at '/service/loadBalancerSourceRanges/0'"),
        ("pathPrefix=sessions", "at '/pathPrefix'"),
        ("metrics.prometheusRule.clusterLabels={a-b}", "at '/metrics/prometheusRule/clusterLabels/0'"),
    ] {
        let error = render_error(&[value]);
        assert!(error.contains(place), "{value}: {error}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn extra_objects_have_no_policy_check_without_a_cluster() {
    // `helm template`, Argo CD and Flux render without knowing what the cluster has.
    let values = ["examplePolicy.enabled=true", "examplePolicy.domain=acme.eu.auth0.com", "crds.enabled=false"];
    let set = values.iter().flat_map(|value| ["--set", value]);
    assert!(template(&chart(), set).unwrap().contains("kind: SessionPolicy"));
}
