//! What callers see while the service shuts down, and while its token expires or is revoked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use simulator::{Fault, Operation, Options, Session};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::common::{APP, DOMAIN, Running, TOKEN, callers, credentials, eventually, policy, tenant, tenant_with};

const CLIENTS: usize = 8;
const BOUND: Duration = crate::common::PATIENCE;

/// A caller that keeps its connection until an answer closes it, and never retries a request.
struct Caller {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer: its body, and whether it closes the connection.
struct Answered {
    body: Value,
    closes: bool,
}

impl Caller {
    fn of(service: &Running) -> Self {
        Self { address: service.address, connection: None }
    }

    async fn check(&mut self, user_id: &str, sid: &str) -> io::Result<Answered> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(self.address).await?),
        };
        let body = json!({ "user_id": user_id, "client_id": APP, "sid": sid }).to_string();
        let request = format!(
            "POST /check HTTP/1.1\r\nHost: checker\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(request.as_bytes()).await?;
        let (mut length, mut closes, mut line) = (0, false, String::new());
        connection.read_line(&mut line).await?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("not an answer: {line:?}")));
        }
        loop {
            line.clear();
            connection.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name {
                "content-length" => length = value.parse().unwrap(),
                "connection" => closes = value == "close",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await?;
        if !closes {
            self.connection = Some(connection);
        }
        Ok(Answered { body: serde_json::from_slice(&body)?, closes })
    }
}

/// Callers that send one check after the other, each for a new user, until they are stopped. Any failure fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    fn on(service: &Running) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = JoinSet::new();
        for number in 0..CLIENTS {
            let (mut caller, stop, answers) = (Caller::of(service), Arc::clone(&stop), Arc::clone(&answers));
            callers.spawn(async move {
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let answer = caller.check(&format!("u-{number}-{turn}"), "s").await.unwrap();
                    assert_eq!(answer.body["reason"], "within_limit", "{}", answer.body);
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { stop, answers, callers }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }

    async fn more(&self, count: usize) {
        let goal = self.answers() + count;
        eventually("more answers, unless a caller failed", || async { self.answers() >= goal }).await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

fn manifests() -> [Value; 3] {
    [credentials(), callers(), policy("one", json!({ "timeout": "10s" }))]
}

async fn is_ready(service: &Running) -> bool {
    let response = service.http.get(format!("http://{}/readyz", service.admin_address)).send().await.unwrap();
    response.status() == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_under_load_fails_no_check() {
    let tenant = tenant().await;
    let mut service = Running::folder(&tenant, &manifests(), &["--shutdown-delay", "1h"]).await;
    let mut idle = Caller::of(&service);
    assert!(!idle.check("idle", "s").await.unwrap().closes, "connections are kept before");
    let load = Load::on(&service);
    load.more(100).await;
    assert!(is_ready(&service).await);

    service.start_shutdown();
    eventually("not ready", || async { !is_ready(&service).await }).await;
    assert!(service.admin("/readyz").await.contains("shutting down"));
    load.more(100).await;
    for user_id in ["kept", "new"] {
        let answer = idle.check(user_id, "s").await.unwrap();
        assert!(answer.closes, "every answer ends its connection, on a kept one and on a new one");
    }
    // As a load balancer does when it has seen that the replica is not ready. The delay is not waited for.
    load.end().await;
    service.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn running_check_is_answered_while_draining() {
    let tenant = tenant().await;
    let mut service = Running::folder(&tenant, &manifests(), &[]).await;
    let hang = tenant.fault(Operation::List, Fault::Hang);
    let mut caller = Caller::of(&service);
    let under_way = tokio::spawn(async move { caller.check("u", "s").await });
    hang.struck(1).await;

    service.start_shutdown();
    let address = service.address;
    eventually("no new connections", || async { TcpStream::connect(address).await.is_err() }).await;
    hang.clear();
    let answer = under_way.await.unwrap().unwrap();
    assert_eq!((&answer.body["reason"], answer.closes), (&json!("within_limit"), true), "{}", answer.body);
    timeout(BOUND, service.stop()).await.expect("nothing is left to wait for").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_check_delays_the_end_by_the_drain_timeout_at_most() {
    let tenant = tenant().await;
    let mut service = Running::folder(&tenant, &manifests(), &["--drain-timeout", "100ms"]).await;
    let hang = tenant.fault(Operation::List, Fault::Hang);
    let mut caller = Caller::of(&service);
    let under_way = tokio::spawn(async move { caller.check("u", "s").await });
    hang.struck(1).await;

    service.start_shutdown();
    timeout(BOUND, service.stop()).await.expect("the drain has a bound").unwrap();
    assert!(under_way.await.unwrap().is_err(), "an answer would come from a drain that waits for the policy's timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connection_does_not_delay_the_end() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &manifests(), &["--drain-timeout", "60s"]).await;
    let mut idle = Caller::of(&service);
    idle.check("u", "s").await.unwrap();
    timeout(BOUND, service.stop()).await.expect("an idle connection is closed").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_token_under_load_fails_no_check_and_is_replaced_once() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &manifests(), &[]).await;
    let load = Load::on(&service);
    load.more(100).await;
    assert_eq!(tenant.count(Operation::Token), 1);
    tenant.revoke_tokens();
    load.more(200).await;
    load.end().await;
    assert_eq!(tenant.count(Operation::Token), 2);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_token_under_load_fails_no_check_and_is_replaced_once() {
    const LIFE: Duration = Duration::from_secs(2);
    let tenant = tenant_with(Options { token_lifetime: LIFE, ..Options::new(DOMAIN) }).await;
    let service = Running::folder(&tenant, &manifests(), &[]).await;
    let begun = Instant::now();
    let load = Load::on(&service);
    timeout(BOUND, tenant.reached(Operation::Token, 2)).await.expect("a new token in time");
    load.more(50).await;
    load.end().await;
    // A token is used for at least three quarters of its lifetime. On a slow machine the second may expire as well.
    let lives = begun.elapsed().div_duration_f64(LIFE.mul_f64(0.75));
    let fetched = tenant.count(Operation::Token);
    assert!(fetched as f64 <= 1.0 + lives, "{fetched} tokens in {lives} lives");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_service_leaves_no_socket_behind() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s", tenant.now()));
    let service = Running::folder(&tenant, &manifests(), &[]).await;
    let (address, admin_address) = (service.address, service.admin_address);
    assert_eq!(service.check("u", APP, "s").await["block"], false);
    service.stop().await.unwrap();
    for address in [address, admin_address] {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}
