//! Evaluates the expressions of every panel and every rule on a real Prometheus.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::promql::names;

#[derive(Args)]
pub struct EvaluateArgs {
    /// The URL of Prometheus.
    #[arg(long)]
    prometheus: String,
    /// The dashboard, a JSON file.
    #[arg(long)]
    dashboard: PathBuf,
    /// The file of rules that Prometheus has loaded.
    #[arg(long)]
    rules: PathBuf,
    /// Seconds until all series have to exist. A rate needs two scrapes, and a rule needs an evaluation.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

/// An expression that has to return series, and the panel or rule that contains it.
struct Query {
    source: String,
    expression: String,
}

fn queries(args: &EvaluateArgs) -> Result<Vec<Query>, Box<dyn Error>> {
    let mut queries = Vec::new();
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&args.dashboard)?)?;
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            // Grafana substitutes the variables like this when "All" is selected.
            let mut expression = target["expr"].as_str().unwrap_or_default().replace("$__rate_interval", "30s");
            expression = expression.replace("$__range", "5m");
            for variable in ["$cluster", "$namespace", "$job", "$tenant", "$policy"] {
                expression = expression.replace(variable, ".*");
            }
            queries.push(Query { source: format!("panel {}", panel["title"]), expression });
        }
    }
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(&args.rules)?)?;
    for rule in rules["groups"].as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array()).flatten() {
        let expression = rule["expr"].as_str().unwrap_or_default().to_owned();
        if rule["record"].is_string() {
            queries.push(Query { source: format!("rule {}", rule["record"]), expression });
        } else {
            // The expression of an alert returns series only while the alert fires. The series that it reads have to exist.
            for name in names(&expression) {
                queries.push(Query { source: format!("alert {}", rule["alert"]), expression: name });
            }
        }
    }
    Ok(queries)
}

/// What is wrong with the result of a query; `None` when it has series.
async fn problem(client: &Client, args: &EvaluateArgs, query: &Query) -> Result<Option<String>, Box<dyn Error>> {
    let request = client.post(format!("{}/api/v1/query", args.prometheus)).form(&[("query", &query.expression)]);
    let answer: Value = request.send().await?.json().await?;
    Ok(match answer["data"]["result"].as_array() {
        None => Some(format!("error: {}", answer["error"])),
        Some(series) if series.is_empty() => Some("empty".to_owned()),
        Some(_) => None,
    })
}

/// The number of rules that Prometheus has loaded, and a line for each unhealthy rule.
async fn unhealthy_rules(client: &Client, args: &EvaluateArgs) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let answer: Value = client.get(format!("{}/api/v1/rules", args.prometheus)).send().await?.json().await?;
    let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
    let rules: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array()).flatten().collect();
    let unhealthy = rules.iter().filter(|rule| rule["health"] != "ok");
    Ok((
        rules.len(),
        unhealthy.map(|rule| format!("rule {}: {} {}", rule["name"], rule["health"], rule["lastError"])).collect(),
    ))
}

/// Repeats all queries until each returns series. Fails after the timeout.
pub async fn run(args: &EvaluateArgs) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().timeout(Duration::from_secs(10)).build()?;
    let queries = queries(args)?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let (rules, mut wrong) = unhealthy_rules(&client, args).await?;
        for query in &queries {
            if let Some(problem) = problem(&client, args, query).await? {
                wrong.push(format!("{}: {problem}: {}", query.source, query.expression));
            }
        }
        if rules > 0 && wrong.is_empty() {
            println!("{} expressions return series, {rules} rules are healthy", queries.len());
            return Ok(());
        }
        if Instant::now() > deadline {
            wrong.iter().for_each(|problem| println!("{problem}"));
            return Err(format!("{} problems in {} expressions and {rules} rules", wrong.len(), queries.len()).into());
        }
        sleep(Duration::from_secs(2)).await;
    }
}
