//! The series of the metrics follow policies and tenants. What callers send makes none.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

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
