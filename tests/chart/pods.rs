//! What the Pods are given.

use clap::{CommandFactory, Parser};
use session_checker::args::{Args, Command};
use std::time::Duration;

use crate::render::{scenarios, with, with_file};

#[test]
#[ignore = "needs Helm: make chart-test"]
fn the_pods_meet_the_restricted_level_of_pod_security() {
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
fn the_program_takes_every_argument_and_variable_that_it_is_given() {
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
fn a_pod_is_given_the_time_that_its_shutdown_takes() {
    for values in [&[][..], &["shutdown.delaySeconds=20", "shutdown.drainSeconds=60"]] {
        let manifests = with(values);
        let arguments = ["session-checker".to_owned()].into_iter().chain(manifests.arguments());
        let Command::Serve(serve) = Args::try_parse_from(arguments).unwrap().command else { panic!("the Pods serve") };
        // Connections drain, then checks whose caller has hung up.
        let longest = serve.shutdown_delay() + 2 * serve.drain_timeout;
        let given = Duration::from_secs(manifests.pod()["terminationGracePeriodSeconds"].as_u64().unwrap());
        assert!(given > longest, "{given:?} for {longest:?}");
    }
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn forcing_audit_rolls_no_pod() {
    let (before, after) = (with(&[]), with(&["forceAudit=true"]));
    assert_eq!(before.the("Deployment"), after.the("Deployment"));
    let forced = |manifests: &crate::render::Manifests| {
        let maps = manifests.of("ConfigMap");
        let map = maps.iter().find(|map| map["metadata"]["name"] == "session-checker-force-audit").unwrap();
        map["data"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!((forced(&before).as_str(), forced(&after).as_str()), ("false", "true"));
    // A volume, and a whole folder: variables and single files do not follow a ConfigMap.
    let volumes = before.pod()["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == "session-checker-force-audit"));
    let mounts = before.container()["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| mount["subPath"].is_null()));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn nobody_asks_without_a_token_unless_the_values_say_so() {
    let allows = |values: &[&str]| with(values).arguments().contains(&"--allow-anonymous".to_owned());
    assert!(!allows(&[]));
    assert!(allows(&["allowAnonymous=true"]));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn a_budget_without_a_shared_ledger_is_divided_by_the_most_pods() {
    let replicas = |values: &[&str]| {
        let manifests = with(values);
        let written = manifests.the("Deployment")["spec"]["replicas"].as_u64();
        let arguments = manifests.arguments();
        let told = arguments.iter().find_map(|argument| argument.strip_prefix("--replicas=")).unwrap();
        (written, told.parse::<u64>().unwrap())
    };
    assert_eq!(replicas(&[]), (Some(2), 2));
    assert_eq!(replicas(&["replicaCount=5"]), (Some(5), 5));
    // The autoscaler's number must not be taken back by an upgrade.
    assert_eq!(replicas(&["autoscaling.enabled=true", "autoscaling.maxReplicas=9"]), (None, 9));
}

#[test]
#[ignore = "needs Helm: make chart-test"]
fn secrets_reach_the_pods_by_reference_alone() {
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
fn a_rollout_takes_no_pod_away_before_another_is_ready() {
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
fn a_digest_stands_before_a_tag() {
    let image = |values: &[&str]| with(values).container()["image"].as_str().unwrap().to_owned();
    assert!(image(&[]).ends_with(&format!(":{}", env!("CARGO_PKG_VERSION"))), "{}", image(&[]));
    assert!(image(&["image.tag=1.2.3"]).ends_with("session-checker:1.2.3"));
    let digest = format!("sha256:{}", "a".repeat(64));
    assert!(image(&["image.tag=1.2.3", &format!("image.digest={digest}")]).ends_with(&format!("checker@{digest}")));
}
