//! A real Redis for the tests that need one, on a separate socket and port.

use std::cell::RefCell;
use std::fs::{self, DirEntry};
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

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

    /// The output of `redis-cli`.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every key of the server, with its time to live and its value.
    pub fn dump(&self) -> String {
        let cli = |arguments: &[&str]| self.ask(arguments);
        let keys = cli(&["KEYS", "*"]);
        keys.lines()
            .filter(|key| !key.is_empty())
            .map(|key| format!("{key} {} {}\n", cli(&["PTTL", key]), cli(&["HGETALL", key])))
            .collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
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
