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

#[tokio::test]
async fn ledger_replaces_its_number_so_that_a_copy_has_another() {
    let Some(server) = RedisServer::start().await else { return };
    let ([mut one, mut two], _, metrics, others) = readers(&server).await;
    assert_eq!(shown(&metrics), (0, 0));
    one.show().await;
    let (first, _) = shown(&metrics);
    two.show().await;
    assert!((1..1 << 48).contains(&first) && shown(&others) == (first, 0), "{first}");
    let names = server.ask(&["KEYS", "session-checker:*"]);
    let name = names.lines().find(|name| server.ask(&["TYPE", name]).contains("string")).unwrap();
    let left: u64 = server.ask(&["PTTL", name]).trim().parse().unwrap();
    assert!((1..=300_000).contains(&left), "{left}");
    // What somebody else wrote is replaced, and so is a number whose time has ended, or lies too far ahead.
    let far = i64::MAX.to_string();
    for wrong in ["text", "", "nan", "0 1 1", "-1 1 1", "7 1", "7 1 1", &format!("7 1 {far}"), "7 1 999999999999999"] {
        server.ask(&["SET", name, wrong]);
        one.show().await;
        two.show().await;
        let (number, _) = shown(&metrics);
        assert!(number > 7 && number < 1 << 48 && shown(&others).0 == number, "{wrong} {number}");
        assert!(server.ask(&["PTTL", name]).trim().parse::<u64>().is_ok_and(|left| left <= 300_000));
    }
    server.ask(&["DEL", name]);
    server.ask(&["HSET", name, "field", "value"]);
    one.show().await;
    two.show().await;
    assert_eq!(shown(&metrics).0, shown(&others).0);
}

#[tokio::test]
async fn ledger_that_lost_what_was_written_is_counted() {
    let Some(server) = RedisServer::start().await else { return };
    let ([mut one, mut two], _, metrics, others) = readers(&server).await;
    one.show().await;
    let name = server.ask(&["KEYS", "session-checker:*"]).trim().to_owned();
    let early = server.ask(&["GET", &name]);
    two.show().await;
    one.show().await;
    assert_eq!((shown(&metrics).1, shown(&others).1), (0, 0));
    // A server that had received only the first write takes over.
    server.ask(&["SET", &name, early.trim()]);
    one.show().await;
    assert_eq!(shown(&metrics).1, 1);
    two.show().await;
    assert_eq!(shown(&others).1, 0, "it had seen no more than this");
    // A server without its data.
    server.ask(&["FLUSHALL"]);
    for _ in 0..2 {
        one.show().await;
        two.show().await;
    }
    assert_eq!((shown(&metrics).1, shown(&others).1), (2, 1));
}

#[tokio::test]
async fn replica_without_checks_finds_out_that_the_ledger_is_away() {
    let Some(mut server) = RedisServer::start().await else { return };
    let ([mut one, _], [redis, _], metrics, _) = readers(&server).await;
    one.show().await;
    let (number, _) = shown(&metrics);
    server.kill();
    one.show().await;
    eventually("the ledger is away", async || redis.is_degraded()).await;
    assert_eq!(shown(&metrics), (number, 0), "the last one stays");
    server.restart().await;
    eventually("the ledger is back", async || !redis.is_degraded()).await;
    one.show().await;
    assert_eq!(shown(&metrics).1, 1, "and empty");
}
