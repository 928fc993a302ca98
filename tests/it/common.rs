//! A service and a simulated tenant for it, over real sockets, each test with its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Once;

use clap::Parser;
use serde_json::{Value, json};
use session_checker::args::{Args, Command, ServeArgs};
use session_checker::service::{RunError, Service, Source};
use simulator::{Application, Options, Simulator};
use tempfile::TempDir;
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

/// A tenant that knows the application of [`credentials`].
pub async fn tenant() -> Simulator {
    tenant_with(Options::new(DOMAIN)).await
}

pub async fn tenant_with(options: Options) -> Simulator {
    provider();
    let tenant = Simulator::start(options).await.unwrap();
    tenant.add_application(Application::with_secret("checker", "checker-secret"));
    tenant
}

/// The Secret with the credential for [`tenant`].
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

/// A policy for [`tenant`] and [`callers`] with one session a client; `more` is merged into its spec.
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

/// Objects are merged, everything else is replaced; `null` removes.
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

/// Writes documents into a file, in one step as editors and Kubernetes do.
pub fn write(folder: &Path, name: &str, documents: &[Value]) {
    let text: Vec<String> = documents.iter().map(Value::to_string).collect();
    let draft = folder.join(format!(".{name}.draft"));
    std::fs::write(&draft, text.join("\n---\n")).unwrap();
    std::fs::rename(&draft, folder.join(name)).unwrap();
}

/// What `serve` would read from these options, on loopback with any ports.
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
    pub http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), RunError>>,
    _folder: Option<TempDir>,
}

impl Running {
    /// Serves a folder, with the tenant's traffic sent to the simulator.
    pub async fn folder(tenant: &Simulator, documents: &[Value], options: &[&str]) -> Self {
        let folder = folder(documents);
        let mut running = Self::path(tenant, folder.path(), options).await;
        running._folder = Some(folder);
        running
    }

    /// The same for a folder that the test changes.
    pub async fn path(tenant: &Simulator, path: &Path, options: &[&str]) -> Self {
        let endpoint = format!("{DOMAIN}={}", tenant.url());
        let path = path.to_str().unwrap();
        let options = [&["--policy-dir", path, "--auth0-endpoint", &endpoint], options].concat();
        Self::start(serve_args(&options)).await.unwrap()
    }

    /// Serves what the options say.
    pub async fn start(args: ServeArgs) -> Result<Self, RunError> {
        let source = Source::of(&args.source)?;
        Self::serve(args, source).await
    }

    /// Serves from a source.
    pub async fn serve(args: ServeArgs, source: Source) -> Result<Self, RunError> {
        provider();
        let service = Service::start(args, source).await?;
        let (address, admin_address) = (service.address, service.admin_address);
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = tokio::spawn(service.run_until(async move {
            // A test that ends without stopping the service lets the runtime end it.
            let _ = stopped.await;
            Ok("the test")
        }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Ok(Self { address, admin_address, http, stop: Some(stop), ended, _folder: None })
    }

    /// Sends a check with [`TOKEN`] and gives the status and the body.
    pub async fn ask(&self, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("http://{}/check", self.address)).bearer_auth(TOKEN).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The answer to a check that has to be a decision.
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

    /// The value of a series by its name and labels as they are printed; `None` when it is not there.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.admin("/metrics").await;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        Some(line[series.len() + 1..].parse().unwrap())
    }

    /// Tells the service to end, as a signal would, without waiting for it.
    pub fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Ends the service as a crash would: nothing is said to anybody.
    pub fn kill(self) {
        self.ended.abort();
    }

    /// Ends the service and gives how it ended.
    pub async fn stop(mut self) -> Result<(), RunError> {
        self.tell_to_stop();
        self.ended.await.unwrap()
    }
}

/// Waits until something holds, looking often; panics after a generous bound.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    eventually_within(std::time::Duration::from_secs(10), what, holds).await;
}

/// The same for what takes its time.
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
