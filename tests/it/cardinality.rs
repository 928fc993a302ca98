//! The series of the metrics follow policies and tenants. What callers send makes none.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::json;
use simulator::Session;

use crate::common::{APP, Running, callers, credentials, policy, tenant};

impl Running {
    /// Every series, by its name and labels.
    async fn series(&self) -> BTreeSet<String> {
        let text = self.admin("/metrics").await;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    }

    /// Sends something different in every place where a caller chooses: its names, its path, its method and its token.
    async fn ask_anything(&self, number: usize) {
        let url = format!("http://{}", self.address);
        let named = |what: &str| format!("{what}-{number}");
        for client in [APP.to_owned(), named("client")] {
            let login = json!({
                "user_id": named("auth0|user"), "client_id": client, "sid": named("sid"), "tenant": named("tenant"),
                "connection": named("connection"), "organization_id": named("org_x"), "protocol": named("protocol"),
                "skip_protocols": [named("skipped")],
            });
            self.ask(&login).await;
        }
        let method = Method::from_bytes(named("METHOD").as_bytes()).unwrap();
        let requests = [
            self.http.get(format!("{url}/{}", named("path"))),
            self.http.post(format!("{url}/{}/check", named("prefix"))).bearer_auth(named("a-token-of-nobody")),
            self.http.request(method, format!("{url}/check")),
            self.http.post(format!("{url}/check")).body(named("no JSON")),
        ];
        for request in requests {
            request.send().await.unwrap();
        }
    }
}

/// How many made-up clients ask: far more than a tenant has applications.
const MADE_UP_CLIENTS: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn made_up_clients_make_no_series_and_no_unbounded_memory() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    // Most of them need no list, so that the test takes seconds. The others are over the limit.
    let is_over = |number: usize| number.is_multiple_of(100);
    for number in (0..=MADE_UP_CLIENTS).filter(|number| is_over(*number)) {
        let session = Session::new(format!("other-{number}"), tenant.now()).client(&format!("client-{number}"));
        tenant.add_session(&format!("auth0|user-{number}"), session);
    }
    let login = |number: usize| {
        let protocol = if is_over(number) { "oidc-basic-profile" } else { "oauth2-refresh-token" };
        json!({
            "user_id": format!("auth0|user-{number}"), "client_id": format!("client-{number}"),
            "sid": format!("sid-{number}"), "protocol": protocol,
        })
    };
    for number in [0, 1] {
        assert_eq!(service.ask(&login(number)).await.1["policy"], "default/one");
    }
    let series = service.series().await;
    let asked = stream::iter(2..=MADE_UP_CLIENTS).map(|number| {
        let (service, login) = (&service, login(number));
        async move { service.ask(&login).await.0 }
    });
    let statuses: BTreeSet<u16> = asked.buffer_unordered(32).collect().await;
    assert_eq!(statuses, BTreeSet::from([200]));
    assert_eq!(service.series().await.difference(&series).collect::<Vec<_>>(), Vec::<&String>::new());
    let over = r#"session_checker_over_limit_total{application="other",outcome="blocked",policy="default/one",scope="client",tenant="acme.eu.auth0.com"}"#;
    assert_eq!(service.metric(over).await, Some(101.0));
    let users = r#"session_checker_blocked_users{policy="default/one",tenant="acme.eu.auth0.com"}"#;
    assert_eq!(service.metric(users).await, Some(101.0));
    let bytes = service.metric("session_checker_decision_record_bytes").await.unwrap();
    assert!(bytes <= f64::from(6 << 20), "{bytes} bytes of records");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_make_no_series_of_their_own() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    service.ask_anything(0).await;
    let series = service.series().await;
    assert!(series.len() > 100, "{}", series.len());
    for number in 1..20 {
        service.ask_anything(number).await;
    }
    assert_eq!(service.series().await.difference(&series).collect::<Vec<_>>(), Vec::<&String>::new());
    service.stop().await.unwrap();
}
