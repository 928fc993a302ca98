//! Measures the ledger's part of a check: to open it, admit the login and withdraw it. Measures the ledger in memory, and in a
//! Redis on loopback if `redis-server` is installed.

use std::collections::HashSet;
use std::hint::black_box;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::FutureExt;
use session_checker::ledger::{Eviction, Failover, Ledger, Memory, SessionKey, Store, Terms, UserKey};
use session_checker::policy::{Admission, Count, Decision, LimitScope, Origins, SessionList};
use session_checker::redis::{Redis, RedisAddress};
use tokio::time::Instant;

fn within(_: &[Admission], _: &HashSet<String>, _: &Origins) -> Decision {
    Decision::Within {
        count: Count { limit_scope: LimitScope::Client, limit: 1, active: 0, at_least: false },
        holder: false,
    }
}

/// Logins of different users, one after the other.
struct Logins {
    users: Vec<UserKey>,
    turn: usize,
}

impl Logins {
    fn new() -> Self {
        Self {
            users: (0..10_000).map(|user| UserKey::new("acme.eu.auth0.com", &format!("auth0|{user}"))).collect(),
            turn: 0,
        }
    }

    async fn next(&mut self, ledger: &Arc<Ledger<impl Store>>) {
        self.turn += 1;
        let user = self.users[self.turn % self.users.len()].clone();
        let (window, longest_check) = (Duration::from_secs(10), Duration::from_secs(3));
        let terms =
            Terms { window, longest_check, listing_kept_for: Duration::from_secs(3_600), enforced: true, claims: true };
        let deadline = Instant::now() + Duration::from_secs(60);
        let session = SessionKey::new(user, &self.turn.to_string(), "application");
        let mut attempt = ledger.begin(session, terms, deadline).await;
        let since = attempt.since();
        let decision = attempt.admit(&SessionList::default(), since, deadline, within).await;
        black_box(decision).expect("nobody else writes");
        // Withdrawing is the simplest end of a login. It keeps records as short as they are in production.
        attempt.finish(Eviction::default(), false, deadline).await;
    }
}

fn memory(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _guard = runtime.enter();
    let (ledger, mut logins) = (Arc::new(Ledger::new(Memory::default())), Logins::new());
    criterion.bench_function("ledger/memory/open, admit and withdraw", |bencher| {
        bencher.iter(|| logins.next(&ledger).now_or_never().expect("memory answers at once"));
    });
}

#[expect(clippy::print_stderr, reason = "a skip has to be visible")]
fn redis(criterion: &mut Criterion) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = port.expect("a free port").port();
    let server = match Server::start(port) {
        Ok(server) => server,
        Err(error) => return eprintln!("SKIPPED: redis-server cannot be started: {error}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _guard = runtime.enter();
    let address = RedisAddress::from_url(format!("redis://127.0.0.1:{port}"));
    let redis = runtime.block_on(Redis::connect(address, Some(b"key"), Duration::from_secs(5))).expect("a URL");
    while redis.is_degraded() {
        runtime.block_on(tokio::time::sleep(Duration::from_millis(50)));
    }
    let (ledger, mut logins) =
        (Arc::new(Ledger::new(Failover::new(Memory::default(), Some(redis.clone())))), Logins::new());
    criterion.bench_function("ledger/redis/open, admit and withdraw", |bencher| {
        bencher.iter(|| runtime.block_on(logins.next(&ledger)));
    });
    assert!(!redis.is_degraded(), "the operations were done in memory, not in Redis");
    drop(server);
}

/// A Redis server that stops when this value is dropped.
struct Server(Child);

impl Server {
    fn start(port: u16) -> io::Result<Self> {
        let port = port.to_string();
        let settings = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"];
        Command::new("redis-server").args(settings).stdout(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

criterion_group!(benches, memory, redis);
criterion_main!(benches);
