//! Builds the parts of the service from its configuration.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretString};

use super::config::{CallerJwtConfig, ServiceConfig};
use super::error::RunError;
use super::source::{Source, setting};
use crate::clock::ServiceClock;
use crate::coverage::{Coverage, CoverageOptions, LastChecks};
use crate::ledger::{DEFAULT_CAPACITY, Failover, Ledger, Memory};
use crate::metrics::MetricRegistry;
use crate::policy::{CallerAccess, TokenDigest};
use crate::redis::Redis;
use crate::secret::{Caller, IssuerKeys, SignedTokens};
use crate::source::{SettingFile, TokenFile, parse_tokens};

/// Who may send checks, apart from the callers that policies name. With the Node demo's variables as the source everyone
/// may on loopback, unless a token is configured.
pub(super) fn caller_access(
    config: &ServiceConfig,
    signed_tokens: Option<Arc<SignedTokens>>,
) -> Result<(CallerAccess, Option<TokenFile>), RunError> {
    let file =
        config.caller_token_file.as_ref().map(|path| setting("--caller-token-file", path, parse_tokens)).transpose()?;
    let mut tokens = file.as_ref().map(|file| file.value().clone()).unwrap_or_default();
    tokens.extend(config.caller_token.as_ref().and_then(token_digest));
    let has_token_option = config.caller_token.is_some() || file.is_some();
    let mut caller_access = CallerAccess { tokens, signed_tokens, allow_anonymous: config.allow_anonymous };
    let is_node_demo = matches!(config.source.policies, Source::Environment(_));
    let has_tokens = !caller_access.tokens.is_empty() || caller_access.signed_tokens.is_some();
    if is_node_demo && !caller_access.allow_anonymous && !has_tokens {
        if has_token_option || !config.listen.is_loopback() {
            return Err(RunError::NoCallers(config.listen.clone()));
        }
        caller_access.allow_anonymous = true;
    }
    Ok((caller_access, file))
}

/// The option that names the file with the keys of signed tokens.
pub(super) const CALLER_JWKS_FILE: &str = "--caller-jwks-file";

/// Reads the keys of signed tokens, and returns their file to be followed.
///
/// # Errors
/// When the file cannot be read, or has no usable key.
pub(super) fn jwks_file(
    config: &ServiceConfig,
) -> Result<Option<(CallerJwtConfig, SettingFile<IssuerKeys>)>, RunError> {
    let Some(jwt) = &config.caller_jwt else { return Ok(None) };
    let file = setting(CALLER_JWKS_FILE, &jwt.jwks_file, |_, text| IssuerKeys::parse(text))?;
    Ok(Some((jwt.clone(), file)))
}

/// The signed tokens that callers may present.
pub(super) fn signed_tokens(jwt: &CallerJwtConfig, keys: &IssuerKeys) -> Arc<SignedTokens> {
    let (issuer, audience) = (jwt.issuer.clone(), jwt.audience.clone());
    Arc::new(SignedTokens { issuer, audience, keys: keys.clone() })
}

/// The digest of `CALLER_TOKEN`; `None`, with a log line, when the token is too short.
pub(super) fn token_digest(token: &SecretString) -> Option<TokenDigest> {
    match Caller::new("CALLER_TOKEN", token.expose_secret()) {
        Ok(caller) => Some(TokenDigest::of(caller.token.expose_secret())),
        Err(error) => {
            tracing::error!(%error, "CALLER_TOKEN ignored");
            None
        }
    }
}

/// The name of the register with the key of the hashes in logs. No user is named like it.
const LOG_HASH_KEY: &str = "/log-hash-key";
/// How long the key is kept after the last start of a replica.
const LOG_HASH_KEY_TTL: Duration = Duration::from_secs(400 * 24 * 3600);

/// The key of the hashes of users in logs: the configured one; else one made from the ledger's key, which all replicas have;
/// else one that the replicas keep in the shared store; else a random one.
pub(super) async fn log_hash_key(
    configured: Option<&SecretString>,
    ledger_key: Option<&SecretString>,
    store: Option<&Redis>,
) -> hmac::Key {
    if let Some(key) = configured {
        return hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    }
    if let Some(key) = ledger_key {
        let ledger_key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
        // A key of its own: a hash from a log is no key of the ledger.
        let derived = hmac::sign(&ledger_key, b"session-checker log hash key");
        return hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
    }
    let mut key = [0; 32];
    rand::rng().fill_bytes(&mut key);
    let Some(store) = store else { return hmac::Key::new(hmac::HMAC_SHA256, &key) };
    let own: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let shared = shared_log_hash_key(store, &own).await;
    if shared.is_none() {
        tracing::warn!(
            "the shared store did not answer: the hashes of users in the logs of this replica differ from those of others until it \
             restarts"
        );
    }
    hmac::Key::new(hmac::HMAC_SHA256, shared.unwrap_or(own).as_bytes())
}

/// The key in the shared store, which is `own` when there is none that can be read. `None` when the store does not answer.
async fn shared_log_hash_key(store: &Redis, own: &str) -> Option<String> {
    let mut stored = store.read(LOG_HASH_KEY).await?;
    loop {
        let kept = String::from_utf8(stored.text).ok().filter(|text| !text.is_empty());
        let text = kept.unwrap_or_else(|| own.to_owned());
        // Also when it is there: each start keeps it for another year.
        let revision = stored.revision.wrapping_add(1).max(1);
        match store.compare_exchange(LOG_HASH_KEY, stored.revision, revision, &text, LOG_HASH_KEY_TTL).await? {
            Ok(()) => return Some(text),
            Err(other) => stored = other,
        }
    }
}

/// The Redis that replicas share, when a URL is configured.
pub(super) async fn redis(config: &ServiceConfig) -> Result<Option<Redis>, RunError> {
    let Some(address) = config.ledger.clone() else { return Ok(None) };
    let key = config.ledger_key.as_ref().map(|key| key.expose_secret().as_bytes());
    let redis = Redis::connect(address, key, config.ledger_timeout).await;
    Ok(Some(redis.map_err(|error| RunError::Ledger(error.to_string()))?))
}

/// The audit of log streams.
pub(super) fn coverage(
    config: &ServiceConfig,
    redis: Option<Redis>,
    registry: &MetricRegistry,
    last_checks: &Arc<LastChecks>,
) -> Arc<Coverage> {
    let options = CoverageOptions {
        receives: config.logs_listen.is_some(),
        has_peers: config.replicas > 1,
        timing: config.coverage_timing,
    };
    let coverage = Arc::new(Coverage::new(options, redis, registry, Arc::clone(last_checks)));
    let tallies = Arc::downgrade(&coverage);
    registry.on_scrape(move |live| {
        if let Some(coverage) = tallies.upgrade() {
            coverage.retain_policies(|policy| live.has_policy(policy));
        }
    });
    coverage
}

/// The ledger and its metrics: in Redis when replicas share one, else in this process's memory.
pub(super) fn ledger(redis: Option<Redis>, registry: &MetricRegistry, clock: ServiceClock) -> Arc<Ledger> {
    let shared = redis.is_some();
    let ledger = Arc::new(Ledger::new(Failover::new(Memory::with_clock(DEFAULT_CAPACITY, clock), redis)));
    let counted = Arc::clone(&ledger);
    crate::ledger::metrics::register(registry, shared, move || counted.stats());
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a user that a replica with these keys logs.
    async fn hash(configured: Option<&str>, ledger_key: Option<&str>) -> Vec<u8> {
        let [configured, ledger_key] = [configured, ledger_key].map(|key| key.map(SecretString::from));
        let key = log_hash_key(configured.as_ref(), ledger_key.as_ref(), None).await;
        hmac::sign(&key, b"auth0|1").as_ref().to_vec()
    }

    #[tokio::test]
    async fn replicas_with_the_same_key_log_the_same_hash_of_a_user() {
        assert_eq!(hash(None, Some("ledger")).await, hash(None, Some("ledger")).await);
        assert_eq!(hash(Some("own"), Some("one")).await, hash(Some("own"), None).await);
        assert_ne!(hash(None, Some("ledger")).await, hash(None, Some("another")).await);
        assert_ne!(hash(None, None).await, hash(None, None).await, "without a key each has its own");
        // Who reads logs must not be able to compute the hashes of the ledger's keys.
        let of_ledger = hmac::Key::new(hmac::HMAC_SHA256, b"ledger");
        assert_ne!(hash(None, Some("ledger")).await, hmac::sign(&of_ledger, b"auth0|1").as_ref());
    }
}
