//! The two kinds of Secret that a policy names, read from a type and a map of bytes: from Kubernetes and from a folder
//! alike. The values live in `secrecy` types and never reach `Debug`, logs or answers.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use jsonwebtoken::{Algorithm, EncodingKey};
use secrecy::SecretString;

/// What a tenant's token endpoint is shown: who we are, and the proof.
pub struct Credentials {
    /// The canonical tenant domain that the Secret's owner allows it to be sent to, in lower case.
    pub domain: String,
    /// The custom domain that the Secret's owner allows, in lower case.
    pub custom_domain: Option<String>,
    /// The client id of the machine-to-machine application.
    pub client_id: String,
    /// What proves that we are that application.
    pub proof: Proof,
    fingerprint: [u8; 32],
}

/// How the application authenticates at the token endpoint.
pub enum Proof {
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

/// The tokens that callers may present.
#[derive(Debug)]
pub struct Callers {
    /// The values that may be used.
    pub tokens: Vec<SecretString>,
    /// The values that may not, and why.
    pub refused: Vec<SecretError>,
}

/// What is wrong with a Secret, in words that name the key and the remedy and never the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The type is not the one for its use.
    #[error(
        "its type is {found:?}: make it {}, or {} for callers' tokens",
        Credentials::SECRET_TYPE,
        Callers::SECRET_TYPE
    )]
    Type {
        /// The type there is.
        found: String,
    },
    /// A key is not there or empty.
    #[error("key {0} is missing or empty: add it")]
    Missing(&'static str),
    /// Neither of the two proofs, or both.
    #[error("write either clientSecret or privateKey, not both and not neither")]
    Proof,
    /// A value is not text.
    #[error("the value of key {0} is not UTF-8 text")]
    NotText(String),
    /// The data cannot be read at all.
    #[error("{0}")]
    Data(String),
    /// The private key cannot be read.
    #[error("the value of privateKey is not an RSA private key in PEM (PKCS#1 or PKCS#8)")]
    PrivateKey,
    /// The algorithm is not one that Auth0 accepts.
    #[error("signingAlgorithm must be RS256, RS384 or PS256")]
    Algorithm,
    /// The Secret's owner allows another domain.
    #[error(
        "its {key} is {found:?}, the policy's is {wanted:?}: the credential may only be sent where its Secret says"
    )]
    Domain {
        /// The key of the Secret.
        key: &'static str,
        /// What the Secret says.
        found: String,
        /// What the policy says.
        wanted: String,
    },
    /// A caller's token is too short.
    #[error("the value of key {key} has {length} characters: a caller's token needs at least {}", Callers::MIN_LENGTH)]
    Short {
        /// The key.
        key: String,
        /// How many characters the value has.
        length: usize,
    },
}

type Data = BTreeMap<String, Vec<u8>>;

impl Credentials {
    /// `type` of the Secret.
    pub const SECRET_TYPE: &'static str = "sessionchecker.dev/credentials";

    /// Reads a Secret of this kind: `domain`, `clientId`, and `clientSecret` or `privateKey`; optional `customDomain`,
    /// `signingAlgorithm` and `keyId`. White space around a value is not part of it, as editors and `echo` leave it there.
    ///
    /// # Errors
    /// When the type or a key is not right.
    pub fn from_secret(kind: &str, data: &Data) -> Result<Self, SecretError> {
        if kind != Self::SECRET_TYPE {
            return Err(SecretError::Type { found: kind.to_owned() });
        }
        let domain = required(data, "domain")?;
        let custom_domain = text(data, "customDomain")?;
        let client_id = required(data, "clientId")?;
        let proof = match (text(data, "clientSecret")?, text(data, "privateKey")?) {
            (Some(secret), None) => Proof::ClientSecret(secret.into()),
            (None, Some(pem)) => Proof::private_key(pem, text(data, "signingAlgorithm")?, text(data, "keyId")?)?,
            _ => return Err(SecretError::Proof),
        };
        Ok(Self {
            domain: domain.to_ascii_lowercase(),
            custom_domain: custom_domain.map(str::to_ascii_lowercase),
            client_id: client_id.to_owned(),
            proof,
            fingerprint: fingerprint(data),
        })
    }

    /// Whether the Secret's owner allows the credential to be sent to a policy's tenant. A custom domain in the Secret that
    /// the policy does not use is no harm.
    ///
    /// # Errors
    /// When a domain is another one.
    pub fn allows(&self, domain: &str, custom_domain: Option<&str>) -> Result<(), SecretError> {
        same_domain("domain", Some(&self.domain), domain)?;
        custom_domain.map_or(Ok(()), |custom| same_domain("customDomain", self.custom_domain.as_deref(), custom))
    }

    /// A digest of all parts: equal for equal credentials.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
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

impl Proof {
    fn private_key(pem: &str, algorithm: Option<&str>, key_id: Option<&str>) -> Result<Self, SecretError> {
        let algorithm = match algorithm {
            None | Some("RS256") => Algorithm::RS256,
            Some("RS384") => Algorithm::RS384,
            Some("PS256") => Algorithm::PS256,
            Some(_) => return Err(SecretError::Algorithm),
        };
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| SecretError::PrivateKey)?;
        Ok(Self::PrivateKey { key, algorithm, key_id: key_id.map(str::to_owned) })
    }
}

impl Callers {
    /// `type` of the Secret.
    pub const SECRET_TYPE: &'static str = "sessionchecker.dev/callers";
    /// The shortest token, in characters.
    pub const MIN_LENGTH: usize = 16;

    /// Reads a Secret of this kind: every value, trimmed, is a token. One that is too short is refused alone.
    ///
    /// # Errors
    /// When the type is not right.
    pub fn from_secret(kind: &str, data: &Data) -> Result<Self, SecretError> {
        if kind != Self::SECRET_TYPE {
            return Err(SecretError::Type { found: kind.to_owned() });
        }
        let mut callers = Self { tokens: Vec::new(), refused: Vec::new() };
        for key in data.keys() {
            match text(data, key).and_then(|token| Self::token(key, token.unwrap_or_default())) {
                Ok(token) => callers.tokens.push(token),
                Err(error) => callers.refused.push(error),
            }
        }
        Ok(callers)
    }

    /// Takes one token, wherever it comes from; `key` is what people know it by.
    ///
    /// # Errors
    /// When it is too short.
    pub fn token(key: &str, value: &str) -> Result<SecretString, SecretError> {
        let value = value.trim();
        let length = value.chars().count();
        if length < Self::MIN_LENGTH {
            return Err(SecretError::Short { key: key.to_owned(), length });
        }
        Ok(value.into())
    }
}

fn text<'a>(data: &'a Data, key: &str) -> Result<Option<&'a str>, SecretError> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| SecretError::NotText(key.to_owned()))?.trim();
    Ok((!text.is_empty()).then_some(text))
}

fn required<'a>(data: &'a Data, key: &'static str) -> Result<&'a str, SecretError> {
    text(data, key)?.ok_or(SecretError::Missing(key))
}

fn same_domain(key: &'static str, found: Option<&str>, wanted: &str) -> Result<(), SecretError> {
    let found = found.ok_or(SecretError::Missing(key))?;
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(SecretError::Domain { key, found: found.to_owned(), wanted: wanted.to_owned() })
}

/// Lengths are part of it, so that no two different maps are taken for one.
fn fingerprint(data: &Data) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for (key, value) in data {
        for part in [key.as_bytes(), value] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn data(pairs: &[(&str, &str)]) -> Data {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    fn credentials(pairs: &[(&str, &str)]) -> Result<Credentials, SecretError> {
        Credentials::from_secret(Credentials::SECRET_TYPE, &data(pairs))
    }

    const GOOD: [(&str, &str); 3] =
        [("domain", "Acme.EU.auth0.com\n"), ("clientId", "id"), ("clientSecret", "s3cret-value\n")];

    #[test]
    fn a_trailing_newline_is_not_part_of_a_value() {
        let good = credentials(&GOOD).unwrap();
        assert_eq!(good.domain, "acme.eu.auth0.com");
        let Proof::ClientSecret(secret) = &good.proof else { panic!("a client secret") };
        assert_eq!(secret.expose_secret(), "s3cret-value");
    }

    #[test]
    fn a_credential_never_shows_its_secret() {
        let shown = format!("{:?}", credentials(&GOOD).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |pairs: &[(&str, &str)]| credentials(pairs).unwrap_err();
        assert_eq!(error(&GOOD[1..]), SecretError::Missing("domain"));
        assert_eq!(error(&[GOOD[0], GOOD[2]]), SecretError::Missing("clientId"));
        assert_eq!(error(&GOOD[..2]), SecretError::Proof);
        assert_eq!(error(&[GOOD[0], GOOD[1], GOOD[2], ("privateKey", "x")]), SecretError::Proof);
        assert_eq!(error(&[GOOD[0], GOOD[1], ("privateKey", "x")]), SecretError::PrivateKey);
        let odd = [GOOD[0], GOOD[1], ("privateKey", "x"), ("signingAlgorithm", "HS256")];
        assert_eq!(error(&odd), SecretError::Algorithm);
        let opaque = Credentials::from_secret("Opaque", &data(&GOOD)).unwrap_err();
        assert!(opaque.to_string().contains(Credentials::SECRET_TYPE), "{opaque}");
    }

    #[test]
    fn a_credential_goes_only_where_its_secret_says() {
        let plain = credentials(&GOOD).unwrap();
        assert!(plain.allows("ACME.eu.auth0.com", None).is_ok());
        assert!(matches!(plain.allows("evil.eu.auth0.com", None), Err(SecretError::Domain { key: "domain", .. })));
        assert_eq!(
            plain.allows("acme.eu.auth0.com", Some("login.acme.com")),
            Err(SecretError::Missing("customDomain"))
        );
        let custom = credentials(&[GOOD[0], GOOD[1], GOOD[2], ("customDomain", "Login.acme.com")]).unwrap();
        assert!(custom.allows("acme.eu.auth0.com", Some("login.ACME.com")).is_ok());
        assert!(custom.allows("acme.eu.auth0.com", None).is_ok(), "one that is not used is no harm");
    }

    #[test]
    fn a_short_callers_token_is_refused_alone() {
        let both = data(&[("good", " 0123456789abcdef \n"), ("short", "0123456789abcde"), ("empty", "")]);
        let callers = Callers::from_secret(Callers::SECRET_TYPE, &both).unwrap();
        assert_eq!(callers.tokens.len(), 1);
        assert_eq!(callers.tokens[0].expose_secret(), "0123456789abcdef");
        assert_eq!(callers.refused.len(), 2);
        assert!(!format!("{:?}", callers.refused).contains("0123456789"));
    }

    #[test]
    fn equal_credentials_have_equal_fingerprints() {
        let plain = credentials(&GOOD).unwrap();
        assert_eq!(plain.fingerprint(), credentials(&GOOD).unwrap().fingerprint());
        let other = [GOOD[0], GOOD[1], ("clientSecret", "another")];
        assert_ne!(plain.fingerprint(), credentials(&other).unwrap().fingerprint());
    }
}
