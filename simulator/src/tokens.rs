//! The access tokens that the tenant has issued.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use rand::distr::{Alphanumeric, SampleString};

/// The length of an access token: about that of Auth0's JWTs.
const TOKEN_LENGTH: usize = 700;

/// The access tokens by their text.
#[derive(Default)]
pub(super) struct Tokens(RwLock<HashMap<String, Token>>);

struct Token {
    scopes: Vec<String>,
    expires_at: Timestamp,
    /// The host that it was fetched from. Auth0 accepts it only there.
    host: String,
}

/// Why a request's token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unauthorized {
    Missing,
    Unknown,
    Expired,
    /// It lacks these scopes of the operation.
    Scope(Vec<&'static str>),
}

impl Tokens {
    /// Makes a new token.
    pub fn issue(&self, scopes: Vec<String>, host: String, now: Timestamp, lifetime: SignedDuration) -> String {
        let token = Alphanumeric.sample_string(&mut rand::rng(), TOKEN_LENGTH);
        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(token.clone(), Token { scopes, expires_at: now + lifetime, host });
        token
    }

    /// Invalidates every token.
    pub fn revoke_all(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Checks that the request's token is valid and has `scopes`.
    pub fn authorize(&self, parts: &Parts, scopes: &[&'static str], now: Timestamp) -> Result<(), Unauthorized> {
        let bearer = header(&parts.headers, AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let bearer = bearer.ok_or(Unauthorized::Missing)?;
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(bearer).filter(|token| token.host == host(parts)).ok_or(Unauthorized::Unknown)?;
        if token.expires_at <= now {
            return Err(Unauthorized::Expired);
        }
        let missing: Vec<_> =
            scopes.iter().filter(|scope| !token.scopes.iter().any(|granted| granted == *scope)).copied().collect();
        if missing.is_empty() { Ok(()) } else { Err(Unauthorized::Scope(missing)) }
    }
}

/// The host of a request: `Host`, or `:authority` under HTTP/2.
pub(super) fn host(parts: &Parts) -> &str {
    let authority = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    authority.or_else(|| header(&parts.headers, HOST.as_str())).unwrap_or_default()
}

/// A header, when it is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
