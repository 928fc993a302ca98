//! A real API server for tests: one that all tests of the process share, with a namespace for each test, one that tests get in
//! turn because they stop it or change its definition, or one for a single test.
//!
//! ```ignore
//! let Some(cluster) = control_plane::shared().await else { return };
//! let team = cluster.namespace(Rbac::Namespaced).await;
//! ```
//!
//! A test prepares objects as the administrator ([`ControlPlane::admin`], [`ControlPlane::kubectl`]), and acts as the
//! service account of its namespace ([`Namespace::client`], [`Namespace::kubeconfig`]), which has exactly the rights of
//! the chart's RBAC.

pub mod binaries;
mod namespace;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use session_checker::crd::SessionPolicy;
use tokio::sync::{MutexGuard, OnceCell};

/// How long to wait for the API server: only a defect takes as long, on a busy machine too. A benchmark uses this file alone.
const PATIENCE: Duration = Duration::from_secs(120);

pub use namespace::{Namespace, Rbac};

use crate::common::provider;
use crate::ports::free_port;

/// An etcd and an API server with the CustomResourceDefinition installed.
pub struct ControlPlane {
    binaries: PathBuf,
    /// The folder with its keys, logs and data.
    pub folder: PathBuf,
    port: u16,
    ca: String,
    admin_token: String,
    supervisor: Child,
    supervisor_io: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

/// The control plane that all tests of this process share; `None` without binaries.
pub async fn shared() -> Option<&'static ControlPlane> {
    static SHARED: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
    SHARED.get_or_init(own).await.as_ref()
}

/// The control plane of the tests that stop or freeze it, or change its definition, for one of them at a time; `None` without
/// binaries. A test leaves it as it was: it runs, with this version's definition.
pub async fn exclusive() -> Option<Exclusive> {
    static EXCLUSIVE: tokio::sync::Mutex<Option<ControlPlane>> = tokio::sync::Mutex::const_new(None);
    let mut plane = EXCLUSIVE.lock().await;
    if plane.is_none() {
        *plane = Some(own().await?);
    }
    Some(Exclusive(plane))
}

/// The turn of a test at the control plane that it does not share.
pub struct Exclusive(MutexGuard<'static, Option<ControlPlane>>);

impl Deref for Exclusive {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.0.as_ref().expect("only its drop takes the control plane away")
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // A test that failed may have left it stopped or changed.
        if std::thread::panicking() {
            self.0.take();
        }
    }
}

/// A control plane for one test, which ends with the test; `None` without binaries.
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
        // Only the requests of service accounts: tests count those.
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
        let supervisor_io = supervisor.stdin.take().zip(supervisor.stdout.take().map(BufReader::new));
        Self { binaries, folder, port, ca, admin_token, supervisor, supervisor_io: Mutex::new(supervisor_io) }
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    async fn wait_until_ready(&self) {
        let client = self.admin().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
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
        tokio::time::timeout(PATIENCE, installed).await.unwrap().unwrap();
        // An established definition answers 429 until its storage is initialized. The client retries then, and a test
        // that counts requests would count the retry.
        let policies: Api<SessionPolicy> = Api::all(self.admin().await);
        policies.list(&ListParams::default()).await.unwrap();
    }

    /// A client with all rights, to prepare objects and to read results.
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

    /// A kubeconfig of the administrator, with this namespace where a command names none.
    pub fn admin_kubeconfig(&self, namespace: &str) -> PathBuf {
        self.write_kubeconfig(&format!("admin-{namespace}"), &self.admin_token, namespace)
    }

    /// Writes a kubeconfig whole: a program of another test may read it at the same time.
    fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> PathBuf {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).unwrap();
        file.write_all(self.kubeconfig(token, namespace).to_string().as_bytes()).unwrap();
        file.persist(&path).unwrap();
        path
    }

    /// The folder of `kubectl`.
    pub fn binaries(&self) -> &std::path::Path {
        &self.binaries
    }

    /// Runs `kubectl` as the administrator with `input` on its standard input.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> CommandOutput {
        let kubeconfig = self.admin_kubeconfig("default");
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
        CommandOutput { is_success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// A namespace for one test, with a service account that has the rights of the chart in one of its modes.
    pub async fn namespace(&self, rbac: Rbac) -> Namespace<'_> {
        Namespace::create(self, rbac).await
    }

    /// The requests of a service account so far, oldest first, as events of `audit.k8s.io/v1`. A watch appears twice: when it
    /// starts (stage `ResponseStarted`), and when it ends.
    pub fn audited(&self, account: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.folder.join("audit.log")).unwrap_or_default();
        // The last line may be incomplete.
        let (whole, _) = log.rsplit_once('\n').unwrap_or_default();
        // Tests read the log again and again while others write to it: most lines need no parser.
        let named = whole.lines().filter(|line| line.contains(account));
        let mut events: Vec<Value> = named.map(|line| serde_json::from_str(line).unwrap()).collect();
        events.retain(|event| event["user"]["username"] == account);
        events
    }

    /// Kills the API server. Its data stays.
    pub fn stop(&self) {
        self.command("stop");
    }

    /// Starts the API server again on the same port and waits until it is ready.
    pub async fn restart(&self) {
        self.command("start");
        self.wait_until_ready().await;
    }

    /// Suspends the API server: connections stay open, and nothing is answered until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.command("freeze");
    }

    /// Resumes the API server.
    pub fn thaw(&self) {
        self.command("thaw");
    }

    fn command(&self, command: &str) {
        let mut supervisor_io = self.supervisor_io.lock().unwrap();
        let (to, from) = supervisor_io.as_mut().unwrap();
        writeln!(to, "{command}").unwrap();
        let mut done = String::new();
        from.read_line(&mut done).unwrap();
        assert_eq!(done.trim_end(), command, "the supervisor is alive");
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // The supervisor ends when its standard input is closed.
        self.supervisor_io.get_mut().unwrap().take();
        let _ = self.supervisor.wait();
    }
}

/// The result of a command.
#[derive(Debug)]
pub struct CommandOutput {
    /// Whether the command succeeded.
    pub is_success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}
