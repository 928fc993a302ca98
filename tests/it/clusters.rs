//! Two clusters that check the logins of one tenant: what a ledger that both use holds, and what each alone does not.

use serde_json::{Value, json};
use simulator::Simulator;

use crate::common::{APP, Running, callers, credentials, eventually, policy, tenant};
use crate::redis_server::RedisServer;

/// A service of another cluster: the name, the namespace and the limits' text of its policy are its own affair.
async fn cluster(tenant: &Simulator, name: &str, options: &[&str]) -> Running {
    let mut documents = [credentials(), callers(), policy(name, json!({ "message": format!("Cluster {name}.") }))];
    for document in &mut documents {
        document["metadata"]["namespace"] = name.into();
    }
    Running::folder(tenant, &documents, options).await
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

    // Without the ledger each cluster knows its own logins alone, and says so.
    server.kill();
    assert_eq!(blocks(&one.check("v", APP, "first").await), (false, "within_limit"));
    assert_eq!(blocks(&two.check("v", APP, "second").await), (false, "within_limit"));
    for cluster in [&one, &two] {
        assert_eq!(cluster.metric("session_checker_ledger_degraded").await, Some(1.0));
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
    assert_eq!(blocks(&one.check("u", APP, "first").await), (false, "within_limit"));
    assert_eq!(blocks(&two.check("u", APP, "second").await), (false, "within_limit"));
    // What Auth0 lists counts in both.
    for sid in ["first", "second"] {
        tenant.add_session("u", simulator::Session::new(sid, tenant.now()).client(APP));
    }
    let third = two.check("u", APP, "third").await;
    assert_eq!(blocks(&third), (true, "limit_exceeded"), "{third}");
}
