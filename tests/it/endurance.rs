//! Three replicas under mixed traffic while the tenant, Redis and the configuration change: memory, open files, tasks and series
//! must not grow. `make soak` plots them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use simulator::{Application, Fault, Operation, Options, Simulator};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::common::{DOMAIN, TOKEN, callers, credentials, eventually, folder, policy, tenant_with, write};
use crate::plot::{Panel, draw};
use crate::redis_server::RedisServer;
use crate::soak::{Replica, are_degraded};

const REPLICAS: usize = 3;
const USERS: u32 = 300;
/// Each caller sends its next login this long after an answer: together at most 80 checks a second.
const CALLERS: usize = 16;
const PAUSE: Duration = Duration::from_millis(200);
/// From one change to the next.
const CHANGE_EVERY: Duration = Duration::from_secs(10);
/// What is plotted: a title, the metric, and by what its value is divided.
const PLOTTED: [(&str, &str, f64); 3] = [
    ("Resident memory (MiB)", "process_resident_memory_bytes", 1_048_576.0),
    ("Open files", "process_open_fds", 1.0),
    ("Tasks", "session_checker_tasks", 1.0),
];

/// `SOAK_MINUTES`, or two.
fn duration() -> Duration {
    let minutes = std::env::var("SOAK_MINUTES").map_or(2.0, |minutes| minutes.parse().expect("a number of minutes"));
    Duration::from_secs_f64(minutes * 60.0)
}

/// `SOAK_PLOT`, or a file in the build directory.
fn plot_file() -> PathBuf {
    std::env::var_os("SOAK_PLOT")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("soak.svg"), Into::into)
}

/// What changes during the run.
#[derive(Clone, Copy)]
enum Change {
    SlowTenant,
    FailingLists,
    ResetConnections,
    HangingLists,
    CutShortAnswers,
    FailingRevocations,
    TenantRecovers,
    RevokedTokens,
    ChangedPolicies,
    RotatedCredentials,
    RotatedCallers,
    LostRedis,
    RestoredRedis,
}

impl Change {
    const ORDER: [Self; 13] = [
        Self::ChangedPolicies,
        Self::SlowTenant,
        Self::LostRedis,
        Self::RestoredRedis,
        Self::TenantRecovers,
        Self::RotatedCredentials,
        Self::FailingLists,
        Self::CutShortAnswers,
        Self::RotatedCallers,
        Self::ResetConnections,
        Self::RevokedTokens,
        Self::FailingRevocations,
        Self::HangingLists,
    ];
}

/// The state that the changes change.
struct World {
    tenant: Simulator,
    folder: TempDir,
    redis: RedisServer,
    /// How often documents were written.
    version: usize,
}

impl World {
    async fn apply(&mut self, change: Change) {
        let fault = |operation: Operation, fault| {
            self.tenant.clear_faults();
            // Only some requests: the breaker must not stop all of them until the next change.
            self.tenant.fault(operation.times(40), fault);
        };
        match change {
            Change::SlowTenant => fault(Operation::List, Fault::Delay(Duration::from_millis(300))),
            Change::FailingLists => fault(Operation::List, Fault::status(StatusCode::BAD_GATEWAY)),
            Change::ResetConnections => fault(Operation::List, Fault::Reset),
            Change::HangingLists => fault(Operation::List, Fault::Hang),
            Change::CutShortAnswers => fault(Operation::List, Fault::CutShort),
            Change::FailingRevocations => fault(Operation::Revoke, Fault::status(StatusCode::BAD_GATEWAY)),
            Change::TenantRecovers => self.tenant.clear_faults(),
            Change::RevokedTokens => self.tenant.revoke_tokens(),
            Change::ChangedPolicies | Change::RotatedCredentials | Change::RotatedCallers => {
                self.version += 1;
                write(self.folder.path(), "policies.yaml", &documents(self.version));
            }
            Change::LostRedis => self.redis.kill(),
            Change::RestoredRedis => self.redis.restart().await,
        }
    }
}

/// Policies, credential and callers. Each version has other limits, another credential, another further token, and one policy
/// more or less.
fn documents(version: usize) -> Vec<Value> {
    let limit = 1 + version % 3;
    let client = |name: &str, more: Value| {
        let mut spec =
            json!({ "selector": { "clientIds": [name] }, "limits": { "perClient": limit }, "timeout": "2s" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy(name, spec)
    };
    let mut credential = credentials();
    credential["stringData"]["clientId"] = json!(["checker", "checker-2"][version % 2]);
    let mut callers = callers();
    callers["stringData"]["next"] = json!(format!("another-token-of-a-caller-{version}"));
    let mut documents = vec![
        credential,
        callers,
        client("deny", json!({})),
        client("evict", json!({ "strategy": "RevokeOldest" })),
        client("audit", json!({ "mode": "Audit" })),
        client("open", json!({ "failurePolicy": "Allow" })),
    ];
    if version.is_multiple_of(2) {
        documents.push(client("sometimes", json!({ "failurePolicy": "Deny" })));
    }
    documents
}

/// Logs in again and again, until `stop`. Counts the reasons of the answers.
async fn caller(
    tenant: Simulator,
    replicas: Arc<Vec<Replica>>,
    stop: Arc<AtomicBool>,
    reasons: Arc<Mutex<BTreeMap<String, u64>>>,
) {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        asked += 1;
        let (user, client) = {
            let mut random = rand::rng();
            let clients = ["deny", "evict", "audit", "open", "sometimes"];
            (format!("user-{}", random.random_range(0..USERS)), clients[random.random_range(0..clients.len())])
        };
        let sessions = tenant.sessions_of(&user);
        // A person has a few sessions and returns to one of them in half of the logins.
        if sessions.len() > 4 {
            tenant.end_session(sessions[0].id());
        }
        let cookie = sessions.last().filter(|_| asked % 2 == 0).map(|session| session.id().to_owned());
        let login = tenant.begin_login(&user, client, cookie.as_deref());
        let answer = replicas[asked % REPLICAS].check(&user, client, login.sid()).await;
        let reason = answer["reason"].as_str().unwrap_or_else(|| panic!("no decision: {answer}")).to_owned();
        assert_ne!(reason, "internal_error", "{answer}");
        match answer["block"].as_bool().unwrap() {
            false => drop(login.complete()),
            true if answer["revoke_session"] == true => login.revoke(),
            true => drop(login.deny()),
        }
        *reasons.lock().unwrap().entry(reason).or_default() += 1;
        sleep(PAUSE).await;
    }
}

/// What a replica shows at one moment: the plotted metrics, and the number of series.
async fn sample(replica: &Replica) -> [f64; PLOTTED.len() + 1] {
    let text = replica.metrics().await;
    let value = |name: &str| {
        let of_it = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        of_it.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap()
    };
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    let mut values = [series as f64; PLOTTED.len() + 1];
    for (into, (_, name, unit)) in values.iter_mut().zip(PLOTTED) {
        *into = value(name) / unit;
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn nothing_grows_under_mixed_traffic_with_faults_and_changes() {
    let Some(redis) = RedisServer::start().await else { return };
    let tenant = tenant_with(Options::new(DOMAIN)).await;
    tenant.add_application(Application::with_secret("checker-2", "checker-secret"));
    let folder = folder(&documents(0));
    let url = redis.url("redis");
    let options = ["--ledger", &url, "--ledger-timeout", "1s"];
    let replicas = join_all([(); REPLICAS].map(|()| Replica::start(&tenant, &folder, &options))).await;
    let replicas = Arc::new(replicas);
    eventually("the ledger is shared", || are_degraded(&replicas, false)).await;

    let (stop, reasons) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(caller(tenant.clone(), Arc::clone(&replicas), Arc::clone(&stop), Arc::clone(&reasons)));
    }
    let (began, length) = (Instant::now(), duration());
    let sample_every = (length / 300).max(Duration::from_secs(1));
    let mut world = World { tenant, folder, redis, version: 0 };
    let mut changes = Change::ORDER.iter().cycle();
    let mut change_at = CHANGE_EVERY;
    let mut samples = Vec::new();
    while began.elapsed() < length {
        sleep(sample_every).await;
        if began.elapsed() > change_at {
            world.apply(*changes.next().unwrap()).await;
            change_at += CHANGE_EVERY;
        }
        samples.push((began.elapsed().as_secs_f64(), join_all(replicas.iter().map(sample)).await));
        assert!(callers.try_join_next().is_none(), "a caller ended");
    }
    stop.store(true, Ordering::Relaxed);
    world.tenant.clear_faults();
    callers.join_all().await;

    let lines = |value: usize| {
        let of = |replica: usize| samples.iter().map(|(at, values)| (*at, values[replica][value])).collect();
        (0..REPLICAS).map(of).collect::<Vec<Vec<_>>>()
    };
    let titles = PLOTTED.map(|(title, ..)| title).into_iter().chain(["Series in /metrics"]);
    let panels: Vec<_> = titles.enumerate().map(|(value, title)| Panel { title, lines: lines(value) }).collect();
    draw(&plot_file(), &panels);
    let reasons = reasons.lock().unwrap();
    assert!(reasons["within_limit"] > 0 && reasons["limit_exceeded"] > 0, "{reasons:?}");
    for panel in &panels {
        for line in &panel.lines {
            assert_does_not_grow(panel.title, line);
        }
    }
}

/// The first quarter fills caches and pools. After it, the highest value of the last quarter is at most a fifth and a little
/// above the highest before.
fn assert_does_not_grow(title: &str, line: &[(f64, f64)]) {
    const LITTLE: f64 = 8.0;
    let quarter = line.len() / 4;
    let highest = |part: &[(f64, f64)]| part.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (before, last) = (highest(&line[quarter..3 * quarter]), highest(&line[3 * quarter..]));
    assert!(last <= before * 1.2 + LITTLE, "{title}: {before} before, {last} in the last quarter");
}

#[test]
#[should_panic(expected = "in the last quarter")]
fn growth_is_found() {
    let line: Vec<_> = (0..100).map(|at| (f64::from(at), f64::from(at * 10))).collect();
    assert_does_not_grow("a line", &line);
}

/// The token of the callers stays valid in every version.
#[test]
fn rotations_keep_the_token() {
    assert!((0..4).all(|version| documents(version)[1]["stringData"]["action"] == TOKEN));
}
