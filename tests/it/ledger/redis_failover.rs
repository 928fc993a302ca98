//! Redis that answers and cannot be used: a replica of another server, a wrong node, a server that is too far away.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use session_checker::ledger::{Failover, Ledger, Memory, UserKey};
use session_checker::redis::{Redis, RedisAddress};

use super::redis::PATIENT;
use super::world::{Case, ledger, policy};
use crate::common::eventually;
use crate::ports::free_port;
use crate::redis_proxy::RedisProxy;
use crate::redis_server::RedisServer;

async fn shared(url: String, operation_timeout: Duration) -> Arc<Ledger<Failover>> {
    let redis = Redis::connect(RedisAddress::from_url(url), Some(b"key"), operation_timeout).await.unwrap();
    ledger(Failover::new(Memory::default(), Some(redis)))
}

/// A check of a user of its own, which is allowed.
async fn check(ledger: &Arc<Ledger<Failover>>, user: &str) {
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let case = Case { policy: &policy, sid: "s1", client: "a" };
    case.fail(ledger, UserKey::new("acme.eu.auth0.com", user), true).await;
}

#[tokio::test]
async fn primary_that_became_a_replica_is_left_for_the_new_one() {
    let (Some(old), Some(new)) = (RedisServer::start().await, RedisServer::start().await) else { return };
    let proxy = RedisProxy::start(old.port()).await;
    let ledger = shared(proxy.url(), PATIENT).await;
    eventually("the ledger is shared", async || !ledger.stats().degraded).await;
    check(&ledger, "u1").await;
    assert!(!ledger.stats().degraded);

    // The name leads to the new primary from now on. The connection to the old one stays open.
    proxy.retarget(new.port());
    old.ask(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    check(&ledger, "u2").await;
    assert!(ledger.stats().degraded, "the old one is read-only");
    eventually("the new primary is used", async || !ledger.stats().degraded).await;
    check(&ledger, "u3").await;
    assert!(new.dump().contains("admissions"));
    assert!(!ledger.stats().degraded);
}

/// Every answer of Redis that says: not here, or not now.
const WRONG_NODE: [&str; 9] = [
    "READONLY You can't write against a read only replica.",
    "MOVED 3999 127.0.0.1:1",
    "ASK 3999 127.0.0.1:1",
    "LOADING Redis is loading the dataset in memory",
    "CLUSTERDOWN Hash slot not served",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOAUTH Authentication required.",
    "NOREPLICAS Not enough good replicas to write.",
];

#[tokio::test]
async fn connection_to_a_wrong_node_is_replaced() {
    let Some(server) = RedisServer::start().await else { return };
    let is_replaced = async |error| {
        let proxy = RedisProxy::start(server.port()).await;
        let ledger = shared(proxy.url(), PATIENT).await;
        eventually("the ledger is shared", async || !ledger.stats().degraded).await;
        proxy.poison(error);
        check(&ledger, "u1").await;
        assert!(ledger.stats().degraded, "{error}");
        eventually(error, async || !ledger.stats().degraded).await;
    };
    // Each waits for some probes.
    join_all(WRONG_NODE.map(is_replaced)).await;
}

#[tokio::test]
async fn redis_that_is_too_slow_for_checks_stays_degraded() {
    let Some(server) = RedisServer::start().await else { return };
    let proxy = RedisProxy::start(server.port()).await;
    let bound = Duration::from_millis(300);
    let ledger = shared(proxy.url(), bound).await;
    eventually("the ledger is shared", async || !ledger.stats().degraded).await;
    proxy.delay(bound * 2);
    check(&ledger, "u1").await;
    assert!(ledger.stats().degraded);
    let before = proxy.requests();
    let mut recovered = false;
    eventually("it is probed", || {
        recovered |= !ledger.stats().degraded;
        std::future::ready(proxy.requests() >= before + 8)
    })
    .await;
    assert!(!recovered, "a probe allows no more time than a check");

    proxy.delay(Duration::ZERO);
    server.ask(&["CONFIG", "RESETSTAT"]);
    eventually("the shared ledger is back", async || !ledger.stats().degraded).await;
    let stats = server.ask(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    let calls: u32 = calls.and_then(|calls| calls.split(',').next()).unwrap().parse().unwrap();
    assert!(calls >= 6, "it recovers after several probes, each with a read and a write: {calls}");
}

#[tokio::test]
async fn password_that_is_not_encoded_is_named_as_the_cause() {
    for password in ["a/b", "a#b", "a?b", "12#3", "a/b@c", "a,b"] {
        let url = format!("redis://user:{password}@127.0.0.1:1");
        let Err(error) = Redis::connect(RedisAddress::from_url(url), None, PATIENT).await else { panic!("{password}") };
        assert!(error.to_string().contains("write / as %2F"), "{password}: {error}");
    }
    for url in ["redis://user:a%2Fb@127.0.0.1:1/0", "redis://127.0.0.1:1,redis://127.0.0.1:2", "unix:/run/redis@1.sock"]
    {
        assert!(Redis::connect(RedisAddress::from_url(url), None, PATIENT).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn hash_of_a_name_does_not_depend_on_the_url() {
    let connect =
        async |url: &str, key| Redis::connect(RedisAddress::from_url(url), key, PATIENT).await.unwrap().hash("name");
    let hash = connect("redis://user:old@127.0.0.1:1", None).await;
    assert_eq!(connect("redis://user:new@localhost:1/0", None).await, hash);
    assert_ne!(connect("redis://user:old@127.0.0.1:1", Some(b"key")).await, hash);
}

#[tokio::test]
async fn cluster_behind_one_url_is_found() {
    // By default the nodes talk on a port that is 10,000 higher, where outgoing connections have theirs.
    let bus = [free_port(), free_port()].map(|port| port.to_string());
    let start = async |bus| RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", bus]).await;
    let (Some(one), Some(other)) = (start(&bus[0]).await, start(&bus[1]).await) else { return };
    one.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    other.ask(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    eventually("the cluster is complete", async || {
        // A node that does not answer in time is forgotten, so it is met again.
        one.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus[1]]);
        [&one, &other].iter().all(|node| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
    let ledger = shared(one.url("redis"), PATIENT).await;
    eventually("the ledger is shared", async || !ledger.stats().degraded).await;
    for user in 0..20 {
        check(&ledger, &user.to_string()).await;
    }
    assert_eq!((ledger.stats().degraded, ledger.stats().fallbacks), (false, 0));
    for node in [&one, &other] {
        assert!(node.dump().contains("admissions"), "both have users");
    }
}
