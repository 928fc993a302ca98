//! `POST /oauth/token`: authenticates the client and issues an access token.

use std::collections::HashMap;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use serde_json::json;

use super::answer::{token_answer, token_error};
use super::application::Application;
use super::assertion;
use super::requests::form;
use super::tenant::Tenant;
use super::tokens::{header, host};

/// An OAuth error: status, `error` and `error_description`.
struct GrantError(StatusCode, &'static str, &'static str);

/// Answers a request for a token.
pub(super) fn answer(tenant: &Tenant, parts: &Parts, body: &[u8]) -> Response {
    match grant(tenant, parts, body) {
        Ok(granted) => token_answer(StatusCode::OK, granted),
        Err(GrantError(status, error, description)) => token_error(status, error, description),
    }
}

fn grant(tenant: &Tenant, parts: &Parts, body: &[u8]) -> Result<String, GrantError> {
    let fields = fields(parts, body)?;
    match fields.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        Some(_) => return Err(GrantError(StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type")),
        None => return Err(invalid_request("Missing required parameter: grant_type")),
    }
    let now = tenant.now();
    let application = authenticate(tenant, parts, &fields, now)?;
    let audience = fields.get("audience").ok_or_else(|| invalid_request("Missing required parameter: audience"))?;
    if *audience != tenant.audience() {
        return Err(GrantError(StatusCode::FORBIDDEN, "access_denied", "Service not found"));
    }
    if application.scopes.is_empty() {
        return Err(GrantError(StatusCode::FORBIDDEN, "access_denied", "Client is not authorized to access this API"));
    }
    let scope = application.scopes.join(" ");
    let lifetime = tenant.token_lifetime();
    let token = tenant.tokens.issue(application.scopes, host(parts).to_owned(), now, lifetime);
    let granted =
        json!({ "access_token": token, "scope": scope, "expires_in": lifetime.as_secs(), "token_type": "Bearer" });
    Ok(granted.to_string())
}

/// The fields of the request: a form, or JSON.
fn fields(parts: &Parts, body: &[u8]) -> Result<HashMap<String, String>, GrantError> {
    let media_type = header(&parts.headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let text = std::str::from_utf8(body).map_err(|_| invalid_request("The body is not UTF-8"))?;
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => serde_json::from_str(text).map_err(|_| invalid_request("Invalid JSON")),
        "application/x-www-form-urlencoded" => Ok(form(text)),
        _ => Err(invalid_request("Content-Type must be application/x-www-form-urlencoded or application/json")),
    }
}

/// Authenticates the application.
fn authenticate(
    tenant: &Tenant,
    parts: &Parts,
    fields: &HashMap<String, String>,
    now: Timestamp,
) -> Result<Application, GrantError> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let basic = basic_credentials(&parts.headers);
    match (field("client_assertion"), field("client_secret"), basic) {
        (Some(assertion), None, None) => {
            if field("client_assertion_type") != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
                return Err(invalid_request("Unsupported client_assertion_type"));
            }
            let client_id = field("client_id").map(str::to_owned).or_else(|| assertion::claimed_client(assertion));
            let application = client_id.and_then(|id| tenant.application(&id)).ok_or_else(unauthorized)?;
            assertion::verify(assertion, &application, &tenant.urls(), now.as_second(), &tenant.assertions)
                .map_err(|why| GrantError(StatusCode::UNAUTHORIZED, "invalid_client", why))?;
            Ok(application)
        }
        (None, Some(secret), None) => {
            with_secret(tenant, field("client_id").unwrap_or_default(), secret).ok_or_else(unauthorized)
        }
        (None, None, Some((client_id, secret))) => with_secret(tenant, &client_id, &secret).ok_or_else(unauthorized),
        (None, None, None) => Err(unauthorized()),
        _ => Err(invalid_request("Use one method of client authentication")),
    }
}

fn with_secret(tenant: &Tenant, client_id: &str, secret: &str) -> Option<Application> {
    tenant.application(client_id).filter(|application| application.has_secret(secret))
}

fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = header(headers, AUTHORIZATION.as_str())?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (client_id, secret) = decoded.split_once(':')?;
    Some((client_id.to_owned(), secret.to_owned()))
}

fn unauthorized() -> GrantError {
    GrantError(StatusCode::UNAUTHORIZED, "access_denied", "Unauthorized")
}

fn invalid_request(description: &'static str) -> GrantError {
    GrantError(StatusCode::BAD_REQUEST, "invalid_request", description)
}
