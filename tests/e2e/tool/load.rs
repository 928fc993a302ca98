//! Sends checks at a constant rate, without waiting for earlier answers. Half of the checks use kept connections and half use
//! new ones, because a rollout can break either. A check whose connection is lost is counted and sent again, as proxies do.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// A check fails after this time, retries included. It is longer than the policies' timeout of 3 s, so that the service answers
/// first.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause before a check is sent again after a lost connection.
const RETRY_DELAY: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct LoadArgs {
    /// The URL of the service, without a path.
    #[arg(long)]
    url: String,
    #[arg(long, env = "TOKEN")]
    token: String,
    /// Checks per second.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Also send checks for the tenants `down` and `busy`, which the failure policy answers.
    #[arg(long)]
    faults: bool,
}

#[derive(Default)]
struct Tally {
    sent: u64,
    answered: u64,
    repeated: u64,
    failed: u64,
    reasons: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
}

impl Tally {
    fn count(&mut self, result: Result<String, String>) {
        let (total, by_what, what) = match result {
            Ok(reason) => (&mut self.answered, &mut self.reasons, reason),
            Err(failure) => (&mut self.failed, &mut self.failures, failure),
        };
        *total += 1;
        *by_what.entry(what).or_default() += 1;
    }
}

/// A login, and the reasons that are expected in its answer.
struct Login {
    body: Value,
    reasons: &'static [&'static str],
}

/// Returns the n-th login.
fn login(n: u64, faults: bool) -> Login {
    let fresh = format!("session-{n}");
    let (user, client, sid, reasons): (String, &str, String, &'static [&'static str]) = match n % 20 {
        0 => ("auth0|full-e2e-app".into(), "e2e-app", fresh, &["limit_exceeded"]),
        1 => ("auth0|full-audited-app".into(), "audited-app", fresh, &["audit"]),
        2 | 3 => ("auth0|holder".into(), "e2e-app", "holder".into(), &["within_limit"]),
        4 => ("auth0|odd".into(), "e2e-app", fresh, &["within_limit", "limit_exceeded"]),
        5 if faults => (format!("auth0|d{n}"), "down-app", fresh, &["upstream_error", "circuit_open"]),
        // The request budget may release a check so late that the rest of the check runs out of time.
        6 | 7 if faults => (
            format!("auth0|b{n}"),
            "busy-app",
            fresh,
            &["within_limit", "rate_limited", "upstream_timeout", "overloaded"],
        ),
        _ => (format!("auth0|user-{n}"), "e2e-app", fresh, &["within_limit"]),
    };
    Login { body: json!({ "user_id": user, "client_id": client, "sid": sid }), reasons }
}

/// Sends a check. Returns the reason of its answer, or why the check failed.
async fn check(client: &Client, args: &LoadArgs, login: &Login, tally: &Mutex<Tally>) -> Result<String, String> {
    // Sending a check twice changes no answer, because a session that was allowed stays allowed.
    let answered = async {
        loop {
            match answer(client, &args.url, &args.token, &login.body).await {
                Err(error) if !error.is_timeout() => {
                    lock(tally).repeated += 1;
                    sleep(RETRY_DELAY).await;
                }
                other => break other,
            }
        }
    };
    let answered = timeout(CHECK_TIMEOUT, answered)
        .await
        .map_err(|_| "no answer within the timeout, retries included".to_owned())?;
    let (status, reason) = answered.map_err(|error| causes(&error))?;
    if status == StatusCode::OK && login.reasons.contains(&reason.as_str()) {
        Ok(reason)
    } else {
        Err(format!("{status}, reason {reason:?}, expected one of {:?}", login.reasons))
    }
}

/// Sends a login to `/check`. Returns the status and the reason of the answer.
pub async fn answer(client: &Client, url: &str, token: &str, login: &Value) -> reqwest::Result<(StatusCode, String)> {
    let response = client.post(format!("{url}/check")).bearer_auth(token).json(login).send().await?;
    let status = response.status();
    let answer: Value = response.json().await?;
    Ok((status, answer["reason"].as_str().unwrap_or_default().to_owned()))
}

fn causes(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    said
}

/// Sends checks until SIGTERM. Prints the totals each second and at the end.
pub async fn run(args: &LoadArgs) -> Result<(), Box<dyn Error>> {
    let args = Arc::new(LoadArgs { url: args.url.clone(), token: args.token.clone(), ..*args });
    let client = |idle| Client::builder().timeout(CHECK_TIMEOUT).pool_max_idle_per_host(idle).build();
    let clients = [client(usize::MAX)?, client(0)?];
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut terminated = signal(SignalKind::terminate())?;
    let mut ticks = interval(Duration::from_secs(1) / args.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut printed_at = Instant::now();
    let mut checks = JoinSet::new();
    for n in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminated.recv() => break,
        }
        lock(&tally).sent += 1;
        let (seen, args, client) = (Arc::clone(&tally), Arc::clone(&args), clients[usize::from(n % 2 == 0)].clone());
        checks.spawn(async move {
            let result = check(&client, &args, &login(n, args.faults), &seen).await;
            lock(&seen).count(result);
        });
        while checks.try_join_next().is_some() {}
        if printed_at.elapsed() >= Duration::from_secs(1) {
            printed_at = Instant::now();
            print_totals(&lock(&tally));
        }
    }
    while checks.join_next().await.is_some() {}
    let tally = lock(&tally);
    print_totals(&tally);
    println!("reasons {:?}", tally.reasons);
    println!("failures {:?}", tally.failures);
    if tally.failed == 0 { Ok(()) } else { Err(format!("{} checks failed", tally.failed).into()) }
}

fn print_totals(tally: &Tally) {
    let Tally { sent, answered, repeated, failed, .. } = tally;
    println!("sent={sent} answered={answered} repeated={repeated} failed={failed}");
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
