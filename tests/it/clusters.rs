//! Two clusters that check the logins of one tenant: what a ledger that both use holds, and what each alone does not.

use serde_json::{Value, json};
use session_checker::ledger::shared_number::{NumberMetrics, SharedNumber};
use session_checker::metrics::{LiveSeries, MetricRegistry};
use session_checker::redis::{Redis, RedisAddress};
use simulator::Simulator;

use crate::common::{APP, Running, callers, credentials, eventually, policy, tenant};
use crate::ledger::redis::PATIENT;
use crate::redis_server::RedisServer;

/// A service of another cluster: the name, the namespace and the limits' text of its policy are its own affair.
async fn cluster(tenant: &Simulator, name: &str, options: &[&str]) -> Running {
    let mut documents = [credentials(), callers(), policy(name, json!({ "message": format!("Cluster {name}.") }))];
    for document in &mut documents {
        document["metadata"]["namespace"] = name.into();
    }
    Running::folder(tenant, &documents, options).await
}

/// Says whether replicas share a ledger.
const NUMBER: &str = "session_checker_ledger_number";

/// The number of a service's ledger, once it was read.
async fn number(service: &Running) -> f64 {
    eventually("the number is read", || async { service.metric(NUMBER).await > Some(0.0) }).await;
    service.metric(NUMBER).await.unwrap()
}

fn blocks(answer: &Value) -> (bool, &str) {
    (answer["block"].as_bool().unwrap(), answer["reason"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_with_one_ledger_keep_one_limit() {
    let Some(mut server) = RedisServer::start().await else { return };
    let tenant = tenant().await;
    // Another spelling of the URL in each cluster, as with an address of a region each.
    let (here, there) = (server.url("redis"), server.url("valkey"));
    let one = cluster(&tenant, "one", &["--ledger", &here, "--ledger-timeout", "2s"]).await;
    let two = cluster(&tenant, "two", &["--ledger", &there, "--ledger-timeout", "2s"]).await;
    // The tenant lists neither session yet: only the ledger knows the first.
    assert_eq!(blocks(&one.check("u", APP, "first").await), (false, "within_limit"));
    let second = two.check("u", APP, "second").await;
    assert_eq!(blocks(&second), (true, "limit_exceeded"), "{second}");
    assert_eq!(second["policy"], "two/two");
    let shared = number(&one).await;
    assert_eq!(number(&two).await, shared);

    // Without the ledger each cluster knows its own logins alone, and says so.
    server.kill();
    assert_eq!(blocks(&one.check("v", APP, "first").await), (false, "within_limit"));
    assert_eq!(blocks(&two.check("v", APP, "second").await), (false, "within_limit"));
    for cluster in [&one, &two] {
        assert_eq!(cluster.metric("session_checker_ledger_degraded").await, Some(1.0));
        assert_eq!(cluster.metric(NUMBER).await, Some(shared), "the last one stays");
    }

    // Back, and empty.
    server.restart().await;
    for cluster in [&one, &two] {
        eventually("the ledger is used again", || async {
            cluster.metric("session_checker_ledger_degraded").await == Some(0.0)
        })
        .await;
    }
    assert_eq!(blocks(&two.check("w", APP, "first").await), (false, "within_limit"));
    assert_eq!(blocks(&one.check("w", APP, "second").await), (true, "limit_exceeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_with_a_ledger_each_exceed_the_limit() {
    let tenant = tenant().await;
    let (one, two) = (cluster(&tenant, "one", &[]).await, cluster(&tenant, "two", &[]).await);
    assert_eq!(one.metric(NUMBER).await, Some(0.0));
    assert_eq!(blocks(&one.check("u", APP, "first").await), (false, "within_limit"));
    assert_eq!(blocks(&two.check("u", APP, "second").await), (false, "within_limit"));
    // What Auth0 lists counts in both.
    for sid in ["first", "second"] {
        tenant.add_session("u", simulator::Session::new(sid, tenant.now()).client(APP));
    }
    let third = two.check("u", APP, "third").await;
    assert_eq!(blocks(&third), (true, "limit_exceeded"), "{third}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_different_ledgers_show_different_numbers() {
    let (Some(server), Some(other)) = (RedisServer::start().await, RedisServer::start().await) else { return };
    let tenant = tenant().await;
    let (url, other_url) = (server.url("redis"), other.url("redis"));
    let replica =
        async |url: &str, more: &[&str]| cluster(&tenant, "one", &[&["--ledger", url][..], more].concat()).await;
    let reference = replica(&url, &["--ledger-key", "one"]).await;
    let same = replica(&url, &["--ledger-key", "one"]).await;
    assert_eq!(number(&same).await, number(&reference).await);
    for (url, key) in [(&url, Some("two")), (&url, None), (&other_url, Some("one"))] {
        let options = key.map(|key| ["--ledger-key", key]);
        let split = replica(url, options.as_ref().map_or(&[], |options| &options[..])).await;
        assert_ne!(number(&split).await, number(&reference).await, "{url} {key:?}");
    }
}

/// Two replicas of a ledger without checks.
async fn readers(server: &RedisServer) -> ([SharedNumber; 2], [Redis; 2], MetricRegistry, MetricRegistry) {
    let connect = async || Redis::connect(RedisAddress::from_url(server.url("redis")), None, PATIENT).await.unwrap();
    let redis = [connect().await, connect().await];
    let (one, two) = (MetricRegistry::new(), MetricRegistry::new());
    let [first, second] = redis.clone();
    let readers = [(first, &one), (second, &two)].map(|(redis, it)| SharedNumber::new(redis, NumberMetrics::new(it)));
    (readers, redis, one, two)
}

/// The number and the losses that a replica shows.
fn shown(registry: &MetricRegistry) -> (u64, u64) {
    let text = registry.scrape(&LiveSeries::new([]));
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("session_checker_ledger_{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (value("number"), value("losses_total"))
}

/// Where the number is.
fn key_of_number(server: &RedisServer) -> String {
    let names = server.ask(&["KEYS", "session-checker:*"]);
    let has_number = |name: &&str| server.ask(&["HGET", name, "number"]).trim().parse::<u64>().is_ok();
    names.lines().find(has_number).unwrap().to_owned()
}

#[tokio::test]
async fn ledger_replaces_its_number_so_that_a_copy_has_another() {
    let Some(server) = RedisServer::start().await else { return };
    let ([mut one, mut two], _, metrics, others) = readers(&server).await;
    assert_eq!(shown(&metrics), (0, 0));
    one.show().await;
    let (first, _) = shown(&metrics);
    two.show().await;
    assert!((1..1 << 48).contains(&first) && shown(&others) == (first, 0), "{first}");
    let name = key_of_number(&server);
    assert!(server.ask(&["PTTL", &name]).trim().parse::<u64>().is_ok_and(|left| left <= 6 * 3_600_000));
    // A number whose time has ended, lies too far ahead or is none, and what somebody else wrote.
    for (number, ends_at) in
        [("7", "1"), ("7", "999999999999999"), ("7", "x"), ("7", ""), ("x", "1"), ("", ""), ("0", "1")]
    {
        server.ask(&["HSET", &name, "number", number, "ends_at", ends_at]);
        one.show().await;
        two.show().await;
        let (number, _) = shown(&metrics);
        assert!(number > 7 && number < 1 << 48 && shown(&others).0 == number, "{ends_at} {number}");
    }
    assert_eq!((shown(&metrics).1, shown(&others).1), (0, 0), "a replacement loses nothing");
    // A replica that has ended is forgotten, at a replacement.
    server.ask(&["HSET", &name, "ends_at", "1", "r:ended", "9 1", "r:strange", "text"]);
    one.show().await;
    let fields = server.ask(&["HGETALL", &name]);
    assert!(!fields.contains("r:ended") && !fields.contains("r:strange"), "{fields}");
    two.show().await;
    assert_eq!((shown(&metrics).1, shown(&others).1), (0, 0));
    server.ask(&["DEL", &name]);
    server.ask(&["SET", &name, "text"]);
    one.show().await;
    two.show().await;
    assert_eq!(shown(&metrics).0, shown(&others).0);
}

#[tokio::test]
async fn ledger_that_lost_what_was_written_is_counted() {
    let Some(server) = RedisServer::start().await else { return };
    let ([mut one, mut two], _, metrics, others) = readers(&server).await;
    one.show().await;
    two.show().await;
    let name = key_of_number(&server);
    let copy = server.ask(&["HGETALL", &name]);
    one.show().await;
    // A server that lacks the last read takes over, and another replica is the first to read there.
    server.ask(&["DEL", &name]);
    let fields: Vec<&str> = copy.lines().collect();
    server.ask(&[&["HSET", &name][..], &fields].concat());
    two.show().await;
    one.show().await;
    assert_eq!((shown(&metrics).1, shown(&others).1), (1, 0), "it lost nothing of the second");
    // A server without its data.
    server.ask(&["FLUSHALL"]);
    for _ in 0..2 {
        one.show().await;
        two.show().await;
    }
    assert_eq!((shown(&metrics).1, shown(&others).1), (2, 1));
}

#[tokio::test]
async fn read_that_was_not_answered_is_no_loss() {
    let Some(server) = RedisServer::start().await else { return };
    let ([mut one, _], [redis, _], metrics, _) = readers(&server).await;
    one.show().await;
    server.freeze();
    one.show().await;
    server.signal("-CONT");
    eventually("the ledger works", async || !redis.is_degraded()).await;
    for _ in 0..3 {
        one.show().await;
    }
    assert_eq!(shown(&metrics).1, 0);
}

#[tokio::test]
async fn replica_without_checks_finds_out_that_the_ledger_is_away() {
    let Some(mut server) = RedisServer::start().await else { return };
    let ([mut one, _], [redis, _], metrics, _) = readers(&server).await;
    one.show().await;
    let (number, _) = shown(&metrics);
    // It becomes a replica of a server that is not there: it can be read and not written.
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    one.show().await;
    eventually("the ledger cannot be written", async || redis.is_degraded()).await;
    assert_eq!(shown(&metrics), (number, 0), "the last one stays");
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    eventually("the ledger can be written", async || !redis.is_degraded()).await;
    one.show().await;
    server.kill();
    one.show().await;
    eventually("the ledger is away", async || redis.is_degraded()).await;
    server.restart().await;
    eventually("the ledger is back", async || !redis.is_degraded()).await;
    one.show().await;
    assert_eq!(shown(&metrics).1, 1, "and empty");
}
