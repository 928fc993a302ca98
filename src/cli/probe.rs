//! `session-checker probe`: asks a running service whether it is ready and answers checks.
//!
//! The image has no shell and no `curl`, so `helm test` and health checks of containers run this command.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode, Url, redirect};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::args::ProbeArgs;
use crate::controller::innermost;
use crate::service::RunError;

/// The time limit of one request: half a second more than the longest timeout of a policy (10 s).
const REQUEST_TIMEOUT: Duration = Duration::from_millis(10_500);
/// The time between two attempts.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks the service until it answers as it should, or `--wait` is over.
///
/// # Errors
/// When the service did not answer as it should. The text names the URL and the last answer.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: ProbeArgs) -> Result<(), RunError> {
    let end = Instant::now() + args.wait;
    let token = args.token_file.as_deref().map(read_token).transpose()?;
    let client = Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .redirect(redirect::Policy::none())
        .build()
        .map_err(|error| RunError::Command(error.to_string()))?;
    loop {
        match probe(&client, &args, token.as_deref()).await {
            Ok(answers) => {
                print!("{answers}");
                return Ok(());
            }
            Err(_) if Instant::now() + INTERVAL <= end => sleep(INTERVAL).await,
            Err(problem) => return Err(RunError::Command(problem)),
        }
    }
}

fn read_token(file: &Path) -> Result<String, RunError> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| RunError::File("--token-file", file.to_owned(), error))?;
    Ok(text.trim().to_owned())
}

/// Sends each request once. Returns a line for each answer, or what is wrong with the first wrong answer.
async fn probe(client: &Client, args: &ProbeArgs, token: Option<&str>) -> Result<String, String> {
    let mut answers = String::new();
    if let Some(url) = &args.admin_url {
        answers += &ready(client, url).await?;
    }
    if let Some(url) = &args.url {
        answers += &check(client, url, token).await?;
    }
    Ok(answers)
}

async fn ready(client: &Client, admin: &Url) -> Result<String, String> {
    let url = admin.join("/readyz").map_err(|error| format!("{admin}: {error}"))?;
    let response = send(client.request(Method::GET, url.clone()), &url).await?;
    match response.status() {
        StatusCode::OK => Ok(format!("{url}: ready\n")),
        status => Err(format!("{url}: not ready: {status}: {}", text(response).await)),
    }
}

/// Sends a check of a user that does not exist. The answer must be the service's: an ingress can answer 200 or 401, too.
async fn check(client: &Client, url: &Url, token: Option<&str>) -> Result<String, String> {
    let login = json!({ "user_id": "session-checker|probe", "client_id": "session-checker-probe", "sid": "probe" });
    let mut request = client.request(Method::POST, url.clone()).json(&login);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = send(request, url).await?;
    let status = response.status();
    let body = text(response).await;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    match status {
        StatusCode::OK if answer["block"].is_boolean() => {
            let reason = answer["reason"].as_str().unwrap_or_default();
            Ok(format!("{url}: answers checks ({reason})\n"))
        }
        StatusCode::UNAUTHORIZED if token.is_none() && answer["error"] == "unauthorized" => {
            Ok(format!("{url}: rejects a caller without a token\n"))
        }
        _ => Err(format!("{url}: unexpected answer: {status}: {body}")),
    }
}

async fn send(request: reqwest::RequestBuilder, url: &Url) -> Result<Response, String> {
    request.send().await.map_err(|error| format!("{url}: {}", innermost(&error)))
}

async fn text(response: Response) -> String {
    response.text().await.unwrap_or_else(|error| error.to_string())
}
