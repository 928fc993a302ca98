//! Documentation, dashboard, alerts, runbooks and the tests of the alerts agree.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value;
use session_checker::policy::{Failure, Reason};

#[path = "../e2e/tool/promql.rs"]
mod promql;

use promql::names;

const METRICS: &str = include_str!("../../docs/metrics.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The `process_*` metrics of the registry, and the metric of Prometheus itself.
const STANDARD: [&str; 5] = [
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "up",
];

static DASHBOARD: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../charts/session-checker/files/dashboard.json")).unwrap());

/// Every recorded series and every alert.
static RULES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let rules: Value = serde_saphyr::from_str(include_str!("../../charts/session-checker/files/rules.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
});

/// Every case of the tests of the alerts: an alert at a time, and the alerts that fire then.
static CASES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let texts = [include_str!("../alerts/rules_test.yaml"), include_str!("../alerts/coverage_test.yaml")];
    let files = texts.map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let tests = files.iter().flat_map(|file| file["tests"].as_array().unwrap().clone());
    tests.flat_map(|test| test["alert_rule_test"].as_array().cloned().unwrap_or_default()).collect()
});

pub fn alerts() -> Vec<&'static Value> {
    let alerts: Vec<_> = RULES.iter().filter(|rule| !rule["alert"].is_null()).collect();
    assert!(alerts.len() > 10);
    alerts
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

pub fn panels() -> Vec<&'static Value> {
    let panels = DASHBOARD["panels"].as_array().unwrap().iter();
    let panels: Vec<_> = panels.filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 20);
    panels
}

/// Every PromQL expression of dashboard and rules.
fn expressions() -> Vec<&'static str> {
    let annotations = DASHBOARD["annotations"]["list"].as_array().unwrap().iter();
    let variables = DASHBOARD["templating"]["list"].as_array().unwrap().iter();
    let own = annotations.map(|it| text(it, "expr")).chain(variables.map(|it| text(it, "definition")));
    let targets = panels().into_iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let shown = targets.map(|target| text(target, "expr"));
    let ruled = RULES.iter().map(|rule| text(rule, "expr"));
    own.chain(shown).chain(ruled).filter(|expression| !expression.is_empty()).collect()
}

/// The labels of an alert that fires, apart from its severity.
fn labels(alert: &str) -> BTreeSet<String> {
    let fired = CASES.iter().filter(|case| case["alertname"] == alert);
    let mut labels = fired.filter_map(|case| case["exp_alerts"].get(0)?["exp_labels"].as_object());
    labels.next_back().unwrap().keys().filter(|label| *label != "severity").cloned().collect()
}

/// The metrics of an expression. Recorded series stand for what they are made of.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let made_of = |name: &String| RULES.iter().find(|rule| rule["record"] == **name).map(|rule| text(rule, "expr"));
    let named = names(expression).into_iter();
    named.flat_map(|name| made_of(&name).map_or_else(|| BTreeSet::from([name.clone()]), metrics_of)).collect()
}

fn documented() -> BTreeSet<(String, String)> {
    METRICS
        .lines()
        .filter_map(|line| line.strip_prefix("| `session_checker_"))
        .map(|line| {
            let (name, rest) = line.split_once('`').unwrap();
            (format!("session_checker_{name}"), rest.trim_start_matches(" | ").split(' ').next().unwrap().to_owned())
        })
        .collect()
}

/// The series of every documented metric.
fn series() -> BTreeSet<String> {
    documented()
        .into_iter()
        .flat_map(|(name, kind)| match kind.as_str() {
            "histogram" => ["_bucket", "_count", "_sum"].map(|suffix| format!("{name}{suffix}")).to_vec(),
            _ => vec![name],
        })
        .collect()
}

#[test]
fn dashboard_and_rules_use_only_documented_metrics() {
    let recorded: BTreeSet<_> =
        RULES.iter().filter(|rule| !rule["record"].is_null()).map(|rule| text(rule, "record").to_owned()).collect();
    let standard = STANDARD.map(str::to_owned).into();
    let known: BTreeSet<String> = &(&series() | &recorded) | &standard;
    let named: BTreeSet<_> = expressions().iter().flat_map(|expression| names(expression)).collect();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(named.len() > 30);
}

#[test]
fn metrics_are_on_the_dashboard_or_in_a_rule() {
    let named: BTreeSet<_> = expressions().iter().flat_map(|expression| names(expression)).collect();
    let unused: Vec<_> = documented()
        .into_iter()
        .filter(|(name, _)| !named.iter().any(|used| used == name || used == &format!("{name}_bucket")))
        .collect();
    assert_eq!(unused, []);
}

#[test]
fn panels_have_a_title_description_unit_and_variables() {
    for panel in panels() {
        let title = text(panel, "title");
        assert!(!title.is_empty() && text(panel, "description").ends_with('.'), "{title}");
        assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let expression = text(target, "expr");
            let selected = expression.matches(r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job""#).count();
            assert_eq!(selected, expression.matches('{').count(), "{title}: {expression}");
            assert!(!expression.contains("[5m]"), "{title}: a fixed range goes blank or blurs when zoomed");
        }
    }
}

#[test]
fn variables_also_match_series_without_their_label() {
    // A Prometheus of one cluster has no label `cluster`, and a service outside of Kubernetes has no namespace.
    let variables = DASHBOARD["templating"]["list"].as_array().unwrap();
    let queried: Vec<_> = variables.iter().filter(|variable| variable["type"] == "query").collect();
    assert_eq!(queried[0]["name"], "cluster", "the other variables depend on it");
    for variable in queried {
        assert_eq!((&variable["includeAll"], &variable["allValue"]), (&true.into(), &".*".into()), "{variable}");
        let definition = text(variable, "definition");
        assert_eq!(definition, text(&variable["query"], "query"));
        assert!(variable["name"] == "cluster" || definition.contains(r#"cluster=~"$cluster""#), "{definition}");
    }
}

#[test]
fn panels_have_an_id_each_and_do_not_overlap() {
    let panels = DASHBOARD["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{}", panel["title"]);
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert((x, y)), "{} overlaps another panel", panel["title"]);
        }
    }
}

#[test]
fn panels_link_to_the_runbooks_that_name_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut linked = 0;
    for panel in panels() {
        let title = format!("*{}*", text(panel, "title"));
        let mut expected = BTreeSet::new();
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            if std::fs::read_to_string(&path).unwrap().replace('\n', " ").contains(&title) {
                expected.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        let links = panel["links"].as_array().into_iter().flatten();
        let links: BTreeSet<_> = links.map(|link| text(link, "url").rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(links, expected, "{title}");
        linked += links.len();
    }
    assert!(linked > 20, "{linked}");
}

/// Whether a query compares what replicas say, or adds up what it found among them.
fn compares_replicas(expression: &str) -> bool {
    let finds = ["max by", "min by", "group by"];
    let before = ["}) - ", "}) > ", "}) unless ", "count(", "sum(", "(tenant) ("];
    let joins = before.iter().any(|before| finds.iter().any(|find| expression.contains(&format!("{before}{find}"))));
    joins || expression.contains(" unless on (") && !expression.contains(" unless on ()")
}

#[test]
fn queries_compare_only_replicas_of_one_release() {
    let annotations = DASHBOARD["annotations"]["list"].as_array().unwrap().iter();
    let targets = panels().into_iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let comparing = annotations.chain(targets).map(|it| text(it, "expr")).filter(|it| compares_replicas(it));
    let mut lists = 0;
    for expression in comparing {
        for find in ["max by (", "min by (", "group by (", "unless on ("] {
            for rest in expression.split(find).skip(1) {
                assert!(rest.starts_with("cluster, namespace, job"), "{expression}");
                lists += 1;
            }
        }
    }
    assert!(lists > 8, "{lists}");
    // The columns of a table meet by their labels.
    let table = panel("Policies");
    let labels = "by (cluster, namespace, job, policy, tenant) (";
    assert!(table["targets"].as_array().unwrap().iter().all(|target| text(target, "expr").contains(labels)));
    assert_eq!(table["transformations"][1]["options"]["renameByName"]["cluster"], "Cluster");
}

fn panel(title: &str) -> &'static Value {
    panels().into_iter().find(|panel| panel["title"] == title).unwrap_or_else(|| panic!("no panel {title}"))
}

#[test]
fn list_of_alerts_links_to_their_runbooks() {
    let panel = panel("Alerts");
    assert!(text(&panel["targets"][0], "expr").contains(r#"alertname=~"SessionChecker.+""#));
    let overrides = panel["fieldConfig"]["overrides"].to_string();
    assert!(overrides.contains("/docs/runbooks/${__value.text}.md"), "{overrides}");
    assert!(alerts().iter().all(|alert| text(alert, "alert").starts_with("SessionChecker")));
}

#[test]
fn reasons_without_a_limit_are_in_words() {
    let panel = panel("Allowed without a limit now");
    let overrides = panel["fieldConfig"]["overrides"].as_array().unwrap();
    let words = |reason: &str| {
        let named = overrides.iter().find(|one| one["matcher"]["options"] == reason);
        named.and_then(|one| one["properties"].as_array().unwrap().iter().find(|it| it["id"] == "displayName"))
    };
    let expression = text(&panel["targets"][0], "expr");
    let failures = Failure::ALL.map(Failure::as_str);
    let ungoverned = [Reason::NoPolicy, Reason::TenantAmbiguous, Reason::TenantUnknown].map(Reason::as_str);
    let others = ["forced_audit", "not_checked", "none"];
    for reason in failures.iter().chain(&ungoverned).chain(&others) {
        assert!(words(reason).is_some_and(|it| it["value"].as_str().unwrap().contains(' ')), "{reason}");
        assert!(expression.contains(reason) || failures.contains(reason), "{reason}");
    }
    assert_eq!(overrides.len(), failures.len() + ungoverned.len() + others.len());
}

#[test]
fn panel_of_blocked_logins_shows_what_the_alert_compares() {
    let alerts = alerts();
    let alert = alerts.iter().find(|alert| alert["alert"] == "SessionCheckerManyLoginsBlocked").unwrap();
    // Without comments, white space and the labels of a release.
    let plain = |expression: &str| {
        let lines = expression.lines().map(|line| line.split('#').next().unwrap());
        lines.collect::<String>().replace(char::is_whitespace, "")
    };
    let compared = plain(text(alert, "expr"));
    let (ratio, _) = compared.split_once('>').unwrap();
    let (blocked, all) = ratio.split_once("/").unwrap();
    let panel = panel("Share of logins blocked, by policy");
    let targets = panel["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    let shown = |target: &Value| {
        let selected = r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job",tenant=~"$tenant",policy=~"$policy""#;
        // Logins without a policy have no share: nothing blocks them.
        let plain = plain(text(target, "expr")).replace(r#",policy!="""#, "");
        let plain = plain.replace(&format!("{selected},"), "").replace(&format!("{{{selected}}}"), "");
        plain.replace("(cluster,namespace,", "(namespace,")
    };
    // A policy without a login has a line, too.
    let none = "or0*groupby(namespace,job,policy,tenant)(session_checker_policy_ready)";
    assert_eq!(shown(&targets[0]), format!("({blocked}or0*{all})/{all}{none}"));
    let ago = |part: &str| part.replace("[15m]", "[15m]offset1w");
    let week = format!("({}or0*{})/{}or0*{all}{none}", ago(blocked), ago(all), ago(all));
    assert_eq!(shown(&targets[1]), week);
}

#[test]
fn alerts_have_a_description_a_runbook_and_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    let mut runbooks: BTreeSet<_> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    for alert in alerts() {
        let (name, annotations) = (text(alert, "alert"), &alert["annotations"]);
        assert!(matches!(text(&alert["labels"], "severity"), "critical" | "warning"), "{name}");
        assert!(text(annotations, "summary").ends_with('.'), "{name}");
        assert!(!text(annotations, "summary").contains("{{"), "{name}: a summary is the same for all");
        assert!(text(annotations, "description").contains("{{"), "{name}: a description says where");
        assert!(text(annotations, "runbook_url").ends_with(&format!("/docs/runbooks/{name}.md")), "{name}");
        assert!(runbooks.remove(&format!("{name}.md")), "{name} has no runbook");
        let runbook = std::fs::read_to_string(folder.join(format!("{name}.md"))).unwrap();
        for part in [format!("# {name}\n"), "## Look at\n".to_owned(), "## Do\n".to_owned()] {
            assert!(runbook.contains(&part), "{name}: {part}");
        }
        let is_critical = text(&alert["labels"], "severity") == "critical";
        assert!(!is_critical || runbook.contains("```sh "), "{name}: its runbook has no command");
        let cases: Vec<_> = CASES.iter().filter(|case| case["alertname"] == name).collect();
        let fires = cases.iter().any(|case| !case["exp_alerts"].is_null());
        assert!(fires, "no test shows that {name} fires");
        assert!(cases.iter().any(|case| case["exp_alerts"].is_null()), "no test shows that {name} is silent");
    }
    assert_eq!(runbooks, BTreeSet::new(), "runbooks of no alert");
}

#[test]
fn alerts_name_the_tenant_the_policy_and_the_reason() {
    let labelled = |metric: &str, label: &str| {
        let row = METRICS.lines().find(|line| line.starts_with(&format!("| `{metric}` |")));
        row.is_some_and(|row| row.split('|').nth(3).unwrap().split(',').any(|one| one.trim() == label))
    };
    for alert in alerts() {
        let (name, description) = (text(alert, "alert"), text(&alert["annotations"], "description"));
        let metrics = metrics_of(text(alert, "expr"));
        let says = |label: &str| {
            let of_the_alert = description.contains(&format!("{{{{ $labels.{label} }}}}"));
            of_the_alert || description.contains(&format!("{{{{ .Labels.{label} }}}}"))
        };
        for label in labels(name).iter().filter(|label| *label != "job") {
            // SessionCheckerDown has no labels when no Pod ever started.
            assert!(says(label) || name == "SessionCheckerDown", "{name} does not name the {label}");
        }
        if metrics.contains("session_checker_failure_policy_uses_total") {
            assert!(says("tenant") && says("reason"), "{name}: {description}");
        }
        // The alert about the ledger only counts checks, and logins without a policy have no tenant.
        let any_tenant = ["SessionCheckerLedgerDegraded", "SessionCheckerLoginsWithoutPolicy"].contains(&name);
        if !any_tenant && name != "SessionCheckerReplicasDisagree" {
            assert!(
                says("tenant") || !metrics.iter().any(|metric| labelled(metric, "tenant")),
                "{name}: {description}"
            );
        }
    }
}

#[test]
fn inhibition_rules_name_alerts_and_labels_that_both_have() {
    let (_, rest) = OPERATIONS.split_once("```yaml\nroute:").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let parsed: Value = serde_saphyr::from_str(&format!("route:{text}")).unwrap();
    assert_eq!(parsed["route"]["group_by"][0], "cluster");
    let inhibitions = parsed["inhibit_rules"].as_array().unwrap();
    assert!(inhibitions.len() > 5);
    let alerts: BTreeSet<_> = alerts().iter().map(|alert| alert["alert"].as_str().unwrap().to_owned()).collect();
    for inhibition in inhibitions {
        let matched = |key: &str| -> BTreeSet<String> {
            let matcher = inhibition[key][0].as_str().unwrap().strip_prefix("alertname").unwrap();
            let names = matcher.trim_start_matches(['=', '~']).trim_matches('"').split('|');
            names.map(str::to_owned).collect()
        };
        let (sources, targets) = (matched("source_matchers"), matched("target_matchers"));
        assert!(sources.is_disjoint(&targets) && sources.union(&targets).all(|it| alerts.contains(it)), "{inhibition}");
        // Without the label, Alertmanager takes both alerts for those of the same cluster.
        let equal = inhibition["equal"].as_array().unwrap();
        assert_eq!(equal[0], "cluster", "{inhibition}");
        for label in &equal[1..] {
            for alert in sources.union(&targets) {
                assert!(labels(alert).contains(label.as_str().unwrap()), "{alert} has no {label}");
            }
        }
    }
}

#[test]
fn runbooks_name_existing_files_and_panels() {
    let titles: BTreeSet<_> = panels().iter().map(|panel| text(panel, "title").to_owned()).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let runbook = std::fs::read_to_string(&path).unwrap();
        // The queries at the end multiply.
        let runbook = runbook.split("## Without Grafana").next().unwrap();
        for target in runbook.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            assert!(folder.join(target).exists(), "{}: {target}", path.display());
        }
        // Panels are in italics.
        for name in runbook.split('*').skip(1).step_by(2).filter(|name| name.starts_with(char::is_uppercase)) {
            assert!(titles.contains(name) || name == "Tenant", "{}: no panel {name}", path.display());
        }
    }
}
