//! Which ports and paths the chart exposes, and to whom.

use serde_json::{Value, json};

use crate::render::{Manifests, chart, render_error, scenarios, template, with, with_file};

const EXPOSED: [&str; 3] =
    ["ingress.enabled=true", "ingress.hosts={sessions.example.com}", "service.type=LoadBalancer"];
const ROUTED: [&str; 2] = ["httpRoute.enabled=true", "httpRoute.parentRefs[0].name=public"];

#[test]
#[ignore = "needs Helm: make chart-test"]
fn admin_port_has_no_ingress_route_or_load_balancer() {
    let manifests = with(&[&EXPOSED[..], &ROUTED[..]].concat());
    for service in manifests.of("Service") {
        let ports = service["spec"]["ports"].as_array().unwrap();
        let admin = ports.iter().any(|port| port["targetPort"] == "admin");
        assert_eq!(admin, service["spec"]["clusterIP"] == "None", "{service}");
        assert_eq!(ports.len(), 1, "{service}");
    }
    let backend = &manifests.the("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"];
    assert_eq!(backend, "session-checker");
    assert_eq!(manifests.the("HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]["name"], "session-checker");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn ingress_and_route_expose_only_the_check_path() {
    let manifests = with(&[&EXPOSED[..], &ROUTED[..]].concat());
    let paths = &manifests.the("Ingress")["spec"]["rules"][0]["http"]["paths"];
    let [path] = paths.as_array().unwrap().as_slice() else { panic!("{paths}") };
    assert_eq!((&path["path"], &path["pathType"]), (&json!("/check"), &json!("Exact")));
    let matches = &manifests.the("HTTPRoute")["spec"]["rules"][0]["matches"];
    assert_eq!(*matches, json!([{ "path": { "type": "Exact", "value": "/check" } }]));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn log_streams_have_a_port_a_service_and_a_path_of_their_own() {
    let all = [&EXPOSED[..], &ROUTED[..], &["networkPolicy.enabled=true"]].concat();
    let port = |manifests: &Manifests| {
        let ports = manifests.container()["ports"].as_array().unwrap().clone();
        ports.into_iter().find(|port| port["name"] == "logs").map(|port| port["containerPort"].clone())
    };
    let without = with(&all);
    assert_eq!((port(&without), without.of("Service").len()), (None, 2));
    let manifests = with(&[&all[..], &["logStream.enabled=true"]].concat());
    let variables = manifests.container()["env"].as_array().unwrap();
    let listen = variables.iter().find(|variable| variable["name"] == "SESSION_CHECKER_LOGS_LISTEN").unwrap();
    assert_eq!((port(&manifests), &listen["value"]), (Some(json!(3100)), &json!("[::]:3100")));
    let services = manifests.of("Service");
    let logs = services.iter().find(|service| service["metadata"]["name"] == "session-checker-logs").unwrap();
    assert_eq!(logs["spec"]["ports"][0]["targetPort"], "logs");
    let paths = &manifests.the("Ingress")["spec"]["rules"][0]["http"]["paths"];
    assert_eq!(
        (&paths[1]["path"], &paths[1]["backend"]["service"]["name"]),
        (&json!("/logs"), &json!("session-checker-logs"))
    );
    let rule = &manifests.the("HTTPRoute")["spec"]["rules"][1];
    assert_eq!(rule["backendRefs"][0]["name"], "session-checker-logs");
    let ingress = manifests.the("NetworkPolicy")["spec"]["ingress"].as_array().unwrap();
    assert!(ingress.iter().any(|rule| rule["ports"] == json!([{ "port": "logs" }])));
    let hidden = with(&[&all[..], &["logStream.enabled=true", "logStream.expose=false"]].concat());
    assert_eq!(hidden.the("HTTPRoute")["spec"]["rules"].as_array().unwrap().len(), 1);
    assert_eq!(hidden.the("Ingress")["spec"]["rules"][0]["http"]["paths"].as_array().unwrap().len(), 1);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn page_for_choosing_sessions_has_a_port_a_service_and_an_ingress_of_its_own() {
    let choose = ["choose.enabled=true", "choose.url=https://sessions.example.com", "choose.ticketKeySecret.name=keys"];
    let exposed =
        ["choose.ingress.enabled=true", "choose.httpRoute.enabled=true", "choose.httpRoute.parentRefs[0].name=public"];
    let more = ["networkPolicy.enabled=true", "choose.pagesConfigMapName=pages"];
    let manifests = with(&[&choose[..], &exposed[..], &more[..]].concat());
    for (name, value) in [
        ("SESSION_CHECKER_CHOOSE_LISTEN", "[::]:3200"),
        ("SESSION_CHECKER_TICKET_KEY_FILE", "/etc/session-checker/ticket-keys/keys"),
        ("SESSION_CHECKER_CHOOSE_PAGE_DIR", "/etc/session-checker/choose-pages"),
    ] {
        assert_eq!(manifests.variable(name).unwrap()["value"], value, "{name}");
    }
    let services = manifests.of("Service");
    let service = services.iter().find(|it| it["metadata"]["name"] == "session-checker-choose").unwrap();
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "choose");
    let rule = &manifests.the("Ingress")["spec"]["rules"][0];
    let path = &rule["http"]["paths"][0];
    assert_eq!((&rule["host"], &path["path"]), (&json!("sessions.example.com"), &json!("/choose")));
    assert_eq!(path["backend"]["service"]["name"], "session-checker-choose");
    let rule = &manifests.the("HTTPRoute")["spec"]["rules"][0];
    assert_eq!(rule["backendRefs"][0]["name"], "session-checker-choose");
    let ingress = manifests.the("NetworkPolicy")["spec"]["ingress"].as_array().unwrap();
    assert!(ingress.iter().any(|rule| rule["ports"] == json!([{ "port": "choose" }])));

    let without = with(&choose);
    assert!(without.of("Ingress").is_empty() && without.of("HTTPRoute").is_empty(), "only what is asked for");
    for (wrong, message) in [
        (&["choose.enabled=true"][..], "choose.url is empty"),
        (&choose[..2], "choose.ticketKeySecret.name is empty"),
        (&[&choose[..], &["choose.httpRoute.enabled=true"]].concat(), "choose.httpRoute.parentRefs is empty"),
        (&["choose.ingress.enabled=true"], "choose.ingress.enabled is set, and choose.enabled is not"),
        (&["choose.httpRoute.enabled=true"], "choose.httpRoute.enabled is set, and choose.enabled is not"),
    ] {
        let error = render_error(wrong);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn default_values_expose_nothing_outside_the_cluster() {
    let manifests = with(&[]);
    assert!(manifests.of("Ingress").is_empty() && manifests.of("HTTPRoute").is_empty());
    assert!(
        manifests
            .of("Service")
            .iter()
            .all(|service| service["spec"]["type"].as_str().unwrap_or("ClusterIP") == "ClusterIP")
    );
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn network_policy_allows_the_egress_that_is_needed() {
    let ports = |values: &[&str]| -> Vec<u64> {
        let manifests = with(&[&["networkPolicy.enabled=true"], values].concat());
        let egress = manifests.the("NetworkPolicy")["spec"]["egress"].as_array().unwrap().clone();
        egress
            .iter()
            .flat_map(|rule| rule["ports"].as_array().unwrap())
            .map(|port| port["port"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(ports(&[]), [53, 53, 443, 6443]);
    let values = ["ledger.urlSecret.name=redis", "tracing.endpoint=http://otel:4317"];
    assert_eq!(ports(&values), [53, 53, 443, 6443, 6379, 4317]);
    assert_eq!(ports(&["decisionRecords.endpoint=http://otel:4317"]), [53, 53, 443, 6443, 4317]);
    let sentinels = ["ledger.urlSecret.name=redis", "ledger.sentinelMaster=sessions"];
    assert_eq!(ports(&sentinels), [53, 53, 443, 6443, 6379, 26379]);
    // The ports of both collectors, each once, and that of most Pods behind a Service with another port.
    let collector = |endpoint: &str| {
        let value = format!("tracing.endpoint={endpoint}");
        ports(&["decisionRecords.endpoint=http://logs:5555", &value]).split_off(4)
    };
    assert_eq!(collector("http://logs:5555"), [4317, 5555]);
    assert_eq!(collector("http://[fd00::1]:4317"), [4317, 5555]);
    for (endpoint, port) in [
        ("http://otel:4318/", 4318),
        ("https://otel.example.com:55680/v1?to=:9", 55680),
        // As the program connects: without a port, to that of the scheme.
        ("http://[fd00::1]", 80),
        ("http://otel", 80),
        ("https://otel/v1", 443),
    ] {
        assert_eq!(collector(endpoint), [4317, port, 5555], "{endpoint}");
    }
    // OpenShift's DNS listens on 5353.
    let openshift = ["--values", "examples/values/openshift.yaml", "--set", "networkPolicy.enabled=true"];
    let manifests = Manifests::parse(&template(&chart(), openshift).unwrap());
    let egress = manifests.the("NetworkPolicy")["spec"]["egress"].as_array().unwrap().clone();
    let dns = json!([{ "port": 5353, "protocol": "UDP" }, { "port": 5353, "protocol": "TCP" }]);
    assert!(egress.iter().any(|rule| rule["ports"] == dns), "{egress:?}");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn selectors_match_the_labels_of_the_pods() {
    let selects = |selector: &Value, labels: &Value| {
        let selector = selector.as_object().unwrap();
        !selector.is_empty() && selector.iter().all(|(name, value)| &labels[name] == value)
    };
    for path in scenarios() {
        let manifests = with_file(&path);
        let labels = &manifests.the("Deployment")["spec"]["template"]["metadata"]["labels"];
        for (kind, pointer) in [
            ("Deployment", "/spec/selector/matchLabels"),
            ("Service", "/spec/selector"),
            ("PodDisruptionBudget", "/spec/selector/matchLabels"),
            ("NetworkPolicy", "/spec/podSelector/matchLabels"),
            ("PodMonitor", "/spec/selector/matchLabels"),
        ] {
            for manifest in manifests.of(kind) {
                assert!(selects(manifest.pointer(pointer).unwrap(), labels), "{kind} of {}", path.display());
            }
        }
        for monitor in manifests.of("ServiceMonitor") {
            let selector = &monitor["spec"]["selector"]["matchLabels"];
            let services = manifests.of("Service");
            let selected: Vec<_> =
                services.iter().filter(|service| selects(selector, &service["metadata"]["labels"])).collect();
            assert_eq!(selected.len(), 1);
            assert_eq!(selected[0]["spec"]["ports"][0]["name"], monitor["spec"]["endpoints"][0]["port"]);
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn services_have_the_address_families_of_the_values() {
    for service in with(&[]).of("Service") {
        assert!(service["spec"]["ipFamilyPolicy"].is_null() && service["spec"]["ipFamilies"].is_null(), "{service}");
    }
    let manifests = with(&["service.ipFamilyPolicy=PreferDualStack", "service.ipFamilies={IPv6,IPv4}"]);
    for service in manifests.of("Service") {
        assert_eq!(service["spec"]["ipFamilyPolicy"], "PreferDualStack", "{service}");
        assert_eq!(service["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]), "{service}");
    }
    for value in ["service.ipFamilyPolicy=DualStack", "service.ipFamilies={IPv5}", "service.ipFamilies={IPv4,IPv4}"] {
        assert!(render_error(&[value]).contains("meet the specifications of the schema"), "{value}");
    }
}
