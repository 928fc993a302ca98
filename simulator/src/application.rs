//! Machine-to-machine applications of the tenant, and how they authenticate.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret, SecretString};

/// All scopes that the service needs.
const DEFAULT_SCOPES: [&str; 3] = ["read:sessions", "delete:sessions", "delete:refresh_tokens"];

/// An application that may use the client credentials grant.
#[derive(Clone, Debug)]
pub struct Application {
    pub(super) client_id: String,
    pub(super) credential: Credential,
    pub(super) scopes: Vec<String>,
}

/// How an application authenticates.
#[derive(Clone)]
pub(super) enum Credential {
    Secret(SecretString),
    /// More than one key, so that one can replace another.
    Keys(Vec<PublicKey>),
}

/// A registered public key.
#[derive(Clone)]
pub(super) struct PublicKey {
    pub key: DecodingKey,
    pub algorithm: Algorithm,
    pub key_id: Option<String>,
}

impl Application {
    /// An application with a client secret and the scopes to list and revoke sessions.
    pub fn with_secret(client_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self::new(client_id.into(), Credential::Secret(SecretString::from(secret.into())))
    }

    /// An application that signs assertions (`private_key_jwt`), with the same scopes. Add its keys with
    /// [`Self::public_key`].
    pub fn with_keys(client_id: impl Into<String>) -> Self {
        Self::new(client_id.into(), Credential::Keys(Vec::new()))
    }

    fn new(client_id: String, credential: Credential) -> Self {
        Self { client_id, credential, scopes: DEFAULT_SCOPES.map(str::to_owned).to_vec() }
    }

    /// Registers an RSA public key in PEM for assertions signed with `algorithm` (Auth0 accepts RS256, RS384 and PS256). It
    /// replaces a secret and adds to other keys. With a key id, an assertion with another key id is rejected.
    ///
    /// # Errors
    ///
    /// The PEM is not an RSA public key.
    pub fn public_key(
        mut self,
        pem: &str,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Result<Self, jsonwebtoken::errors::Error> {
        let key =
            PublicKey { key: DecodingKey::from_rsa_pem(pem.as_bytes())?, algorithm, key_id: key_id.map(str::to_owned) };
        match &mut self.credential {
            Credential::Keys(keys) => keys.push(key),
            Credential::Secret(_) => self.credential = Credential::Keys(vec![key]),
        }
        Ok(self)
    }

    /// Sets the scopes of the client grant for the Management API. Without scopes there is no grant, and so no token.
    #[must_use]
    pub fn scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Whether `secret` is the application's.
    pub(super) fn has_secret(&self, secret: &str) -> bool {
        matches!(&self.credential, Credential::Secret(known) if known.expose_secret() == secret)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(_)",
            Self::Keys(_) => "Keys(_)",
        })
    }
}
