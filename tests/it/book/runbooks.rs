//! The queries at the end of each runbook: those of its alert and of the panels that it names.

use serde_json::Value;

use super::{NOTE, assert_page, root};
use crate::monitoring::{alerts, panels};

const HEADING: &str = "## Without Grafana";

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// An expression of the dashboard for a person: without the variables, with the parts of a union in lines of their own.
fn for_people(expression: &str) -> String {
    let mut expression = expression.replace("$__rate_interval", "5m").replace("$__range", "1d");
    for variable in ["cluster", "namespace", "job", "tenant", "policy"] {
        let matcher = format!("{variable}=~\"${variable}\"");
        expression = expression.replace(&format!("{matcher},"), "").replace(&matcher, "");
    }
    // A matcher that was the last one leaves its comma.
    let plain = expression.replace(",}", "}").replace("{}", "");
    let mut lines = vec![String::new()];
    for word in plain.split(' ') {
        let line = lines.last_mut().unwrap();
        let is_long = line.len() + 1 + word.len() > 96;
        if !line.is_empty() && (is_long || matches!(word, "or" | "unless" | "/")) {
            lines.push(format!("  {word}"));
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn block(heading: &str, expressions: impl Iterator<Item = String>) -> String {
    let expressions: Vec<_> = expressions.collect();
    format!("{heading}:\n\n```text\n{}\n```\n", expressions.join("\n\n"))
}

#[test]
fn runbooks_have_the_queries_of_their_alert_and_panels() {
    let mut queries = 0;
    for alert in alerts() {
        let path = format!("docs/runbooks/{}.md", text(alert, "alert"));
        let runbook = std::fs::read_to_string(root().join(&path)).unwrap();
        let written = runbook.split(&format!("\n{HEADING}\n")).next().unwrap().trim_end();
        let mut parts = vec![block("What the alert compares", [text(alert, "expr").trim_end().to_owned()].into_iter())];
        for panel in panels() {
            let title = text(panel, "title");
            if written.replace('\n', " ").contains(&format!("*{title}*")) {
                let targets = panel["targets"].as_array().unwrap().iter();
                parts.push(block(title, targets.map(|target| for_people(text(target, "expr")))));
            }
        }
        queries += parts.len();
        assert_page(&path, &format!("{written}\n\n{HEADING}\n\n{NOTE}\n\n{}", parts.join("\n")));
    }
    assert!(queries > 60, "{queries}");
}

#[test]
fn queries_for_people_have_no_variables() {
    for panel in panels() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = for_people(text(target, "expr"));
            assert!(!expression.contains('$') && !expression.contains("{}"), "{expression}");
        }
    }
    let all = r#"sum(rate(a{cluster=~"$cluster",namespace=~"$namespace",job=~"$job"}[$__rate_interval])) or b{job=~"$job",reason="x"}"#;
    assert_eq!(for_people(all), "sum(rate(a[5m]))\n  or b{reason=\"x\"}");
}
