//! The post-login Action's part in a login, as `examples/auth0-action/session-limit.js` plays it: the request, the time limit,
//! `FAIL_MODE`, and what it does with the answer. The demo has no JavaScript engine, so this is the same in Rust, without the
//! Action's second try.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use simulator::Login;

use super::policy_text::{DOMAIN, TOKEN};
use super::{FailMode, Person};

/// The protocol of every login of a scenario.
pub(super) const PROTOCOL: &str = "oidc-basic-profile";
/// The connection of people who name none.
const CONNECTION: &str = "Username-Password-Authentication";
/// The Action's `TIMEOUT_MS`, by default.
const TIMEOUT: Duration = Duration::from_secs(4);
/// What the Action shows when the service gives no answer and no message.
const UNDECIDED: &str = "Your sign-in could not be checked. Please try again in a moment.";
/// What it shows when a block has no message.
const BLOCKED: &str = "You are already signed in elsewhere. Sign out there and try again.";

/// What the Action does with the login.
pub(super) struct ActionCalls {
    pub block: bool,
    /// What the user reads when the login is blocked.
    pub message: Option<String>,
    /// Whether it ends the session of the login.
    pub revoke: bool,
    /// The page to which it sends the person, who chooses which sessions to end. The login then waits.
    pub page: Option<String>,
    /// The calls of the Actions API, for people.
    pub calls: Vec<String>,
}

/// The connection of a person's logins.
pub(super) fn connection(person: &Person) -> &str {
    person.connection.as_deref().unwrap_or(CONNECTION)
}

/// The body that the Action sends.
pub(super) fn request(person: &Person, login: &Login, mfa: bool) -> Value {
    let mut request = json!({
        "user_id": login.user_id(),
        "client_id": login.client_id(),
        "sid": login.sid(),
        "protocol": PROTOCOL,
        "connection": connection(person),
        "mfa": mfa,
        "can_redirect": true,
        "hostname": DOMAIN,
    });
    if let Some(organization) = &person.organization {
        request["organization_id"] = organization.as_str().into();
    }
    if !person.roles.is_empty() {
        request["roles"] = json!(person.roles);
    }
    request
}

/// Sends the check. The service is not there when `address` is `None`.
///
/// # Errors
/// Why there is no valid answer, as the Action logs it.
pub(super) async fn check(
    http: &reqwest::Client,
    address: Option<SocketAddr>,
    request: &Value,
) -> Result<Value, String> {
    let address = address.ok_or("the request to the service failed (ECONNREFUSED)")?;
    let call = http.post(format!("http://{address}/check")).bearer_auth(TOKEN).timeout(TIMEOUT).json(request);
    let response = call.send().await.map_err(|error| {
        let timeout = format!("no answer within {} ms", TIMEOUT.as_millis());
        if error.is_timeout() { timeout } else { "the request to the service failed".to_owned() }
    })?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("the service answered {}", response.status().as_u16()));
    }
    let answer: Value = response.json().await.map_err(|_| "the answer is not JSON".to_owned())?;
    match answer["block"] {
        Value::Bool(_) => Ok(answer),
        _ => Err("the answer has no boolean \"block\"".to_owned()),
    }
}

/// What the Action does after the check. A login that comes back from the page is not sent there a second time.
pub(super) fn act(answer: &Result<Value, String>, fail_mode: FailMode, is_continued: bool) -> ActionCalls {
    let mut calls = Vec::new();
    let (block, message, revoke) = match answer {
        Ok(answer) => {
            let message = answer["message"].as_str().filter(|message| !message.trim().is_empty());
            (answer["block"] == true, message.unwrap_or(BLOCKED), answer["revoke_session"] == true)
        }
        Err(error) => {
            calls.push(format!("console.log('{error}; using FAIL_MODE {}')", fail_mode.as_str()));
            (fail_mode == FailMode::Deny, UNDECIDED, false)
        }
    };
    let page = answer.as_ref().ok().and_then(|answer| answer["choose"]["url"].as_str());
    let page = page.filter(|_| block && !is_continued).map(str::to_owned);
    if let Some(page) = &page {
        calls.push(format!("api.redirect.sendUserTo({})", Value::from(page.as_str())));
    } else if block {
        let method = if revoke { "api.session.revoke" } else { "api.access.deny" };
        calls.push(format!("{method}({})", Value::from(message)));
    } else {
        calls.push("returns; Auth0 completes the login".to_owned());
    }
    ActionCalls { block, message: (block && page.is_none()).then(|| message.to_owned()), revoke, page, calls }
}
