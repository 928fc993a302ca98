//! The login host of the tenant, as browsers see it: `/authorize`, and `/continue` after an Action has sent the browser to
//! another page.
//!
//! ```text
//! browser ── /authorize ──▶ session ──▶ onExecutePostLogin ──▶ complete, deny, revoke ──▶ the application's callback
//!                                                └── sendUserTo ──▶ page ──▶ /continue?state ──▶ onContinuePostLogin
//! ```
//!
//! As at Auth0, the session exists before the Action runs, and the application joins it when the login completes. A state works
//! once, and only in the browser that began the login. An Action has 20 seconds for each of the two ways. A silent login
//! (`prompt=none`) that an Action redirects ends with `interaction_required`.
//!
//! Nobody types a password: `user` in the query of `/authorize` is who logs in, `mfa` says that a second factor was used. The Action
//! runs in another process, which [`Simulator::run_actions_at`](super::Simulator::run_actions_at) names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{COOKIE, LOCATION, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::login::Login;
use super::tenant::Tenant;

/// How long the Actions of one way may take together.
const ACTIONS_TIMEOUT: Duration = Duration::from_secs(20);
/// The length of a state and of a cookie.
const CODE_LENGTH: usize = 32;
/// The cookie of the user's session, as Auth0 names it.
const SESSION_COOKIE: &str = "auth0";
/// The cookie of a browser that logs in.
const BROWSER_COOKIE: &str = "auth0_browser";

/// What the login host remembers.
#[derive(Default)]
pub(super) struct LoginHost {
    /// Where the Actions run.
    actions: Mutex<Option<String>>,
    /// The logins that an Action has redirected, by their state.
    redirected: Mutex<HashMap<String, RedirectedLogin>>,
}

/// A login that waits for the browser to come back.
struct RedirectedLogin {
    login: Login,
    request: AuthorizeRequest,
    browser: String,
}

/// What the application asked for.
struct AuthorizeRequest {
    redirect_uri: String,
    state: Option<String>,
    prompt: Option<String>,
    locale: Option<String>,
    has_second_factor: bool,
}

/// What an Action did with a login.
enum ActionOutcome {
    Nothing,
    Deny(String),
    Revoke(String),
    Redirect(String),
}

impl LoginHost {
    /// Names the process that runs the Actions.
    pub fn run_actions_at(&self, url: &str) {
        *self.actions.lock().unwrap_or_else(PoisonError::into_inner) = Some(url.to_owned());
    }
}

/// Answers a request of a browser; `None` for any other path.
pub(super) async fn answer(tenant: &Arc<Tenant>, parts: &Parts) -> Option<Response> {
    match parts.uri.path() {
        "/authorize" => Some(authorize(tenant, parts).await),
        "/continue" => Some(resume(tenant, parts).await),
        _ => None,
    }
}

async fn authorize(tenant: &Arc<Tenant>, parts: &Parts) -> Response {
    let query: HashMap<String, String> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let (Some(client_id), Some(redirect_uri)) = (query.get("client_id"), query.get("redirect_uri")) else {
        return page(StatusCode::BAD_REQUEST, "client_id or redirect_uri is missing");
    };
    let request = AuthorizeRequest {
        redirect_uri: redirect_uri.clone(),
        state: query.get("state").cloned(),
        prompt: query.get("prompt").cloned(),
        locale: query.get("ui_locales").cloned(),
        has_second_factor: query.contains_key("mfa"),
    };
    let session = cookie(parts, SESSION_COOKIE);
    let Some(user) = query.get("user") else {
        return error_callback(&request, "login_required", "Login required");
    };
    let login = Login::begin(Arc::clone(tenant), user, client_id, session.as_deref());
    let browser = cookie(parts, BROWSER_COOKIE).unwrap_or_else(code);
    let outcome = run_action(tenant, "onExecutePostLogin", &login, &request).await;
    finish(tenant, login, request, browser, outcome)
}

async fn resume(tenant: &Arc<Tenant>, parts: &Parts) -> Response {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let state = form_urlencoded::parse(query).find(|(name, _)| name == "state").map(|(_, state)| state.into_owned());
    let waiting = {
        let mut redirected = tenant.login_host.redirected.lock().unwrap_or_else(PoisonError::into_inner);
        let browser = cookie(parts, BROWSER_COOKIE);
        let is_of_browser = |state: &String| {
            redirected.get(state).is_some_and(|waiting| browser.as_deref() == Some(waiting.browser.as_str()))
        };
        state.filter(is_of_browser).and_then(|state| redirected.remove(&state))
    };
    let Some(RedirectedLogin { login, request, browser }) = waiting else {
        return page(
            StatusCode::BAD_REQUEST,
            "invalid_request: the state is unknown, was used, or belongs to another browser",
        );
    };
    let outcome = run_action(tenant, "onContinuePostLogin", &login, &request).await;
    finish(tenant, login, request, browser, outcome)
}

/// Ends a login, or sends its browser to the page of an Action.
fn finish(
    tenant: &Tenant,
    login: Login,
    request: AuthorizeRequest,
    browser: String,
    outcome: Result<ActionOutcome, &'static str>,
) -> Response {
    match outcome {
        Err(problem) => {
            login.deny();
            error_callback(&request, "access_denied", problem)
        }
        Ok(ActionOutcome::Deny(message)) => {
            login.deny();
            error_callback(&request, "access_denied", &message)
        }
        Ok(ActionOutcome::Revoke(message)) => {
            login.revoke();
            error_callback(&request, "access_denied", &message)
        }
        Ok(ActionOutcome::Redirect(_)) if request.prompt.as_deref() == Some("none") => {
            login.deny();
            error_callback(&request, "interaction_required", "Interaction required")
        }
        Ok(ActionOutcome::Redirect(url)) => {
            let Ok(mut url) = Url::parse(&url) else { return page(StatusCode::BAD_REQUEST, "the redirect is no URL") };
            let state = code();
            url.query_pairs_mut().append_pair("state", &state);
            let response = with_cookie(found(url.as_str()), BROWSER_COOKIE, &browser);
            let waiting = RedirectedLogin { login, request, browser };
            tenant.login_host.redirected.lock().unwrap_or_else(PoisonError::into_inner).insert(state, waiting);
            response
        }
        Ok(ActionOutcome::Nothing) => match login.complete() {
            Some(sid) => with_cookie(callback(&request, &[("code", &code())]), SESSION_COOKIE, &sid),
            None => error_callback(&request, "access_denied", "The session has ended."),
        },
    }
}

/// Runs a handler of the Action. The error is what the application gets.
async fn run_action(
    tenant: &Tenant,
    handler: &str,
    login: &Login,
    request: &AuthorizeRequest,
) -> Result<ActionOutcome, &'static str> {
    let actions = tenant.login_host.actions.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(url) = actions else { return Ok(ActionOutcome::Nothing) };
    let factors: &[&str] = if request.has_second_factor { &["pwd", "mfa"] } else { &["pwd"] };
    let methods: Vec<Value> = factors.iter().map(|name| json!({ "name": name })).collect();
    let event = json!({
        "user": { "user_id": login.user_id() },
        "client": { "client_id": login.client_id() },
        "session": { "id": login.sid() },
        "request": { "hostname": tenant.domain() },
        "transaction": {
            "protocol": "oidc-basic-profile",
            "prompt": request.prompt.iter().collect::<Vec<_>>(),
            "ui_locales": request.locale.iter().collect::<Vec<_>>(),
        },
        "authentication": { "methods": methods },
    });
    let run = async {
        let http = reqwest::Client::builder().no_proxy().build().ok()?;
        let body = json!({ "handler": handler, "event": event });
        http.post(url).json(&body).send().await.ok()?.json::<Value>().await.ok()
    };
    let did = tokio::time::timeout(ACTIONS_TIMEOUT, run).await.map_err(|_| "The Actions took too long.")?;
    let did = did.ok_or("The Action failed.")?;
    let text = |name: &str| did[name].as_str().map(str::to_owned);
    Ok(if let Some(url) = text("redirect") {
        ActionOutcome::Redirect(url)
    } else if let Some(message) = text("revoke") {
        ActionOutcome::Revoke(message)
    } else if let Some(message) = text("deny") {
        ActionOutcome::Deny(message)
    } else {
        ActionOutcome::Nothing
    })
}

/// Sends the browser back to the application with an error.
fn error_callback(request: &AuthorizeRequest, error: &str, description: &str) -> Response {
    callback(request, &[("error", error), ("error_description", description)])
}

/// Sends the browser back to the application.
fn callback(request: &AuthorizeRequest, pairs: &[(&str, &str)]) -> Response {
    let state = request.state.as_deref().map(|state| ("state", state));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).extend_pairs(state).finish();
    let separator = if request.redirect_uri.contains('?') { '&' } else { '?' };
    found(&format!("{}{separator}{query}", request.redirect_uri))
}

fn found(location: &str) -> Response {
    let mut response = page(StatusCode::FOUND, "");
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn page(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

/// Sets a cookie that also comes with the requests that other sites cause, as Auth0's.
fn with_cookie(mut response: Response, name: &str, value: &str) -> Response {
    let cookie = format!("{name}={value}; Path=/; HttpOnly; Secure; SameSite=None");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

fn cookie(parts: &Parts, name: &str) -> Option<String> {
    let values = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

fn code() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), CODE_LENGTH)
}
