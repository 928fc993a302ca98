//! From options to the parts of the service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretString};

use super::RunError;
use crate::args::{ServeArgs, SourceArgs};
use crate::auth0::{Auth0Metrics, QuotaConfig, Upstream, UpstreamOptions};
use crate::ledger::{Backend, DEFAULT_CAPACITY, Failover, Ledger, Memory, Redis};
use crate::metrics::MetricRegistry;
use crate::policy::{CallerAccess, TokenDigest};
use crate::secret::Caller;
use crate::source::{SettingFile, TokenFile, parse_tokens};

/// Who may ask, beside the callers' Secrets. In the Node demo's mode everybody may on loopback, as long as no token is set.
pub(super) fn caller_access(args: &ServeArgs, node_demo: bool) -> Result<(CallerAccess, Option<TokenFile>), RunError> {
    let file = args.caller_token_file.as_ref().map(|path| setting(path, parse_tokens)).transpose()?;
    let mut tokens = file.as_ref().map(|file| file.value().clone()).unwrap_or_default();
    tokens.extend(args.caller_token.as_ref().and_then(fixed_token));
    let asked_for_tokens = args.caller_token.is_some() || file.is_some();
    let mut caller_access = CallerAccess { tokens, allow_anonymous: args.allow_anonymous };
    if node_demo && !caller_access.allow_anonymous && caller_access.tokens.is_empty() {
        if asked_for_tokens || !args.listen().ip().is_loopback() {
            return Err(RunError::NoCallers(args.listen()));
        }
        caller_access.allow_anonymous = true;
    }
    Ok((caller_access, file))
}

pub(super) fn fixed_token(token: &SecretString) -> Option<TokenDigest> {
    match Caller::new("CALLER_TOKEN", token.expose_secret()) {
        Ok(caller) => Some(TokenDigest::of(caller.token.expose_secret())),
        Err(error) => {
            tracing::error!(%error, "a caller's token is refused");
            None
        }
    }
}

pub(super) fn setting<T: PartialEq>(
    path: &Path,
    parse: fn(&Path, &str) -> Result<T, String>,
) -> Result<SettingFile<T>, RunError> {
    SettingFile::open(path.to_owned(), parse).map_err(|error| RunError::File(path.to_owned(), error))
}

pub(super) fn log_hash_key(args: &ServeArgs) -> hmac::Key {
    if let Some(key) = given(args.log_hash_key.as_ref()) {
        return hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    }
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

/// The text of a secret option; an empty one, as charts leave it, is not given.
fn given(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret).filter(|text| !text.is_empty())
}

/// The ledger: shared where an URL says so, else this process's own.
pub(super) async fn ledger(args: &ServeArgs) -> Result<Ledger, RunError> {
    let memory = Memory::new(DEFAULT_CAPACITY);
    let Some(url) = args.ledger.as_ref().filter(|url| !url.expose_secret().is_empty()) else {
        return Ok(Ledger::new(Backend::Memory(memory)));
    };
    let key = given(args.ledger_key.as_ref()).unwrap_or(url.expose_secret());
    let redis = Redis::new(url, key.as_bytes()).map_err(|error| RunError::Ledger(error.to_string()))?;
    Ok(Ledger::new(Backend::Failover(Failover::start(redis, memory, args.ledger_timeout).await)))
}

/// The way to the tenants.
pub(super) fn upstream(
    args: &SourceArgs,
    quotas: QuotaConfig,
    registry: &MetricRegistry,
) -> Result<Upstream, RunError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| RunError::File(path.clone(), error));
    let ca_pem = args.auth0_ca_file.as_ref().map(read).transpose()?;
    let observer = Arc::new(Auth0Metrics::new(registry));
    Ok(Upstream::new(UpstreamOptions { endpoints: args.endpoints(), ca_pem, quotas, observer })?)
}
