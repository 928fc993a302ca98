//! The two kinds of Secret that a policy names, read from a type and a map of bytes: from Kubernetes and from a folder
//! alike. The values live in `secrecy` types and never reach `Debug`, logs or answers.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rsa::KeyPair;
use jsonwebtoken::{Algorithm, EncodingKey};
use secrecy::{ExposeSecret, SecretString};

/// The type of a Secret that holds a tenant's credential.
pub const CREDENTIALS_TYPE: &str = "sessionchecker.dev/credentials";

/// The type of a Secret that holds the callers' tokens.
pub const CALLERS_TYPE: &str = "sessionchecker.dev/callers";

/// The fewest characters of a caller's token.
pub const MIN_CALLER_TOKEN: usize = 16;

/// The size in bytes of the RSA keys that Auth0 takes: 2048 to 4096 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=512;

/// What a tenant's token endpoint is shown: who we are, and the proof.
pub struct Credentials {
    /// The canonical tenant domain that the Secret's owner allows it to be sent to, in lower case.
    pub domain: String,
    /// The custom domain that the Secret's owner allows, in lower case.
    pub custom_domain: Option<String>,
    /// The client id of the machine-to-machine application.
    pub client_id: String,
    /// What proves that we are that application.
    pub client_auth: ClientAuth,
    fingerprint: Fingerprint,
}

/// How the application authenticates at the token endpoint.
pub enum ClientAuth {
    /// `client_secret` in the body of the request.
    ClientSecret(SecretString),
    /// `private_key_jwt`: a signed assertion, a new one for each request.
    PrivateKey {
        /// The RSA key.
        key: EncodingKey,
        /// RS256, RS384 or PS256: what Auth0 accepts.
        algorithm: Algorithm,
        /// The `kid` header, when the Secret names one.
        key_id: Option<String>,
    },
}

/// Says whether two credentials are the same, without showing either.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The tokens that callers of `/check` may present.
#[derive(Debug, Default)]
pub struct CallerTokens {
    /// Those that are good.
    pub callers: Vec<Caller>,
    /// What was wrong with each of the others, which are left out singly.
    pub refused: Vec<SecretError>,
}

/// One token that a caller may present.
#[derive(Clone, Debug)]
pub struct Caller {
    /// What it is called where it was written, such as the key in its Secret.
    pub name: String,
    /// The token itself, at least [`MIN_CALLER_TOKEN`] characters.
    pub token: SecretString,
}

/// What is wrong with a Secret, and what to do about it. Keys are named, values never.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The Secret has another type.
    #[error(
        "the Secret has the type \"{found}\": make a new one of type \"{expected}\" (a Secret's type cannot be changed)"
    )]
    Type {
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A key that must be there is not, or is empty.
    #[error("the key \"{key}\" is missing or empty: add it")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value is not text.
    #[error("the value of \"{key}\" is not UTF-8 text: write it again")]
    NotText {
        /// The key.
        key: String,
    },
    /// The data as a whole cannot be read; the text says why.
    #[error("{0}")]
    Data(String),
    /// Neither way to authenticate.
    #[error("neither \"clientSecret\" nor \"privateKey\" is there: add the one that the application is set up for")]
    NoProof,
    /// Both ways to authenticate.
    #[error(
        "both \"clientSecret\" and \"privateKey\" are there: remove the one that the application is not set up for"
    )]
    TwoProofs,
    /// The private key cannot be used.
    #[error(
        "the value of \"privateKey\" is not an RSA private key of 2048 to 4096 bits in PEM: write the whole file, unencrypted"
    )]
    PrivateKey,
    /// The signing algorithm is none of Auth0's.
    #[error("the value of \"signingAlgorithm\" is none of RS256, RS384 and PS256: write the application's")]
    SigningAlgorithm,
    /// The Secret's owner does not allow the policy's domain.
    #[error("the Secret is not for {domain}: its key \"domain\" must be the policy's tenant.domain")]
    OtherDomain {
        /// The policy's domain.
        domain: String,
    },
    /// The Secret's owner does not allow the policy's custom domain.
    #[error("the Secret is not for {domain}: its key \"customDomain\" must be the policy's tenant.customDomain")]
    OtherCustomDomain {
        /// The policy's custom domain.
        domain: String,
    },
    /// A caller's token cannot be sent in a header.
    #[error(
        "the caller's token \"{name}\" has white space or characters that are not ASCII and is not accepted: write letters, digits and signs only"
    )]
    UnfitToken {
        /// What the token is called.
        name: String,
    },
    /// A caller's token is too easy to guess.
    #[error(
        "the caller's token \"{name}\" has fewer than 16 characters and is not accepted: write a longer one, like the output of `openssl rand -hex 32`"
    )]
    ShortToken {
        /// What the token is called.
        name: String,
    },
}

impl Credentials {
    /// Reads a Secret of type [`CREDENTIALS_TYPE`]. A line end after a value is not part of it; an optional key without a
    /// value counts as absent.
    ///
    /// # Errors
    /// What is missing or wrong first.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        expect_type(CREDENTIALS_TYPE, type_)?;
        let required = |key| text(data, key)?.ok_or(SecretError::Missing { key });
        let domain = required("domain")?.to_ascii_lowercase();
        let custom_domain = text(data, "customDomain")?.map(str::to_ascii_lowercase);
        let client_id = required("clientId")?.to_owned();
        let client_auth = match (text(data, "clientSecret")?, text(data, "privateKey")?) {
            (Some(secret), None) => ClientAuth::ClientSecret(secret.into()),
            (None, Some(pem)) => ClientAuth::PrivateKey {
                key: private_key(pem)?,
                algorithm: text(data, "signingAlgorithm")?.map_or(Ok(Algorithm::RS256), algorithm)?,
                key_id: text(data, "keyId")?.map(str::to_owned),
            },
            (None, None) => return Err(SecretError::NoProof),
            (Some(_), Some(_)) => return Err(SecretError::TwoProofs),
        };
        let fingerprint = fingerprint(&domain, custom_domain.as_deref(), &client_id, &client_auth);
        Ok(Self { domain, custom_domain, client_id, client_auth, fingerprint })
    }

    /// Whether the Secret's owner lets it be sent to this tenant. Whoever may write policies but not read Secrets could
    /// otherwise have it posted to a host of theirs. A custom domain that the policy does not use is no harm.
    ///
    /// # Errors
    /// The domain, or the custom domain that is used, is not the Secret's.
    pub fn allows(&self, domain: &str, custom_domain: Option<&str>) -> Result<(), SecretError> {
        if !self.domain.eq_ignore_ascii_case(domain) {
            return Err(SecretError::OtherDomain { domain: domain.to_owned() });
        }
        match custom_domain {
            Some(used) if !self.custom_domain.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(used)) => {
                Err(SecretError::OtherCustomDomain { domain: used.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// The same for the same credential, however its Secret was written, and for no other.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl CallerTokens {
    /// Reads a Secret of type [`CALLERS_TYPE`]: every value, trimmed, is a token. One that is unfit is left out alone.
    ///
    /// # Errors
    /// The Secret has another type.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        expect_type(CALLERS_TYPE, type_)?;
        let mut all = Self::default();
        for (key, value) in data {
            let caller = str::from_utf8(value).map_err(|_| SecretError::NotText { key: key.clone() });
            match caller.and_then(|token| Caller::new(key, token)) {
                Ok(caller) => all.callers.push(caller),
                Err(error) => all.refused.push(error),
            }
        }
        Ok(all)
    }
}

impl Caller {
    /// Takes a token, trimmed, wherever it was written.
    ///
    /// # Errors
    /// It has fewer than [`MIN_CALLER_TOKEN`] characters.
    pub fn new(name: &str, token: &str) -> Result<Self, SecretError> {
        let (name, token) = (name.to_owned(), token.trim());
        if token.chars().count() < MIN_CALLER_TOKEN {
            return Err(SecretError::ShortToken { name });
        }
        // Anything else cannot be sent in an `Authorization` header as it is, and would never match.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::UnfitToken { name });
        }
        Ok(Self { name, token: token.into() })
    }
}

fn fingerprint(domain: &str, custom_domain: Option<&str>, client_id: &str, client_auth: &ClientAuth) -> Fingerprint {
    let (kind, client_auth, algorithm, key_id) = match client_auth {
        ClientAuth::ClientSecret(secret) => ("secret", secret.expose_secret().as_bytes(), None, None),
        ClientAuth::PrivateKey { key, algorithm, key_id } => {
            ("key", key.as_bytes(), Some(format!("{algorithm:?}")), key_id.as_deref())
        }
    };
    let mut hash = Context::new(&SHA256);
    for part in [
        Some(domain.as_bytes()),
        custom_domain.map(str::as_bytes),
        Some(client_id.as_bytes()),
        Some(kind.as_bytes()),
        Some(client_auth),
        algorithm.as_deref().map(str::as_bytes),
        key_id.map(str::as_bytes),
    ] {
        // With its length before it, no part can run into the next.
        hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    let digest = hash.finish();
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn expect_type(expected: &'static str, found: &str) -> Result<(), SecretError> {
    if found == expected { Ok(()) } else { Err(SecretError::Type { expected, found: found.to_owned() }) }
}

/// The text under a key, without the line end that editors leave; nothing when the key is absent or empty.
fn text<'a>(data: &'a BTreeMap<String, Vec<u8>>, key: &str) -> Result<Option<&'a str>, SecretError> {
    let Some(value) = data.get(key) else { return Ok(None) };
    let text = str::from_utf8(value).map_err(|_| SecretError::NotText { key: key.to_owned() })?;
    Ok(Some(text.trim_end_matches(['\r', '\n'])).filter(|text| !text.is_empty()))
}

/// Reads the key now, so that a wrong one is told where it was written and not at the first login.
fn private_key(pem: &str) -> Result<EncodingKey, SecretError> {
    let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| SecretError::PrivateKey)?;
    let pair = KeyPair::from_der(key.as_bytes()).map_err(|_| SecretError::PrivateKey)?;
    if MODULUS.contains(&pair.public_modulus_len()) { Ok(key) } else { Err(SecretError::PrivateKey) }
}

fn algorithm(name: &str) -> Result<Algorithm, SecretError> {
    match name {
        "RS256" => Ok(Algorithm::RS256),
        "RS384" => Ok(Algorithm::RS384),
        "PS256" => Ok(Algorithm::PS256),
        _ => Err(SecretError::SigningAlgorithm),
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("domain", &self.domain)
            .field("custom_domain", &self.custom_domain)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}

#[cfg(test)]
mod tests;
