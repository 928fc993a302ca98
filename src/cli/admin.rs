//! Asks the admin port of a running service.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use crate::controller::innermost;
use crate::service::RunError;

/// Gets an answer of the admin port.
///
/// # Errors
/// When there is no answer within the time, or it is not the service's. The text names the URL.
pub(super) async fn ask<T: DeserializeOwned>(
    admin: &Url,
    path: &str,
    parameters: &[(&str, String)],
    timeout: Duration,
) -> Result<T, RunError> {
    let failed = |error: String| RunError::Command(format!("{admin}: {error}"));
    let mut url = admin.join(path).map_err(|error| failed(error.to_string()))?;
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    let client = Client::builder().timeout(timeout).redirect(redirect::Policy::none()).build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let response = client.get(url).send().await.map_err(|error| failed(innermost(&error)))?;
    let status = response.status();
    let body = response.text().await.map_err(|error| failed(error.to_string()))?;
    if status != StatusCode::OK {
        let question = "is this the admin port, and is the service of this version?";
        return Err(failed(format!("the service answered {status}: {question}")));
    }
    serde_json::from_str(&body).map_err(|error| failed(format!("the answer cannot be read: {error}")))
}
