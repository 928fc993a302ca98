//! The rotation of a credential, and the replacement of Secrets, while checks run.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use simulator::{Application, Operation, Options, Simulator};

use super::{Load, apply_all, replicas, team_with_replica};
use crate::common::{DOMAIN, callers, credentials, eventually, tenant_with};
use crate::control_plane::{Rbac, shared};

/// The tokens that listed the sessions of a load's users, in the order of its checks.
fn tokens_of(tenant: &Simulator, load: &str) -> Vec<String> {
    let users = format!("/{load}-");
    let lists = tenant
        .requests()
        .into_iter()
        .filter(|request| request.operation == Some(Operation::List) && request.path.contains(&users));
    lists.map(|list| list.header("authorization").unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_credential_fails_no_check_and_is_not_used_again() {
    let Some(plane) = shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let tenant = tenant_with(Options { recorded_requests: 100_000, ..Options::new(DOMAIN) }).await;
    tenant.add_application(Application::with_secret("next", "next-secret"));
    apply_all(&team).await;
    let replicas = replicas(&team, &tenant).await;
    let name = format!("{}/one", team.name);
    for replica in &replicas {
        replica.rule_becomes(json!([name, 1, "within_limit"])).await;
    }
    let names = ["load-a", "load-b", "load-c"];
    let loads: Vec<_> = replicas.iter().zip(names).map(|(replica, name)| Load::start(replica, name)).collect();
    for name in names {
        eventually("the load runs", async || tokens_of(&tenant, name).len() > 10).await;
    }
    let before: HashSet<String> = names.iter().flat_map(|name| tokens_of(&tenant, name)).collect();

    let mut next = credentials();
    next["stringData"]["clientId"] = json!("next");
    next["stringData"]["clientSecret"] = json!("next-secret");
    team.apply(next).await;
    let is_new = |token: &String| !before.contains(token);
    for name in names {
        eventually("the new credential is in use", async || {
            tokens_of(&tenant, name).iter().filter(|token| is_new(token)).count() > 20
        })
        .await;
    }
    join_all(loads.into_iter().map(Load::stop)).await;

    for name in names {
        let tokens = tokens_of(&tenant, name);
        let first = tokens.iter().position(is_new).unwrap();
        assert!(tokens[first..].iter().all(is_new), "{name}: the old credential was used again");
        let used: HashSet<_> = tokens.iter().collect();
        assert_eq!(used.len(), 2, "{name}: one token for each credential");
    }
}

/// A deleted Secret stays in use for longer than this.
const IN_USE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn secret_that_is_deleted_and_made_again_fails_no_check() {
    let Some(plane) = shared().await else { return };
    let (team, _tenant, replica) = team_with_replica(plane).await;
    let expected = json!([format!("{}/one", team.name), 1, "within_limit"]);
    replica.rule_becomes(expected.clone()).await;
    let secrets = team.admin::<Secret>();
    for (name, secret) in [("tenant", credentials()), ("callers", callers())] {
        let mut shown = 0;
        for _ in 0..50 {
            let began = Instant::now();
            secrets.delete(name, &DeleteParams::default()).await.unwrap();
            let mut rules = Vec::new();
            for check in 0..40 {
                if check == 20 {
                    team.apply(secret.clone()).await;
                }
                rules.push(replica.rule().await);
            }
            // On a busy machine all this may take longer than the deleted Secret stays in use. That round shows nothing.
            if began.elapsed() < IN_USE {
                assert!(rules.iter().all(|rule| *rule == expected), "{name}: {rules:?}");
                shown += 1;
            }
            replica.rule_becomes(expected.clone()).await;
            if shown == 3 {
                break;
            }
        }
        assert_eq!(shown, 3, "{name}: every round took too long");
    }
}
