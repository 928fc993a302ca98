//! The routes for operating the service.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::App;
use crate::policy::{Finding, PolicyReport, Rule, Selector};

/// The process is alive.
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// Whether checks should be sent here, and what is still waited for.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = app.readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "pending": app.readiness.pending() }))).into_response()
}

/// The metrics, in the text format of Prometheus.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.metrics.ledger(app.checker.ledger_stats());
    app.metrics.end_series(&app.checker.in_force().reports);
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], app.metrics.encode()).into_response()
}

/// What is loaded, without secrets and without naming users.
pub(super) async fn policies(State(app): State<Arc<App>>) -> Json<Value> {
    let in_force = app.checker.in_force();
    let policies: Vec<Value> = in_force.reports.iter().map(describe).collect();
    let files: Vec<Value> =
        in_force.files.iter().map(|file| json!({ "file": file.file, "error": file.error })).collect();
    Json(json!({
        "generation": in_force.generation,
        "since": in_force.since.to_string(),
        "force_audit": in_force.force_audit,
        "policies": policies,
        "broken_files": files,
    }))
}

fn describe(report: &PolicyReport) -> Value {
    let condition = |(condition, finding): (&str, Finding)| {
        let (status, reason) = (finding.truth.as_str(), finding.reason.as_str());
        json!({ "type": condition, "status": status, "reason": reason, "message": finding.message })
    };
    json!({
        "name": report.name.to_string(),
        "generation": report.generation,
        "in_force": report.in_force.as_str(),
        "ready": report.is_ready(),
        "errors": report.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "credentials": report.credentials_ready().problem().unwrap_or("ready"),
        "callers": report.callers.problem(),
        "conditions": report.conditions().map(condition),
        "rule": report.rule.as_deref().map(describe_rule),
    })
}

fn describe_rule(rule: &Rule) -> Value {
    let (claim, stance) = (rule.claim(), rule.stance());
    let terms = match rule {
        Rule::Invalid(_) => Value::Null,
        Rule::Compiled(policy) => json!({
            "generation": policy.generation,
            "limits": policy.limits.to_string(),
            "reentry": policy.reentry,
            "strategy": policy.strategy,
            "timeout_seconds": policy.timeout.as_secs_f64(),
            "overrides": policy.overrides.iter().map(|exception| json!({
                "name": exception.name,
                "users": exception.users.as_ref().map(std::collections::HashSet::len),
                "roles": exception.roles,
                "selector": describe_selector(&exception.selector),
                "limits": exception.limits.map_or_else(|| "exempt".to_owned(), |limits| limits.to_string()),
                "expires_at": exception.expires_at.map(|at| at.to_string()),
            })).collect::<Vec<_>>(),
        }),
    };
    json!({
        "tenant": claim.tenant.domain(),
        "custom_domain": claim.tenant.custom_domain(),
        "callers_secret": claim.callers.as_ref().map(ToString::to_string),
        "selector": describe_selector(&claim.selector),
        "priority": claim.priority,
        "mode": stance.mode,
        "failure_policy": stance.failure_policy,
        "terms": terms,
    })
}

fn describe_selector(selector: &Selector) -> Value {
    json!({
        "client_ids": selector.clients,
        "organizations": selector.organizations,
        "connections": selector.connections,
    })
}
