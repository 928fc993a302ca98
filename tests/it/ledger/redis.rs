//! The same promises with a real Redis, started on a socket of its own, and what happens when it goes away.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_checker::ledger::{Ledger, Memory, Redis, Shared, Store};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::model::play;
use super::race::race;
use super::world::{Case, Tenant, Yielding, policy};

/// Far above what a busy machine needs for an operation: these tests are about the protocol.
const PATIENT: Duration = Duration::from_secs(5);

struct Server {
    process: Child,
    directory: TempDir,
}

impl Server {
    /// A server on a socket, or `None` where there is none to start. In CI there has to be one.
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        match Self::spawn(&directory) {
            Ok(process) => {
                let server = Self { process, directory };
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

    fn spawn(directory: &TempDir) -> std::io::Result<Child> {
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .current_dir(directory)
            .stdout(Stdio::null())
            .spawn()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    async fn wait(&self) {
        eventually("the server listens", || std::os::unix::net::UnixStream::connect(self.socket()).is_ok()).await;
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn restart(&mut self) {
        self.process = Self::spawn(&self.directory).unwrap();
        self.wait().await;
    }

    async fn shared(&self, bound: Duration) -> Shared {
        let url = format!("redis+unix://{}", self.socket().display());
        Shared::start(Redis::new(&url.into(), b"key").unwrap(), Memory::default(), bound).await
    }

    /// Replicas with connections of their own.
    async fn replicas(&self, bound: Duration) -> Vec<Arc<Ledger<Yielding<Arc<Shared>>>>> {
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(Arc::new(Ledger::new(Yielding(Arc::new(self.shared(bound).await)))));
        }
        replicas
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything that the server holds.
    fn dump(&self) -> String {
        let cli = |arguments: &[&str]| self.ask(arguments);
        let keys = cli(&["KEYS", "*"]);
        keys.lines()
            .filter(|key| !key.is_empty())
            .map(|key| format!("{key} {} {}\n", cli(&["PTTL", key]), cli(&["HGETALL", key])))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn fallbacks<S: Store>(replicas: &[Arc<Ledger<S>>]) -> u64 {
    replicas.iter().map(|replica| replica.stats().fallbacks).sum()
}

#[tokio::test]
async fn three_replicas_let_exactly_as_many_in_as_the_limit() {
    let Some(server) = Server::start().await else { return };
    let replicas = server.replicas(PATIENT).await;
    for (logins, repetitions) in [(2, 200), (10, 50), (100, 3)] {
        for limit in [1, 2, 5] {
            for seed in 0..repetitions {
                server.ask(&["FLUSHALL"]);
                let inside = race(&replicas, logins, limit, seed).await;
                assert_eq!(inside, limit.min(logins), "{logins} logins, limit {limit}, seed {seed}");
            }
        }
    }
    assert_eq!(fallbacks(&replicas), 0);
    assert!(replicas.iter().map(|replica| replica.stats().conflicts).sum::<u64>() > 100);
}

#[tokio::test]
async fn no_interleaving_of_replicas_lets_more_in_than_the_limit() {
    let Some(server) = Server::start().await else { return };
    let replicas = server.replicas(PATIENT).await;
    for strategy in ["Deny", "RevokeOldest"] {
        for seed in 0..50 {
            server.ask(&["FLUSHALL"]);
            play(&replicas, strategy, seed, false).await;
        }
    }
    assert_eq!(fallbacks(&replicas), 0);
}

#[tokio::test]
async fn users_and_sessions_are_written_as_hashes_and_everything_ends() {
    let Some(server) = Server::start().await else { return };
    let ledger = Ledger::new(server.shared(PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let case = Case { policy: &policy, sid: "a-telling-sid", client: "a" };
    assert!(case.check(&ledger, &Tenant::default()).await);
    let dump = server.dump();
    assert!(dump.contains("session-checker:{") && dump.contains("admissions"), "{dump}");
    for secret in ["a-telling-sid", "acme", "/u"] {
        assert!(!dump.contains(secret), "{dump}");
    }
    let lasts: u64 = dump.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&lasts), "{dump}");
    ledger.withdraw(&case.attempt(&super::world::user())).await;
    assert_eq!(server.dump(), "", "nothing is left to remember");
}

#[tokio::test]
async fn a_lost_redis_is_replaced_by_memory_at_once_and_taken_up_again_when_it_is_back() {
    let Some(mut server) = Server::start().await else { return };
    let ledger = Ledger::new(server.shared(PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 2}}));
    let nothing = Tenant::default();
    let login = |sid| Case { policy: &policy, sid, client: "a" };
    assert!(login("s1").check(&ledger, &nothing).await);

    server.kill();
    assert!(login("s2").check(&ledger, &nothing).await);
    assert!(!login("s3").check(&ledger, &nothing).await, "memory knows what this replica let in");
    let stats = ledger.stats();
    assert!(stats.degraded && stats.fallbacks > 0, "{stats:?}");

    server.restart().await;
    eventually("the shared ledger is back", || !ledger.stats().degraded).await;
    let before = ledger.stats().fallbacks;
    assert!(login("s4").check(&ledger, &nothing).await, "the server has forgotten");
    assert!(login("s5").check(&ledger, &nothing).await);
    assert!(!login("s6").check(&ledger, &nothing).await, "and limits again");
    assert_eq!(ledger.stats().fallbacks, before);
}

#[tokio::test]
async fn a_redis_that_is_not_there_at_the_start_is_taken_up_when_it_comes() {
    let Some(mut server) = Server::start().await else { return };
    server.kill();
    let ledger = Ledger::new(server.shared(PATIENT).await);
    assert!(ledger.stats().degraded);
    server.restart().await;
    eventually("the shared ledger is there", || !ledger.stats().degraded).await;
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_check_its_bound_and_no_more() {
    let Some(server) = Server::start().await else { return };
    let bound = Duration::from_millis(50);
    let ledger = Ledger::new(server.shared(bound).await);
    let pid = server.process.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    signal("-STOP");
    let begun = Instant::now();
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    assert!(Case { policy: &policy, sid: "s1", client: "a" }.check(&ledger, &Tenant::default()).await);
    let took = begun.elapsed();
    signal("-CONT");
    assert!(took >= bound && took < bound * 10, "{took:?}");
    assert!(ledger.stats().degraded);
    eventually("the shared ledger is back", || !ledger.stats().degraded).await;
}

#[test]
fn an_address_that_cannot_be_read_is_refused_without_repeating_it() {
    for url in ["http://u:secret@h", "redis://u:secret@h:port", "nonsense-secret", ""] {
        let Err(error) = Redis::new(&url.into(), b"key") else { panic!("{url}") };
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
