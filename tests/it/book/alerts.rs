//! The list of alerts, from the rules of the chart.

use std::fmt::Write;

use super::{NOTE, assert_page, inline};
use crate::monitoring::alerts;

const INTRODUCTION: &str = "\
Each alert has a runbook: what it means, what to look at, what to do. A critical alert means that
logins are blocked by mistake, are allowed without a limit, or are slow. A warning needs no response
at night. [One cause, one page](operations.md#one-cause-one-page) has the inhibition rules for
Alertmanager. The rules are [rules.yaml](../charts/session-checker/files/rules.yaml) of the chart
(`metrics.prometheusRule.enabled`).

In the commands of the runbooks, `NAMESPACE` is the label `namespace` of the alert, and `CHART` is
the chart that you installed, such as `charts/session-checker`. The label `policy` is
`namespace/name` of the policy. A release with another name has that name in place of
`session-checker`.
";

#[test]
fn page_of_alerts_is_that_of_the_rules() {
    let mut page = format!("# Alerts\n\n{NOTE}\n\n{INTRODUCTION}");
    for severity in ["critical", "warning"] {
        write!(page, "\n## {}\n\n| alert | after | means |\n|---|---|---|\n", capitalized(severity)).unwrap();
        for alert in alerts().into_iter().filter(|alert| alert["labels"]["severity"] == severity) {
            let name = alert["alert"].as_str().unwrap();
            let after = alert["for"].as_str().unwrap_or("0s");
            let summary = alert["annotations"]["summary"].as_str().unwrap();
            writeln!(page, "| [{name}](runbooks/{name}.md) | {after} | {} |", inline(summary)).unwrap();
        }
    }
    assert_page("docs/alerts.md", &page);
}

fn capitalized(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}
