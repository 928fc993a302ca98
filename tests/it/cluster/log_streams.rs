//! Log streams in a cluster: the leader writes what was seen of logins, and the Secret of a stream is followed.

use serde_json::{Value, json};
use session_checker::cli::service_config;
use session_checker::crd::{SessionPolicy, SessionPolicyStatus};
use session_checker::service::Source;
use simulator::{LogStream, Simulator};

use super::{cluster, one};
use crate::common::{APP, DOMAIN, Running, callers, credentials, eventually, serve_args, tenant};
use crate::control_plane::{Namespace, Rbac, shared};
use crate::log_streams::TIMING;

const FIRST: &str = "the-first-token-of-a-stream";
const SECOND: &str = "the-second-token-of-a-stream";

fn stream_secret(token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "sessionchecker.dev/log-stream",
        "metadata": { "name": "stream" }, "stringData": { "domain": DOMAIN, "token": token },
    })
}

async fn replica(team: &Namespace<'_>, tenant: &Simulator) -> Running {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let args = serve_args(&["--auth0-endpoint", &endpoint, "--logs-listen", "127.0.0.1:0"]);
    let mut config = service_config(args).unwrap();
    config.source.policies = Source::Cluster(cluster(team).await);
    config.coverage_timing = TIMING;
    let replica = Running::with(config).await.unwrap();
    replica.becomes_ready().await;
    replica
}

async fn status(team: &Namespace<'_>) -> SessionPolicyStatus {
    team.admin::<SessionPolicy>().get("one").await.unwrap().status.unwrap_or_default()
}

async fn becomes(team: &Namespace<'_>, condition: &str, status_and_reason: [&str; 2]) {
    eventually(&format!("{condition} {status_and_reason:?}"), async || {
        let conditions = status(team).await.conditions;
        let found = conditions.iter().find(|one| one.type_ == condition);
        found.is_some_and(|one| [&*one.status, &*one.reason] == status_and_reason)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_writes_what_was_seen_of_logins() {
    let Some(plane) = shared().await else { return };
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    let spec = json!({ "tenant": { "logStreamSecretRef": { "name": "stream" } }, "limits": { "perClient": 100 } });
    for resource in [credentials(), callers(), one(spec)] {
        team.apply(resource).await;
    }
    let replica = replica(&team, &tenant).await;
    becomes(&team, "Ready", ["False", "SecretMissing"]).await;
    becomes(&team, "Enforcing", ["Unknown", "SecretMissing"]).await;
    team.apply(stream_secret(FIRST)).await;
    becomes(&team, "Ready", ["True", "Ready"]).await;
    becomes(&team, "Enforcing", ["Unknown", "NoLogins"]).await;
    assert_eq!(status(&team).await.last_check_time, None);

    let url = format!("http://{}/logs", replica.logs_address.unwrap());
    tenant.stream_logs(LogStream::new(&url, FIRST));
    let checked = tenant.begin_login("ann", APP, None);
    replica.check("ann", APP, checked.sid()).await;
    checked.complete().unwrap();
    becomes(&team, "Enforcing", ["True", "Checked"]).await;
    assert!(status(&team).await.last_check_time.is_some());
    for user in ["bob", "eve", "joe"] {
        tenant.begin_login(user, APP, None).complete().unwrap();
    }
    becomes(&team, "Enforcing", ["False", "NotAsked"]).await;

    // A rotation takes effect without a restart.
    team.apply(stream_secret(SECOND)).await;
    let answers = async |token: &str| {
        let request = replica.http.post(&url).header("authorization", token).body("[]");
        request.send().await.unwrap().status().as_u16()
    };
    eventually("the new token is known", async || answers(SECOND).await == 204).await;
    assert_eq!(answers(FIRST).await, 401);
}
