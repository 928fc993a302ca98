//! The documentation agrees with the program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use kube::CustomResourceExt;
use serde_json::Value;
use session_checker::args::Args;
use session_checker::auth0::Auth0Metrics;
use session_checker::check::CheckMetrics;
use session_checker::choose::ChooseMetrics;
use session_checker::controller::metrics::ControllerMetrics;
use session_checker::coverage::CoverageMetrics;
use session_checker::crd::SessionPolicy;
use session_checker::decisions::DecisionMetrics;
use session_checker::ledger::Stats;
use session_checker::metrics::MetricRegistry;
use session_checker::policy::{ConditionReason, Reason, compile};
use session_checker::server::ServerMetrics;
use session_checker::snapshot::SnapshotMetrics;
use session_checker::source::{Document, read_documents};

use crate::book::files;

const REASONS: &str = include_str!("../../docs/reasons.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const POLICY: &str = include_str!("../../docs/policy.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const OPTIONS: &str = include_str!("../../docs/options.md");
const KUBERNETES: &str = include_str!("../../docs/kubernetes.md");
const MULTI_CLUSTER: &str = include_str!("../../docs/multi-cluster.md");
const FAILURE: &str = include_str!("../../docs/failure.md");
const RULES: &str = include_str!("../../charts/session-checker/files/rules.yaml");

#[test]
fn reasons_of_answers_are_documented() {
    for reason in Reason::all() {
        assert!(REASONS.contains(&format!("| `{reason}` |")), "{reason}");
    }
}

#[test]
fn whatever_says_that_a_limit_is_not_enforced_is_in_one_table() {
    let (_, table) = FAILURE.split_once("<!-- not enforced -->").unwrap();
    let (table, _) = table.split_once("<!-- end of not enforced -->").unwrap();
    let enforced = ["within_limit", "limit_exceeded", "evicted", "session_revoked"];
    for reason in Reason::all().map(|reason| reason.to_string()) {
        assert_eq!(table.contains(&format!("`{reason}`")), !enforced.contains(&&*reason), "{reason}");
    }
    // These say that logins are slow or blocked, or that something is in danger that no login depends on yet.
    let others = [
        "LatencyBudgetBurningFast",
        "LatencyBudgetBurningSlowly",
        "ManyLoginsBlocked",
        "SourceLimited",
        "LogLinesDropped",
        "DecisionRecordsLost",
        "BreakerOpen",
        "Auth0BudgetSpent",
        "NoLeader",
        "StatusWritesFailing",
        "ReplicaMissing",
        "Restarting",
    ];
    let alerts: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: SessionChecker")).collect();
    assert!(alerts.len() > 40, "{alerts:?}");
    for alert in alerts {
        let is_in = table.contains(&format!("[SessionChecker{alert}]"));
        assert_eq!(is_in, !others.contains(&alert), "{alert}");
    }
}

#[test]
fn reasons_of_conditions_are_documented() {
    for reason in ConditionReason::ALL {
        assert!(REASONS.contains(&format!("| `{}` |", reason.as_str())), "{reason:?}");
    }
}

#[test]
fn documented_metrics_are_those_of_the_registry() {
    let registry = MetricRegistry::new();
    CheckMetrics::new(&registry);
    ChooseMetrics::new(&registry);
    CoverageMetrics::new(&registry);
    DecisionMetrics::new(&registry);
    ServerMetrics::new(&registry);
    session_checker::telemetry::register_metrics(&registry);
    SnapshotMetrics::new(&registry);
    Auth0Metrics::new(&registry);
    ControllerMetrics::new(&registry);
    session_checker::ledger::metrics::register(&registry, false, Stats::default);
    session_checker::ledger::shared_number::NumberMetrics::new(&registry);
    let registered: BTreeSet<String> = registry.names().into_iter().collect();
    let documented: BTreeSet<String> = METRICS
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("session_checker_"))
        .map(str::to_owned)
        .collect();
    assert!(registered.len() > 20, "{registered:?}");
    assert_eq!(registered, documented);
}

#[test]
fn make_lists_every_target() {
    let makefile = include_str!("../../Makefile");
    let targets = makefile.lines().find_map(|line| line.strip_prefix(".PHONY: ")).unwrap();
    let help = Command::new("make").arg("help").current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let listed = String::from_utf8(help.stdout).unwrap();
    let listed: BTreeSet<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let missing: Vec<&str> = targets.split(' ').filter(|target| !listed.contains(target)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn options_are_documented_with_their_variables() {
    let command = Args::command();
    let serve = command.find_subcommand("serve").unwrap();
    for option in serve.get_arguments().chain(command.get_arguments()).filter(|option| !option.is_hide_set()) {
        let (Some(long), Some(variable)) = (option.get_long(), option.get_env()) else { continue };
        assert!(OPTIONS.contains(&format!("| `--{long}")), "--{long}");
        assert!(OPTIONS.contains(&format!("`{}`", variable.to_str().unwrap())), "{variable:?}");
        assert!(!CONFIGURATION.contains(&format!("| `--{long}`")), "--{long} has its row in options.md");
    }
}

#[test]
fn fields_of_a_policy_are_documented_with_their_defaults() {
    let schema = serde_json::to_value(SessionPolicy::crd()).unwrap();
    let spec = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    for (name, field) in spec.as_object().unwrap() {
        let Some(row) = POLICY.lines().find(|line| line.starts_with(&format!("| `{name}"))) else {
            panic!("{name} is not documented");
        };
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => continue,
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => {
                format!("`[{}]`", items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
            }
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        assert_eq!(row.split('|').nth(2).map(str::trim), Some(&*default), "the default of {name}");
    }
    for field in spec["tenant"]["properties"].as_object().unwrap().keys() {
        assert!(POLICY.contains(&format!("| `tenant.{field}` |")), "tenant.{field}");
    }
}

#[test]
fn examples_compile() {
    let mut policies = 0;
    for folder in ["examples", "examples/policies"] {
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            for document in read_documents(&std::fs::read_to_string(&path).unwrap()).unwrap() {
                if let Document::Policy(manifest) = document {
                    assert_eq!(compile(&manifest).err(), None, "{}", path.display());
                    policies += 1;
                }
            }
        }
    }
    assert!(policies > 5);
}

/// The source of the program and of its tests.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["tests", "src"].into_iter().flat_map(files);
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.map(|path| std::fs::read_to_string(root.join(path)).unwrap()).collect()
}

/// The last cells of the tables of a page whose last column says what shows a statement.
fn places(page: &str) -> Vec<&str> {
    let mut places = Vec::new();
    let mut is_of_such_a_table = false;
    for line in page.lines() {
        let last = line.strip_suffix('|').and_then(|row| row.rsplit_once('|')).map(|(_, cell)| cell.trim());
        match last {
            None => is_of_such_a_table = false,
            Some("shown by") => is_of_such_a_table = true,
            Some(cell) if is_of_such_a_table && !cell.starts_with("---") => places.push(cell),
            Some(_) => {}
        }
    }
    places
}

#[test]
fn places_that_show_a_statement_exist() {
    let sources = sources();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = std::fs::read_to_string(root.join("Makefile")).unwrap();
    for (page, at_least) in [(KUBERNETES, 35), (MULTI_CLUSTER, 20)] {
        let places = places(page);
        assert!(places.len() >= at_least, "{}", places.len());
        for cell in places {
            let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty() || cell.contains("reasoning") || cell == "the same test", "{cell}");
            for place in named {
                let exists = match place.strip_prefix("make ") {
                    Some(target) => makefile.contains(&format!("\n{target}: ")),
                    None if place.contains('/') => root.join(place).exists(),
                    None => sources.contains(&format!("fn {place}(")),
                };
                assert!(exists, "{place} is no test, no file and no target of make: {cell}");
            }
        }
    }
}
