//! The service under test: the binary of this build, with the four variables of the Node demo.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::{
    Result,
    process::{self, Process, ask, free_address},
    tenant::{self, Tenant},
};

/// The bearer token of the load.
pub const CALLER_TOKEN: &str = "bench-caller-token-of-loopback";

/// A running `session-checker serve`.
pub struct Service {
    /// Where it serves `/check`.
    pub address: SocketAddr,
    admin: SocketAddr,
    /// Its process.
    pub process: Process,
}

impl Service {
    /// Starts it against `tenant`, with its log (one line a check) in a file, and waits until it is ready.
    pub fn start(directory: &Path, tenant: &Tenant) -> Result<Self> {
        let (address, admin) = (free_address()?, free_address()?);
        let mut command = process::command(Path::new(env!("CARGO_BIN_EXE_session-checker")));
        command
            .arg("serve")
            .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .args(["--auth0-endpoint", &format!("{}={}", tenant::DOMAIN, tenant.url)])
            .arg("--auth0-ca-file")
            .arg(&tenant.ca)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AUTH0_DOMAIN", tenant::DOMAIN)
            .env("AUTH0_CLIENT_ID", tenant::CLIENT_ID)
            .env("AUTH0_CLIENT_SECRET", tenant::CLIENT_SECRET)
            .env("CALLER_TOKEN", CALLER_TOKEN)
            // Out of reach of a `.env` file.
            .current_dir(directory);
        let mut process = Process::start(&mut command, directory.join("service.log"))?;
        process.wait_until_ready(admin, "/readyz")?;
        eprintln!("session-checker serves as process {}", process.id());
        Ok(Self { address, admin, process })
    }

    /// Fails unless a user with a free place is let in and one without is refused.
    pub fn answers_rightly(&self) -> Result<()> {
        for (user, blocked) in [(1, false), (tenant::REFUSED_EVERY, true)] {
            let answer = self.check(user)?;
            if answer["block"] != blocked {
                return Err(format!("user {user} should get block: {blocked}, and gets {answer}").into());
            }
        }
        Ok(())
    }

    /// Fails when a check was answered for another reason than what the sessions say: a failure policy's answer is
    /// quick and 200 as well.
    pub fn decided_every_check(&self) -> Result<()> {
        let metrics = ask(self.admin, "GET", "/metrics", &[], "")?;
        let mut reasons = BTreeMap::new();
        for series in metrics.lines().filter_map(|line| line.strip_prefix("session_checker_checks_total{")) {
            let reason = series.split_once("reason=\"").and_then(|(_, rest)| rest.split_once('"'));
            let count = series.rsplit_once(' ').map(|(_, count)| count.parse::<f64>());
            let (Some((reason, _)), Some(Ok(count))) = (reason, count) else {
                return Err(format!("not a series of checks: {series}").into());
            };
            *reasons.entry(reason).or_insert(0.0) += count;
        }
        eprintln!("checks by reason: {reasons:?}");
        let expected = ["limit_exceeded", "within_limit"];
        match reasons.keys().eq(&expected) {
            true => Ok(()),
            false => Err(format!("expected checks answered {expected:?}, found {reasons:?}").into()),
        }
    }

    fn check(&self, user: u32) -> Result<Value> {
        let login = json!({
            "user_id": tenant::user_id(user), "client_id": tenant::APPLICATION, "sid": tenant::session_id(user, 0),
        });
        let authorization = format!("Authorization: Bearer {CALLER_TOKEN}");
        let headers = ["Content-Type: application/json", &authorization];
        let answer = ask(self.address, "POST", "/check", &headers, &login.to_string())?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| serde_json::from_str(body));
        match body {
            Some(Ok(body)) => Ok(body),
            _ => Err(format!("not an answer of /check: {answer}").into()),
        }
    }
}
