//! `private_key_jwt`: a signed client assertion for one token request.
//!
//! Claims and bounds as Auth0 documents them:
//! <https://auth0.com/docs/get-started/authentication-and-authorization-flow/authenticate-with-private-key-jwt>.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

use super::error::Error;
use crate::policy::Failure;

/// The value of the form field `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Auth0 accepts up to five minutes and recommends one.
const LIFETIME_SECONDS: i64 = 60;

/// The longest assertion that Auth0 accepts.
const MAX_BYTES: usize = 2048;

/// Without `iat`: it is optional, and Auth0 rejects one from a clock that runs ahead.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    jti: String,
}

/// Signs a new assertion. `audience` is the tenant's issuer, `https://<domain>/`. `now` is the Unix time on its clock.
pub(super) fn sign(
    client_id: &str,
    audience: &str,
    key: &EncodingKey,
    algorithm: Algorithm,
    key_id: Option<&str>,
    now: i64,
) -> Result<String, Error> {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    let claims = Claims {
        iss: client_id,
        sub: client_id,
        aud: audience,
        exp: now + LIFETIME_SECONDS,
        jti: Uuid::new_v4().to_string(),
    };
    match encode(&header, &claims, key) {
        Ok(assertion) if assertion.len() <= MAX_BYTES => Ok(assertion),
        Ok(_) => Err(Error::new(
            Failure::CredentialsRejected,
            "the signed client assertion is longer than the 2048 bytes that Auth0 accepts",
        )),
        Err(_) => Err(Error::new(Failure::CredentialsRejected, "the private key cannot sign the client assertion")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::LazyLock;

    use super::*;
    use jiff::Timestamp;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Map, Value};

    static KEY: LazyLock<rcgen::KeyPair> =
        LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());

    fn signed(algorithm: Algorithm, key_id: Option<&str>) -> String {
        let key = EncodingKey::from_rsa_pem(KEY.serialize_pem().as_bytes()).unwrap();
        sign("client", "https://acme.eu.auth0.com/", &key, algorithm, key_id, Timestamp::now().as_second()).unwrap()
    }

    fn verified(algorithm: Algorithm, assertion: &str) -> (Header, Map<String, Value>) {
        let mut rules = Validation::new(algorithm);
        rules.leeway = 0;
        rules.set_audience(&["https://acme.eu.auth0.com/"]);
        rules.set_issuer(&["client"]);
        let key = DecodingKey::from_rsa_pem(KEY.public_key_pem().as_bytes()).unwrap();
        let data = decode(assertion, &key, &rules).unwrap();
        (data.header, data.claims)
    }

    #[test]
    fn assertion_of_each_algorithm_verifies() {
        for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::PS256] {
            let assertion = signed(algorithm, Some("key-1"));
            assert!(assertion.len() <= MAX_BYTES);
            let (header, claims) = verified(algorithm, &assertion);
            assert_eq!((header.alg, header.kid.as_deref()), (algorithm, Some("key-1")));
            assert_eq!(claims["sub"], "client");
            assert_eq!(claims["aud"], "https://acme.eu.auth0.com/");
        }
    }

    #[test]
    fn header_without_a_key_id_names_none() {
        assert_eq!(verified(Algorithm::RS256, &signed(Algorithm::RS256, None)).0.kid, None);
    }

    #[test]
    fn assertion_lives_a_minute_and_is_unique() {
        let before = Timestamp::now().as_second();
        let claims: Vec<_> = (0..4).map(|_| verified(Algorithm::RS256, &signed(Algorithm::RS256, None)).1).collect();
        let after = Timestamp::now().as_second();
        for claims in &claims {
            let expires = claims["exp"].as_i64().unwrap();
            assert!((before + LIFETIME_SECONDS..=after + LIFETIME_SECONDS).contains(&expires));
        }
        let ids: HashSet<_> = claims.iter().map(|claims| claims["jti"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), claims.len());
    }

    #[test]
    fn too_long_assertion_is_an_error() {
        let key = EncodingKey::from_rsa_pem(KEY.serialize_pem().as_bytes()).unwrap();
        let error = sign(&"c".repeat(900), "https://acme.eu.auth0.com/", &key, Algorithm::RS256, None, 0).unwrap_err();
        assert_eq!(error.failure, Failure::CredentialsRejected);
    }
}
