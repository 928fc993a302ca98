//! A service that nobody asked yet fills every panel of the dashboard, in a real Prometheus.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Running, callers, credentials, eventually, policy, tenant};
use crate::monitoring::panels;
use crate::ports::free_port;

/// Panels that need more than a fresh service with files: an answer of Auth0, or a cluster (`make e2e` evaluates those).
const LATER: [&str; 5] = ["Rate limit left", "Since the last contact", "Leader", "Reconciles", "Reconcile duration"];

/// Ends with the test.
struct Prometheus {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Prometheus {
    /// Scrapes a service every second. `None` if `prometheus` is not installed. In CI it has to be.
    #[expect(clippy::print_stdout, reason = "a skip has to be visible")]
    fn start(service: &Running) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let rules = format!("{}/charts/session-checker/files/rules.yaml", env!("CARGO_MANIFEST_DIR"));
        let configuration = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "session-checker",
                "static_configs": [{
                    "targets": [service.admin_address.to_string()],
                    "labels": { "namespace": "login", "pod": "session-checker-0" },
                }],
            }],
        });
        std::fs::write(folder.path().join("prometheus.yaml"), configuration.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let started = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(process) => Some(Self { process, url: format!("http://{address}"), _folder: folder }),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "prometheus is needed in CI: {error}");
                println!("SKIPPED: prometheus cannot be started: {error}");
                None
            }
        }
    }

    /// Whether a query has a result. Panics if the query is wrong.
    async fn has_series(&self, http: &reqwest::Client, query: &str) -> bool {
        let request = http.post(format!("{}/api/v1/query", self.url)).form(&[("query", query)]);
        let Ok(answer) = request.send().await else { return false };
        // Before it is ready, it answers in words.
        let Ok(answer) = answer.json::<Value>().await else { return false };
        assert_ne!(answer["errorType"], "bad_data", "{query}: {}", answer["error"]);
        answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
    }
}

/// The queries of every panel, as Grafana asks them when "All" is selected.
fn queries() -> Vec<(&'static str, String)> {
    let shown = panels().into_iter().filter(|panel| !LATER.contains(&panel["title"].as_str().unwrap()));
    let targets = shown.flat_map(|panel| {
        let title = panel["title"].as_str().unwrap();
        panel["targets"].as_array().unwrap().iter().map(move |target| (title, target["expr"].as_str().unwrap()))
    });
    targets
        .map(|(title, expression)| {
            let mut query = expression.replace("$__rate_interval", "5s").replace("$__range", "1m");
            for variable in ["$cluster", "$namespace", "$job", "$tenant", "$policy"] {
                query = query.replace(variable, ".*");
            }
            (title, query)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_service_fills_every_panel() {
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    let Some(prometheus) = Prometheus::start(&service) else { return };
    let http = reqwest::Client::new();
    for (title, query) in queries() {
        let what = format!("panel {title} has series: {query}");
        eventually(&what, || prometheus.has_series(&http, &query)).await;
    }
    service.stop().await.unwrap();
}
