//! What policies of different teams that name the same tenant may change for each other.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::common::{APP, DOMAIN, Running, callers, credentials, eventually, policy, tenant};

/// The policy of another team, with a Secret of its own for the same tenant.
fn strangers_policy(spec: Value, secret: Value) -> [Value; 2] {
    let mut written = policy("stranger", spec);
    written["metadata"]["namespace"] = json!("other");
    let mut credentials = credentials();
    credentials["metadata"]["namespace"] = json!("other");
    credentials["stringData"] = secret;
    [written, credentials]
}

/// How many of thirty logins at once are decided.
async fn decided(service: &Running) -> usize {
    let all =
        (0..30).map(|user| async move { service.check(&format!("user-{user}"), APP, "sid").await["reason"].clone() });
    join_all(all).await.into_iter().filter(|reason| reason == "within_limit").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_without_a_proven_credential_sets_no_quota() {
    let low = json!({ "tenant": { "requestsPerSecond": 1 }, "selector": { "clientIds": ["none"] } });
    let low_at = |host: &str| {
        let mut spec = low.clone();
        spec["tenant"]["customDomain"] = json!(host);
        spec
    };
    for (spec, secret) in [
        (low.clone(), json!({})),
        (low.clone(), json!({ "domain": DOMAIN, "clientId": "checker", "clientSecret": "guessed" })),
        (
            low_at("evil.example"),
            json!({ "domain": DOMAIN, "customDomain": "evil.example", "clientId": "checker", "clientSecret": "checker-secret" }),
        ),
    ] {
        let tenant = tenant().await;
        let [strangers, their_secret] = strangers_policy(spec, secret);
        let own = policy("own", json!({ "timeout": "5s" }));
        let documents = [credentials(), callers(), own, strangers, their_secret];
        // The host of the stranger accepts every credential.
        let evil = format!("evil.example={}", tenant.url());
        let service = Running::folder(&tenant, &documents, &["--auth0-endpoint", &evil]).await;
        let proven = format!("session_checker_policy_ready{{policy=\"default/own\",tenant=\"{DOMAIN}\"}}");
        eventually("the credential is proven", || async { service.metric(&proven).await == Some(1.0) }).await;
        assert_eq!(decided(&service).await, 30, "{}", service.admin("/debug/policies").await);
        service.stop().await.unwrap();
    }
}
