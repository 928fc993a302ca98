//! The service whose checks meet the faults: all of it between the HTTP request and the tenants, without listeners.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use session_checker::auth0::{Auth0Metrics, TrustedCas, UpstreamOptions};
use session_checker::metrics::MetricRegistry;
use session_checker::readiness::Readiness;
use session_checker::server::Routes;
use session_checker::snapshot::ObservedState;
use tower::ServiceExt;

use super::tenant;
use super::{APP, TIMEOUT, USER};
use crate::assembly::Assembly;
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
    routes: Routes,
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
        let upstream = UpstreamOptions {
            endpoints,
            cas: TrustedCas::parse(tenant::ca().as_bytes()).unwrap(),
            observer: Arc::new(Auth0Metrics::new(&registry)),
            ..UpstreamOptions::default()
        };
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
        let assembly = Assembly::new(registry, upstream, ObservedState::default(), 16, &documents);
        Self { routes: assembly.routes(Readiness::default(), "") }
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
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}
