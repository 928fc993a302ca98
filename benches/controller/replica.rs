//! The service under test, in a separate process.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    Result,
    policies::{application, caller_token},
    process::{self, Process, free_address},
    scene::Scene,
};

/// The run fails when a step takes longer than this.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);

/// A running `session-checker serve` that watches a namespace.
pub struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    process: Process,
    http: reqwest::Client,
    started: Instant,
    _directory: TempDir,
}

impl Replica {
    /// Starts the service, with its log in a file.
    pub fn start(scene: &Scene<'_>) -> Result<Self> {
        let (address, admin, directory) = (free_address()?, free_address()?, tempfile::tempdir()?);
        let mut command = process::command(Path::new(&process::service()));
        command.arg("serve").args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        for endpoint in scene.endpoints() {
            command.args(["--auth0-endpoint", &endpoint]);
        }
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("KUBECONFIG", scene.kubeconfig())
            .current_dir(&directory);
        let started = Instant::now();
        let process = Process::start(&mut command, directory.path().join("service.log"))?;
        Ok(Self { address, admin, process, http: reqwest::Client::new(), started, _directory: directory })
    }

    /// Waits until the replica is ready. Returns the time since its start.
    pub async fn becomes_ready(&self) -> Result<Duration> {
        self.until("ready", async || {
            // The request fails until the replica listens.
            let answer = self.http.get(format!("http://{}/readyz", self.admin)).send().await;
            Ok(answer.is_ok_and(|answer| answer.status() == 200))
        })
        .await?;
        Ok(self.started.elapsed())
    }

    /// Waits until the status of this many policies is written. Returns the time since the start.
    pub async fn statuses_written(&self, policies: usize) -> Result<Duration> {
        let written = "session_checker_status_writes_total{result=\"ok\"}";
        self.until("every status is written", async || Ok(self.metric(written).await? >= policies as f64)).await?;
        Ok(self.started.elapsed())
    }

    /// Waits until a check is decided by this limit. Returns how long that took.
    pub async fn limit_becomes(&self, policy: usize, limit: usize) -> Result<Duration> {
        let begun = Instant::now();
        self.until("a check uses the new limit", async || Ok(self.check(policy).await?["limit"] == limit)).await?;
        Ok(begun.elapsed())
    }

    /// Changes the credential of a tenant and waits until a check uses a token of the new credential. Returns how long that took.
    pub async fn follows_rotation(&self, scene: &Scene<'_>, tenant: usize) -> Result<Duration> {
        self.check(tenant).await?;
        let before = scene.last_token(tenant);
        scene.rotate(tenant).await?;
        let begun = Instant::now();
        self.until("a check uses the new credential", async || {
            self.check(tenant).await?;
            Ok(scene.last_token(tenant) != before)
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Current resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        self.process.memory()
    }

    /// Peak resident memory in bytes.
    pub fn peak(&self) -> Result<u64> {
        self.process.peak_memory()
    }

    /// Sends a check for a user who has no session. Returns the answer.
    async fn check(&self, policy: usize) -> Result<Value> {
        let user = format!("auth0|{}", uuid::Uuid::new_v4());
        let login = json!({ "user_id": user, "client_id": application(policy), "sid": "s" });
        let request = self.http.post(format!("http://{}/check", self.address)).bearer_auth(caller_token(policy));
        let answer: Value = request.json(&login).send().await?.error_for_status()?.json().await?;
        match answer["reason"].as_str() {
            Some("within_limit") => Ok(answer),
            _ => Err(format!("expected the reason within_limit: {answer}").into()),
        }
    }

    /// The value of a series, or the sum of all series of a metric.
    async fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.http.get(format!("http://{}/metrics", self.admin)).send().await?.text().await?;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = metrics.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while !holds().await? {
            if Instant::now() > deadline {
                return Err(format!("not within {STEP_TIMEOUT:?}: {what}").into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}
