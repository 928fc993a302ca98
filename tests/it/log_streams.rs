//! Log streams over real sockets: the simulated tenant reports its logins, and the service says which of them were checked.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use session_checker::cli::service_config;
use session_checker::coverage::CoverageTiming;
use session_checker::service::{RunError, ServiceConfig};
use simulator::{LogFormat, LogStream, Simulator};

use crate::common::{
    APP, DOMAIN, Running, TOKEN, callers, credentials, eventually, folder, policy, serve_args, tenant,
};
use crate::redis_proxy::RedisProxy;
use crate::redis_server::RedisServer;

const STREAM_TOKEN: &str = "a-log-streams-token";

/// A login takes at most a minute, and nothing waits for long. Clocks agree, and those of Auth0 and Redis have milliseconds.
pub const TIMING: CoverageTiming = CoverageTiming {
    longest_login: Duration::from_secs(60),
    clock_skew: Duration::from_millis(100),
    quiet_before: Duration::from_secs(600),
    patience: Duration::from_secs(60),
    tick: Duration::from_millis(20),
    exchange: Duration::from_millis(20),
};

fn stream_secret(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "sessionchecker.dev/log-stream",
        "metadata": { "name": "stream" }, "stringData": data,
    })
}

fn documents() -> Vec<Value> {
    let limits = json!({ "tenant": { "logStreamSecretRef": { "name": "stream" } }, "limits": { "perClient": 100 } });
    let secret = stream_secret(json!({ "domain": DOMAIN, "token": STREAM_TOKEN }));
    vec![credentials(), callers(), secret, policy("seats", limits)]
}

fn with_timing(mut config: ServiceConfig) -> ServiceConfig {
    config.coverage_timing = TIMING;
    config
}

struct World {
    tenant: Simulator,
    service: Running,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(&documents(), &[]).await.unwrap()
    }

    async fn with(documents: &[Value], options: &[&str]) -> Result<Self, RunError> {
        let tenant = tenant().await;
        let folder = folder(documents);
        let service = Self::service(&tenant, folder.path(), options).await?;
        Ok(Self { tenant, service, _folder: folder })
    }

    async fn service(tenant: &Simulator, path: &std::path::Path, options: &[&str]) -> Result<Running, RunError> {
        let endpoint = format!("{DOMAIN}={}", tenant.url());
        let fixed =
            ["--policy-dir", path.to_str().unwrap(), "--auth0-endpoint", &endpoint, "--logs-listen", "127.0.0.1:0"];
        Running::with(with_timing(service_config(serve_args(&[&fixed, options].concat()))?)).await
    }

    fn url(&self) -> String {
        format!("http://{}/logs", self.service.logs_address.unwrap())
    }

    fn stream(&self) -> LogStream {
        LogStream::new(self.url(), format!("Bearer {STREAM_TOKEN}"))
    }

    /// A login that is checked, or whose Action does not ask.
    async fn login(&self, user: &str, is_checked: bool) {
        let login = self.tenant.begin_login(user, APP, None);
        if is_checked {
            self.service.check(user, APP, login.sid()).await;
        }
        login.complete().unwrap();
    }

    async fn post(&self, authorization: &str, body: impl Into<reqwest::Body>) -> (u16, Option<String>) {
        let request = self.service.http.post(self.url()).header("authorization", authorization).body(body);
        let answer = request.send().await.unwrap();
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), retry_after)
    }

    /// Logins seen that were checked, were not, and of which it is unknown.
    async fn seen(&self) -> [u64; 3] {
        seen(&self.service).await
    }

    async fn has_seen(&self, expected: [u64; 3]) {
        eventually(&format!("{expected:?}"), async || self.seen().await == expected).await;
    }

    async fn enforcing(&self) -> (String, String) {
        let debug = self.service.debug().await;
        let enforcing = &debug["policies"][0]["enforcing"];
        let text = |key: &str| enforcing[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }
}

async fn seen(service: &Running) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, checked) in counts.iter_mut().zip(["yes", "no", "unknown"]) {
        let series = format!("session_checker_logins_seen_total{{checked=\"{checked}\",tenant=\"{DOMAIN}\"}}");
        *count = service.metric(&series).await.unwrap_or_default() as u64;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn unchecked_logins_are_seen() {
    let world = World::new().await;
    let unseen = ("Unknown".to_owned(), "NoLogins".to_owned());
    assert_eq!((world.seen().await, world.enforcing().await), ([0, 0, 0], unseen));
    world.tenant.stream_logs(world.stream());
    for number in 0..10 {
        world.login(&format!("user-{number}"), true).await;
    }
    world.has_seen([10, 0, 0]).await;
    assert_eq!(world.enforcing().await, ("True".to_owned(), "Checked".to_owned()));
    // The Action is unbound.
    for number in 0..3 {
        world.login(&format!("other-{number}"), false).await;
    }
    world.has_seen([10, 3, 0]).await;
    assert_eq!(world.enforcing().await, ("False".to_owned(), "NotAsked".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_login_is_no_login() {
    let world = World::new().await;
    let streamed = world.tenant.stream_logs(world.stream());
    world.tenant.begin_login("ann", APP, None).deny().unwrap();
    world.login("ann", true).await;
    world.has_seen([1, 0, 0]).await;
    assert_eq!(streamed.delivered(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_login_is_seen_with_its_session() {
    let world = World::new().await;
    world.tenant.stream_logs(world.stream());
    let first = world.tenant.begin_login("ann", APP, None);
    world.service.check("ann", APP, first.sid()).await;
    let sid = first.complete().unwrap();
    let again = world.tenant.begin_login("ann", "app-2", Some(&sid));
    assert!(again.is_resumed());
    again.complete().unwrap();
    world.has_seen([1, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_lossy_and_repeated_streams_count_each_login_once() {
    for format in [LogFormat::JsonLines, LogFormat::JsonArray, LogFormat::JsonObject] {
        let world = World::new().await;
        let stream = LogStream {
            format,
            delay: Duration::from_millis(30),
            loss: 0.3,
            duplicates: 0.5,
            disorder: true,
            ..world.stream()
        };
        let streamed = world.tenant.stream_logs(stream);
        for number in 0..20 {
            world.login(&format!("user-{number}"), true).await;
        }
        eventually("all events are sent or lost", async || streamed.delivered() + streamed.lost() == 20).await;
        world.has_seen([streamed.delivered(), 0, 0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_needs_its_own_token() {
    let world = World::new().await;
    for (authorization, status) in [
        ("Bearer wrong-token-of-some-length", 401),
        (&*format!("Bearer {TOKEN}"), 401),
        ("", 401),
        (&*format!("bearer {STREAM_TOKEN}"), 204),
        (STREAM_TOKEN, 204),
    ] {
        assert_eq!(world.post(authorization, "[]").await.0, status, "{authorization}");
    }
    // Nor is the stream's token a caller's.
    let check = json!({ "user_id": "u", "client_id": APP });
    let request = world.service.http.post(format!("http://{}/check", world.service.address));
    let answer = request.bearer_auth(STREAM_TOKEN).json(&check).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_batches_are_rejected_and_counted() {
    let world = World::new().await;
    let authorization = format!("Bearer {STREAM_TOKEN}");
    assert_eq!(world.post(&authorization, "no json").await.0, 400);
    assert_eq!(world.post(&authorization, vec![b' '; 1024 * 1024 + 1]).await.0, 413);
    assert_eq!(world.post(&authorization, "{}\n".repeat(1001)).await.0, 413);
    assert_eq!(world.post(&authorization, "{}\nbroken\n{}").await.0, 204);
    let rejected = "session_checker_log_stream_rejected_total{reason=\"too_large\"}";
    assert_eq!(world.service.metric(rejected).await, Some(2.0));
    let kind = |kind: &str| format!("session_checker_log_stream_entries_total{{kind=\"{kind}\",tenant=\"{DOMAIN}\"}}");
    assert_eq!(world.service.metric(&kind("malformed")).await, Some(1.0));
    assert_eq!(world.service.metric(&kind("other")).await, Some(2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_beyond_the_waiting_logins_is_sent_again() {
    let world = World::new().await;
    let authorization = format!("Bearer {STREAM_TOKEN}");
    // Logins of an hour ahead wait.
    let ahead = Timestamp::now() + Duration::from_secs(3600);
    let event = |id: usize| {
        let (date, details) = (ahead.to_string(), json!({ "session_id": format!("sid-{id}") }));
        json!({ "log_id": id.to_string(), "data": { "type": "s", "client_id": APP, "date": date, "details": details } })
    };
    let batch = |from: usize| Value::from((from..from + 1000).map(event).collect::<Vec<_>>()).to_string();
    let mut from = 0;
    let answer = loop {
        let answer = world.post(&authorization, batch(from)).await;
        if answer.0 != 204 {
            break answer;
        }
        from += 1000;
    };
    assert_eq!(answer, (503, Some("5".to_owned())));
    assert_eq!(from, 20_000);
    let rejected = "session_checker_log_stream_rejected_total{reason=\"busy\"}";
    assert_eq!(world.service.metric(rejected).await, Some(1.0));
    assert_eq!(world.service.check("ann", APP, "sid").await["block"], false, "checks do not notice");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_cannot_change_a_decision() {
    let limits = json!({ "tenant": { "logStreamSecretRef": { "name": "stream" } }, "limits": { "perClient": 1 } });
    let secret = stream_secret(json!({ "domain": DOMAIN, "token": STREAM_TOKEN }));
    let world = World::with(&[credentials(), callers(), secret, policy("one", limits)], &[]).await.unwrap();
    let answer = async |sid: &str| world.service.check("ann", APP, sid).await["block"].clone();
    assert_eq!(answer("first").await, json!(false));
    let authorization = format!("Bearer {STREAM_TOKEN}");
    for (kind, sid) in [("slo", "first"), ("s", "second"), ("s", "third"), ("sapi", "first")] {
        let data = json!({
            "type": kind, "client_id": APP, "user_id": "ann", "date": Timestamp::now().to_string(),
            "details": { "session_id": sid },
        });
        assert_eq!(world.post(&authorization, json!({ "log_id": sid, "data": data }).to_string()).await.0, 204);
    }
    assert_eq!((answer("second").await, answer("first").await), (json!(true), json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_without_a_stream_says_so() {
    let world = World::with(&[credentials(), callers(), policy("seats", json!({}))], &[]).await.unwrap();
    assert_eq!(world.enforcing().await, ("Unknown".to_owned(), "NoStream".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_without_a_shared_store_say_unknown() {
    let world = World::with(&documents(), &["--replicas", "2"]).await.unwrap();
    world.tenant.stream_logs(world.stream());
    world.login("ann", true).await;
    world.login("bob", false).await;
    world.has_seen([1, 0, 1]).await;
    assert_eq!(world.enforcing().await, ("Unknown".to_owned(), "NoSharedLedger".to_owned()));
}

/// Two replicas with one Redis, each reached through a proxy of its own.
struct Replicas {
    redis: RedisServer,
    tenant: Simulator,
    folder: tempfile::TempDir,
    proxies: [RedisProxy; 2],
    replicas: [Running; 2],
}

impl Replicas {
    async fn start() -> Option<Self> {
        let redis = RedisServer::start().await?;
        let (tenant, folder) = (tenant().await, folder(&documents()));
        let proxies = [RedisProxy::start(redis.port()).await, RedisProxy::start(redis.port()).await];
        let replicas =
            [Self::replica(&tenant, &folder, &proxies[0]).await, Self::replica(&tenant, &folder, &proxies[1]).await];
        Some(Self { redis, tenant, folder, proxies, replicas })
    }

    async fn replica(tenant: &Simulator, folder: &tempfile::TempDir, proxy: &RedisProxy) -> Running {
        // Far above what a busy machine needs: these tests are not about slow operations.
        let options = ["--replicas", "2", "--ledger", &proxy.url(), "--ledger-timeout", "5s"];
        let replica = World::service(tenant, folder.path(), &options).await.unwrap();
        eventually("the ledger works", async || replica.metric("session_checker_ledger_degraded").await == Some(0.0))
            .await;
        replica
    }

    /// Says that reports exist for longer than any login takes: a store is younger than that in a test.
    async fn are_known(&self) {
        eventually("both report", async || self.reports().len() == 3).await;
        let keys = self.redis.ask(&["KEYS", "session-checker:coverage:*"]);
        self.redis.ask(&["HSET", keys.trim(), "since", "1"]);
    }

    /// The fields of the reports: one for each replica, and the time of the first.
    fn reports(&self) -> Vec<String> {
        let keys = self.redis.ask(&["KEYS", "session-checker:coverage:*"]);
        let fields = self.redis.ask(&["HKEYS", keys.trim()]);
        fields.split_whitespace().map(str::to_owned).collect()
    }

    /// A stream to the first replica.
    fn stream(&self) -> LogStream {
        let url = format!("http://{}/logs", self.replicas[0].logs_address.unwrap());
        LogStream::new(url, format!("Bearer {STREAM_TOKEN}"))
    }

    async fn login(&self, user: &str, checked_by: Option<usize>) {
        let login = self.tenant.begin_login(user, APP, None);
        if let Some(position) = checked_by {
            self.replicas[position].check(user, APP, login.sid()).await;
        }
        login.complete().unwrap();
    }

    async fn has_seen(&self, expected: [u64; 3]) {
        eventually(&format!("{expected:?}"), async || seen(&self.replicas[0]).await == expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_of_other_replicas_count() {
    let Some(world) = Replicas::start().await else { return };
    world.are_known().await;
    world.tenant.stream_logs(world.stream());
    world.login("ann", Some(0)).await;
    world.login("bob", Some(1)).await;
    world.login("eve", None).await;
    world.has_seen([2, 1, 0]).await;
    // The replica that receives nothing has the same evidence, as a leader needs it.
    for number in 0..2 {
        world.login(&format!("eve-{number}"), None).await;
    }
    eventually("the other replica knows", async || {
        world.replicas[1].debug().await["policies"][0]["enforcing"]["reason"] == "NotAsked"
    })
    .await;
    let marks = world.redis.ask(&["KEYS", "session-checker:checked:*"]);
    assert_eq!(marks.split_whitespace().count(), 2, "{marks}");
    for key in marks.split_whitespace() {
        let ttl: u64 = world.redis.ask(&["TTL", key]).trim().parse().unwrap();
        assert!((1..=3600).contains(&ttl), "{ttl}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mark_is_not_ahead_of_a_redis_whose_clock_was_set_back() {
    let Some(world) = Replicas::start().await else { return };
    // A replica shares a check that soon follows another of the session only once.
    let check = async |replica: usize| world.replicas[replica].check("ann", APP, "a-session").await;
    let marks = || world.redis.ask(&["KEYS", "session-checker:checked:*"]);
    check(0).await;
    eventually("the check has a mark", async || !marks().trim().is_empty()).await;
    // The server wrote this time before its clock was set back by an hour.
    let (key, ahead) = (marks().trim().to_owned(), Timestamp::now() + SignedDuration::from_hours(1));
    world.redis.ask(&["SET", &key, &ahead.as_millisecond().to_string()]);
    check(1).await;
    let mark = || world.redis.ask(&["GET", &key]).trim().parse::<i64>().unwrap();
    eventually("the next check has its own time", async || mark() <= Timestamp::now().as_millisecond()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_type_are_replaced() {
    let Some(world) = Replicas::start().await else { return };
    world.replicas[0].check("ann", APP, "a-session").await;
    let keys = |pattern: &str| world.redis.ask(&["KEYS", pattern]).trim().to_owned();
    eventually("the check has a mark", async || !keys("session-checker:checked:*").is_empty()).await;
    eventually("both report", async || world.reports().len() == 3).await;
    let (mark, reports) = (keys("session-checker:checked:*"), keys("session-checker:coverage:*"));
    for key in [&mark, &reports] {
        world.redis.ask(&["DEL", key]);
        world.redis.ask(&["RPUSH", key, "x"]);
    }
    world.replicas[1].check("ann", APP, "a-session").await;
    eventually("the mark is written", async || world.redis.ask(&["GET", &mark]).parse::<i64>().is_ok()).await;
    let both_report = async || world.redis.ask(&["TYPE", &reports]) == "hash" && world.reports().len() == 3;
    eventually("both report again", both_report).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn login_is_unknown_while_a_replica_cannot_share() {
    let Some(world) = Replicas::start().await else { return };
    world.are_known().await;
    // The second replica answers checks and can neither write nor connect again.
    world.proxies[1].retarget(1);
    world.proxies[1].poison("READONLY You can't write against a read only replica.");
    world.tenant.stream_logs(world.stream());
    world.login("ann", Some(1)).await;
    world.login("eve", None).await;
    eventually("both wait", async || {
        world.replicas[0].metric("session_checker_log_stream_pending_logins").await == Some(2.0)
    })
    .await;
    assert_eq!(seen(&world.replicas[0]).await, [0, 0, 0]);
    world.proxies[1].retarget(world.redis.port());
    eventually("the check is shared after all", async || seen(&world.replicas[0]).await == [1, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_left_holds_nothing_up() {
    let Some(mut world) = Replicas::start().await else { return };
    world.are_known().await;
    world.login("bob", Some(1)).await;
    let proxy = RedisProxy::start(world.redis.port()).await;
    let new = Replicas::replica(&world.tenant, &world.folder, &proxy).await;
    std::mem::replace(&mut world.replicas[1], new).stop().await.unwrap();
    world.tenant.stream_logs(world.stream());
    world.login("ann", Some(1)).await;
    world.login("eve", None).await;
    world.has_seen([1, 1, 0]).await;
}
