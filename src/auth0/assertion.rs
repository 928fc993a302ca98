//! `private_key_jwt`: a signed statement of who we are, good for one request.
//!
//! Claims and bounds as Auth0 documents them:
//! <https://auth0.com/docs/get-started/authentication-and-authorization-flow/authenticate-with-private-key-jwt>.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use uuid::Uuid;

use super::error::Error;
use crate::policy::Failure;

/// The form's `client_assertion_type`.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Auth0 allows five minutes and advises one.
const LIFETIME_SECONDS: i64 = 60;

/// Auth0 refuses a longer one.
const MAX_BYTES: usize = 2048;

/// There is no `iat`: it is optional, and one from a clock that runs ahead would be refused.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    jti: String,
}

/// Signs a new assertion. `audience` is the tenant's issuer, `https://<domain>/`.
pub(super) fn sign(
    client_id: &str,
    audience: &str,
    key: &EncodingKey,
    algorithm: Algorithm,
    key_id: Option<&str>,
) -> Result<String, Error> {
    let mut header = Header::new(algorithm);
    header.kid = key_id.map(str::to_owned);
    let claims = Claims {
        iss: client_id,
        sub: client_id,
        aud: audience,
        exp: Timestamp::now().as_second() + LIFETIME_SECONDS,
        jti: Uuid::new_v4().to_string(),
    };
    match encode(&header, &claims, key) {
        Ok(assertion) if assertion.len() <= MAX_BYTES => Ok(assertion),
        Ok(_) => Err(Error::new(Failure::CredentialsRejected, "the signed assertion is longer than Auth0 accepts")),
        Err(_) => Err(Error::new(Failure::CredentialsRejected, "the private key cannot sign")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::LazyLock;

    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use serde_json::{Map, Value};

    static KEY: LazyLock<rcgen::KeyPair> =
        LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap());

    fn signed(algorithm: Algorithm, key_id: Option<&str>) -> String {
        let key = EncodingKey::from_rsa_pem(KEY.serialize_pem().as_bytes()).unwrap();
        sign("client", "https://acme.eu.auth0.com/", &key, algorithm, key_id).unwrap()
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
    fn each_algorithm_gives_a_signature_that_verifies() {
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
    fn without_a_key_id_the_header_names_none() {
        assert_eq!(verified(Algorithm::RS256, &signed(Algorithm::RS256, None)).0.kid, None);
    }

    #[test]
    fn it_lives_a_minute_and_is_never_the_same() {
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
    fn one_that_auth0_would_find_too_long_is_not_sent() {
        let key = EncodingKey::from_rsa_pem(KEY.serialize_pem().as_bytes()).unwrap();
        let refused = sign(&"c".repeat(900), "https://acme.eu.auth0.com/", &key, Algorithm::RS256, None).unwrap_err();
        assert_eq!(refused.failure, Failure::CredentialsRejected);
    }
}
