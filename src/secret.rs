//! The types of Secret that a policy names: a tenant's credential, callers' tokens, and a log stream's. They are read from a type and a
//! map of bytes, for Kubernetes and for a folder. Secret values are kept in `secrecy` types and never reach `Debug`, logs or
//! answers. `signed_tokens` has the callers' other tokens, which are no secret of the service.

mod signed_tokens;

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rsa::KeyPair;
use jsonwebtoken::{Algorithm, EncodingKey};
use secrecy::{ExposeSecret, SecretString};

pub use signed_tokens::{IssuerKeys, SignedTokens};

/// The type of a Secret that holds a tenant's credential.
pub const CREDENTIALS_TYPE: &str = "sessionchecker.dev/credentials";

/// The type of a Secret that holds the callers' tokens.
pub const CALLERS_TYPE: &str = "sessionchecker.dev/callers";

/// The type of a Secret that holds the tokens of a tenant's log stream.
pub const LOG_STREAM_TYPE: &str = "sessionchecker.dev/log-stream";

/// The keys of a credential's Secret.
const CREDENTIAL_KEYS: [&str; 7] =
    ["domain", "customDomain", "clientId", "clientSecret", "privateKey", "signingAlgorithm", "keyId"];

/// The fewest characters of a caller's token: 16 random hexadecimal digits have 64 bits, too many to guess over HTTP.
pub const MIN_CALLER_TOKEN: usize = 16;

/// The size in bytes of the RSA keys that Auth0 accepts: 2048 to 4096 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The credential for a tenant's token endpoint.
pub struct Credentials {
    /// The canonical domain of the tenant that the credential may be sent to, in lower case.
    pub domain: String,
    /// The custom domain that the credential may be sent to, in lower case.
    pub custom_domain: Option<String>,
    /// The client id of the machine-to-machine application.
    pub client_id: String,
    /// How the application authenticates.
    pub client_auth: ClientAuth,
    fingerprint: Fingerprint,
}

/// How the application authenticates at the token endpoint.
pub enum ClientAuth {
    /// `client_secret` in the body of the request.
    ClientSecret(SecretString),
    /// `private_key_jwt`: a new signed assertion for each request.
    PrivateKey {
        /// The RSA private key.
        key: EncodingKey,
        /// RS256, RS384 or PS256: the algorithms that Auth0 accepts.
        algorithm: Algorithm,
        /// The `kid` header of the assertion, when the Secret sets one.
        key_id: Option<String>,
    },
}

/// A digest of a credential: equal for equal credentials, and shows nothing of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// The tokens that callers of `/check` may present.
#[derive(Debug, Default)]
pub struct CallerTokens {
    /// The valid tokens.
    pub callers: Vec<Caller>,
    /// The error of each invalid token; an invalid token does not affect the others.
    pub rejected: Vec<SecretError>,
    /// The keys with a value that are not for tokens. Their values are tokens until a later version ignores them.
    pub other_keys: Vec<String>,
}

/// The tokens that the log stream of a tenant may present.
#[derive(Debug)]
pub struct LogStreamTokens {
    /// The canonical domain of the tenant whose logins the stream may report, in lower case.
    pub domain: String,
    /// The valid tokens.
    pub tokens: Vec<Caller>,
    /// The error of each invalid token; an invalid token does not affect the others.
    pub rejected: Vec<SecretError>,
}

/// One token that a caller may present.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name for messages, such as the key in the Secret.
    pub name: String,
    /// The token, at least [`MIN_CALLER_TOKEN`] characters.
    pub token: SecretString,
}

/// The error in a Secret, and what to do about it. Messages name keys, and never contain values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The Secret has another type.
    #[error(
        "the Secret has the type \"{found}\": create a new Secret of type \"{expected}\" (the type of a Secret cannot be changed)"
    )]
    Type {
        /// The type that is required.
        expected: &'static str,
        /// The type of the Secret.
        found: String,
    },
    /// A required key is missing or empty.
    #[error("the key \"{key}\" is missing or empty: add it ({}){}", keys(.present), renames(.present))]
    Missing {
        /// The key.
        key: &'static str,
        /// The keys of the Secret.
        present: Vec<String>,
    },
    /// A value is not text.
    #[error("the value of \"{key}\" is not UTF-8: write it as UTF-8 text")]
    NotText {
        /// The key.
        key: String,
    },
    /// The data cannot be read; the text says why.
    #[error("{0}")]
    Data(String),
    /// The Secret has neither of the two ways to authenticate.
    #[error(
        "neither \"clientSecret\" nor \"privateKey\" is set: add the one that the application uses ({}){}",
        keys(.present),
        renames(.present)
    )]
    NoClientAuth {
        /// The keys of the Secret.
        present: Vec<String>,
    },
    /// A callers' Secret has no token that a caller could present.
    #[error(
        "it holds no usable token, so nobody can use the policy: add one under the key \"action\", such as the output of `openssl rand -hex 32`"
    )]
    NoToken,
    /// A log stream's Secret has no token.
    #[error(
        "it holds no usable token, so no log stream can be received: add one under the key \"token\", such as the output of `openssl rand -hex 32`"
    )]
    NoStreamToken,
    /// A token of a log stream is also in the Secret of another tenant.
    #[error(
        "a token of the log stream is also in a Secret of another tenant and is not used: write a token for each tenant"
    )]
    SharedStreamToken,
    /// The Secret has both ways to authenticate.
    #[error("both \"clientSecret\" and \"privateKey\" are set: remove the one that the application does not use")]
    TwoClientAuths,
    /// The private key cannot be used.
    #[error(
        "the value of \"privateKey\" is not an RSA private key of 2048 to 4096 bits in PEM: write the whole PEM file, unencrypted"
    )]
    PrivateKey,
    /// Auth0 does not accept the signing algorithm.
    #[error(
        "the value of \"signingAlgorithm\" is not RS256, RS384 or PS256: write the algorithm that the application uses"
    )]
    SigningAlgorithm,
    /// The Secret is not for the policy's domain.
    #[error("the Secret is not for {domain}: its key \"domain\" must be the policy's tenant.domain")]
    OtherDomain {
        /// The policy's domain.
        domain: String,
    },
    /// The Secret is not for the policy's custom domain.
    #[error("the Secret is not for {domain}: its key \"customDomain\" must be the policy's tenant.customDomain")]
    OtherCustomDomain {
        /// The policy's custom domain.
        domain: String,
    },
    /// A caller's token cannot be sent in a header.
    #[error(
        "the caller's token \"{name}\" has white space or characters that are not ASCII and is not used: write ASCII letters, digits and punctuation only"
    )]
    UnsendableToken {
        /// The name of the token.
        name: String,
    },
    /// A caller's token is too short.
    #[error(
        "the caller's token \"{name}\" has fewer than {MIN_CALLER_TOKEN} characters and is not used: write a longer one, such as the output of `openssl rand -hex 32`"
    )]
    ShortToken {
        /// The name of the token.
        name: String,
    },
}

impl Credentials {
    /// Reads a Secret of type [`CREDENTIALS_TYPE`]. A line break after a value is not part of it; an optional key without a
    /// value counts as absent.
    ///
    /// # Errors
    /// The first key that is missing or not valid.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        expect_type(CREDENTIALS_TYPE, type_)?;
        let present = || data.keys().cloned().collect();
        let required = |key| text(data, key)?.ok_or_else(|| SecretError::Missing { key, present: present() });
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
            (None, None) => return Err(SecretError::NoClientAuth { present: present() }),
            (Some(_), Some(_)) => return Err(SecretError::TwoClientAuths),
        };
        let fingerprint = fingerprint(&domain, custom_domain.as_deref(), &client_id, &client_auth);
        Ok(Self { domain, custom_domain, client_id, client_auth, fingerprint })
    }

    /// Checks that the Secret's owner allows the credential to be sent to this tenant. Otherwise somebody who may write policies
    /// but not read Secrets could make the service send it to a host under their control. The Secret may name a custom
    /// domain that the policy does not use.
    ///
    /// # Errors
    /// The domain, or the custom domain that is used, differs from the Secret's.
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

    /// The keys whose values look wrong: Auth0 issues neither client ids nor secrets with white space or quotes, but people
    /// paste them so. The values are sent as they are.
    pub fn suspect_keys(&self) -> Vec<&'static str> {
        let looks_wrong =
            |text: &str| text.contains(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\''));
        let secret = match &self.client_auth {
            ClientAuth::ClientSecret(secret) => Some(("clientSecret", secret.expose_secret())),
            ClientAuth::PrivateKey { key_id, .. } => key_id.as_deref().map(|key_id| ("keyId", key_id)),
        };
        [("clientId", self.client_id.as_str())]
            .into_iter()
            .chain(secret)
            .filter_map(|(key, value)| looks_wrong(value).then_some(key))
            .collect()
    }

    /// The fingerprint: equal for equal credentials, also when their Secrets are written differently.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl CallerTokens {
    /// Reads a Secret of type [`CALLERS_TYPE`]: the values of the keys for tokens, trimmed, are tokens. An invalid one is left
    /// out, and an empty one is absent. A value of another key is a token if it can be one.
    ///
    /// # Errors
    /// The Secret has another type, or no token.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        expect_type(CALLERS_TYPE, type_)?;
        let mut all = Self::default();
        for (key, value) in data {
            let Some(caller) = token(key, value) else { continue };
            let is_other = !is_token_key(key);
            if is_other {
                all.other_keys.push(key.clone());
            }
            match caller {
                Ok(caller) => all.callers.push(caller),
                Err(_) if is_other => {}
                Err(error) => all.rejected.push(error),
            }
        }
        if all.callers.is_empty() && all.rejected.is_empty() { Err(SecretError::NoToken) } else { Ok(all) }
    }
}

impl LogStreamTokens {
    /// Reads a Secret of type [`LOG_STREAM_TYPE`]: the tenant's domain, and tokens as in a callers' Secret. Values of other keys
    /// are ignored.
    ///
    /// # Errors
    /// The Secret has another type, no domain, or no token.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, SecretError> {
        expect_type(LOG_STREAM_TYPE, type_)?;
        let missing = || SecretError::Missing { key: "domain", present: data.keys().cloned().collect() };
        let domain = text(data, "domain")?.ok_or_else(missing)?.to_ascii_lowercase();
        let mut all = Self { domain, tokens: Vec::new(), rejected: Vec::new() };
        for (key, value) in data.iter().filter(|(key, _)| is_stream_token_key(key)) {
            match token(key, value) {
                None => {}
                Some(Ok(token)) => all.tokens.push(token),
                Some(Err(error)) => all.rejected.push(error),
            }
        }
        if all.tokens.is_empty() && all.rejected.is_empty() { Err(SecretError::NoStreamToken) } else { Ok(all) }
    }
}

/// The token under a key; `None` when the value is empty.
fn token(key: &str, value: &[u8]) -> Option<Result<Caller, SecretError>> {
    if value.trim_ascii().is_empty() {
        return None;
    }
    let text = str::from_utf8(value).map_err(|_| SecretError::NotText { key: key.to_owned() });
    Some(text.and_then(|text| Caller::new(key, text)))
}

/// Whether a key is `name`, or `name-` and more.
fn is_one_of(key: &str, name: &str) -> bool {
    key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether the value of a key of a log stream's Secret is meant as a token: `token`, `token-*`, `current`, `previous` and
/// `next`.
fn is_stream_token_key(key: &str) -> bool {
    is_one_of(key, "token") || matches!(key, "current" | "previous" | "next")
}

/// Whether the value of a key of a callers' Secret is meant as a token: those of a log stream, `action` and `action-*`.
fn is_token_key(key: &str) -> bool {
    is_stream_token_key(key) || is_one_of(key, "action")
}

impl Caller {
    /// Checks a token and trims it.
    ///
    /// # Errors
    /// The token has fewer than [`MIN_CALLER_TOKEN`] characters, or characters that no header can carry.
    pub fn new(name: &str, token: &str) -> Result<Self, SecretError> {
        let (name, token) = (name.to_owned(), token.trim());
        if token.chars().count() < MIN_CALLER_TOKEN {
            return Err(SecretError::ShortToken { name });
        }
        // An `Authorization` header cannot carry other characters, so the token would never match.
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::UnsendableToken { name });
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
        // The length before each part keeps two parts from being read as another pair.
        hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    let digest = hash.finish();
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn expect_type(expected: &'static str, found: &str) -> Result<(), SecretError> {
    if found == expected { Ok(()) } else { Err(SecretError::Type { expected, found: found.to_owned() }) }
}

/// The keys of a Secret, for a message.
fn keys(present: &[String]) -> String {
    match present {
        [] => "the Secret has no keys".to_owned(),
        [only] => format!("the Secret has the key {only}"),
        all => format!("the Secret has the keys {}", all.join(", ")),
    }
}

/// The keys that a credential's Secret has by another spelling, for a message: `client_id`, `CLIENT_ID` and `client-id` mean
/// `clientId`. So does the name that a tool gives its environment variable, such as `AUTH0_CLIENT_ID`.
fn renames(present: &[String]) -> String {
    let letters = |key: &str| -> String {
        let letters = key.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase());
        letters.collect::<String>().trim_start_matches("auth0").to_owned()
    };
    let meant = |key: &String| CREDENTIAL_KEYS.iter().find(|known| letters(known) == letters(key) && *known != key);
    let renames = present.iter().filter_map(|key| Some(format!("; rename {key} to {}", meant(key)?)));
    renames.collect()
}

/// The text under a key, without the line break that editors append; `None` when the key is absent or empty.
fn text<'a>(data: &'a BTreeMap<String, Vec<u8>>, key: &str) -> Result<Option<&'a str>, SecretError> {
    let Some(value) = data.get(key) else { return Ok(None) };
    let text = str::from_utf8(value).map_err(|_| SecretError::NotText { key: key.to_owned() })?;
    Ok(Some(text.trim_end_matches(['\r', '\n'])).filter(|text| !text.is_empty()))
}

/// Parses the key when the Secret is read, so that an invalid one is an error there and not at the first login.
fn private_key(pem: &str) -> Result<EncodingKey, SecretError> {
    // Many tools that take a value of one line write its line ends as `\n`. PEM has no backslash, so nothing else is meant.
    let mut text = String::with_capacity(pem.len() + 1);
    for line in pem.split("\\n").flat_map(str::lines).map(|line| line.trim_end_matches("\\r").trim()) {
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }
    // It is overwritten when it is dropped.
    let text = SecretString::from(text);
    let key = EncodingKey::from_rsa_pem(text.expose_secret().as_bytes()).map_err(|_| SecretError::PrivateKey)?;
    let pair = KeyPair::from_der(key.as_bytes()).map_err(|_| SecretError::PrivateKey)?;
    if MODULUS_BYTES.contains(&pair.public_modulus_len()) { Ok(key) } else { Err(SecretError::PrivateKey) }
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
