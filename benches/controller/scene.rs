//! What there is before a replica starts: an API server with policies and Secrets, and their tenants.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use session_checker::crd::SessionPolicy;
use simulator::{Application, Operation, Options, Simulator};

use crate::{
    Result,
    control_plane::{ControlPlane, Namespace, Rbac},
};

/// How many tenants the policies are spread over.
pub const TENANTS: usize = 100;
/// How many objects are created at the same time.
const AT_ONCE: usize = 32;
/// The client ids that a credential has before and after it is changed; the secret follows from them.
const CREDENTIALS: [&str; 2] = ["before", "after"];

/// A cluster that is furnished.
pub struct Scene<'a> {
    /// How many policies there are: `policy-0`, `policy-1`, …
    pub policies: usize,
    namespace: Namespace<'a>,
    tenants: Vec<Simulator>,
    sessions: Api<SessionPolicy>,
    secrets: Api<Secret>,
}

impl<'a> Scene<'a> {
    /// Makes so many policies, each for an application of its own, and tenants with a credential and callers each.
    pub async fn furnish(plane: &'a ControlPlane, policies: usize) -> Result<Self> {
        let namespace = plane.namespace(Rbac::Namespaced).await;
        let mut tenants = Vec::new();
        for tenant in 0..TENANTS {
            let simulator = Simulator::start(Options::new(domain(tenant))).await?;
            for id in CREDENTIALS {
                simulator.add_application(Application::with_secret(id, secret(id)));
            }
            tenants.push(simulator);
        }
        let (sessions, secrets) = (namespace.admin().await, namespace.admin().await);
        let scene = Self { policies, namespace, tenants, sessions, secrets };
        let begun = Instant::now();
        for tenant in 0..TENANTS {
            for secret in [credentials(tenant, CREDENTIALS[0]), callers(tenant)] {
                scene.secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
            }
        }
        let create = async |number: usize| -> Result<()> {
            let policy: SessionPolicy = serde_json::from_value(policy(number))?;
            scene.sessions.create(&PostParams::default(), &policy).await?;
            Ok(())
        };
        stream::iter(0..policies).map(Ok).try_for_each_concurrent(AT_ONCE, create).await?;
        eprintln!("{policies} policies and {} Secrets are there after {:.1?}", 2 * TENANTS, begun.elapsed());
        Ok(scene)
    }

    /// The kubeconfig of a replica.
    pub fn kubeconfig(&self) -> PathBuf {
        self.namespace.kubeconfig()
    }

    /// Where each tenant is, as `--auth0-endpoint` wants it.
    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        self.tenants.iter().enumerate().map(|(tenant, simulator)| format!("{}={}", domain(tenant), simulator.url()))
    }

    /// Changes the limit of a policy; the API server has answered when this returns.
    pub async fn set_limit(&self, policy: usize, limit: usize) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": { "limits": { "perClient": limit } } }));
        self.sessions.patch(&format!("policy-{policy}"), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Replaces the credential of a tenant.
    pub async fn rotate(&self, tenant: usize) -> Result<()> {
        let patch = Patch::Merge(credentials(tenant, CREDENTIALS[1]));
        self.secrets.patch(&format!("tenant-{tenant}"), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The token with which the tenant was last asked for a list.
    pub fn last_token(&self, tenant: usize) -> Option<String> {
        let requests = self.tenants[tenant].requests();
        let list = requests.iter().rev().find(|request| request.operation == Some(Operation::List))?;
        list.header("authorization").map(str::to_owned)
    }

    /// What the service asks the API server for in so long, by verb and resource.
    pub async fn quiet(&self, time: Duration) -> BTreeMap<String, f64> {
        // What the changes before have set off comes to an end first.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = self.namespace.audited().len();
        tokio::time::sleep(time).await;
        let mut counts = BTreeMap::new();
        for event in self.namespace.audited().into_iter().skip(before) {
            // A watch is there again when it ends.
            if event["verb"] == "watch" && event["stage"] == "ResponseComplete" {
                continue;
            }
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            *counts
                .entry(format!("{} {}", text(&event["verb"]), text(&event["objectRef"]["resource"])))
                .or_insert(0.0) += 3_600.0 / time.as_secs_f64();
        }
        counts
    }
}

/// The application that a policy is for.
pub fn application(policy: usize) -> String {
    format!("app-{policy}")
}

/// The token of the callers that a policy's tenant has.
pub fn caller_token(policy: usize) -> String {
    format!("a-callers-token-of-tenant-{}", policy % TENANTS)
}

fn domain(tenant: usize) -> String {
    format!("t{tenant}.eu.auth0.com")
}

fn secret(id: &str) -> String {
    format!("{id}-secret")
}

fn policy(number: usize) -> Value {
    let tenant = number % TENANTS;
    json!({
        "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy", "metadata": { "name": format!("policy-{number}") },
        "spec": {
            "tenant": { "domain": domain(tenant), "credentialsSecretRef": { "name": format!("tenant-{tenant}") } },
            "callerSecretRef": { "name": format!("callers-{tenant}") },
            "selector": { "clientIds": [application(number)] },
            "limits": { "perClient": 1 },
            "overrides": [{ "name": "support", "users": ["auth0|507f1f77bcf86cd799439020"], "exempt": true }],
        },
    })
}

fn credentials(tenant: usize, id: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("tenant-{tenant}") },
        "type": "sessionchecker.dev/credentials",
        "stringData": { "domain": domain(tenant), "clientId": id, "clientSecret": secret(id) },
    })
}

fn callers(tenant: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("callers-{tenant}") },
        "type": "sessionchecker.dev/callers", "stringData": { "bench": caller_token(tenant) },
    })
}
