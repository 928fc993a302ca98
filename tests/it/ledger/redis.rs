//! The same promises with a real Redis, and what happens when it fails.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_checker::ledger::{Failover, Ledger, Memory, PENDING_FOR, Store};
use session_checker::redis::{Redis, RedisAddress};
use tokio::time::Instant;

use super::model::play;
use super::race::race;
use super::world::{Case, Tenant, Yielding, ledger, policy, user};
use crate::common::eventually;
use crate::redis_server::RedisServer;

/// Far above what a busy machine needs for an operation: these tests are about the protocol.
pub const PATIENT: Duration = Duration::from_secs(5);

async fn shared(server: &RedisServer, operation_timeout: Duration) -> Failover {
    let redis =
        Redis::connect(RedisAddress::from_url(server.socket_url()), Some(b"key"), operation_timeout).await.unwrap();
    Failover::new(Memory::default(), Some(redis))
}

/// Replicas with separate connections.
async fn replicas(server: &RedisServer, operation_timeout: Duration) -> Vec<Arc<Ledger<Yielding<Arc<Failover>>>>> {
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let shared = shared(server, operation_timeout).await;
        // On a machine that is busy at the start Redis is degraded for a moment.
        eventually("the ledger is shared", async || !shared.stats().degraded).await;
        replicas.push(ledger(Yielding(Arc::new(shared))));
    }
    replicas
}

fn fallbacks<S: Store>(replicas: &[Arc<Ledger<S>>]) -> u64 {
    replicas.iter().map(|replica| replica.stats().fallbacks).sum()
}

#[tokio::test]
async fn replicas_allow_exactly_the_limit() {
    let Some(server) = RedisServer::start().await else { return };
    let replicas = replicas(&server, PATIENT).await;
    for (logins, repetitions) in [(2, 200), (10, 50), (100, 3)] {
        for limit in [1, 2, 5] {
            for seed in 0..repetitions {
                server.ask(&["FLUSHALL"]);
                let allowed = race(&replicas, logins, limit, seed).await;
                assert_eq!(allowed, limit.min(logins), "{logins} logins, limit {limit}, seed {seed}");
            }
        }
    }
    assert_eq!(fallbacks(&replicas), 0);
    assert!(replicas.iter().map(|replica| replica.stats().conflicts).sum::<u64>() > 100);
}

#[tokio::test]
async fn no_interleaving_of_replicas_allows_more_than_the_limit() {
    let Some(server) = RedisServer::start().await else { return };
    let replicas = replicas(&server, PATIENT).await;
    for strategy in ["Deny", "RevokeOldest"] {
        for seed in 0..50 {
            server.ask(&["FLUSHALL"]);
            play(&replicas, strategy, seed, false).await;
        }
    }
    assert_eq!(fallbacks(&replicas), 0);
}

#[tokio::test]
async fn records_hold_hashes_and_expire() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let case = Case { policy: &policy, sid: "a-telling-sid", client: "a" };
    assert!(case.check(&ledger, &Tenant::default()).await);
    let dump = server.dump();
    assert!(dump.contains("session-checker:{") && dump.contains("admissions"), "{dump}");
    for secret in ["a-telling-sid", "acme", "/u"] {
        assert!(!dump.contains(secret), "{dump}");
    }
    let lasts: u64 = dump.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=PENDING_FOR.as_millis() as u64).contains(&lasts), "{dump}");
    case.fail(&ledger, user(), false).await;
    let other = Case { policy: &policy, sid: "s2", client: "a" };
    assert!(other.check(&ledger, &Tenant::default()).await, "nothing is left that counts");
}

#[tokio::test]
async fn memory_replaces_a_lost_redis_until_it_is_back() {
    let Some(mut server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 2}}));
    let nothing = Tenant::default();
    let login = |sid| Case { policy: &policy, sid, client: "a" };
    assert!(login("s1").check(&ledger, &nothing).await);

    server.kill();
    assert!(login("s2").check(&ledger, &nothing).await);
    assert!(!login("s3").check(&ledger, &nothing).await, "memory knows what this replica allowed");
    let stats = ledger.stats();
    assert!(stats.degraded && stats.fallbacks > 0, "{stats:?}");

    server.restart().await;
    eventually("the shared ledger is back", async || !ledger.stats().degraded).await;
    let before = ledger.stats().fallbacks;
    assert!(login("s4").check(&ledger, &nothing).await, "the server has forgotten");
    assert!(login("s5").check(&ledger, &nothing).await);
    assert!(!login("s6").check(&ledger, &nothing).await, "it limits again");
    assert_eq!(ledger.stats().fallbacks, before);
}

#[tokio::test]
async fn redis_that_starts_late_is_used_when_it_works() {
    let Some(mut server) = RedisServer::start().await else { return };
    server.kill();
    let ledger = ledger(shared(&server, PATIENT).await);
    assert!(ledger.stats().degraded);
    server.restart().await;
    eventually("the shared ledger is there", async || !ledger.stats().degraded).await;
}

#[tokio::test]
async fn hanging_redis_costs_a_check_one_operation_timeout() {
    let Some(server) = RedisServer::start().await else { return };
    // So long that a busy machine adds less than a second operation would.
    let timeout = Duration::from_secs(5);
    let ledger = ledger(shared(&server, timeout).await);
    eventually("the shared ledger is there", async || !ledger.stats().degraded).await;
    server.freeze();
    let begun = Instant::now();
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    assert!(Case { policy: &policy, sid: "s1", client: "a" }.check(&ledger, &Tenant::default()).await);
    let took = begun.elapsed();
    let stats = ledger.stats();
    server.signal("-CONT");
    assert!(took >= timeout && took < timeout * 2, "{took:?}");
    assert!(stats.degraded, "{stats:?}");
    eventually("the shared ledger is back", async || !ledger.stats().degraded).await;
}

#[tokio::test]
async fn check_waits_for_a_hanging_redis_until_its_deadline() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    eventually("the shared ledger is there", async || !ledger.stats().degraded).await;
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let case = Case { policy: &policy, sid: "s1", client: "a" };
    let begun = async |deadline| {
        assert!(!ledger.begin(case.key(user()), case.terms(), deadline).await.was_revoked());
        ledger.stats()
    };
    server.freeze();
    let stats = begun(Instant::now()).await;
    assert_eq!((stats.fallbacks, stats.degraded), (1, false), "the deadline of one check says nothing of Redis");
    server.signal("-CONT");
    let stats = begun(Instant::now() + 2 * PATIENT).await;
    assert_eq!((stats.fallbacks, stats.degraded), (1, false), "Redis answers again");
    server.freeze();
    assert_eq!(begun(Instant::now()).await.fallbacks, 2);
    eventually("a read that has the time of an operation finds out", async || ledger.stats().degraded).await;
}

#[tokio::test]
async fn error_about_an_invalid_url_does_not_repeat_it() {
    for url in ["http://u:secret@h", "redis://u:secret@h:port", "nonsense-secret", "redis://u:s/ecret@h", ""] {
        let Err(error) = Redis::connect(RedisAddress::from_url(url), Some(b"key"), PATIENT).await else {
            panic!("{url}")
        };
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn read_only_redis_stays_degraded() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let login = |sid| Case { policy: &policy, sid, client: "a" };
    assert!(login("s1").check(&ledger, &Tenant::default()).await);
    assert!(ledger.stats().degraded);
    let tries = || {
        let stats = server.ask(&["INFO", "commandstats"]);
        let calls = |line: &str| line.split(&['=', ',']).nth(1).and_then(|calls| calls.parse::<u64>().ok());
        stats.lines().filter(|line| line.starts_with("cmdstat_evalsha:")).filter_map(calls).sum::<u64>()
    };
    let before = tries();
    eventually("it is probed, each time with a read and a write", async || tries() >= before + 6).await;
    assert!(ledger.stats().degraded);
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    eventually("the shared ledger is back", async || !ledger.stats().degraded).await;
}

#[tokio::test]
async fn unreadable_record_affects_only_its_user() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let login = |sid| Case { policy: &policy, sid, client: "a" };
    for damage in [
        "redis.call('HSET', KEYS[1], 'record', 'of another version')",
        "redis.call('HSET', KEYS[1], 'record', string.char(123, 255, 254))",
        "redis.call('HDEL', KEYS[1], 'record')",
        "redis.call('HDEL', KEYS[1], 'revision')",
        "redis.call('HSET', KEYS[1], 'revision', 'five')",
        "redis.call('HSET', KEYS[1], 'revision', '007')",
        "redis.call('HSET', KEYS[1], 'revision', '18446744073709551616')",
        "redis.call('HSET', KEYS[1], 'revision', string.char(255))",
    ] {
        server.ask(&["FLUSHALL"]);
        assert!(login("s1").check(&ledger, &Tenant::default()).await);
        let keys = server.ask(&["KEYS", "*"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            server.ask(&["EVAL", &format!("return {damage}"), "1", key]);
        }
        assert!(login("s2").check(&ledger, &Tenant::default()).await, "the first is unknown: {damage}");
        assert!(!login("s3").check(&ledger, &Tenant::default()).await, "the second is known: {damage}");
        assert_eq!((ledger.stats().degraded, ledger.stats().fallbacks), (false, 0), "{damage}");
    }
}

#[tokio::test]
async fn key_of_another_type_counts_as_absent_and_is_replaced() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    let login = |sid| Case { policy: &policy, sid, client: "a" };
    assert!(login("s1").check(&ledger, &Tenant::default()).await);
    let key = server.ask(&["KEYS", "*"]).trim().to_owned();
    for command in [&["RPUSH", &key, "x"][..], &["SET", &key, "x"], &["SADD", &key, "x"], &["ZADD", &key, "1", "x"]] {
        server.ask(&["DEL", &key]);
        server.ask(command);
        assert!(
            !ledger.begin(login("s2").key(user()), login("s2").terms(), Instant::now() + PATIENT).await.was_revoked()
        );
        assert_ne!(server.ask(&["TYPE", &key]), "hash", "a read leaves it: {command:?}");
        assert!(login("s2").check(&ledger, &Tenant::default()).await, "nothing is known: {command:?}");
        assert!(!login("s3").check(&ledger, &Tenant::default()).await, "it limits: {command:?}");
        assert_eq!(server.ask(&["TYPE", &key]), "hash", "{command:?}");
        assert!(server.ask(&["TTL", &key]).parse::<i64>().unwrap() > 0, "it expires: {command:?}");
        assert_eq!((ledger.stats().degraded, ledger.stats().fallbacks), (false, 0), "{command:?}");
    }
}

#[tokio::test]
async fn other_error_of_a_read_degrades() {
    let Some(server) = RedisServer::start().await else { return };
    let ledger = ledger(shared(&server, PATIENT).await);
    server.ask(&["ACL", "SETUSER", "default", "-hmget"]);
    let policy = policy(&json!({"limits": {"perClient": 1}}));
    assert!(Case { policy: &policy, sid: "s1", client: "a" }.check(&ledger, &Tenant::default()).await);
    assert!(ledger.stats().degraded);
    server.ask(&["ACL", "SETUSER", "default", "+hmget"]);
    eventually("the shared ledger is back", async || !ledger.stats().degraded).await;
}
