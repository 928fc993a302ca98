//! The watches of many Secrets share connections to the API server.

use serde_json::json;

use super::{one, replica};
use crate::common::{callers, credentials, policy, tenant};
use crate::control_plane::{Rbac, own};

/// How many established connections this process has to a port of loopback.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{port:04X}");
    // The remote address, and the state: 01 is established.
    table.lines().filter(|line| line.split_whitespace().skip(2).take(2).eq([remote.as_str(), "01"])).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_secrets_share_connections() {
    let Some(plane) = own().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    team.apply(callers()).await;
    for n in 0..60 {
        let mut secret = credentials();
        secret["metadata"]["name"] = json!(format!("tenant-{n}"));
        team.apply(secret).await;
        let mut policy =
            policy(&format!("policy-{n}"), json!({ "selector": { "clientIds": [format!("client-{n}")] } }));
        policy["spec"]["tenant"]["credentialsSecretRef"]["name"] = json!(format!("tenant-{n}"));
        team.apply(policy).await;
    }
    team.apply(credentials()).await;
    team.apply(one(json!({}))).await;
    let before = connections(plane.port());
    let replica = replica(&team, &tenant).await;
    replica.rule_becomes(json!([format!("{}/one", team.name), 1, "within_limit"])).await;
    // One for the 62 Secrets, and a few for policies, the Lease and writes.
    let opened = connections(plane.port()).saturating_sub(before);
    assert!(opened < 20, "{opened}");
}
