//! The handlers of the admin listener: probes, metrics and the loaded policies; and the probe of the port for checks.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::app::App;
use super::openapi;
use crate::decisions::DecisionQuery;
use crate::doctor::Observation;
use crate::metrics::LiveSeries;
use crate::policy::{Condition, PolicyReport, PolicyVersion, Selector};

/// How many decisions are shown unless the request says so.
const DEFAULT_DECISIONS: usize = 20;

/// Answers while the process runs.
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// Says whether checks should be sent here, which start conditions are pending, and how many policies are loaded.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let ready = app.readiness.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let policies = app.checker.snapshot().reports.len();
    (status, Json(json!({ "ready": ready, "pending": app.readiness.pending(), "policies": policies }))).into_response()
}

/// The same for load balancers that probe the port for checks, in one word: the port is open to strangers.
pub(super) async fn healthz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.readiness.is_ready() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    }
}

/// The metrics in the Prometheus text format. With a thousand policies they take milliseconds and megabytes: a thread of its own
/// keeps no check waiting, and gives the memory back when it ends.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, StatusCode> {
    let scrape = move || {
        let snapshot = app.checker.snapshot();
        app.checker.show_policies(&snapshot);
        snapshot.policy_set.log_stream_tenants().for_each(|tenant| app.coverage.metrics().begin(tenant));
        let live = LiveSeries::new(snapshot.reports.iter().map(|report| (report.name.to_string(), report.tenant())));
        app.registry.scrape(&live)
    };
    let text = spawn_blocking(scrape).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// The OpenAPI document of the port for checks.
pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::DOCUMENT.as_str()).into_response()
}

/// The loaded policies, without secrets and user ids.
pub(super) async fn policies(State(app): State<Arc<App>>) -> Json<Value> {
    let snapshot = app.checker.snapshot();
    let policies: Vec<Value> = snapshot.reports.iter().map(|report| describe(report, &app)).collect();
    let files: Vec<Value> =
        snapshot.files.iter().map(|file| json!({ "file": file.file, "error": file.error })).collect();
    Json(json!({
        "generation": snapshot.generation,
        "since": snapshot.since.to_string(),
        "force_audit": snapshot.forced_audit.of_all().is_some(),
        "policies": policies,
        "broken_files": files,
    }))
}

/// An examination of the policies, their tenants and the ledger.
pub(super) async fn doctor(State(app): State<Arc<App>>) -> Json<Value> {
    let snapshot = app.checker.snapshot();
    let observe = |report: &PolicyReport| Observation {
        last_check: app.checker.last_check(&report.name),
        enforcing: report.enforcing(app.coverage.evidence(&report.name)),
    };
    let examination = app.doctor.examine(&snapshot, Some(&observe)).await;
    Json(json!(*examination))
}

/// Which decisions to show.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DecisionParameters {
    /// The user id.
    user: Option<String>,
    /// The hash of the user, as in log lines.
    user_hash: Option<String>,
    request_id: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<usize>,
}

/// The records of decisions, the latest first.
pub(super) async fn decisions(State(app): State<Arc<App>>, Query(asked): Query<DecisionParameters>) -> Json<Value> {
    let decisions = app.checker.decisions();
    let query = DecisionQuery {
        user: asked.user.map(|user| decisions.hash(&user)).or(asked.user_hash),
        request_id: asked.request_id,
        since: asked.since,
        until: asked.until,
        limit: asked.limit.unwrap_or(DEFAULT_DECISIONS),
    };
    let (records, shared) = decisions.find(&query).await;
    Json(json!({ "shared": shared, "decisions": records }))
}

/// The user whose hash to show.
#[derive(Deserialize)]
pub(super) struct HashParameters {
    user: String,
}

/// The hash under which a user appears in log lines and records.
pub(super) async fn hash(State(app): State<Arc<App>>, Query(asked): Query<HashParameters>) -> Json<Value> {
    Json(json!({ "hash": app.checker.decisions().hash(&asked.user) }))
}

fn describe(report: &PolicyReport, app: &App) -> Value {
    let condition = |condition: Condition| {
        let (status, reason) = (condition.status.as_str(), condition.reason.as_str());
        json!({ "type": condition.kind.as_str(), "status": status, "reason": reason, "message": condition.message })
    };
    json!({
        "name": report.name.to_string(),
        "generation": report.generation,
        "in_force": report.active_version.as_str(),
        "ready": report.is_ready(),
        "last_check": app.checker.last_check(&report.name).map(|at| at.to_string()),
        "warnings": report.warnings,
        "errors": report.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "credentials": report.credentials_ready().problem().unwrap_or("ready"),
        "callers": report.callers.problem(),
        "conditions": report.conditions().map(condition),
        "enforcing": condition(report.enforcing(app.coverage.evidence(&report.name))),
        "rule": report.version.as_deref().map(describe_rule),
    })
}

fn describe_rule(rule: &PolicyVersion) -> Value {
    let (scope, enforcement) = (rule.scope(), rule.enforcement());
    let terms = match rule {
        PolicyVersion::Invalid(_) => Value::Null,
        PolicyVersion::Compiled(policy) => json!({
            "generation": policy.generation,
            "limits": policy.limits.to_string(),
            "reentry": policy.reentry,
            "strategy": policy.strategy,
            "timeout_seconds": policy.timeout.as_secs_f64(),
            "actors": policy.actors,
            "overrides": policy.overrides.iter().map(|policy_override| json!({
                "name": policy_override.name,
                "users": policy_override.users.as_ref().map(std::collections::HashSet::len),
                "roles": policy_override.roles,
                "selector": describe_selector(&policy_override.selector),
                "limits": policy_override.limits.map_or_else(|| "exempt".to_owned(), |limits| limits.to_string()),
                "expires_at": policy_override.expires_at.map(|at| at.to_string()),
            })).collect::<Vec<_>>(),
        }),
    };
    json!({
        "tenant": scope.tenant.domain(),
        "custom_domain": scope.tenant.custom_domain(),
        "tenant_names": scope.tenant.names().collect::<Vec<_>>(),
        "callers_secret": scope.callers.as_ref().map(ToString::to_string),
        "selector": describe_selector(&scope.selector),
        "priority": scope.priority,
        "mode": enforcement.mode,
        "failure_policy": enforcement.failure_policy,
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
