//! `session-checker doctor`: examines the policies, their tenants and the ledger, from here or by a running service.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};
use url::Url;

use super::serve::{is_set, redis_address};
use super::source::source_config;
use crate::args::{DoctorArgs, FAILED, OutputFormat};
use crate::doctor::{Doctor, ExamStatus, Examination};
use crate::redis::Redis;
use crate::service::RunError;

/// The time limit of the request to a running service: its steps of a tenant take at most 15 s, those of eight tenants at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The time between two attempts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Examines, prints each step, and returns the exit code.
///
/// # Errors
/// When the policies cannot be read, or the running service does not answer.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: DoctorArgs) -> Result<u8, RunError> {
    let (output, quiet) = (args.output, args.quiet);
    let examination = match &args.admin_url {
        Some(url) => ask_until(url, Instant::now() + args.wait).await?,
        None => examine(args).await?,
    };
    match output {
        OutputFormat::Text => print!("{}", text(&examination, quiet)),
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&examination).unwrap_or_default()),
    }
    Ok(if examination.healthy { 0 } else { FAILED })
}

/// Examines from here.
async fn examine(mut args: DoctorArgs) -> Result<Examination, RunError> {
    let snapshot = source_config(args.source)?.read_once().await?;
    let key = args.ledger.ledger_key.take().filter(is_set);
    let timeout = args.ledger.ledger_timeout;
    let redis = match redis_address(args.ledger) {
        None => None,
        Some(address) => {
            let key = key.as_ref().map(|key| key.expose_secret().as_bytes());
            let redis = Redis::connect(address, key, timeout).await;
            Some(redis.map_err(|error| RunError::Ledger(error.to_string()))?)
        }
    };
    let doctor = Doctor::new(redis, timeout, args.replicas);
    Ok(Examination::clone(&*doctor.examine(&snapshot, None).await))
}

/// Asks a running service until it answers or the time is over.
async fn ask_until(admin: &Url, end: Instant) -> Result<Examination, RunError> {
    loop {
        match ask(admin).await {
            Err(_) if Instant::now() + INTERVAL <= end => sleep(INTERVAL).await,
            answered => return answered,
        }
    }
}

/// Lets a running service examine itself.
async fn ask(admin: &Url) -> Result<Examination, RunError> {
    let failed = |error: String| RunError::Command(format!("{admin}: {error}"));
    let url = admin.join("/debug/doctor").map_err(|error| failed(error.to_string()))?;
    let client = Client::builder().timeout(REQUEST_TIMEOUT).redirect(redirect::Policy::none()).build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let response = client.get(url).send().await.map_err(|error| {
        let cause = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).last();
        failed(cause.map_or_else(String::new, ToString::to_string))
    })?;
    let status = response.status();
    let body = response.text().await.map_err(|error| failed(error.to_string()))?;
    if status != StatusCode::OK {
        return Err(failed(format!(
            "the service answered {status}: is this the admin port, and is the service of this version?"
        )));
    }
    serde_json::from_str(&body).map_err(|error| failed(format!("the answer cannot be read: {error}")))
}

fn text(examination: &Examination, quiet: bool) -> String {
    let lines = examination.lines.iter().filter(|line| !quiet || line.status != ExamStatus::Ok);
    let mut text: String = lines
        .map(|line| {
            let status = match line.status {
                ExamStatus::Ok => "ok     ",
                ExamStatus::Notice => "notice ",
                ExamStatus::Problem => "PROBLEM",
            };
            let remedy = line.remedy.as_ref().map_or_else(String::new, |remedy| format!("\n        {remedy}"));
            format!("{status} {}: {}: {}{remedy}\n", line.subject, line.step, line.detail)
        })
        .collect();
    let problems = examination.lines.iter().filter(|line| line.status == ExamStatus::Problem).count();
    text += &match problems {
        0 => "No problem was found.\n".to_owned(),
        1 => "1 problem was found.\n".to_owned(),
        _ => format!("{problems} problems were found.\n"),
    };
    text
}
