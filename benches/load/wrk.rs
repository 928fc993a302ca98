//! The load: runs `wrk` with `load.lua` and measures what a server uses under it.

use std::{net::SocketAddr, ops::Range, time::Duration};

use serde::Deserialize;

use crate::{
    Result, Settings,
    process::{self, Process},
    service::CALLER_TOKEN,
    tenant::{APPLICATION, HOLDERS, Tenant, USERS},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/load.lua");

/// A kind of request, and the settings of its load.
pub struct Load<'a> {
    settings: &'a Settings,
    /// The arguments of `load.lua`.
    arguments: Vec<String>,
}

/// What `load.lua` prints at the end of a run.
#[derive(Deserialize)]
struct Outcome {
    requests: u64,
    micros: u64,
    p50_micros: u64,
    p99_micros: u64,
    failed: u64,
}

/// The figures of one server in one round.
pub struct Round {
    /// Requests answered in the measured time.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// Median latency of the answers.
    pub p50: Duration,
    /// 99th percentile of the latency.
    pub p99: Duration,
    /// CPU time of the server's processes per request.
    pub cpu: Duration,
    /// Lists that the tenant answered in the measured time.
    pub lists: u64,
}

/// The path of a list request, as in `load.lua`.
pub fn list_path(user: u32) -> String {
    format!("/api/v2/users/auth0%7C{user:06}/sessions?take=50")
}

impl<'a> Load<'a> {
    /// `POST /check` for the login of each user.
    pub fn check(settings: &'a Settings) -> Self {
        Self::new(settings, "check", 0..USERS, &[APPLICATION, CALLER_TOKEN])
    }

    /// `POST /check` for the login of each holder.
    pub fn recheck(settings: &'a Settings) -> Self {
        Self::new(settings, "check", USERS..USERS + HOLDERS, &[APPLICATION, CALLER_TOKEN])
    }

    /// `GET` of the session list of each user, at the tenant's path.
    pub fn list(settings: &'a Settings) -> Self {
        Self::new(settings, "list", 0..USERS, &[])
    }

    fn new(settings: &'a Settings, kind: &str, users: Range<u32>, rest: &[&str]) -> Self {
        let [first, count, threads] = [users.start as usize, users.len(), settings.cores].map(|it| it.to_string());
        let arguments = [&[kind, &first, &count, &threads], rest].concat().into_iter().map(str::to_owned).collect();
        Self { settings, arguments }
    }

    /// Warms the server up and then measures it. Fails when a request failed.
    pub fn measure(&self, address: SocketAddr, server: &Process, tenant: &mut Tenant) -> Result<Round> {
        self.run(address, self.settings.seconds.get().div_ceil(4))?;
        let (cpu, lists) = (server.cpu_time()?, tenant.counters()?.lists);
        let outcome = self.run(address, self.settings.seconds.get())?;
        let (cpu, lists) = (server.cpu_time()? - cpu, tenant.counters()?.lists - lists);
        Ok(Round {
            requests: outcome.requests,
            rate: outcome.requests as f64 / Duration::from_micros(outcome.micros).as_secs_f64(),
            p50: Duration::from_micros(outcome.p50_micros),
            p99: Duration::from_micros(outcome.p99_micros),
            cpu: cpu.div_f64(outcome.requests as f64),
            lists,
        })
    }

    fn run(&self, address: SocketAddr, seconds: u32) -> Result<Outcome> {
        let Settings { connections, cores, .. } = self.settings;
        let output = process::command("wrk".as_ref())
            .args([format!("-t{cores}"), format!("-c{connections}"), format!("-d{seconds}s")])
            .args(["-s", SCRIPT, &format!("http://{address}"), "--"])
            .args(&self.arguments)
            .output()?;
        let printed = String::from_utf8(output.stdout)?;
        let outcome = printed.lines().last().map(serde_json::from_str::<Outcome>);
        match outcome {
            Some(Ok(outcome)) if outcome.failed == 0 && outcome.requests > 0 => Ok(outcome),
            _ => Err(format!("the load failed: {printed}{}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}
