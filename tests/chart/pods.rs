//! The Deployment and its Pods: security context, arguments, environment, rollout, image.

use std::time::Duration;

use clap::CommandFactory;
use serde_json::json;
use session_checker::args::{Args, Command, SessionsCommand, SourceArgs};

use crate::render::{Manifests, chart, scenarios, template, with, with_file};

/// The variable with the name of the Pod, which a collector gets as `k8s.pod.name`.
const POD_NAME: &str = "SESSION_CHECKER_POD_NAME";

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pods_meet_the_restricted_pod_security_level() {
    let manifests = with(&[]);
    let (pod, container) = (manifests.pod(), manifests.container());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsGroup"]),
        (&65532.into(), &65532.into())
    );
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["securityContext"]["capabilities"]["add"], serde_json::Value::Null);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn arguments_and_variables_are_known_to_the_program() {
    let root = Args::command();
    let serve = root.find_subcommand("serve").unwrap().get_arguments().chain(root.get_arguments());
    let known: Vec<_> = serve.filter_map(|argument| Some(argument.get_env()?.to_str().unwrap().to_owned())).collect();
    for path in scenarios() {
        let manifests = with_file(&path);
        manifests.serve();
        for variable in manifests.container()["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            // The chart's own variable, which another one refers to.
            if name.starts_with("SESSION_CHECKER_") && name != POD_NAME {
                assert!(known.iter().any(|known| known == name), "{}: {name}", path.display());
            }
        }
    }
}

/// The source of `check`, `sessions list` and `sessions end` as `kubectl exec` runs them in the Pod.
fn sources_in_the_pod(manifests: &Manifests) -> Vec<SourceArgs> {
    [
        &["check", "--user=u", "--client=c"][..],
        &["sessions", "list", "--user=u"],
        &["sessions", "end", "--user=u", "--all"],
    ]
    .map(|line| match manifests.args(line).unwrap().command {
        Command::Check(check) => check.source,
        Command::Sessions(sessions) => match *sessions {
            SessionsCommand::List(list) => list.user.source,
            SessionsCommand::End(end) => end.user.source,
        },
        other => panic!("{other:?}"),
    })
    .into()
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn commands_in_the_pod_see_what_the_service_sees() {
    for path in scenarios() {
        let manifests = with_file(&path);
        let expected = format!("{:?}", manifests.serve().source);
        for source in sources_in_the_pod(&manifests) {
            assert_eq!(format!("{source:?}"), expected, "{}", path.display());
        }
    }
    let values =
        ["watch.namespaces={one,two}", "auth0.endpoints.acme\\.eu\\.auth0\\.com=http://x", "auth0.ca.configMapName=ca"];
    for source in sources_in_the_pod(&with(&values)) {
        assert_eq!(source.namespace, ["one", "two"]);
        assert_eq!(source.auth0_endpoint, [("acme.eu.auth0.com".to_owned(), "http://x".parse().unwrap())]);
        assert!(source.auth0_ca_file.is_some() && !source.auth0_ca_only);
    }
    let only = with(&["auth0.ca.configMapName=ca", "auth0.ca.only=true"]);
    assert!(sources_in_the_pod(&only).iter().all(|source| source.auth0_ca_only));
    assert!(sources_in_the_pod(&with(&["watch.allNamespaces=true"])).iter().all(|source| source.all_namespaces));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn service_has_no_argument_that_the_user_did_not_write() {
    // An argument of the chart would take precedence over extraEnv, could not be given again by extraArgs, and would not
    // hold for a command in the Pod.
    for path in scenarios() {
        let manifests = with_file(&path);
        let written = std::fs::read_to_string(&path).unwrap();
        for argument in manifests.arguments().iter().skip(1) {
            assert!(written.contains(argument.as_str()), "{}: {argument}", path.display());
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn extra_arguments_and_variables_override_the_chart() {
    // Each variable that the chart sets, with a value that differs.
    let chosen = |values: &[&str]| {
        let serve = with(values).serve();
        (serve.max_in_flight, serve.replicas, serve.ledger.ledger_timeout, serve.shutdown_delay(), serve.lease_name)
    };
    let expected = (Some(7), 9, Duration::from_secs(2), Duration::from_secs(1), "other".to_owned());
    assert_ne!(chosen(&[]), expected);
    let options = [
        ("max-in-flight", "7"),
        ("replicas", "9"),
        ("ledger-timeout", "2s"),
        ("shutdown-delay", "1s"),
        ("lease-name", "other"),
    ];
    let arguments = options.map(|(name, value)| format!("--{name}={value}")).join(",");
    assert_eq!(chosen(&[&format!("extraArgs={{{arguments}}}")]), expected);
    let variables = options.iter().enumerate().map(|(at, (name, value))| {
        let name = name.replace('-', "_").to_uppercase();
        format!("extraEnv[{at}].name=SESSION_CHECKER_{name},extraEnv[{at}].value={value}")
    });
    let variables: Vec<_> = variables.collect();
    let variables: Vec<_> = variables.iter().map(String::as_str).collect();
    // `--set` would read a number as a number.
    assert_eq!(chosen(&[&["--set-string"], &variables[..]].concat()), expected);
    // An argument takes precedence over a variable.
    let both = [&["--set-string"], &variables[..], &["extraArgs={--max-in-flight=8}"]].concat();
    assert_eq!(chosen(&both).0, Some(8));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn default_log_filter_is_that_of_the_program() {
    // A filter of the chart would undo it: the service repeats what the Kubernetes client logs, and `check` logs less.
    assert!(with(&[]).variable("RUST_LOG").is_none());
    assert_eq!(with(&["log.filter=debug"]).variable("RUST_LOG").unwrap()["value"], "debug");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn no_variable_is_set_twice() {
    // Server-side apply, which Helm 4 uses, does not accept a name twice.
    for path in scenarios() {
        let manifests = with_file(&path);
        for variable in manifests.container()["env"].as_array().unwrap() {
            manifests.variable(variable["name"].as_str().unwrap());
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn proxy_is_an_option_whose_credentials_are_a_mounted_file() {
    let manifests = with(&[
        "auth0.proxy.url=http://proxy.corp:3128",
        "auth0.proxy.exceptions={gateway.internal,10.0.0.0/8}",
        "auth0.proxy.credentialsSecretName=proxy",
    ]);
    let sources = sources_in_the_pod(&manifests);
    for source in sources.iter().chain([&manifests.serve().source]) {
        assert_eq!(source.auth0_proxy.as_ref().unwrap().as_str(), "http://proxy.corp:3128/");
        assert_eq!(source.auth0_no_proxy, ["gateway.internal", "10.0.0.0/8"]);
        let file = source.auth0_proxy_credentials_file.as_ref().unwrap();
        assert_eq!(file.to_str().unwrap(), "/etc/session-checker/auth0-proxy/credentials");
    }
    let mounts = manifests.container()["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/session-checker/auth0-proxy"));
    let volumes = manifests.pod()["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["secret"]["secretName"] == "proxy"));
    assert!(with(&[]).serve().source.auth0_proxy.is_none());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pods_listen_on_both_address_families() {
    for path in scenarios() {
        let manifests = with_file(&path);
        let port = |name: &str| {
            let ports = manifests.container()["ports"].as_array().unwrap();
            ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone()
        };
        for (option, name) in [("SESSION_CHECKER_LISTEN", "checks"), ("SESSION_CHECKER_ADMIN_LISTEN", "admin")] {
            let address = &manifests.variable(option).unwrap()["value"];
            assert_eq!(*address, format!("[::]:{}", port(name)), "{}", path.display());
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn grace_period_is_longer_than_the_shutdown() {
    let choose = ["choose.enabled=true", "choose.url=https://sessions.example.com", "choose.ticketKeySecret.name=keys"];
    for (values, others) in [
        (&[][..], 2),
        (&["shutdown.delaySeconds=20", "shutdown.drainSeconds=60"], 2),
        // The Lease may take 2 s, and a choice of sessions 11 s, however short the drain of checks is.
        (&["shutdown.delaySeconds=0", "shutdown.drainSeconds=1"], 2),
        (&[&choose[..], &["shutdown.drainSeconds=1"]].concat(), 11),
        (&[&choose[..], &["shutdown.drainSeconds=60"]].concat(), 11),
    ] {
        let manifests = with(values);
        let serve = manifests.serve();
        // Connections drain first, then checks whose caller has disconnected. Each may take the whole drain timeout. Then the
        // last checks are shared (1 s), and traces are exported (4 s).
        let drained = serve.drain_timeout.max(Duration::from_secs(others));
        let longest = serve.shutdown_delay() + drained + serve.drain_timeout + Duration::from_secs(5);
        let given = Duration::from_secs(manifests.pod()["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(given >= longest, "{given:?} for {longest:?}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn strategy_recreate_has_no_rolling_update() {
    // Kubernetes rejects the one with the other, and the chart's default values have both.
    let strategy = |values: &[&str]| with(values).the("Deployment")["spec"]["strategy"].clone();
    assert_eq!(strategy(&["strategy.type=Recreate"]), json!({ "type": "Recreate" }));
    let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } });
    assert_eq!(strategy(&[]), rolling);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn forced_audit_restarts_no_pod() {
    let (before, after) = (with(&[]), with(&["forceAudit=true"]));
    assert_eq!(before.the("Deployment"), after.the("Deployment"));
    let forced = |manifests: &Manifests| {
        let maps = manifests.of("ConfigMap");
        let map = maps.iter().find(|map| map["metadata"]["name"] == "session-checker-force-audit").unwrap();
        map["data"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((forced(&before).as_str(), forced(&after).as_str()), ("false", "true"));
    // They watch the ConfigMap by this name, and mount it for when they may not.
    let watched = before.serve().source.force_audit_config_map;
    assert_eq!(watched.as_deref(), Some("session-checker-force-audit"));
    // The Pods mount a folder, because Kubernetes updates neither variables nor files mounted by subPath.
    let volumes = before.pod()["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == "session-checker-force-audit"));
    let mounts = before.container()["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["subPath"].is_null()));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn class_of_the_release_is_the_default_unless_it_is_given() {
    let class = |values: &[&str]| with(values).serve().source.class_name;
    assert_eq!((class(&[]).as_str(), class(&["className=blue"]).as_str()), ("default", "blue"));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn callers_need_a_token_by_default() {
    let allows = |values: &[&str]| with(values).serve().allow_anonymous;
    assert!(!allows(&[]));
    assert!(allows(&["allowAnonymous=true"]));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn replicas_option_is_the_highest_number_of_pods() {
    let replicas = |values: &[&str]| {
        let manifests = with(values);
        let written = manifests.the("Deployment")["spec"]["replicas"].as_u64();
        (written, manifests.serve().replicas)
    };
    assert_eq!(replicas(&[]), (Some(2), 2));
    assert_eq!(replicas(&["replicaCount=5"]), (Some(5), 5));
    // The program rejects 0, and `kubectl scale` may start Pods of this release.
    assert_eq!(replicas(&["replicaCount=0"]), (Some(0), 1));
    // The Deployment sets no number, because an upgrade would overwrite that of the autoscaler.
    assert_eq!(replicas(&["autoscaling.enabled=true", "autoscaling.maxReplicas=9"]), (None, 9));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn autoscaler_scales_the_deployment() {
    let manifests = with(&["autoscaling.enabled=true", "autoscaling.minReplicas=3", "autoscaling.maxReplicas=9"]);
    let (deployment, spec) = (manifests.the("Deployment"), &manifests.the("HorizontalPodAutoscaler")["spec"]);
    assert_eq!(spec["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    assert_eq!((&spec["minReplicas"], &spec["maxReplicas"]), (&3.into(), &9.into()));
    // A share of the CPU request, which therefore has to exist.
    assert_eq!(spec["metrics"][0]["resource"]["name"], "cpu");
    assert!(manifests.container()["resources"]["requests"]["cpu"].is_string());
    assert!(with(&[]).of("HorizontalPodAutoscaler").is_empty());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pods_spread_over_nodes_and_zones() {
    let manifests = with(&[]);
    let constraints = manifests.pod()["topologySpreadConstraints"].as_array().unwrap();
    let keys: Vec<_> = constraints.iter().map(|constraint| constraint["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    let selected = &manifests.the("Deployment")["spec"]["selector"];
    for constraint in constraints {
        assert_eq!(&constraint["labelSelector"], selected);
        // A cluster of one node runs every Pod.
        assert_eq!(constraint["whenUnsatisfiable"], "ScheduleAnyway");
    }
    assert!(with_file(&chart().join("ci/minimal-values.yaml")).pod()["topologySpreadConstraints"].is_null());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn secrets_are_passed_by_reference() {
    let manifests = with(&["ledger.urlSecret.name=redis", "ledger.keySecret.name=redis", "log.hashKeySecret.name=log"]);
    for (name, secret, key) in [
        ("SESSION_CHECKER_LEDGER", "redis", "url"),
        ("SESSION_CHECKER_LEDGER_KEY", "redis", "key"),
        ("SESSION_CHECKER_LOG_HASH_KEY", "log", "key"),
    ] {
        let reference = &manifests.variable(name).unwrap()["valueFrom"]["secretKeyRef"];
        assert_eq!((&reference["name"], &reference["key"]), (&secret.into(), &key.into()), "{name}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn ways_to_log_in_to_the_ledger_are_given_to_the_service() {
    let ways = [
        "ledger.sentinelMaster=sessions",
        "ledger.user=checker",
        "ledger.passwordSecret.name=redis",
        "ledger.ca.configMapName=redis-ca",
    ];
    let variables =
        ["SENTINEL_MASTER", "USER", "PASSWORD_FILE", "CA_FILE"].map(|name| format!("SESSION_CHECKER_LEDGER_{name}"));
    let without = with(&[]);
    assert!(variables.iter().all(|name| without.variable(name).is_none()));

    let manifests = with(&[&ways[..], &["ledger.urlSecret.name=redis"]].concat());
    assert!(variables.iter().all(|name| manifests.variable(name).is_some()));
    let mounts = manifests.container()["volumeMounts"].as_array().unwrap().clone();
    for (variable, volume) in [("PASSWORD_FILE", "ledger-password"), ("CA_FILE", "ledger-ca")] {
        let file = manifests.variable(&format!("SESSION_CHECKER_LEDGER_{variable}")).unwrap()["value"].clone();
        let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
        assert!(file.as_str().unwrap().starts_with(mount["mountPath"].as_str().unwrap()), "{file}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn client_cas_and_keys_of_callers_are_mounted_files() {
    let manifests = with(&[
        "tls.secretName=tls",
        "tls.clientCa.configMapName=gateway-ca",
        "tls.clientCa.key=cas.pem",
        "callerJwt.jwksConfigMapName=acme-keys",
        "callerJwt.key=keys.json",
        "callerJwt.issuer=https://acme.eu.auth0.com/",
        "callerJwt.audience=https://sessions.example.com",
    ]);
    let serve = manifests.serve();
    let mounts = manifests.container()["volumeMounts"].as_array().unwrap().clone();
    let volumes = manifests.pod()["volumes"].as_array().unwrap().clone();
    for (file, volume, config_map, key) in [
        (serve.tls_client_ca, "client-ca", "gateway-ca", "cas.pem"),
        (serve.caller_jwt.caller_jwks_file, "caller-jwks", "acme-keys", "keys.json"),
    ] {
        let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
        assert_eq!(file.unwrap(), std::path::Path::new(mount["mountPath"].as_str().unwrap()).join(key));
        let volume = volumes.iter().find(|it| it["name"] == volume).unwrap();
        assert_eq!(volume["configMap"]["name"], config_map);
    }
    assert_eq!(serve.caller_jwt.caller_jwt_issuer.as_deref(), Some("https://acme.eu.auth0.com/"));
    assert_eq!(serve.caller_jwt.caller_jwt_audience.as_deref(), Some("https://sessions.example.com"));
    let without = with(&["tls.secretName=tls"]).serve();
    assert!(without.tls_client_ca.is_none() && without.caller_jwt.caller_jwks_file.is_none());
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn rollout_removes_no_pod_before_another_is_ready() {
    let manifests = with(&[]);
    let spec = &manifests.the("Deployment")["spec"];
    assert_eq!(spec["replicas"], 2);
    assert_eq!(spec["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert_eq!(manifests.the("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let container = manifests.container();
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn image_digest_takes_precedence_over_the_tag() {
    let image = |values: &[&str]| with(values).container()["image"].as_str().unwrap().to_owned();
    assert!(image(&[]).ends_with(&format!(":{}", env!("CARGO_PKG_VERSION"))), "{}", image(&[]));
    assert!(image(&["image.tag=1.2.3"]).ends_with("session-checker:1.2.3"));
    let digest = format!("sha256:{}", "a".repeat(64));
    assert!(image(&["image.tag=1.2.3", &format!("image.digest={digest}")]).ends_with(&format!("checker@{digest}")));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn endpoints_of_collectors_are_those_of_their_signals() {
    let variables = |values: &[&str]| -> Vec<String> {
        let manifests = with(values);
        let variables = manifests.container()["env"].as_array().unwrap().iter();
        let names = variables.map(|variable| variable["name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("OTEL_")).collect()
    };
    let (traces, records) = ("tracing.endpoint=http://otel:4317", "decisionRecords.endpoint=http://otel:4317");
    let resource = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"];
    assert_eq!(variables(&[]), Vec::<String>::new());
    // A collector that takes traces alone gets no records.
    assert_eq!(variables(&[traces]), ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", resource[0], resource[1]]);
    assert_eq!(variables(&[records]), ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", resource[0], resource[1]]);
    assert_eq!(variables(&[traces, records]).len(), 4);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn name_of_the_pod_reaches_the_collector_despite_extra_variables() {
    // Kubernetes replaces $(NAME) only by a variable that comes before in the list.
    for more in [&[][..], &["extraEnv[0].name=POD_NAME", "extraEnv[0].value=other"]] {
        let manifests = with(&[&["tracing.endpoint=http://otel:4317"], more].concat());
        let variables = manifests.container()["env"].as_array().unwrap();
        let place = |name: &str| variables.iter().position(|variable| variable["name"] == name).unwrap();
        assert!(place(POD_NAME) < place("OTEL_RESOURCE_ATTRIBUTES"), "{variables:?}");
        assert_eq!(variables[place(POD_NAME)]["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
        let attributes = variables[place("OTEL_RESOURCE_ATTRIBUTES")]["value"].as_str().unwrap();
        assert!(attributes.ends_with(&format!(",k8s.pod.name=$({POD_NAME})")), "{attributes}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn large_numbers_are_written_without_an_exponent() {
    // Helm reads a number of a values file as a float, and writes one of seven digits as 2e+06.
    let values = ["--set-json", "maxInFlight=1000000,shutdown.delaySeconds=1000000,shutdown.drainSeconds=3000000"];
    let serve = Manifests::parse(&template(&chart(), values).unwrap()).serve();
    assert_eq!(serve.max_in_flight, Some(1_000_000));
    assert_eq!(serve.shutdown_delay(), Duration::from_secs(1_000_000));
    assert_eq!(serve.drain_timeout, Duration::from_secs(3_000_000));
}
