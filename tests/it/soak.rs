//! Limits under load: replicas in separate processes, a real Redis, and a tenant with Auth0's published rate limit. Each promise is
//! tested for seconds here, and for minutes by `make soak`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use simulator::{Operation, Options, RateLimit, Simulator};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::common::{DOMAIN, TOKEN, callers, credentials, eventually, folder, options, policy, strings, tenant_with};
use crate::process::{LOOPBACK, Process, Service, place};
use crate::redis_server::RedisServer;

/// The limits of the races, each for another application.
const LIMITS: [usize; 3] = [1, 2, 5];

/// A replica in a separate process.
pub struct Replica {
    pub service: Service,
    _process: Process,
}

impl Replica {
    pub async fn start(tenant: &Simulator, folder: &TempDir, options: &[&str]) -> Self {
        let source = self::options(tenant, folder.path());
        let fixed = [&["--log-format", "json"][..], &strings(&source)].concat();
        // The test does not need one log line a check.
        let process = Process::start(
            place(),
            &[("RUST_LOG", "warn,session_checker::service=info")],
            &[&LOOPBACK[..], &fixed, options].concat(),
        );
        Self { service: process.listening().await, _process: process }
    }

    pub async fn check(&self, user: &str, client: &str, sid: &str) -> Value {
        let body = json!({ "user_id": user, "client_id": client, "sid": sid });
        let request = self.service.http.post(format!("http://{}/check", self.service.address)).bearer_auth(TOKEN);
        request.json(&body).send().await.unwrap().json().await.unwrap()
    }

    pub async fn metrics(&self) -> String {
        self.service.admin("/metrics").await
    }

    /// The sum of a metric's series.
    pub async fn metric(&self, name: &str) -> f64 {
        self.service.metric(name).await
    }
}

/// Three replicas that share a Redis, and a policy for each of [`LIMITS`].
async fn three(tenant: &Simulator, server: &RedisServer) -> (TempDir, Vec<Replica>) {
    let limited = |limit: &usize| {
        let name = format!("limit-{limit}");
        let spec = json!({ "selector": { "clientIds": [name] }, "limits": { "perClient": limit }, "timeout": "10s" });
        policy(&name, spec)
    };
    let documents = [credentials(), callers()].into_iter().chain(LIMITS.iter().map(limited));
    let folder = folder(&documents.collect::<Vec<_>>());
    let url = server.url("redis");
    // A slow Redis is not a lost one: a busy machine must not degrade it.
    let options = ["--ledger", &url, "--ledger-timeout", "5s"];
    let replicas = [(); 3].map(|()| Replica::start(tenant, &folder, &options));
    let replicas = join_all(replicas).await;
    // On a machine that is busy at the start Redis is degraded for a moment.
    eventually("the ledger is shared", || are_degraded(&replicas, false)).await;
    (folder, replicas)
}

/// Whether Redis is degraded for all replicas, or for none.
pub async fn are_degraded(replicas: &[Replica], degraded: bool) -> bool {
    let metrics = replicas.iter().map(|replica| replica.metric("session_checker_ledger_degraded"));
    join_all(metrics).await.into_iter().all(|metric| metric == f64::from(u8::from(degraded)))
}

/// Begins `logins` logins of a user at the same time, spread over the replicas; allowed logins complete. Returns how many did.
async fn race(tenant: &Simulator, replicas: &[Replica], user: &str, logins: usize, limit: usize) -> usize {
    let client = format!("limit-{limit}");
    let login = async |number: usize| {
        let login = tenant.begin_login(user, &client, None);
        let answer = replicas[number % replicas.len()].check(user, &client, login.sid()).await;
        if answer["block"] == false {
            assert_eq!(answer["reason"], "within_limit", "{answer}");
            login.complete().is_some()
        } else {
            assert_eq!(answer["reason"], "limit_exceeded", "{answer}");
            login.deny();
            false
        }
    };
    join_all((0..logins).map(login)).await.into_iter().filter(|allowed| *allowed).count()
}

/// Races of 2, 10 and 100 logins for each limit, each repeated, with a tenant that shows completed logins after a delay.
async fn races(visibility_delay: Duration, repetitions: usize) {
    let Some(server) = RedisServer::start().await else { return };
    let tenant = tenant_with(Options { visibility_delay, ..Options::new(DOMAIN) }).await;
    let (_folder, replicas) = three(&tenant, &server).await;
    for logins in [2, 10, 100] {
        for limit in LIMITS {
            for repetition in 0..repetitions {
                let user = format!("user-{logins}-{limit}-{repetition}");
                let allowed = race(&tenant, &replicas, &user, logins, limit).await;
                assert_eq!(allowed, limit.min(logins), "{logins} logins, limit {limit}, {visibility_delay:?}, {user}");
            }
        }
    }
    for replica in &replicas {
        assert_eq!(replica.metric("session_checker_ledger_fallbacks_total").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_allow_exactly_the_limit() {
    races(Duration::from_secs(1), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn three_processes_allow_exactly_the_limit_200_times() {
    let repetitions = std::env::var("RACES").map_or(200, |races| races.parse().unwrap());
    for delay in [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)] {
        races(delay, repetitions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_redis_fails_no_check_and_limits_are_exact_again() {
    let Some(mut server) = RedisServer::start().await else { return };
    let tenant = tenant_with(Options::new(DOMAIN)).await;
    let (_folder, replicas) = three(&tenant, &server).await;
    let replicas = Arc::new(replicas);
    let stop = Arc::new(AtomicBool::new(false));
    // Each user logs in once: whatever the ledger knows, all of them are allowed.
    let load = |part: usize| {
        let (replicas, stop) = (Arc::clone(&replicas), Arc::clone(&stop));
        async move {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                asked += 1;
                let user = format!("user-{part}-{asked}");
                let answer =
                    replicas[asked % replicas.len()].check(&user, "limit-1", &format!("sid-{part}-{asked}")).await;
                assert_eq!(answer["reason"], "within_limit", "{answer}");
            }
            asked
        }
    };
    let loads: Vec<_> = (0..8).map(|part| tokio::spawn(load(part))).collect();
    server.kill();
    eventually("Redis is degraded for every replica", || are_degraded(&replicas, true)).await;
    server.restart().await;
    eventually("the ledger is shared again", || are_degraded(&replicas, false)).await;
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        assert!(load.await.unwrap() > 0);
    }
    for replica in replicas.iter() {
        assert!(replica.metric("session_checker_ledger_fallbacks_total").await > 0.0, "fallbacks are counted");
    }
    for limit in LIMITS {
        assert_eq!(race(&tenant, &replicas, &format!("after-{limit}"), 10, limit).await, limit);
    }
}

/// Checks distinct users at a rate against a tenant that takes a burst of 50 requests and 16 a second. At least `share` of what the
/// tenant takes a second is used.
async fn storm(users_a_second: u64, seconds: u64, share: f64) {
    let limit = RateLimit { burst: 50, per_second: 16 };
    let tenant = tenant_with(Options { rate_limit: Some(limit), ..Options::new(DOMAIN) }).await;
    let folder = folder(&[credentials(), callers(), policy("one", json!({}))]);
    // On a busy machine each check may need a connection of its own, and all come from one source.
    let replica = Arc::new(Replica::start(&tenant, &folder, &["--max-connections", "2048"]).await);
    let at_rest = replica.metric("process_resident_memory_bytes").await;

    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(users_a_second).unwrap());
    let mut checks = JoinSet::new();
    for user in 0..users_a_second * seconds {
        ticks.tick().await;
        let replica = Arc::clone(&replica);
        checks.spawn(async move {
            let answer = replica.check(&format!("user-{user}"), "app", &format!("sid-{user}")).await;
            answer["reason"].as_str().unwrap().to_owned()
        });
    }
    let answers = checks.join_all().await;
    let took = began.elapsed().as_secs_f64();

    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    answers.iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
    let count = |reason: &str| reasons.get(reason).copied().unwrap_or(0);
    let (decided, rate_limited) = (count("within_limit"), count("rate_limited"));
    // A check whose time is over at the ledger is overloaded, and many that the tenant answers too late open the breaker.
    let late = ["upstream_timeout", "overloaded", "circuit_open"].map(count).iter().sum::<usize>();
    assert_eq!(decided + rate_limited + late, answers.len(), "every answer is one of these: {reasons:?}");
    // What the machine was too busy for is late. The load itself makes nothing late, and leaves no request of the budget unused.
    let most = 50.0 + 16.0 * took;
    let sent = tenant.count(Operation::List) as f64;
    assert!(sent <= most, "{sent} sent, {most} allowed");
    let least = 50.0 + share * 16.0 * took;
    assert!((decided + late) as f64 >= least, "{decided} decided, {late} late of {most}");
    assert!(rate_limited > 0 && decided > 0, "{decided} decided, {rate_limited} rate limited");
    let too_many = "session_checker_auth0_requests_total{operation=\"list\",outcome=\"rate_limited\"";
    assert!(!replica.metrics().await.contains(too_many), "nothing was sent that the tenant did not take");
    let grown = replica.metric("process_resident_memory_bytes").await - at_rest;
    assert!(grown < 64.0 * 1024.0 * 1024.0, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn storm_gets_no_more_decisions_than_the_budget_allows() {
    // On busy cores the checks come late and all at once, and nobody asks for a part of each second's budget.
    storm(200, 4, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "half a minute: make soak"]
async fn storm_of_500_users_a_second_gets_its_budget() {
    storm(500, 30, 0.6).await;
}
