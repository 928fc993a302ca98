//! User ids as tenants have them: any characters, from the request to the path at Auth0 and back.

use jiff::SignedDuration;
use serde_json::json;
use simulator::{Operation, Session};

use crate::common::{APP, Running, callers, credentials, policy, tenant};

#[tokio::test(flavor = "multi_thread")]
async fn user_with_any_id_is_limited_evicted_and_exempted() {
    let ids = [
        "samlp|acme|Ann Lee",
        " ",
        "a\u{a0}b",
        "line\r\nend",
        "tab\tand\u{0}nul",
        "\u{85}\u{2028}\u{feff}",
        "auth0|../../x?y#z%2F",
        &"\u{1f600}".repeat(1024),
    ];
    let tenant = tenant().await;
    let others: Vec<String> = ids.iter().map(|id| format!("{id}!")).map(|id| id.chars().take(1024).collect()).collect();
    let exempt =
        json!({ "overrides": [{ "name": "vip", "users": [&others[0], &others[3], &ids[7]], "exempt": true }] });
    let mut revoking = exempt.clone();
    revoking["strategy"] = "RevokeOldest".into();
    revoking["selector"] = json!({ "clientIds": ["app-2"] });
    let documents = [credentials(), callers(), policy("one", exempt), policy("two", revoking)];
    let service = Running::folder(&tenant, &documents, &[]).await;
    for (number, id) in ids[..7].iter().enumerate() {
        let began = tenant.now() - SignedDuration::from_hours(1);
        tenant.add_session(id, Session::new(format!("s{number}"), began).client(APP).client("app-2"));
        assert_eq!(service.check(id, APP, "new").await["reason"], "limit_exceeded", "{id:?}");
        assert_eq!(service.check(id, "app-2", "new").await["reason"], "evicted", "{id:?}");
        assert!(tenant.sessions_of(id).is_empty(), "{id:?}");
    }
    assert_eq!(tenant.count(Operation::Revoke), 7);
    for id in [&*others[0], &*others[3], ids[7]] {
        assert_eq!(service.check(id, APP, "new").await["reason"], "exempt", "{id:?}");
    }
    for (id, status) in [("", 422), (".", 422), ("..", 422), (&*"x".repeat(1025), 422)] {
        assert_eq!(service.ask(&json!({ "user_id": id, "client_id": APP })).await.0, status);
    }
}
