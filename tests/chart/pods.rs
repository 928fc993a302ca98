//! The Deployment and its Pods: security context, arguments, environment, rollout, image.

use clap::{CommandFactory, Parser};
use session_checker::args::{Args, Command};
use std::time::Duration;

use crate::render::{scenarios, with, with_file};

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pods_meet_the_restricted_pod_security_level() {
    let manifests = with(&[]);
    let (pod, container) = (manifests.pod(), manifests.container());
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["securityContext"]["capabilities"]["add"], serde_json::Value::Null);
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn arguments_and_variables_are_known_to_the_program() {
    let known: Vec<_> = Args::command()
        .find_subcommand("serve")
        .unwrap()
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_str().unwrap().to_owned()))
        .collect();
    for path in scenarios() {
        let manifests = with_file(&path);
        let arguments = manifests.arguments();
        let parsed = Args::try_parse_from(["session-checker".to_owned()].into_iter().chain(arguments));
        assert!(parsed.is_ok(), "{}: {}", path.display(), parsed.unwrap_err());
        for variable in manifests.container()["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            if name.starts_with("SESSION_CHECKER_") {
                assert!(known.iter().any(|known| known == name), "{}: {name}", path.display());
            }
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn pods_listen_on_both_address_families() {
    for path in scenarios() {
        let manifests = with_file(&path);
        let variable = |name: &str| {
            let variables = manifests.container()["env"].as_array().unwrap();
            let variable = variables.iter().find(|variable| variable["name"] == name).unwrap();
            variable["value"].as_str().unwrap().to_owned()
        };
        let port = |name: &str| {
            let ports = manifests.container()["ports"].as_array().unwrap();
            ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].clone()
        };
        for (listener, option, name) in [
            ("--listen", "SESSION_CHECKER_LISTEN", "checks"),
            ("--admin-listen", "SESSION_CHECKER_ADMIN_LISTEN", "admin"),
        ] {
            let address = variable(option);
            assert_eq!(address, format!("[::]:{}", port(name)), "{}", path.display());
            let arguments = ["session-checker", "serve", listener, &address];
            assert!(Args::try_parse_from(arguments).is_ok(), "{address}");
        }
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn grace_period_is_longer_than_the_shutdown() {
    for values in [&[][..], &["shutdown.delaySeconds=20", "shutdown.drainSeconds=60"]] {
        let manifests = with(values);
        let arguments = ["session-checker".to_owned()].into_iter().chain(manifests.arguments());
        let Command::Serve(serve) = Args::try_parse_from(arguments).unwrap().command else { panic!("the Pods serve") };
        // Connections drain first, then checks whose caller has disconnected. Each may take the whole drain timeout.
        let longest = serve.shutdown_delay() + 2 * serve.drain_timeout;
        let given = Duration::from_secs(manifests.pod()["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(given > longest, "{given:?} for {longest:?}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn forced_audit_restarts_no_pod() {
    let (before, after) = (with(&[]), with(&["forceAudit=true"]));
    assert_eq!(before.the("Deployment"), after.the("Deployment"));
    let forced = |manifests: &crate::render::Manifests| {
        let maps = manifests.of("ConfigMap");
        let map = maps.iter().find(|map| map["metadata"]["name"] == "session-checker-force-audit").unwrap();
        map["data"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((forced(&before).as_str(), forced(&after).as_str()), ("false", "true"));
    // The Pods mount a folder, because Kubernetes updates neither variables nor files mounted by subPath.
    let volumes = before.pod()["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == "session-checker-force-audit"));
    let mounts = before.container()["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["subPath"].is_null()));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn callers_need_a_token_by_default() {
    let allows = |values: &[&str]| with(values).arguments().contains(&"--allow-anonymous".to_owned());
    assert!(!allows(&[]));
    assert!(allows(&["allowAnonymous=true"]));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn replicas_option_is_the_highest_number_of_pods() {
    let replicas = |values: &[&str]| {
        let manifests = with(values);
        let written = manifests.the("Deployment")["spec"]["replicas"].as_u64();
        let arguments = manifests.arguments();
        let option = arguments.iter().find_map(|argument| argument.strip_prefix("--replicas=")).unwrap();
        (written, option.parse::<u64>().unwrap())
    };
    assert_eq!(replicas(&[]), (Some(2), 2));
    assert_eq!(replicas(&["replicaCount=5"]), (Some(5), 5));
    // The Deployment sets no number, because an upgrade would overwrite that of the autoscaler.
    assert_eq!(replicas(&["autoscaling.enabled=true", "autoscaling.maxReplicas=9"]), (None, 9));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn secrets_are_passed_by_reference() {
    let manifests = with(&["ledger.urlSecret.name=redis", "ledger.keySecret.name=redis", "log.hashKeySecret.name=log"]);
    let variables = manifests.container()["env"].as_array().unwrap();
    for (name, secret, key) in [
        ("SESSION_CHECKER_LEDGER", "redis", "url"),
        ("SESSION_CHECKER_LEDGER_KEY", "redis", "key"),
        ("SESSION_CHECKER_LOG_HASH_KEY", "log", "key"),
    ] {
        let variable = variables.iter().find(|variable| variable["name"] == name).unwrap();
        let reference = &variable["valueFrom"]["secretKeyRef"];
        assert_eq!((&reference["name"], &reference["key"]), (&secret.into(), &key.into()), "{name}");
    }
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
