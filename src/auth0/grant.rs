//! The client credentials grant: the request to the token endpoint, and its answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::http::header::HeaderValue;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use super::assertion;
use super::call::{Operation, Priority};
use super::error::{Error, object};
use super::transport::{Endpoint, TenantRequest};
use crate::policy::{Failure, Tenant};
use crate::secret::{ClientAuth, Credentials};

/// The lifetime of a token whose answer does not give one. It is short, because such a token costs only more refreshes.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The longest lifetime that Auth0 lets an API's tokens have. A longer one is a mistake.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// By how many seconds the tenant's clock may differ from the one that an assertion was signed by: half the life of an
/// assertion, which a rejection has another reason for.
const MAX_CLOCK_ERROR: i64 = 30;

/// An access token, ready to be sent.
pub(super) struct AccessToken {
    /// The `Authorization` header, marked as sensitive.
    pub authorization: HeaderValue,
    /// What it permits, when the answer says so.
    pub scopes: Option<BTreeSet<String>>,
    /// When it was requested.
    pub issued_at: Instant,
    /// How long it lives from then.
    pub lifetime: Duration,
}

/// Requests the tokens of one credential.
pub(super) struct Grant {
    endpoint: Arc<Endpoint>,
    credentials: Arc<Credentials>,
    /// `https://<canonical domain>/api/v2/`, also on a custom domain.
    audience: String,
    /// `https://<custom or canonical domain>/`, also with `--auth0-endpoint`.
    issuer: String,
}

impl Grant {
    pub fn new(endpoint: Arc<Endpoint>, tenant: &Tenant, credentials: Arc<Credentials>) -> Self {
        let audience = format!("https://{}/api/v2/", tenant.domain());
        Self { endpoint, credentials, audience, issuer: tenant.origin().to_string() }
    }

    /// Requests a token. Logs and counts the result here, because most fetches run in the background without a caller that
    /// would.
    pub async fn fetch(&self, deadline: Instant) -> Result<AccessToken, Error> {
        let fetched = self.request_token(deadline).await;
        let (tenant, observer) = (self.endpoint.tenant(), self.endpoint.observer());
        if let Err(error) = &fetched {
            let client_id = &self.credentials.client_id;
            warn!(tenant, client_id, failure = %error.failure, detail = %error.detail, "cannot get a token");
        }
        observer.token(tenant, fetched.as_ref().map(|_| ()).map_err(|error| error.failure));
        fetched
    }

    async fn request_token(&self, deadline: Instant) -> Result<AccessToken, Error> {
        let (issued_at, context) = (self.endpoint.clock().instant(), deadline.into());
        let difference = self.endpoint.clock_difference();
        let send = || self.endpoint.send(Operation::Token, Priority::Login, &context, || self.request());
        let mut reply = send().await?;
        let misjudged = (self.endpoint.clock_difference() - difference).abs() > MAX_CLOCK_ERROR;
        if reply.status.is_client_error() && misjudged && self.is_signed() {
            // The assertion was valid at a time that is not the tenant's. Its answer says which time is.
            reply = send().await?;
        }
        if !reply.status.is_success() {
            return Err(Error::from_token_endpoint(reply.status, &reply.body));
        }
        read(&reply.body, issued_at)
            .ok_or_else(|| Error::new(Failure::UpstreamError, "the token endpoint answered without a usable token"))
    }

    fn is_signed(&self) -> bool {
        matches!(self.credentials.client_auth, ClientAuth::PrivateKey { .. })
    }

    fn request(&self) -> Result<TenantRequest, Error> {
        let client_id = self.credentials.client_id.as_str();
        let mut form =
            vec![("grant_type", "client_credentials"), ("client_id", client_id), ("audience", self.audience.as_str())];
        let assertion;
        match &self.credentials.client_auth {
            ClientAuth::ClientSecret(secret) => form.push(("client_secret", secret.expose_secret())),
            ClientAuth::PrivateKey { key, algorithm, key_id } => {
                let now =
                    self.endpoint.clock().timestamp().as_second().saturating_add(self.endpoint.clock_difference());
                assertion = assertion::sign(client_id, &self.issuer, key, *algorithm, key_id.as_deref(), now)?;
                form.extend([("client_assertion_type", assertion::TYPE), ("client_assertion", assertion.as_str())]);
            }
        }
        let request = self.endpoint.reqwest_request(Operation::Token, Operation::Token.template()).form(&form).build();
        request
            .map(TenantRequest::Reqwest)
            .map_err(|_| Error::new(Failure::UpstreamError, "the request to the token endpoint is not valid HTTP"))
    }
}

/// Reads a successful answer. `None` when it contains no token that can be sent.
pub(super) fn read(body: &[u8], issued_at: Instant) -> Option<AccessToken> {
    let fields = object(body)?;
    let token = fields.get("access_token")?.as_str().filter(|token| !token.is_empty())?;
    let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    authorization.set_sensitive(true);
    let scopes = fields.get("scope").and_then(Value::as_str);
    Some(AccessToken {
        authorization,
        scopes: scopes.map(|scopes| scopes.split_ascii_whitespace().map(str::to_owned).collect()),
        issued_at,
        lifetime: lifetime(fields.get("expires_in")),
    })
}

/// The lifetime in `expires_in`, or the default where it is missing or makes no sense.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        Some(seconds) if seconds >= 1.0 => Duration::from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64())),
        _ => DEFAULT_LIFETIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answer_without_a_usable_token_is_none() {
        let now = Instant::now();
        for body in
            ["", "no", "[]", "{}", r#"{"access_token":null}"#, r#"{"access_token":""}"#, r#"{"access_token":5}"#]
        {
            assert!(read(body.as_bytes(), now).is_none(), "{body}");
        }
        assert!(read(br#"{"access_token":"a\nb"}"#, now).is_none());
    }

    #[tokio::test]
    async fn scopes_are_words_or_unknown() {
        let scopes = |body: &str| read(body.as_bytes(), Instant::now()).unwrap().scopes;
        let both = scopes(r#"{"access_token":"t","scope":"read:sessions  delete:sessions"}"#).unwrap();
        assert!(both.iter().eq(["delete:sessions", "read:sessions"]));
        assert_eq!(scopes(r#"{"access_token":"t","scope":""}"#), Some(BTreeSet::new()));
        assert_eq!(scopes(r#"{"access_token":"t"}"#), None);
    }

    #[test]
    fn debug_output_never_shows_the_token() {
        let token = read(br#"{"access_token":"t0ken"}"#, Instant::now()).unwrap();
        assert!(!format!("{:?}", token.authorization).contains("t0ken"));
    }

    #[test]
    fn absurd_lifetime_is_the_default_or_the_longest() {
        let lifetime = |text: &str| lifetime(serde_json::from_str::<Value>(text).ok().as_ref()).as_secs();
        assert_eq!(lifetime("86400"), 86_400);
        assert_eq!(lifetime("\"86400\""), 86_400);
        assert_eq!(lifetime("1.5"), 1);
        for nonsense in ["null", "0", "0.5", "-1", "-1e300", "\"soon\"", "\"NaN\"", "{}", "[]", "true", ""] {
            assert_eq!(lifetime(nonsense), 300, "{nonsense}");
        }
        for huge in ["1e300", "18446744073709551615", "\"inf\"", "99999999999999999999999"] {
            assert_eq!(lifetime(huge), MAX_LIFETIME.as_secs(), "{huge}");
        }
    }
}
