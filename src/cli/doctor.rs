//! `session-checker doctor`: examines the policies, their tenants and the ledger, from here or by a running service.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};
use url::Url;

use super::admin::ask;
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
        match ask(admin, "/debug/doctor", &[], REQUEST_TIMEOUT).await {
            Err(_) if Instant::now() + INTERVAL <= end => sleep(INTERVAL).await,
            answered => return answered,
        }
    }
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
            let help = line.help.as_ref().map_or_else(String::new, |help| format!("\n        see {help}"));
            format!("{status} {}: {}: {}{remedy}{help}\n", line.subject, line.step, line.detail)
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
