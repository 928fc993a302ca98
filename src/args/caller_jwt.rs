//! The options about signed tokens of callers.

use std::path::PathBuf;

use clap::Args as Group;

/// Options about signed tokens of callers. All three belong together.
#[derive(Debug, Group)]
pub struct CallerJwtArgs {
    /// File with the public keys (a JWK Set) of an issuer whose signed tokens (JWTs) may use policies without
    /// callerSecretRef, such as Auth0's machine-to-machine tokens. The service reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_CALLER_JWKS_FILE", value_name = "FILE", requires_all = ["caller_jwt_issuer", "caller_jwt_audience"])]
    pub caller_jwks_file: Option<PathBuf>,
    /// Issuer (iss) of signed tokens, exactly as in the tokens, such as `https://acme.eu.auth0.com/` for Auth0.
    #[arg(long, env = "SESSION_CHECKER_CALLER_JWT_ISSUER", value_name = "URL", requires = "caller_jwks_file")]
    pub caller_jwt_issuer: Option<String>,
    /// Audience (aud) of signed tokens: the identifier of the API that stands for this service at the issuer.
    #[arg(long, env = "SESSION_CHECKER_CALLER_JWT_AUDIENCE", value_name = "ID", requires = "caller_jwks_file")]
    pub caller_jwt_audience: Option<String>,
}
