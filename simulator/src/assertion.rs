//! `private_key_jwt`: the checks of a client's signed assertion.
//!
//! The rules are those of Auth0's page "Authenticate with Private Key JWT": the registered key and algorithm, the client as
//! issuer and subject, the tenant's URL with a trailing slash as audience, a lifetime of at most five minutes, at most 2048
//! bytes, and each assertion is used once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;

use super::application::{Application, Credential};

/// The longest assertion, in bytes.
const MAX_LENGTH: usize = 2048;

/// The longest issuer, subject and id, in bytes.
const MAX_CLAIM: usize = 64;

/// The longest lifetime of an assertion, in seconds.
const MAX_LIFETIME: i64 = 300;

/// How far `iat` and `nbf` may be ahead of the tenant's clock, in seconds.
const MAX_CLOCK_SKEW: i64 = 10;

/// The claims of an assertion.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    pub sub: String,
    aud: Audience,
    exp: i64,
    jti: String,
    iat: Option<i64>,
    nbf: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The used assertions that have not expired: (client, id) and the Unix time of expiry in seconds.
#[derive(Debug, Default)]
pub(super) struct UsedAssertions(Mutex<HashMap<(String, String), i64>>);

impl UsedAssertions {
    /// Remembers an assertion. False when it was used before.
    fn note(&self, claims: &Claims, now: i64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, expires| *expires > now);
        used.insert((claims.sub.clone(), claims.jti.clone()), claims.exp).is_none()
    }
}

/// The client that an assertion claims to be from. Nothing is verified.
pub(super) fn claimed_client(assertion: &str) -> Option<String> {
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode(assertion).ok()?.claims;
    Some(claims.sub)
}

/// Verifies an assertion of `application` at the Unix time `now` in seconds. The error says what is wrong with it.
pub(super) fn verify(
    assertion: &str,
    application: &Application,
    audiences: &[String],
    now: i64,
    used: &UsedAssertions,
) -> Result<(), &'static str> {
    if assertion.len() > MAX_LENGTH {
        return Err("client_assertion is too long");
    }
    let claims = verified_claims(assertion, application)?;
    check_claims(&claims, &application.client_id, audiences, now)?;
    if used.note(&claims, now) { Ok(()) } else { Err("jti was already used") }
}

fn verified_claims(assertion: &str, application: &Application) -> Result<Claims, &'static str> {
    let Credential::Keys(keys) = &application.credential else {
        return Err("the client has no registered public key");
    };
    let header = decode_header(assertion).map_err(|_| "client_assertion is not a JWT")?;
    let candidates = keys.iter().filter(|key| match (&key.key_id, &header.kid) {
        (Some(registered), Some(named)) => registered == named,
        _ => true,
    });
    for key in candidates.filter(|key| key.algorithm == header.alg) {
        // `check_claims` checks the times and the audience, by the tenant's clock and names.
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        if let Ok(token) = decode(assertion, &key.key, &validation) {
            return Ok(token.claims);
        }
    }
    Err("client_assertion is not signed with a registered key and its algorithm")
}

fn check_claims(claims: &Claims, client_id: &str, audiences: &[String], now: i64) -> Result<(), &'static str> {
    if claims.iss != client_id || claims.sub != client_id {
        return Err("iss and sub must be the client id");
    }
    let audience = match &claims.aud {
        Audience::One(audience) => std::slice::from_ref(audience),
        Audience::Many(audiences) => audiences,
    };
    if !audience.iter().any(|audience| audiences.contains(audience)) {
        return Err("aud must be the tenant's URL with a trailing slash");
    }
    if claims.exp <= now {
        return Err("client_assertion has expired");
    }
    if claims.exp - now > MAX_LIFETIME || claims.iat.is_some_and(|issued| claims.exp - issued > MAX_LIFETIME) {
        return Err("exp must be at most five minutes ahead");
    }
    if [claims.iat, claims.nbf].into_iter().flatten().any(|time| time > now + MAX_CLOCK_SKEW) {
        return Err("client_assertion is not valid yet");
    }
    if claims.jti.is_empty() || [&claims.iss, &claims.jti].into_iter().any(|claim| claim.len() > MAX_CLAIM) {
        return Err("iss, sub and jti must have 1 to 64 characters");
    }
    Ok(())
}
