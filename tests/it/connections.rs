//! What strangers can make the service hold: connections, headers, answers that nobody reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use session_checker::metrics::{LiveSeries, MetricRegistry};
use session_checker::server::{ConnectionLimits, ConnectionTimeouts, Listener, ServeOptions, ServerMetrics};
use simulator::{Fault, Operation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::common::{APP, Running, TOKEN, callers, credentials, eventually, policy, tenant};

/// A listener of its own with one small and one endless answer, and one that never comes.
struct Served {
    address: SocketAddr,
    /// How many requests wait for that one.
    waiting: Arc<AtomicUsize>,
    registry: MetricRegistry,
    draining: CancellationToken,
    ended: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(limits: ConnectionLimits, timeouts: ConnectionTimeouts) -> Self {
        let registry = MetricRegistry::new();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let (address, draining) = (listener.address().unwrap(), CancellationToken::new());
        let options = ServeOptions {
            limits,
            timeouts,
            metrics: ServerMetrics::new(&registry).connections("checks"),
            draining: draining.clone(),
            drain_timeout: Duration::from_secs(60),
        };
        let large = || async { vec![b'x'; 64 << 20] };
        let waiting = Arc::new(AtomicUsize::new(0));
        let arrived = Arc::clone(&waiting);
        let wait = move || {
            arrived.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<&str>()
        };
        let router = Router::new().route("/", get(|| async { "ok" }).post(|| async { "ok" }));
        let router = router.route("/large", get(large)).route("/wait", get(wait));
        let ended = tokio::spawn(async move { listener.serve(router, options).await.unwrap() });
        Self { address, waiting, registry, draining, ended }
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.registry.scrape(&LiveSeries::new([]));
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("session_checker_{series} ")));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Connections from a source, each with a request that is not answered.
    async fn hold(&self, source: &str, count: usize) -> Vec<TcpStream> {
        let before = self.waiting.load(Ordering::SeqCst);
        let mut held = futures::future::join_all((0..count).map(|_| from(source, self.address))).await;
        for stream in &mut held {
            stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        }
        eventually("all wait", || async { self.waiting.load(Ordering::SeqCst) == before + count }).await;
        held
    }

    async fn counted(&self, series: &str, count: f64) {
        eventually(series, || async { self.metric(series) == count }).await;
    }
}

const MANY: ConnectionLimits = ConnectionLimits { total: 1000, per_source: 1000 };

fn short(part: impl FnOnce(&mut ConnectionTimeouts)) -> ConnectionTimeouts {
    let long = Duration::from_secs(3600);
    let mut timeouts = ConnectionTimeouts { first_request: long, idle: long, write: long };
    part(&mut timeouts);
    timeouts
}

/// Sends what the service takes, then reads to the end.
async fn exchange(stream: &mut TcpStream, data: &[u8]) -> (usize, String) {
    let mut sent = 0;
    while sent < data.len() {
        match stream.write(&data[sent..]).await {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    (sent, rest(stream).await)
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends the connection as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_headers_are_bounded_on_both_listeners() {
    const CONNECTIONS: usize = 20;
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    for (address, listener) in [(service.address, "checks"), (service.admin_address, "admin")] {
        let header = format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(400_000));
        let mut attacks = Vec::new();
        for _ in 0..CONNECTIONS {
            let header = header.clone();
            attacks.push(tokio::spawn(async move {
                exchange(&mut TcpStream::connect(address).await.unwrap(), header.as_bytes()).await.1
            }));
        }
        for attack in attacks {
            let answer = attack.await.unwrap();
            // The reset for the bytes that were not read may arrive before the answer.
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        }
        let ended =
            format!("session_checker_connections_ended_total{{listener=\"{listener}\",reason=\"headers_too_large\"}}");
        eventually(&ended, || async { service.metric(&ended).await == Some(CONNECTIONS as f64) }).await;
    }
    let open = "session_checker_connections{listener=\"checks\"}";
    eventually("none is left", || async { service.metric(open).await == Some(0.0) }).await;
    assert_eq!(service.check("u", APP, "s").await["block"], false);
}

#[tokio::test]
async fn header_of_a_check_fits_and_many_small_headers_do_not() {
    let served = Served::start(MANY, short(|_| {}));
    let with = |headers: String| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let fits = exchange(&mut stream, with(format!("X: {}\r\n", "x".repeat(12_000))).as_bytes()).await.1;
    assert!(fits.starts_with("HTTP/1.1 200 "), "{fits}");
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let many = exchange(&mut stream, with("X: y\r\n".repeat(200)).as_bytes()).await.1;
    assert!(many.is_empty() || many.starts_with("HTTP/1.1 431 "), "{many}");
    served.counted("connections_ended_total{listener=\"checks\",reason=\"headers_too_large\"}", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_a_limit_are_closed_and_counted() {
    let served = Served::start(ConnectionLimits { total: 5, per_source: 3 }, short(|_| {}));
    let held = served.hold("127.0.0.2", 3).await;
    served.counted("connections{listener=\"checks\"}", 3.0).await;
    let mut fourth = from("127.0.0.2", served.address).await;
    assert_eq!(rest(&mut fourth).await, "");
    served.counted("connections_rejected_total{listener=\"checks\",reason=\"source_limit\"}", 1.0).await;

    // Another source has room, up to the limit of all.
    let others = served.hold("127.0.0.3", 2).await;
    served.counted("connections{listener=\"checks\"}", 5.0).await;
    let mut sixth = from("127.0.0.3", served.address).await;
    assert_eq!(rest(&mut sixth).await, "");
    served.counted("connections_rejected_total{listener=\"checks\",reason=\"limit\"}", 1.0).await;

    drop((held, others));
    served.counted("connections{listener=\"checks\"}", 0.0).await;
    let mut again = from("127.0.0.2", served.address).await;
    let answer = exchange(&mut again, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.1;
    assert!(answer.ends_with("ok"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_nobody_uses_make_room_for_others() {
    // Strangers can send nothing, a part of a request, and requests that anybody may send.
    for request in ["", "POST / HT", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let served = Served::start(ConnectionLimits { total: 6, per_source: 3 }, short(|_| {}));
        let held = served.hold("127.0.0.2", 1).await;
        let mut strangers = Vec::new();
        for source in ["127.0.0.3", "127.0.0.3", "127.0.0.3", "127.0.0.4", "127.0.0.4"] {
            let mut stranger = from(source, served.address).await;
            stranger.write_all(request.as_bytes()).await.unwrap();
            if request.ends_with("\r\n\r\n") {
                let mut answer = [0; 4096];
                assert!(stranger.read(&mut answer).await.unwrap() > 0);
            }
            strangers.push(stranger);
        }
        served.counted("connections{listener=\"checks\"}", 6.0).await;
        // A request that is answered before the answer is counted keeps its connection for a moment.
        for _ in 0..20 {
            let mut caller = from("127.0.0.9", served.address).await;
            let answer = exchange(&mut caller, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.1;
            assert!(answer.ends_with("ok"), "{request:?}: {answer}");
        }
        let ended = served.metric("connections_ended_total{listener=\"checks\",reason=\"shed\"}");
        assert!(ended >= 1.0, "{request:?}: {ended}");
        assert_eq!(served.metric("connections_rejected_total{listener=\"checks\",reason=\"limit\"}"), 0.0);
        assert_eq!(rest(&mut strangers[0]).await, "", "the oldest of the source with the most is closed");
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_of_a_known_caller_stays_when_others_need_room() {
    let served = Served::start(ConnectionLimits { total: 2, per_source: 2 }, short(|_| {}));
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let mut caller = from("127.0.0.2", served.address).await;
    let mut answer = [0; 4096];
    for _ in 0..3 {
        caller.write_all(post).await.unwrap();
        assert!(caller.read(&mut answer).await.unwrap() > 0);
        let strangers = futures::future::join_all([(); 5].map(|()| from("127.0.0.3", served.address))).await;
        drop(strangers);
    }
    let open = "connections{listener=\"checks\"}";
    served.counted(open, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_for_checks_leave_the_admin_listener_its_own() {
    let tenant = tenant().await;
    let options = ["--max-connections", "4", "--max-connections-per-source", "4"];
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &options).await;
    let held = futures::future::join_all([(); 4].map(|()| TcpStream::connect(service.address))).await;
    let open = "session_checker_connections{listener=\"checks\"}";
    eventually("all are held", || async { service.metric(open).await == Some(4.0) }).await;
    assert_eq!(service.admin("/livez").await, "ok");
    assert_eq!(service.check("u1", APP, "s").await["block"], false, "one that sends nothing makes room");
    drop(held);
    eventually("only the caller's is left", || async { service.metric(open).await == Some(1.0) }).await;
    assert_eq!(service.check("u", APP, "s").await["block"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_never_reads_is_ended_and_a_reader_is_not() {
    let served = Served::start(MANY, short(|timeouts| timeouts.write = Duration::from_millis(200)));
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        stuck.push(stream);
    }
    served.counted("connections_ended_total{listener=\"checks\",reason=\"write_timeout\"}", 10.0).await;
    served.counted("connections{listener=\"checks\"}", 0.0).await;
    // Their sockets are still open here: a shutdown does not wait for them.
    served.draining.cancel();
    served.ended.await.unwrap();
    drop(stuck);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_requests_is_ended() {
    for (timeouts, request, reason) in [
        (short(|timeouts| timeouts.first_request = Duration::from_millis(50)), "", "first_request_timeout"),
        (short(|timeouts| timeouts.first_request = Duration::from_millis(50)), "GET / HT", "first_request_timeout"),
        (short(|timeouts| timeouts.idle = Duration::from_millis(50)), "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "idle"),
    ] {
        let served = Served::start(MANY, timeouts);
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        rest(&mut stream).await;
        served.counted(&format!("connections_ended_total{{listener=\"checks\",reason=\"{reason}\"}}"), 1.0).await;
        served.counted("connections{listener=\"checks\"}", 0.0).await;
    }
}

/// The frames of HTTP/2 that the service sends first.
async fn settings(stream: &mut TcpStream) -> Vec<(u16, u32)> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut payload = vec![0; usize::from(head[2]) + 256 * usize::from(head[1])];
    stream.read_exact(&mut payload).await.unwrap();
    let settings = payload.chunks(6).map(|setting| {
        let value = [setting[2], setting[3], setting[4], setting[5]];
        (u16::from_be_bytes([setting[0], setting[1]]), u32::from_be_bytes(value))
    });
    settings.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_connection_is_bounded_and_ended_when_idle() {
    // Longer than a busy machine takes for the settings.
    let served = Served::start(MANY, short(|timeouts| timeouts.first_request = Duration::from_secs(3)));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let settings = settings(&mut stream).await;
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    const INITIAL_WINDOW_SIZE: u16 = 4;
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    for (setting, most) in [(MAX_CONCURRENT_STREAMS, 16), (INITIAL_WINDOW_SIZE, 16_384), (MAX_HEADER_LIST_SIZE, 16_384)]
    {
        let value = settings.iter().find(|(name, _)| *name == setting);
        assert!(value.is_some_and(|(_, value)| *value <= most), "{setting}: {value:?}");
    }
    rest(&mut stream).await;
    served.counted("connections_ended_total{listener=\"checks\",reason=\"first_request_timeout\"}", 1.0).await;

    let served = Served::start(MANY, short(|timeouts| timeouts.idle = Duration::from_millis(200)));
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{}/", served.address);
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), "ok");
    served.counted("connections_ended_total{listener=\"checks\",reason=\"idle\"}", 1.0).await;
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), "ok", "the client was told with a GOAWAY");
    let large = http.get(&url).header("x", "x".repeat(20_000)).send().await;
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == 431));
    served.counted("header_lists_rejected_total{listener=\"checks\"}", 1.0).await;
    let again = http.get(&url).header("x", "y".repeat(20_000)).send().await;
    assert!(again.is_err() || again.is_ok_and(|answer| answer.status() == 431));
    served.counted("header_lists_rejected_total{listener=\"checks\"}", 2.0).await;
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_of_a_source_are_limited_and_a_right_one_is_not() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let url = format!("http://{}/check", service.address);
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let request = service.http.post(&url).bearer_auth("a-wrong-token-of-a-stranger").json(&json!({}));
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    assert!(statuses[..50].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(service.check("u", APP, "s").await["block"], false);
    let anonymous = service.http.post(&url).json(&json!({})).send().await.unwrap();
    assert_eq!(anonymous.status(), 401, "a request without a token is no attempt to find one");
}

#[tokio::test(flavor = "multi_thread")]
async fn announced_length_over_the_limit_is_answered_before_the_body() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    for (token, status) in [(TOKEN, "413"), ("a-wrong-token-of-a-stranger", "401")] {
        let head = format!(
            "POST /check HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 16385\r\n\r\n"
        );
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let answer = exchange(&mut stream, head.as_bytes()).await.1;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_without_a_host_serves_ipv4_and_ipv6() {
    let tenant = tenant().await;
    let mut args = crate::common::serve_args(&[]);
    args.listen = Some("[::]:0".parse().unwrap());
    args.admin_listen = Some("localhost:0".parse().unwrap());
    let folder = crate::common::folder(&[credentials(), callers(), policy("one", json!({}))]);
    args.source.policy_dir = Some(folder.path().to_owned());
    args.source.auth0_endpoint = vec![(crate::common::DOMAIN.to_owned(), tenant.url().parse().unwrap())];
    let service = Running::start(args).await.unwrap();
    let hosts: &[&str] = match service.address.is_ipv6() {
        true => &["127.0.0.1", "[::1]"],
        // A host without IPv6.
        false => &["127.0.0.1"],
    };
    for host in hosts {
        let url = format!("http://{host}:{}/healthz", service.address.port());
        // 503 until the policies are read.
        eventually(host, async || service.http.get(&url).send().await.unwrap().status() == 200).await;
    }
    assert!(service.admin_address.ip().is_loopback());
    assert_eq!(service.admin("/livez").await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feed_in_a_header_is_a_bad_request() {
    let served = Served::start(MANY, short(|_| {}));
    let ask = async |requests: &[&str]| {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let mut answers = String::new();
        for request in requests {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 4096];
            let count = stream.read(&mut answer).await.unwrap_or_default();
            answers += std::str::from_utf8(&answer[..count]).unwrap();
        }
        answers
    };
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_body = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n{\n}\n";
    for bad in
        ["GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"]
    {
        let answers = ask(&[bad]).await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{bad:?}: {answers}");
        for before in [good, with_body] {
            let answers = ask(&[before, bad]).await;
            assert!(answers.starts_with("HTTP/1.1 200 ") && answers.contains("HTTP/1.1 400 "), "{bad:?}: {answers}");
            // Sent together, the second is not looked at.
            let together = ask(&[&format!("{before}{bad}")]).await;
            assert!(together.contains("\r\nconnection: close\r\n"), "{together}");
            assert_eq!(together.matches("HTTP/1.1 ").count(), 1, "{together}");
        }
    }
    let answers = ask(&[with_body, good, with_body]).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    assert!(!answers.contains("connection: close"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_check_is_answered_and_nothing_after_it_is_read() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let body = json!({ "user_id": "u", "client_id": APP, "sid": "s" }).to_string();
    let (first, second) = body.split_at(10);
    let head = format!(
        "POST /check HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let last = format!("{:x}\r\n{second}\r\n0\r\n\r\n", second.len());
    let chunks = format!("a\r\n{first}\r\n{last}");
    for after in ["", "GET /healthz HTTP/1.1\nHost: a\n\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let answer = exchange(&mut stream, format!("{head}{chunks}{after}").as_bytes()).await.1;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"block\":false"), "{after:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{after:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{after:?}: {answer}");
    }
    // A client that sends its chunks one after the other gets its answer.
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in [&head, "a\r\n", first, "\r\n", &last] {
        stream.write_all(part.as_bytes()).await.unwrap();
    }
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"block\":false"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_whose_caller_leaves_before_the_answer_is_counted() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let abandoned = "session_checker_checks_abandoned_total";
    let body = json!({ "user_id": "u", "client_id": APP, "sid": "s" }).to_string();
    let url = format!("http://{}/check", service.address);
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for http in [&service.http, &http2] {
        let answer = http.post(&url).bearer_auth(TOKEN).header("content-type", "application/json").body(body.clone());
        assert_eq!(answer.send().await.unwrap().status(), 200);
    }
    assert_eq!(service.metric(abandoned).await, Some(0.0), "both were answered");

    let hang = tenant.fault(Operation::List, Fault::Hang);
    let ask = |user: &str| json!({ "user_id": user, "client_id": APP, "sid": "s" }).to_string();
    // HTTP/1.1: the connection is closed.
    let body = ask("u1");
    let request = format!(
        "POST /check HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    hang.struck(1).await;
    drop(stream);
    eventually("HTTP/1.1", async || service.metric(abandoned).await == Some(1.0)).await;

    // HTTP/2: the stream is reset, and then the connection is closed with another one on it.
    let stream = TcpStream::connect(service.address).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for (user, count) in [("u2", 2), ("u3", 3)] {
        let request = axum::http::Request::post(&url).header("authorization", format!("Bearer {TOKEN}"));
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (answer, mut stream) = sender.send_request(request, false).unwrap();
        stream.send_data(ask(user).into(), true).unwrap();
        hang.struck(count).await;
        if count == 2 {
            stream.send_reset(h2::Reason::CANCEL);
        } else {
            connection.abort();
        }
        eventually(user, async || service.metric(abandoned).await == Some(count as f64)).await;
        drop(answer);
    }

    // The checks go on and are counted. What is answered after them changes nothing.
    hang.clear();
    let in_flight = "session_checker_http_requests_in_flight";
    eventually("all have ended", async || service.metric(in_flight).await == Some(0.0)).await;
    assert_eq!(service.check("u", APP, "s").await["block"], false);
    assert_eq!(service.metric(abandoned).await, Some(3.0));
}
