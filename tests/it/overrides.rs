//! Overrides that match nothing are seen: each has a series from the start, and it ends with the override.

use serde_json::{Value, json};

use crate::common::{APP, Running, callers, credentials, eventually, folder, policy, tenant, write};

fn with_overrides(overrides: Value) -> [Value; 3] {
    [credentials(), callers(), policy("one", json!({ "overrides": overrides }))]
}

#[tokio::test(flavor = "multi_thread")]
async fn override_that_matches_nothing_has_a_series_of_zero() {
    let tenant = tenant().await;
    let (vip, staff) = (
        json!({ "name": "vip", "users": ["ann"], "exempt": true }),
        json!({ "name": "staff", "users": ["bob"], "limits": { "perUser": 9 } }),
    );
    let never = json!({ "name": "never", "users": ["ann@example.com"], "exempt": true });
    let expired = json!({ "name": "expired", "users": ["eve"], "exempt": true, "expiresAt": "2020-01-01T00:00:00Z" });
    let folder = folder(&with_overrides(json!([vip, staff, never, expired])));
    let service = Running::path(&tenant, folder.path(), &[]).await;
    for (user, sid) in [("ann", "a"), ("ann", "b"), ("bob", "c"), ("eve", "d")] {
        assert_eq!(service.check(user, APP, sid).await["block"], false);
    }
    let matched = async |name: &str| {
        let labels = format!("{{override=\"{name}\",policy=\"default/one\",tenant=\"acme.eu.auth0.com\"}}");
        service.metric(&format!("session_checker_override_checks_total{labels}")).await
    };
    assert_eq!((matched("vip").await, matched("staff").await), (Some(2.0), Some(1.0)));
    assert_eq!((matched("never").await, matched("expired").await), (Some(0.0), None));
    write(folder.path(), "policies.yaml", &with_overrides(json!([vip])));
    eventually("the series ends with its override", async || matched("never").await.is_none()).await;
    assert_eq!((matched("vip").await, matched("staff").await), (Some(2.0), None));
}
