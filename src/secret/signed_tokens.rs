//! Signed tokens (JWTs) of callers: which issuer, which audience, which keys.
//!
//! The keys are those of a file. Fetching them would put a request to the issuer before the service is ready, and a new way to
//! fail into every rotation; an issuer publishes the next key long before it signs with it.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// The public keys of an issuer, as a JWK Set (RFC 7517) lists them.
#[derive(Clone)]
pub struct IssuerKeys {
    set: JwkSet,
    keys: Arc<[IssuerKey]>,
}

struct IssuerKey {
    id: Option<String>,
    key: DecodingKey,
    algorithm: Algorithm,
}

/// Which signed tokens are those of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedTokens {
    /// The value of `iss`.
    pub issuer: String,
    /// A value of `aud`.
    pub audience: String,
    /// The keys that may have signed the token.
    pub keys: IssuerKeys,
}

/// Only the registered claims are read, and they are validated before.
#[derive(Deserialize)]
struct NoClaims {}

impl IssuerKeys {
    /// Reads a JWK Set. Keys that sign nothing, symmetric ones, and those of other algorithms are left out.
    ///
    /// # Errors
    /// Says what the file must contain.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must contain a JWK Set, such as https://TENANT/.well-known/jwks.json answers";
        let set: JwkSet = serde_json::from_str(text).map_err(|error| format!("{FORM}: {error}"))?;
        let keys: Arc<[IssuerKey]> = set.keys.iter().filter_map(IssuerKey::new).collect();
        if keys.is_empty() {
            return Err(format!("{FORM}, with a key for RS256, PS256 or ES256"));
        }
        Ok(Self { set, keys })
    }
}

impl PartialEq for IssuerKeys {
    fn eq(&self, other: &Self) -> bool {
        self.set == other.set
    }
}

impl Eq for IssuerKeys {}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl IssuerKey {
    fn new(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|key_use| *key_use != PublicKeyUse::Signature) {
            return None;
        }
        let named = common.key_algorithm.map(|algorithm| algorithm.to_string().parse::<Algorithm>());
        let algorithm = match (&jwk.algorithm, named) {
            (AlgorithmParameters::RSA(_), None | Some(Ok(Algorithm::RS256))) => Algorithm::RS256,
            (AlgorithmParameters::RSA(_), Some(Ok(Algorithm::PS256))) => Algorithm::PS256,
            (AlgorithmParameters::EllipticCurve(_), None | Some(Ok(Algorithm::ES256))) => Algorithm::ES256,
            _ => return None,
        };
        Some(Self { id: common.key_id.clone(), key: DecodingKey::from_jwk(jwk).ok()?, algorithm })
    }
}

impl SignedTokens {
    /// Whether a token is one of the issuer's for the audience, signed by one of its keys, and valid now (give or take a minute).
    pub fn accepts(&self, token: &str) -> bool {
        // A token without dots is a shared one, and a stranger's mostly.
        if token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return false;
        }
        let Ok(header) = decode_header(token) else { return false };
        let key = match &header.kid {
            Some(id) => self.keys.keys.iter().find(|key| key.id.as_ref() == Some(id)),
            None => self.keys.keys.first().filter(|_| self.keys.keys.len() == 1),
        };
        // An extension that must be understood is not.
        let Some(key) = key.filter(|_| header.crit.is_none()) else { return false };
        let mut rules = Validation::new(key.algorithm);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        rules.validate_nbf = true;
        decode::<NoClaims>(token, &key.key, &rules).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jiff::Timestamp;
    use jsonwebtoken::jwk::KeyAlgorithm;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://acme.eu.auth0.com/";
    const AUDIENCE: &str = "https://sessions.example.com";

    fn new_key() -> EncodingKey {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
        EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap()
    }

    static KEY: LazyLock<EncodingKey> = LazyLock::new(new_key);
    static NEXT: LazyLock<EncodingKey> = LazyLock::new(new_key);

    fn jwk(key: &EncodingKey, id: &str, algorithm: Algorithm) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        jwk
    }

    fn tokens(keys: Vec<Jwk>) -> SignedTokens {
        let keys = IssuerKeys::parse(&serde_json::to_string(&JwkSet { keys }).unwrap()).unwrap();
        SignedTokens { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), keys }
    }

    fn claims(more: &Value) -> Value {
        let now = Timestamp::now().as_second();
        let mut claims = json!({ "iss": ISSUER, "aud": AUDIENCE, "exp": now + 3600, "iat": now, "sub": "action@clients", "gty": "x" });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    fn signed(key: &EncodingKey, id: Option<&str>, algorithm: Algorithm, claims: &Value) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, claims, key).unwrap()
    }

    #[test]
    fn token_of_the_issuer_for_the_audience_is_accepted() {
        let tokens = tokens(vec![jwk(&KEY, "one", Algorithm::RS256), jwk(&NEXT, "two", Algorithm::PS256)]);
        let usual = claims(&json!({}));
        assert!(tokens.accepts(&signed(&KEY, Some("one"), Algorithm::RS256, &usual)));
        assert!(tokens.accepts(&signed(&NEXT, Some("two"), Algorithm::PS256, &usual)));
        let several = claims(&json!({ "aud": ["https://acme.eu.auth0.com/userinfo", AUDIENCE] }));
        assert!(tokens.accepts(&signed(&KEY, Some("one"), Algorithm::RS256, &several)));
    }

    #[test]
    fn claims_that_do_not_fit_are_not_accepted() {
        let tokens = tokens(vec![jwk(&KEY, "one", Algorithm::RS256)]);
        let now = Timestamp::now().as_second();
        for wrong in [
            json!({ "iss": "https://acme.eu.auth0.com" }),
            json!({ "iss": "https://evil.eu.auth0.com/" }),
            json!({ "iss": null }),
            json!({ "aud": "https://other.example.com" }),
            json!({ "aud": [] }),
            json!({ "aud": null }),
            json!({ "exp": now - 120 }),
            json!({ "exp": null }),
            json!({ "exp": "soon" }),
            json!({ "nbf": now + 120 }),
        ] {
            let token = signed(&KEY, Some("one"), Algorithm::RS256, &claims(&wrong));
            assert!(!tokens.accepts(&token), "{wrong}");
        }
        let skewed = claims(&json!({ "exp": now - 30, "nbf": now + 30 }));
        assert!(tokens.accepts(&signed(&KEY, Some("one"), Algorithm::RS256, &skewed)), "clocks differ a little");
    }

    #[test]
    fn signature_that_does_not_fit_is_not_accepted() {
        let tokens = tokens(vec![jwk(&KEY, "one", Algorithm::RS256), jwk(&NEXT, "two", Algorithm::RS256)]);
        let usual = claims(&json!({}));
        let good = signed(&KEY, Some("one"), Algorithm::RS256, &usual);
        let [header, payload, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        // The public key as the secret of an HMAC, as some libraries accepted.
        let modulus = match &jwk(&KEY, "one", Algorithm::RS256).algorithm {
            AlgorithmParameters::RSA(parameters) => parameters.n.clone(),
            other => panic!("{other:?}"),
        };
        let hmac = EncodingKey::from_secret(modulus.as_bytes());
        for wrong in [
            signed(&NEXT, Some("one"), Algorithm::RS256, &usual),
            signed(&KEY, Some("three"), Algorithm::RS256, &usual),
            signed(&KEY, None, Algorithm::RS256, &usual),
            signed(&KEY, Some("one"), Algorithm::PS256, &usual),
            signed(&hmac, Some("one"), Algorithm::HS256, &usual),
            format!("{header}.{}.{signature}", part(claims(&json!({ "sub": "another" })))),
            format!("{header}.{payload}."),
            format!("{}.{payload}.", part(json!({ "alg": "none", "kid": "one" }))),
            format!("{}.{payload}.{signature}", part(json!({ "alg": "RS256", "kid": "one", "crit": ["b64"] }))),
            format!("{good}.x"),
            "..".to_owned(),
            "a.b.c".to_owned(),
            String::new(),
        ] {
            assert!(!tokens.accepts(&wrong), "{wrong}");
        }
    }

    #[test]
    fn token_without_a_key_id_is_of_the_only_key() {
        let tokens = tokens(vec![jwk(&KEY, "one", Algorithm::RS256)]);
        assert!(tokens.accepts(&signed(&KEY, None, Algorithm::RS256, &claims(&json!({})))));
    }

    #[test]
    fn set_without_a_usable_key_is_an_error() {
        let mut encryption = jwk(&KEY, "one", Algorithm::RS256);
        encryption.common.public_key_use = Some(PublicKeyUse::Encryption);
        let mut other = jwk(&KEY, "one", Algorithm::RS256);
        other.common.key_algorithm = Some(KeyAlgorithm::RSA_OAEP);
        let symmetric = jwk(&EncodingKey::from_secret(b"secret"), "one", Algorithm::HS256);
        for key in [encryption, other, symmetric] {
            let text = serde_json::to_string(&JwkSet { keys: vec![key.clone()] }).unwrap();
            assert!(IssuerKeys::parse(&text).unwrap_err().contains("RS256"), "{text}");
            // Beside a usable one it is left out.
            let both = tokens(vec![key, jwk(&NEXT, "two", Algorithm::RS256)]);
            assert_eq!(both.keys.keys.len(), 1);
        }
        for text in ["", "{}", "[]", "<html>", r#"{"keys":[]}"#] {
            assert!(IssuerKeys::parse(text).unwrap_err().contains("jwks.json"), "{text}");
        }
    }
}
