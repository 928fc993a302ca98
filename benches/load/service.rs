//! The service under test: the binary of this build, configured by the `AUTH0_*` variables and `CALLER_TOKEN`.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use serde_json::Value;

use crate::{
    Result,
    caller::{Caller, Question},
    process::{self, Process, free_address, get},
    tenant::{self, Tenant},
};

/// The caller's bearer token, which the load sends.
pub const CALLER_TOKEN: &str = "bench-caller-token-of-loopback";
/// The reasons of decisions by a limit, in the order of the alphabet.
pub const REASONS: [&str; 2] = ["limit_exceeded", "within_limit"];

/// A running `session-checker serve`.
pub struct Service {
    /// Address of the port for `/check`.
    pub address: SocketAddr,
    /// Address of the admin port.
    pub admin: SocketAddr,
    /// The process.
    pub process: Process,
}

impl Service {
    /// Starts the service for `tenant`, with its log as in the chart (a line of JSON for each check), and waits until it is ready.
    pub fn start(directory: &Path, tenant: &Tenant) -> Result<Self> {
        Self::start_at(directory, tenant, &tenant.url, &[], &[])
    }

    /// The same with another URL of the tenant, as a program that the command `wrapper` runs, and with more options.
    pub fn start_at(directory: &Path, tenant: &Tenant, url: &str, wrapper: &[&str], options: &[&str]) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let program = process::service();
        let words: Vec<&str> = wrapper.iter().copied().chain([&*program]).collect();
        let mut command = process::command(Path::new(words[0]));
        command
            .args(&words[1..])
            .arg("serve")
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string(), "--log-format", "json"])
            .args(["--auth0-endpoint", &format!("{}={url}", tenant::DOMAIN)])
            .arg("--auth0-ca-file")
            .arg(&tenant.ca)
            .args(options)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AUTH0_DOMAIN", tenant::DOMAIN)
            .env("AUTH0_CLIENT_ID", tenant::CLIENT_ID)
            .env("AUTH0_CLIENT_SECRET", tenant::CLIENT_SECRET)
            .env("CALLER_TOKEN", CALLER_TOKEN)
            // This folder has no `.env` file that the service would read.
            .current_dir(directory);
        let mut process = Process::start(&mut command, directory.join(format!("service-{}.log", address.port())))?;
        process.wait_until_ready(admin, "/readyz")?;
        eprintln!("session-checker runs as process {}", process.id());
        Ok(Self { address, admin, process })
    }

    /// Fails unless a user within the limit is allowed and a user over the limit is blocked.
    pub fn answers_rightly(&self) -> Result<()> {
        for (user, blocked) in [(1, false), (tenant::BLOCKED_EVERY, true)] {
            let answer = self.check(user)?;
            if answer["block"] != blocked {
                return Err(format!("user {user}: expected block: {blocked}, got {answer}").into());
            }
        }
        Ok(())
    }

    /// Fails when a check had another reason than the limit. Answers of the failure policy are also fast and also have status
    /// 200, so they would distort the figures unnoticed.
    pub fn decided_every_check(&self) -> Result<()> {
        let metrics = get(self.admin, "/metrics")?;
        let mut reasons = BTreeMap::new();
        for series in metrics.lines().filter_map(|line| line.strip_prefix("session_checker_checks_total{")) {
            let reason = series.split_once("reason=\"").and_then(|(_, rest)| rest.split_once('"'));
            let count = series.rsplit_once(' ').map(|(_, count)| count.parse::<f64>());
            let (Some((reason, _)), Some(Ok(count))) = (reason, count) else {
                return Err(format!("not a series of checks: {series}").into());
            };
            // Series of rare reasons begin at zero.
            if count > 0.0 {
                *reasons.entry(reason).or_insert(0.0) += count;
            }
        }
        eprintln!("checks by reason: {reasons:?}");
        match reasons.keys().eq(&REASONS) {
            true => Ok(()),
            false => Err(format!("expected checks with the reasons {REASONS:?}, found {reasons:?}").into()),
        }
    }

    /// The value of a series, as `/metrics` writes it, of whole numbers.
    pub fn metric(&self, series: &str) -> Result<u64> {
        let metrics = get(self.admin, "/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.ok_or_else(|| format!("no series {series}"))?.trim().parse()?)
    }

    /// Asks about the login of a user.
    pub fn check(&self, user: u32) -> Result<Value> {
        let mut caller = Caller::new(self.address)?;
        let answer = String::from_utf8_lossy(caller.ask(Question::Check, user)?.0);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
        match body {
            Some(Ok(body)) => Ok(body),
            _ => Err(format!("not an answer of /check: {answer}").into()),
        }
    }
}
