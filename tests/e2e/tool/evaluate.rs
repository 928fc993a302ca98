//! Every panel and every rule, asked of a real Prometheus.

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
    /// Prometheus.
    #[arg(long)]
    prometheus: String,
    /// The dashboard's JSON.
    #[arg(long)]
    dashboard: PathBuf,
    /// The file of rules, which Prometheus has loaded.
    #[arg(long)]
    rules: PathBuf,
    /// How long series may take to appear, in seconds: rates need two scrapes, and rules an evaluation.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// An expression that has to give something.
struct LimitCheck {
    whose: String,
    expression: String,
}

fn questions(args: &EvaluateArgs) -> Result<Vec<LimitCheck>, Box<dyn Error>> {
    let mut questions = Vec::new();
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&args.dashboard)?)?;
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            // As Grafana replaces them when everything is chosen.
            let mut expression = target["expr"].as_str().unwrap_or_default().replace("$__rate_interval", "30s");
            for variable in ["$namespace", "$job", "$tenant", "$policy"] {
                expression = expression.replace(variable, ".*");
            }
            questions.push(LimitCheck { whose: format!("panel {}", panel["title"]), expression });
        }
    }
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(&args.rules)?)?;
    for rule in rules["groups"].as_array().into_iter().flatten().flat_map(|group| group["rules"].as_array()).flatten() {
        let expression = rule["expr"].as_str().unwrap_or_default().to_owned();
        if rule["record"].is_string() {
            questions.push(LimitCheck { whose: format!("rule {}", rule["record"]), expression });
        } else {
            // An alert that gives something fires. That it could is seen by each series that it looks at.
            for name in names(&expression) {
                questions.push(LimitCheck { whose: format!("alert {}", rule["alert"]), expression: name });
            }
        }
    }
    Ok(questions)
}

/// What is wrong with the answer to a question; `None` when it gives something.
async fn ask(client: &Client, args: &EvaluateArgs, limit_check: &LimitCheck) -> Result<Option<String>, Box<dyn Error>> {
    let request = client.post(format!("{}/api/v1/query", args.prometheus)).form(&[("query", &limit_check.expression)]);
    let answer: Value = request.send().await?.json().await?;
    Ok(match answer["data"]["result"].as_array() {
        None => Some(format!("error: {}", answer["error"])),
        Some(series) if series.is_empty() => Some("empty".to_owned()),
        Some(_) => None,
    })
}

/// What Prometheus itself says of the rules that it evaluates.
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

/// Asks until everything gives something, and fails when that takes too long.
pub async fn run(args: &EvaluateArgs) -> Result<(), Box<dyn Error>> {
    let client = Client::builder().timeout(Duration::from_secs(10)).build()?;
    let questions = questions(args)?;
    let deadline = Instant::now() + Duration::from_secs(args.patience);
    loop {
        let (rules, mut wrong) = unhealthy_rules(&client, args).await?;
        for limit_check in &questions {
            if let Some(problem) = ask(&client, args, limit_check).await? {
                wrong.push(format!("{}: {problem}: {}", limit_check.whose, limit_check.expression));
            }
        }
        if rules > 0 && wrong.is_empty() {
            println!("{} expressions give series, {rules} rules are healthy", questions.len());
            return Ok(());
        }
        if Instant::now() > deadline {
            wrong.iter().for_each(|problem| println!("{problem}"));
            return Err(format!("{} of {} are empty or in error", wrong.len(), questions.len()).into());
        }
        sleep(Duration::from_secs(2)).await;
    }
}
