//! A real Redis for the tests that need one, on a separate socket and port.

use std::cell::RefCell;
use std::fs::{self, DirEntry};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use redis::IntoConnectionInfo;
use tempfile::TempDir;

use crate::common::eventually;
use crate::ports::free_port;

/// The name of the socket in the server's directory.
const SOCKET: &str = "redis.sock";

pub struct RedisServer {
    process: Child,
    port: u16,
    directory: TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// A server that listens, or `None` if `redis-server` is not installed. In CI it has to be.
    pub async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further options.
    #[expect(clippy::print_stdout, reason = "a skip has to be visible")]
    pub async fn start_with(options: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        match spawn(&directory, port, &options) {
            Ok(process) => {
                let mut server = Self { process, port, directory, options };
                server.wait().await;
                Some(server)
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "redis-server is needed in CI: {error}");
                println!("SKIPPED: redis-server cannot be started: {error}");
                None
            }
        }
    }

    /// A Sentinel that watches the server of this port under a name, alone.
    pub async fn sentinel(name: &str, master: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = format!(
            "port {port}\nbind 127.0.0.1\nunixsocket {socket}\nsentinel monitor {name} 127.0.0.1 {master} 1\n",
            socket = directory.path().join(SOCKET).display(),
        );
        fs::write(directory.path().join("sentinel.conf"), config).unwrap();
        let process = Command::new("redis-server")
            .args(["sentinel.conf", "--sentinel"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { process, port, directory, options: Vec::new() };
        server.wait().await;
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its port, with this scheme.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The URL of its socket.
    pub fn socket_url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    async fn wait(&mut self) {
        let socket = self.socket();
        let process = RefCell::new(&mut self.process);
        eventually("the server listens", async || {
            assert_eq!(process.borrow_mut().try_wait().unwrap(), None, "redis-server ended");
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        })
        .await;
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.process = spawn(&self.directory, self.port, &self.options).unwrap();
        self.wait().await;
    }

    /// Sends the process a signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Suspends the process. Its threads stop one after the other, each when it gets a core.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let is_stopped = |thread: io::Result<DirEntry>| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            status.contains("State:\tT")
        };
        while !fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap().all(is_stopped) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The answer to a command, each element of it in a line. An error is its text, as `redis-cli` prints it: a server that
    /// changes its role ends connections, and a test that waits for the new role asks again. No process is started: some tests
    /// send hundreds of commands.
    pub fn ask(&self, words: &[&str]) -> String {
        self.ask_as(None, words)
    }

    /// The same as the default user with this password.
    pub fn ask_as(&self, password: Option<&str>, words: &[&str]) -> String {
        let mut settings = redis::RedisConnectionInfo::default();
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let address = redis::ConnectionAddr::Unix(self.socket()).into_connection_info().unwrap();
        let client = redis::Client::open(address.set_redis_settings(settings)).unwrap();
        let answer = client
            .get_connection()
            .and_then(|mut connection| redis::cmd(words[0]).arg(&words[1..]).query(&mut connection));
        answer.map_or_else(|error| error.to_string(), lines)
    }

    /// Every key of the server with its time to live in a line, and its value in the lines after it.
    pub fn dump(&self) -> String {
        let keys = self.ask(&["KEYS", "*"]);
        keys.lines()
            .filter(|key| !key.is_empty())
            .map(|key| format!("{key} {}\n{}\n", self.ask(&["PTTL", key]), self.ask(&["HGETALL", key])))
            .collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A value as `redis-cli` prints it.
fn lines(value: redis::Value) -> String {
    match value {
        redis::Value::Nil => String::new(),
        redis::Value::Okay => "OK".to_owned(),
        redis::Value::Int(number) => number.to_string(),
        redis::Value::SimpleString(text) => text,
        redis::Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
        redis::Value::Array(values) => values.into_iter().map(lines).collect::<Vec<_>>().join("\n"),
        other => panic!("{other:?}"),
    }
}

fn spawn(directory: &TempDir, port: u16, options: &[String]) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"])
        .args(["--unixsocket", SOCKET])
        .args(options)
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
}
