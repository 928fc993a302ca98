//! A service and its simulated tenant over real sockets. Each test starts its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Once;

use clap::Parser;
use serde_json::{Value, json};
use session_checker::args::{Args, Command, ServeArgs};
use session_checker::cli::service_config;
use session_checker::service::{RunError, Service, ServiceConfig, Source};
use simulator::{Application, Options, Simulator};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const DOMAIN: &str = "acme.eu.auth0.com";
pub const TOKEN: &str = "a-callers-token-of-some-length";
pub const APP: &str = "app-1";

/// The one provider of cryptography, as `main` installs it.
pub fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// A tenant with the application of [`credentials`]. It knows every user.
pub async fn tenant() -> Simulator {
    tenant_with(Options::new(DOMAIN)).await
}

pub async fn tenant_with(options: Options) -> Simulator {
    tenant_as_is(Options { knows_every_user: true, ..options }).await
}

pub async fn tenant_as_is(options: Options) -> Simulator {
    provider();
    let tenant = Simulator::start(options).await.unwrap();
    tenant.add_application(Application::with_secret("checker", "checker-secret"));
    tenant
}

/// The Secret with the credential of [`tenant`].
pub fn credentials() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "sessionchecker.dev/credentials",
        "metadata": { "name": "tenant" },
        "stringData": { "domain": DOMAIN, "clientId": "checker", "clientSecret": "checker-secret" },
    })
}

/// The Secret with [`TOKEN`].
pub fn callers() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "sessionchecker.dev/callers",
        "metadata": { "name": "callers" },
        "stringData": { "action": TOKEN },
    })
}

/// A policy for [`tenant`] and [`callers`] with one session per application. `more` is merged into its spec.
pub fn policy(name: &str, more: Value) -> Value {
    let mut spec = json!({
        "tenant": { "domain": DOMAIN, "credentialsSecretRef": { "name": "tenant" } },
        "callerSecretRef": { "name": "callers" },
        "limits": { "perClient": 1 },
    });
    merge(&mut spec, more);
    json!({
        "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy",
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// Merges objects, replaces every other value; `null` removes a field.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more,
    }
}

/// A folder of policies.
pub fn folder(documents: &[Value]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "policies.yaml", documents);
    folder
}

/// Writes documents to a file, as [`write_text`] does.
pub fn write(folder: &Path, name: &str, documents: &[Value]) {
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    write_text(folder, name, &text.join("\n---\n"));
}

/// Writes a file in one atomic step, as editors and Kubernetes do.
pub fn write_text(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(format!(".{name}.draft"));
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, folder.join(name)).unwrap();
}

/// The options for the policies of a folder, with the tenant's requests sent to the simulator.
pub fn options(tenant: &Simulator, folder: &Path) -> [String; 4] {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    ["--policy-dir".to_owned(), folder.to_str().unwrap().to_owned(), "--auth0-endpoint".to_owned(), endpoint]
}

/// Options as a command takes them.
pub fn strings(options: &[String; 4]) -> [&str; 4] {
    options.each_ref().map(String::as_str)
}

/// An address at which nobody listens while the socket exists: a socket that is bound but does not listen keeps its port closed.
pub fn closed_port() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The arguments of `serve` with these options, on loopback with free ports.
pub fn serve_args(options: &[&str]) -> ServeArgs {
    let fixed = ["session-checker", "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    match Args::try_parse_from(fixed.iter().chain(options)).unwrap().command {
        Command::Serve(args) => *args,
        other => panic!("not serve: {other:?}"),
    }
}

/// A running service.
pub struct Running {
    pub address: SocketAddr,
    pub admin_address: SocketAddr,
    pub logs_address: Option<SocketAddr>,
    pub choose_address: Option<SocketAddr>,
    pub http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), RunError>>,
    _folder: Option<TempDir>,
}

impl Running {
    /// Serves the policies of a temporary folder, with the tenant's requests sent to the simulator.
    pub async fn folder(tenant: &Simulator, documents: &[Value], options: &[&str]) -> Self {
        let folder = folder(documents);
        let mut running = Self::path(tenant, folder.path(), options).await;
        running._folder = Some(folder);
        running
    }

    /// Serves the policies of a folder that the test changes.
    pub async fn path(tenant: &Simulator, path: &Path, options: &[&str]) -> Self {
        let fixed = self::options(tenant, path);
        let options = [&strings(&fixed)[..], options].concat();
        Self::start(serve_args(&options)).await.unwrap()
    }

    /// Serves by the options.
    pub async fn start(args: ServeArgs) -> Result<Self, RunError> {
        Self::with(service_config(args)?).await
    }

    /// Serves by the options, with the policies of another source.
    pub async fn serve(args: ServeArgs, source: Source) -> Result<Self, RunError> {
        let mut config = service_config(args)?;
        config.source.policies = source;
        Self::with(config).await
    }

    /// Serves by a configuration.
    pub async fn with(config: ServiceConfig) -> Result<Self, RunError> {
        provider();
        let service = Service::start(config).await?;
        let (address, admin_address, logs_address) = (service.address, service.admin_address, service.logs_address);
        let choose_address = service.choose_address;
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(service.run_until(async move {
            // A dropped sender is a test that ends without stopping the service.
            let _ = stopped.await;
            Ok("the test")
        }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Ok(Self { address, admin_address, logs_address, choose_address, http, stop: Some(stop), ended, _folder: None })
    }

    /// Sends a check with [`TOKEN`]. Returns the status and the body.
    pub async fn ask(&self, body: &Value) -> (u16, Value) {
        self.ask_as(TOKEN, body).await
    }

    /// Sends a check with a token. Returns the status and the body.
    pub async fn ask_as(&self, token: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("http://{}/check", self.address)).bearer_auth(token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The answer to a check, which must be a decision.
    pub async fn check(&self, user_id: &str, client_id: &str, sid: &str) -> Value {
        let (status, answer) = self.ask(&json!({ "user_id": user_id, "client_id": client_id, "sid": sid })).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The body of an admin route.
    pub async fn admin(&self, path: &str) -> String {
        let response = self.http.get(format!("http://{}{path}", self.admin_address)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// The value of a series, by its name and labels as printed; `None` without such a series.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.admin("/metrics").await;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line[series.len() + 1..].parse().unwrap())
    }

    /// The body of `/debug/policies`.
    pub async fn debug(&self) -> Value {
        serde_json::from_str(&self.admin("/debug/policies").await).unwrap()
    }

    /// One policy of `/debug/policies`; null when it does not exist.
    pub async fn policy(&self, name: &str) -> Value {
        let debug = self.debug().await;
        let policies = debug["policies"].as_array().unwrap();
        policies.iter().find(|policy| policy["name"] == name).cloned().unwrap_or_default()
    }

    /// The active limits of a policy, as one line.
    pub async fn limits(&self, name: &str) -> Value {
        self.policy(name).await["rule"]["terms"]["limits"].take()
    }

    /// Waits until a policy has these limits.
    pub async fn limits_become(&self, name: &str, limits: &str) {
        eventually(limits, || async { self.limits(name).await == limits }).await;
    }

    /// Waits until this number of files is reported as broken, and returns the reports.
    pub async fn broken_files(&self, count: usize) -> String {
        let reported = || async { self.debug().await["broken_files"].as_array().unwrap().len() };
        eventually("the files are reported", || async { reported().await == count }).await;
        assert_eq!(self.metric("session_checker_policy_files_broken").await, Some(count as f64));
        self.debug().await["broken_files"].to_string()
    }

    /// The status of `/readyz`.
    pub async fn ready(&self) -> u16 {
        let response = self.http.get(format!("http://{}/readyz", self.admin_address)).send().await.unwrap();
        response.status().as_u16()
    }

    /// Waits until the service is ready.
    pub async fn becomes_ready(&self) {
        eventually("ready", || async { self.ready().await == 200 }).await;
    }

    /// The status of the answer to a check with this token.
    pub async fn status(&self, token: &str) -> u16 {
        let body = json!({ "user_id": "u", "client_id": APP });
        let request = self.http.post(format!("http://{}/check", self.address)).bearer_auth(token).json(&body);
        request.send().await.unwrap().status().as_u16()
    }

    /// The reason of the answer to a check.
    pub async fn reason(&self, user_id: &str, sid: &str) -> String {
        self.check(user_id, APP, sid).await["reason"].as_str().unwrap().to_owned()
    }

    /// The status and the reason of a condition, as this replica sees it. Both are empty for a policy that it does not know.
    pub async fn condition(&self, policy: &str, condition: &str) -> (String, String) {
        let policy = self.policy(policy).await;
        let Some(conditions) = policy["conditions"].as_array() else { return Default::default() };
        let condition = conditions.iter().find(|one| one["type"] == condition).unwrap();
        let text = |key: &str| condition[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }

    /// Waits until a condition has this reason.
    pub async fn condition_becomes(&self, policy: &str, condition: &str, reason: &str) {
        eventually(reason, || async { self.condition(policy, condition).await.1 == reason }).await;
    }

    /// Starts the shutdown, as a signal would, without waiting for its end.
    pub fn start_shutdown(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Ends the service without a shutdown, as a crash would.
    pub fn kill(self) {
        self.ended.abort();
    }

    /// Shuts the service down and returns its result.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.start_shutdown();
        self.ended.await.unwrap()
    }
}

/// How long a test waits for a condition. Only a defect takes as long: a machine whose cores are all busy is many times slower
/// than an idle one.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Waits until a condition holds. Panics after [`PATIENCE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    eventually_within(PATIENCE, what, holds).await;
}

/// Waits until a condition holds. Panics after `bound`.
pub async fn eventually_within<F: Future<Output = bool>>(
    bound: std::time::Duration,
    what: &str,
    mut holds: impl FnMut() -> F,
) {
    let deadline = tokio::time::Instant::now() + bound;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
