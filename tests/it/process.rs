//! The program as a process with its own environment: started, followed, and ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};
use simulator::Simulator;
use tempfile::TempDir;

use crate::common::{APP, DOMAIN, eventually, provider};

/// The Node demo's variables for the tenant of the tests.
pub const VARIABLES: [(&str, &str); 3] =
    [("AUTH0_DOMAIN", DOMAIN), ("AUTH0_CLIENT_ID", "checker"), ("AUTH0_CLIENT_SECRET", "checker-secret")];
pub const LOOPBACK: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

pub fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The program in its own folder, with only these variables in its environment.
pub fn program(place: &TempDir, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_session-checker"));
    command.env_clear().envs(variables.iter().copied()).current_dir(place.path()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end. Returns its exit code and its output.
pub fn finish(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
    exit_and_output(program(&place(), variables, arguments).output().unwrap())
}

/// Does the same while servers of the test answer the program.
pub async fn finished(arguments: &[&str]) -> (i32, String) {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let run = move || finish(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The JSON at the beginning of an output. What the program writes to standard error follows.
pub fn first_json(output: &str) -> Value {
    let first = serde_json::Deserializer::from_str(output).into_iter().next();
    first.and_then(Result::ok).unwrap_or_else(|| panic!("no JSON: {output}"))
}

/// The exit code of a command that has ended, and its output.
pub fn exit_and_output(output: Output) -> (i32, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("no signal"), String::from_utf8(text).unwrap())
}

/// A process whose output is read continuously. It is killed at the end of its test.
pub struct Process {
    child: Killed,
    out: Lines,
    err: Lines,
    _place: TempDir,
}

struct Lines {
    read: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Lines {
    fn of(source: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&read);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { read, reader }
    }

    fn now(&self) -> Vec<String> {
        self.read.lock().unwrap().clone()
    }
}

impl Process {
    pub fn start(place: TempDir, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = program(&place, variables, arguments).spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child: Killed(child), out, err, _place: place }
    }

    /// Serves on loopback for a simulated tenant.
    pub async fn serve(
        tenant: &Simulator,
        place: TempDir,
        variables: &[(&str, &str)],
        options: &[&str],
    ) -> (Self, Service) {
        let endpoint = format!("{DOMAIN}={}", tenant.url());
        let fixed = ["--log-format", "json", "--auth0-endpoint", &endpoint];
        let process = Self::start(place, variables, &[&LOOPBACK[..], &fixed, options].concat());
        let service = process.listening().await;
        (process, service)
    }

    /// Serves the policies of a folder, on loopback for a simulated tenant.
    pub async fn serve_folder(
        tenant: &Simulator,
        folder: &TempDir,
        variables: &[(&str, &str)],
        options: &[&str],
    ) -> (Self, Service) {
        let policies = ["--policy-dir", folder.path().to_str().unwrap()];
        Self::serve(tenant, place(), variables, &[&policies, options].concat()).await
    }

    pub async fn listening(&self) -> Service {
        let line = self.logged("listening").await;
        Service::of(&line)
    }

    /// The lines of standard output so far.
    pub fn out(&self) -> Vec<String> {
        self.out.now()
    }

    /// The lines of standard error so far.
    pub fn err(&self) -> Vec<String> {
        self.err.now()
    }

    /// Waits for a JSON log line with this message.
    pub async fn logged(&self, message: &str) -> Value {
        let find = || self.log().into_iter().find(|line| line["message"] == message);
        eventually(&format!("{message:?} in the log"), || async { find().is_some() }).await;
        find().unwrap()
    }

    /// The log so far. Every line must be a JSON object without duplicate keys.
    pub fn log(&self) -> Vec<Value> {
        self.err.now().iter().map(|line| Value::Object(object(line))).collect()
    }

    /// What Linux says of the process.
    pub fn kernel_status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap()
    }

    /// How often these bytes are in the memory that the process can write.
    pub fn count_in_memory(&self, bytes: &[u8]) -> usize {
        let process = format!("/proc/{}", self.child.0.id());
        let maps = std::fs::read_to_string(format!("{process}/maps")).unwrap();
        let memory = std::fs::File::open(format!("{process}/mem")).unwrap();
        let writable =
            maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw")));
        writable
            .map(|line| {
                let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
                let mut content = vec![0; (to - from) as usize];
                // A region may end while it is read.
                let read = memory.read_at(&mut content, from).unwrap_or(0);
                memchr::memmem::find_iter(&content[..read], bytes).count()
            })
            .sum()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.0.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Sends a signal and waits for the end. Returns the exit status and the whole output.
    pub async fn end(mut self, signal: &str) -> (ExitStatus, String) {
        self.signal(signal);
        let mut status = None;
        eventually("the process ends", || {
            status = status.or(self.child.0.try_wait().unwrap());
            async move { status.is_some() }
        })
        .await;
        let mut text = String::new();
        for lines in [&mut self.out, &mut self.err] {
            let reader = std::mem::replace(&mut lines.reader, std::thread::spawn(|| {}));
            reader.join().unwrap();
            text += &lines.now().join("\n");
        }
        (status.unwrap(), text)
    }
}

/// A child that is killed at the end of its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process whose log is read up to the line with its addresses, and no further.
pub struct Unread {
    _child: Killed,
    _log: BufReader<ChildStderr>,
    _place: TempDir,
}

impl Unread {
    /// Serves on loopback with a limit on open files.
    pub fn start(place: TempDir, options: &[&str], files: u32) -> (Self, Service) {
        let script = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_session-checker")).env_clear().current_dir(place.path());
        command.args(LOOPBACK).args(["--log-format", "json"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the program ended");
            let line = Value::Object(object(&line));
            if line["message"] == "listening" {
                return (Self { _child: child, _log: log, _place: place }, Service::of(&line));
            }
        }
    }
}

/// A JSON object without duplicate keys.
fn object(line: &str) -> Map<String, Value> {
    struct Unique;
    impl<'de> serde::de::Visitor<'de> for Unique {
        type Value = Map<String, Value>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut object = Map::new();
            while let Some((key, value)) = map.next_entry::<String, Value>()? {
                if object.insert(key.clone(), value).is_some() {
                    return Err(serde::de::Error::custom(format!("duplicate key {key}")));
                }
            }
            Ok(object)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(line);
    serde::Deserializer::deserialize_map(&mut reader, Unique).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// The addresses of a process that serves.
pub struct Service {
    pub address: SocketAddr,
    pub admin_address: SocketAddr,
    pub http: reqwest::Client,
}

impl Service {
    /// The service that logged this line about its addresses.
    fn of(line: &Value) -> Self {
        let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
        Self { address: address("address"), admin_address: address("admin_address"), http: http() }
    }

    /// A check without a token.
    pub fn check(&self, user_id: &str, sid: &str) -> reqwest::RequestBuilder {
        let body = json!({ "user_id": user_id, "client_id": APP, "sid": sid });
        self.http.post(format!("http://{}/check", self.address)).json(&body)
    }

    pub async fn answer(&self, user_id: &str, sid: &str) -> Value {
        self.check(user_id, sid).send().await.unwrap().json().await.unwrap()
    }

    pub async fn admin(&self, path: &str) -> String {
        let response = self.http.get(format!("http://{}{path}", self.admin_address)).send().await.unwrap();
        response.text().await.unwrap()
    }

    /// The body of `/debug/policies`.
    pub async fn debug(&self) -> Value {
        serde_json::from_str(&self.admin("/debug/policies").await).unwrap()
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> f64 {
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let text = self.admin("/metrics").await;
        text.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// The status of the answer to a check with this token.
    pub async fn status(&self, token: Option<&str>) -> u16 {
        let check = self.check("u", "s");
        let check = token.into_iter().fold(check, reqwest::RequestBuilder::bearer_auth);
        check.send().await.unwrap().status().as_u16()
    }
}

pub fn http() -> reqwest::Client {
    provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}
