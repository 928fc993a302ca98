//! The environment of a replica: an API server with policies and Secrets, and the tenants of the policies.

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
    policies::{TENANTS, callers, credentials, domain, policy, secret},
};

/// How many policies are created concurrently.
const CONCURRENT_CREATES: usize = 32;
/// The client ids of a credential before and after its change. [`secret`] derives the client secret from them.
const CREDENTIALS: [&str; 2] = ["before", "after"];

/// An API server with all objects, and the running tenants.
pub struct Scene<'a> {
    /// Number of policies. Their names are `policy-0`, `policy-1`, …
    pub policies: usize,
    namespace: Namespace<'a>,
    tenants: Vec<Simulator>,
    sessions: Api<SessionPolicy>,
    secrets: Api<Secret>,
}

impl<'a> Scene<'a> {
    /// Creates this many policies, each for a different application, and the tenants, each with a credential and callers.
    pub async fn create(plane: &'a ControlPlane, policies: usize) -> Result<Self> {
        let namespace = plane.namespace(Rbac::Namespaced).await;
        let mut tenants = Vec::new();
        for tenant in 0..TENANTS {
            let simulator =
                Simulator::start(Options { knows_every_user: true, ..Options::new(domain(tenant)) }).await?;
            for id in CREDENTIALS {
                simulator.add_application(Application::with_secret(id, secret(id)));
            }
            tenants.push(simulator);
        }
        let (sessions, secrets) = (namespace.admin(), namespace.admin());
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
        stream::iter(0..policies).map(Ok).try_for_each_concurrent(CONCURRENT_CREATES, create).await?;
        eprintln!("created {policies} policies and {} Secrets in {:.1?}", 2 * TENANTS, begun.elapsed());
        Ok(scene)
    }

    /// The path of the replica's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.namespace.kubeconfig()
    }

    /// The URL of each tenant, in the syntax of `--auth0-endpoint`.
    pub fn endpoints(&self) -> impl Iterator<Item = String> {
        self.tenants.iter().enumerate().map(|(tenant, simulator)| format!("{}={}", domain(tenant), simulator.url()))
    }

    /// Changes the limit of a policy. Returns after the API server's answer.
    pub async fn set_limit(&self, policy: usize, limit: usize) -> Result<()> {
        let patch = Patch::Merge(json!({ "spec": { "limits": { "perClient": limit } } }));
        self.sessions.patch(&format!("policy-{policy}"), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes the credential of a tenant. Returns after the API server's answer.
    pub async fn rotate(&self, tenant: usize) -> Result<()> {
        let patch = Patch::Merge(credentials(tenant, CREDENTIALS[1]));
        self.secrets.patch(&format!("tenant-{tenant}"), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The `Authorization` header of the last list request to a tenant.
    pub fn last_token(&self, tenant: usize) -> Option<String> {
        let requests = self.tenants[tenant].requests();
        let list = requests.iter().rev().find(|request| request.operation == Some(Operation::List))?;
        list.header("authorization").map(str::to_owned)
    }

    /// Counts the requests to the API server during this time. Returns requests per hour, by verb and resource.
    pub async fn quiet(&self, time: Duration) -> BTreeMap<String, f64> {
        // Requests that follow from earlier changes end within this time.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = self.namespace.audited().len();
        tokio::time::sleep(time).await;
        let mut counts = BTreeMap::new();
        for event in self.namespace.audited().into_iter().skip(before) {
            // A watch has a second event when it ends. The watch counts once.
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
