//! The two kinds of Secret that a policy names, read from a type and a map of bytes: from Kubernetes and from a folder
//! alike. The values live in `secrecy` types and never reach `Debug`, logs or answers.

use std::fmt;

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

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("domain", &self.domain)
            .field("custom_domain", &self.custom_domain)
            .finish_non_exhaustive()
    }
}
