//! The service in a cluster, on a real API server: watches, active policies, status, and failures. Every replica has the
//! rights of the chart's service account.

mod connections;
mod forced_audit;
mod log_lines;
mod log_streams;
mod proxy;
mod releases;
mod rotation;
mod serving;
mod skew;
mod status;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use session_checker::controller::{Cluster, Namespaces};
use session_checker::service::Source;
use simulator::Simulator;
use tokio::task::JoinHandle;

use crate::common::{APP, DOMAIN, Running, TOKEN, callers, credentials, eventually, policy, serve_args, tenant};
use crate::control_plane::{ControlPlane, Namespace, Rbac};

/// The client configuration of a service account.
async fn config(team: &Namespace<'_>) -> Config {
    let kubeconfig = Kubeconfig::read_from(team.kubeconfig()).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

/// What a replica reads as the service account of a namespace: the policies of that namespace.
async fn cluster(home: &Namespace<'_>) -> Cluster {
    Cluster { config: Some(Box::new(config(home).await)), ..Cluster::default() }
}

/// Starts a replica, without waiting until it is ready.
async fn serve(cluster: Cluster, tenant: &Simulator, options: &[&str]) -> Running {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let options = [&["--auth0-endpoint", endpoint.as_str()], options].concat();
    Running::serve(serve_args(&options), Source::Cluster(cluster)).await.unwrap()
}

/// Starts a replica that watches its own namespace, without waiting until it is ready.
async fn start(team: &Namespace<'_>, tenant: &Simulator) -> Running {
    start_with(team, tenant, Namespaces::Own, &[]).await
}

async fn start_with(team: &Namespace<'_>, tenant: &Simulator, namespaces: Namespaces, options: &[&str]) -> Running {
    serve(Cluster { namespaces, ..cluster(team).await }, tenant, options).await
}

/// Starts a replica and waits until it is ready.
async fn replica(team: &Namespace<'_>, tenant: &Simulator) -> Running {
    let replica = start(team, tenant).await;
    replica.becomes_ready().await;
    replica
}

/// Starts three replicas and waits until they are ready.
async fn replicas(team: &Namespace<'_>, tenant: &Simulator) -> [Running; 3] {
    let replicas = [start(team, tenant).await, start(team, tenant).await, start(team, tenant).await];
    for replica in &replicas {
        replica.becomes_ready().await;
    }
    replicas
}

/// A policy that requests a fresh list at every check.
fn one(more: Value) -> Value {
    let mut policy = policy("one", more);
    policy["spec"]["recheckAfter"] = json!("0s");
    policy
}

/// Applies both Secrets and a policy.
async fn apply_all(team: &Namespace<'_>) {
    for resource in [credentials(), callers(), one(json!({}))] {
        team.apply(resource).await;
    }
}

/// A namespace with both Secrets and a policy, and the tenant.
async fn team_with_policy(plane: &ControlPlane) -> (Namespace<'_>, Simulator) {
    let (team, tenant) = (plane.namespace(Rbac::Namespaced).await, tenant().await);
    apply_all(&team).await;
    (team, tenant)
}

/// The same, and a replica that is ready.
async fn team_with_replica(plane: &ControlPlane) -> (Namespace<'_>, Simulator, Running) {
    let (team, tenant) = team_with_policy(plane).await;
    let replica = replica(&team, &tenant).await;
    (team, tenant, replica)
}

impl Running {
    /// Whether the replica is ready, and what it waits for.
    async fn readiness(&self) -> (bool, Vec<String>) {
        let body: Value = serde_json::from_str(&self.admin("/readyz").await).unwrap();
        (body["ready"] == true, serde_json::from_value(body["pending"].clone()).unwrap())
    }

    /// The policy, limit and reason of the answer for a user of no other check.
    async fn rule(&self) -> Value {
        static USERS: AtomicU64 = AtomicU64::new(0);
        let user = format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed));
        let (status, answer) = self.ask(&json!({ "user_id": user, "client_id": APP, "sid": "s" })).await;
        // 503: a callers' Secret was not read yet.
        assert!([200, 401, 503].contains(&status), "{status} {answer}");
        json!([answer["policy"], answer["limit"], answer["reason"]])
    }

    async fn rule_becomes(&self, rule: Value) {
        eventually(&rule.to_string(), || async { self.rule().await == rule }).await;
    }
}

/// Sends one check after the other. Every check is about a new user and must be allowed by the policy.
struct Load {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
}

impl Load {
    /// Starts to send. The names of the users begin with the name of the load.
    fn start(replica: &Running, name: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, http, address) = (Arc::clone(&stop), replica.http.clone(), replica.address);
        let sender = tokio::spawn(async move {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                count += 1;
                let login = json!({ "user_id": format!("{name}-{count}"), "client_id": APP, "sid": "s" });
                let request = http.post(format!("http://{address}/check")).bearer_auth(TOKEN).json(&login);
                let answer: Value = request.send().await.unwrap().json().await.unwrap();
                assert_eq!((&answer["block"], &answer["reason"]), (&json!(false), &json!("within_limit")), "{answer}");
            }
            count
        });
        Self { stop, sender }
    }

    /// Stops, and returns the number of checks.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.await.unwrap()
    }
}
