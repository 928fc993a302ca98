//! A real API server for tests: one that the test process shares, each test with a namespace of its own on it, or one of
//! a test's own that it may stop and start again.
//!
//! ```ignore
//! let Some(cluster) = control_plane::shared().await else { return };
//! let team = cluster.namespace(Rbac::Namespaced).await;
//! ```
//!
//! A test sets things up as the administrator ([`ControlPlane::admin`], [`ControlPlane::kubectl`]), and acts as the
//! service account of its namespace ([`Namespace::client`], [`Namespace::kubeconfig`]), which may do what the chart's
//! RBAC lets it do and nothing else.

mod binaries;
mod namespace;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub use namespace::{Namespace, Rbac};

use crate::common::provider;

/// An etcd and an API server with the definition of the resource installed.
pub struct ControlPlane {
    binaries: PathBuf,
    /// Where it keeps everything.
    pub folder: PathBuf,
    port: u16,
    ca: String,
    admin_token: String,
    supervisor: Child,
    orders: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

/// The control plane that all tests of this process share; `None` when there are no binaries for one.
pub async fn shared() -> Option<&'static ControlPlane> {
    static SHARED: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
    SHARED.get_or_init(own).await.as_ref()
}

/// A control plane for one test, which ends with it; `None` when there are no binaries for one.
pub async fn own() -> Option<ControlPlane> {
    provider();
    let binaries = tokio::task::spawn_blocking(binaries::binaries).await.unwrap()?;
    let plane = ControlPlane::start(binaries);
    plane.wait_until_ready().await;
    let definition = serde_saphyr::from_str(&session_checker::crd::manifest().unwrap()).unwrap();
    plane.install(&definition).await;
    Some(plane)
}

impl ControlPlane {
    fn start(binaries: PathBuf) -> Self {
        let folder = tempfile::Builder::new().prefix("control-plane").tempdir().unwrap().keep();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let tls = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let ca = tls.cert.pem();
        write("tls.crt", &ca);
        write("tls.key", &tls.signing_key.serialize_pem());
        let accounts = rcgen::KeyPair::generate().unwrap();
        write("accounts.key", &accounts.serialize_pem());
        write("accounts.pub", &accounts.public_key_pem());
        let admin_token = uuid::Uuid::new_v4().to_string();
        write("tokens.csv", &format!("{admin_token},admin,admin,system:masters\n"));
        // Only what service accounts ask for: that is what tests count.
        let audited = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata", "userGroups": ["system:serviceaccounts"] }, { "level": "None" }],
        });
        write("audit-policy.yaml", &audited.to_string());
        let port = free_port();
        let mut supervisor = Command::new("sh")
            .args(["-c", include_str!("supervise.sh")])
            .env("BIN", &binaries)
            .env("DIR", &folder)
            .env("PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = supervisor.stdin.take().zip(supervisor.stdout.take().map(BufReader::new));
        Self { binaries, folder, port, ca, admin_token, supervisor, orders: Mutex::new(orders) }
    }

    async fn wait_until_ready(&self) {
        let client = self.admin().await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let ready = client.request_text(axum::http::Request::get("/readyz").body(Vec::new()).unwrap()).await;
            match ready {
                Ok(_) => return,
                Err(error) if tokio::time::Instant::now() > deadline => {
                    let log = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
                    panic!("not ready: {error}\n{}\n{}", log("etcd.log"), log("apiserver.log"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn install(&self, definition: &CustomResourceDefinition) {
        let client = self.admin().await;
        let api: Api<CustomResourceDefinition> = Api::all(client);
        api.create(&kube::api::PostParams::default(), definition).await.unwrap();
        let name = definition.metadata.name.as_deref().unwrap();
        let established = kube::runtime::conditions::is_crd_established();
        let installed = kube::runtime::wait::await_condition(api, name, established);
        tokio::time::timeout(Duration::from_secs(30), installed).await.unwrap().unwrap();
    }

    /// A client that may do everything, to set things up and to look at what came of them.
    pub async fn admin(&self) -> Client {
        self.client(&self.admin_token, "default").await
    }

    async fn client(&self, token: &str, namespace: &str) -> Client {
        let kubeconfig: Kubeconfig = serde_json::from_value(self.kubeconfig(token, namespace)).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    fn kubeconfig(&self, token: &str, namespace: &str) -> Value {
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port), "certificate-authority-data": ca,
            } }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test", "namespace": namespace } }],
        })
    }

    /// Runs `kubectl` as the administrator, with a text on its standard input.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Said {
        let kubeconfig = self.folder.join("admin.kubeconfig");
        fs::write(&kubeconfig, self.kubeconfig(&self.admin_token, "default").to_string()).unwrap();
        let mut kubectl = Command::new(self.binaries.join("kubectl"));
        kubectl.arg("--kubeconfig").arg(kubeconfig).arg("--cache-dir").arg(self.folder.join("kubectl"));
        kubectl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = kubectl.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { done: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A namespace for one test, with a service account that has the rights of the chart in this mode.
    pub async fn namespace(&self, rbac: Rbac) -> Namespace<'_> {
        Namespace::create(self, rbac).await
    }

    /// What the service accounts asked for so far, oldest first: events of `audit.k8s.io/v1`. A watch is there twice: when it
    /// starts (stage `ResponseStarted`), and when it ends.
    pub fn audited(&self) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default();
        // The last line may be half written.
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends the API server at once, as a crash would. What it stored stays.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Starts it again, on the same port, and waits until it is ready.
    pub async fn restart(&self) {
        self.order("start");
        self.wait_until_ready().await;
    }

    /// Lets it hang: connections stay open, and nothing is answered until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.order("freeze");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.order("thaw");
    }

    fn order(&self, order: &str) {
        let mut orders = self.orders.lock().unwrap();
        let (to, from) = orders.as_mut().unwrap();
        writeln!(to, "{order}").unwrap();
        let mut done = String::new();
        from.read_line(&mut done).unwrap();
        assert_eq!(done.trim_end(), order, "the supervisor is alive");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Closes the supervisor's standard input, which ends it.
        self.orders.get_mut().unwrap().take();
        let _ = self.supervisor.wait();
    }
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    /// Whether it succeeded.
    pub done: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A port that nobody listens on. Outgoing connections take theirs from higher ones, so that it stays free until the API
/// server has started.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(20_000..32_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
