//! The list of alerts, from the rules of the chart.

use std::fmt::Write;

use serde_json::Value;

use super::{NOTE, assert_page, inline, root};

const INTRODUCTION: &str = "\
Each alert has a runbook: what it means, what to look at, what to do. A critical alert means that
logins are blocked by mistake, are allowed without a limit, or are slow. A warning needs no response
at night. [One cause, one page](operations.md#one-cause-one-page) has the inhibition rules for
Alertmanager. The rules are [rules.yaml](../charts/session-checker/files/rules.yaml) of the chart
(`metrics.prometheusRule.enabled`).
";

#[test]
fn page_of_alerts_is_that_of_the_rules() {
    let rules = std::fs::read_to_string(root().join("charts/session-checker/files/rules.yaml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&rules).unwrap();
    let mut page = format!("# Alerts\n\n{NOTE}\n\n{INTRODUCTION}");
    for severity in ["critical", "warning"] {
        write!(page, "\n## {}\n\n| alert | after | means |\n|---|---|---|\n", capitalized(severity)).unwrap();
        let groups = rules["groups"].as_array().unwrap().iter();
        for rule in groups.flat_map(|group| group["rules"].as_array().unwrap()) {
            let Some(name) = rule["alert"].as_str() else { continue };
            if rule["labels"]["severity"] != severity {
                continue;
            }
            let after = rule["for"].as_str().unwrap_or("0s");
            let summary = rule["annotations"]["summary"].as_str().unwrap();
            writeln!(page, "| [{name}](runbooks/{name}.md) | {after} | {} |", inline(summary)).unwrap();
        }
    }
    assert_page("docs/alerts.md", &page);
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}
