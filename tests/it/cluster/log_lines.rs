//! What a replica logs about rights that it lacks: each once, however often it tries, and in its own words alone.

use std::collections::HashSet;

use serde_json::Value;

use super::apply_all;
use crate::common::eventually;
use crate::control_plane::{Rbac, shared};
use crate::process::{LOOPBACK, Process, place};

#[tokio::test(flavor = "multi_thread")]
async fn missing_rights_are_logged_once() {
    let Some(plane) = shared().await else { return };
    let team = plane.namespace(Rbac::Named).await;
    apply_all(&team).await;
    let kubeconfig = team.kubeconfig();
    // The rights are for Secrets and for a Lease of other names.
    let options = ["--lease-name", "elsewhere", "--lease-duration", "3s", "--log-format", "json"];
    let process =
        Process::start(place(), &[("KUBECONFIG", kubeconfig.to_str().unwrap())], &[&LOOPBACK[..], &options].concat());
    let service = process.listening().await;
    for failures in ["session_checker_watch_restarts_total", "session_checker_election_failures_total"] {
        eventually(failures, async || service.metric(failures).await >= 4.0).await;
    }
    let log = process.log();
    let problems: Vec<&Value> = log.iter().filter(|line| line["level"] != "INFO").collect();
    assert!(!problems.is_empty());
    let mut logged = HashSet::new();
    for line in problems {
        let what = [&line["message"], &line["watch"], &line["lease"], &line["policy"], &line["condition"]]
            .map(ToString::to_string);
        assert!(line["target"].as_str().unwrap().starts_with("session_checker"), "{line}");
        assert!(logged.insert(what), "a second time: {line}");
    }
}
