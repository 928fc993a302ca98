//! The service whose checks meet the faults: all of it between the HTTP request and the tenants, without listeners.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use session_checker::auth0::{Auth0Metrics, QuotaConfig, TrustedCas, Upstream, UpstreamOptions};
use session_checker::check::{CheckMetrics, Checker};
use session_checker::coverage::{Coverage, CoverageOptions};
use session_checker::ledger::{Failover, Ledger, Memory};
use session_checker::metrics::MetricRegistry;
use session_checker::readiness::Readiness;
use session_checker::server::{App, Rejections, ServerMetrics, check_router};
use session_checker::shutdown::Shutdown;
use session_checker::snapshot::{ObservedState, Publisher, SnapshotMetrics};
use session_checker::source::read_documents;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::tenant;
use super::{APP, TIMEOUT, USER};
use crate::common::{TOKEN, callers, policy};

/// One policy.
pub struct Cell {
    /// Whether its failure policy is `Deny`.
    pub blocks: bool,
    /// The URL of its tenant.
    pub url: String,
}

/// A service with a policy and a tenant for each cell.
pub struct Service {
    router: Router,
}

fn domain(number: usize) -> String {
    format!("t{number}.eu.auth0.com")
}

impl Service {
    pub fn new<'a>(cells: impl Iterator<Item = &'a Cell>) -> Self {
        let cells: Vec<&Cell> = cells.collect();
        let registry = MetricRegistry::new();
        let endpoints = cells.iter().enumerate();
        let endpoints = endpoints.map(|(number, cell)| (domain(number), cell.url.parse().unwrap())).collect();
        let upstream = Upstream::new(UpstreamOptions {
            endpoints,
            cas: TrustedCas::parse(tenant::ca().as_bytes()).unwrap(),
            proxy: None,
            quotas: QuotaConfig::default(),
            observer: Arc::new(Auth0Metrics::new(&registry)),
        });
        let metrics = SnapshotMetrics::new(&registry);
        let publisher = Publisher::new(upstream.unwrap(), ObservedState::default(), 16, metrics);
        let mut documents = vec![callers()];
        for (number, cell) in cells.iter().enumerate() {
            let name = format!("tenant-{number}");
            documents.push(json!({
                "apiVersion": "v1", "kind": "Secret", "type": "sessionchecker.dev/credentials",
                "metadata": { "name": name },
                "stringData": { "domain": domain(number), "clientId": "checker", "clientSecret": "checker-secret" },
            }));
            let more = json!({
                "tenant": { "domain": domain(number), "credentialsSecretRef": { "name": name } },
                "strategy": "RevokeOldest",
                "failurePolicy": if cell.blocks { "Deny" } else { "Allow" },
                "timeout": format!("{}s", TIMEOUT.as_secs()),
            });
            documents.push(policy(&format!("policy-{number}"), more));
        }
        publisher.update(|observed| {
            for document in documents {
                let documents = read_documents(&document.to_string()).unwrap();
                documents.into_iter().for_each(|document| document.feed(&mut observed.index));
            }
        });
        let ledger = Arc::new(Ledger::new(Failover::new(Memory::new(1_000), None)));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"tests");
        let readiness = Readiness::default();
        let metrics = CheckMetrics::new(&registry);
        let last_checks = Arc::clone(metrics.last_checks());
        let coverage = Arc::new(Coverage::new(CoverageOptions::default(), None, &registry, last_checks));
        let app = App {
            checker: Checker::new(publisher.current(), ledger, metrics, key, Arc::clone(&coverage)),
            coverage,
            log_batches: App::log_batches(),
            readiness,
            shutdown: Shutdown::default(),
            metrics: ServerMetrics::new(&registry),
            rejections: Rejections::default(),
            registry,
            checks: TaskTracker::new(),
        };
        Self { router: check_router(Arc::new(app), "") }
    }

    /// Sends the check of a cell. Returns the status and the body.
    pub async fn check(&self, number: usize) -> (u16, Value) {
        let body = json!({ "user_id": USER, "client_id": APP, "sid": "new", "tenant": domain(number) });
        let request = Request::post("/check")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {TOKEN}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}
