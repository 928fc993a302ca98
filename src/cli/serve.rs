//! `session-checker serve`: runs the service.

use secrecy::{ExposeSecret, SecretString};

use super::source::source_config;
use crate::args::{CallerJwtArgs, ChooseArgs, LedgerArgs, ServeArgs};
use crate::clock::ServiceClock;
use crate::coverage::CoverageTiming;
use crate::redis::RedisAddress;
use crate::server::TlsFiles;
use crate::service::{CallerJwtConfig, ChooseConfig, RunError, Service, ServiceConfig, default_max_in_flight};
use crate::shutdown::Signals;

/// The variables by which other programs find a proxy for HTTPS.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Runs the service until a signal.
///
/// # Errors
/// When the service cannot start, or a part of it stops without a shutdown.
pub async fn run(args: ServeArgs) -> Result<(), RunError> {
    // Before the start: as the first process of a container, this one ignores signals that it has no handler for.
    let signals = Signals::listen_with_reload().map_err(RunError::Signals)?;
    if args.source.auth0_proxy.is_none() {
        warn_about_unused_proxy_variables(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    }
    // The start is a large future, and it is over when the service runs.
    let service = Box::pin(Service::start(service_config(args)?)).await?;
    service.run(signals).await
}

/// Warns when variables of the environment name a proxy, because other programs would use it. The service does not: such a
/// variable is often meant for other hosts than Auth0's, and a proxy takes the check of private addresses from the service.
fn warn_about_unused_proxy_variables(is_set: impl Fn(&str) -> bool) {
    let set: Vec<&str> = PROXY_VARIABLES.into_iter().filter(|name| is_set(name)).collect();
    if !set.is_empty() {
        let variables = set.join(", ");
        tracing::warn!(
            variables,
            "proxy variables are set and not used: give --auth0-proxy to reach Auth0 through a proxy"
        );
    }
}

/// Turns the options of `serve` into a configuration.
///
/// # Errors
/// When the options name no usable source of policies.
pub fn service_config(mut args: ServeArgs) -> Result<ServiceConfig, RunError> {
    let (listen, admin_listen, shutdown_delay) = (args.listen(), args.admin_listen(), args.shutdown_delay());
    Ok(ServiceConfig {
        listen,
        admin_listen,
        logs_listen: args.logs_listen,
        choose: choose_config(args.choose),
        coverage_timing: CoverageTiming::default(),
        path_prefix: args.path_prefix,
        tls: args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: args.tls_client_ca,
        }),
        source: source_config(args.source)?,
        caller_token_file: args.caller_token_file,
        caller_token: args.caller_token,
        caller_jwt: caller_jwt(args.caller_jwt),
        allow_anonymous: args.allow_anonymous,
        ledger_key: args.ledger.ledger_key.take().filter(is_set),
        ledger_timeout: args.ledger.ledger_timeout,
        ledger: redis_address(args.ledger),
        replicas: args.replicas,
        lease_name: args.lease_name,
        lease_duration: args.lease_duration,
        force_audit: args.force_audit,
        force_audit_file: args.force_audit_file,
        max_in_flight: args.max_in_flight.unwrap_or_else(default_max_in_flight),
        max_connections: args.max_connections,
        max_connections_per_source: args.max_connections_per_source,
        log_hash_key: args.log_hash_key.filter(is_set),
        shutdown_delay,
        drain_timeout: args.drain_timeout,
        clock: ServiceClock::default(),
    })
}

fn choose_config(args: ChooseArgs) -> Option<ChooseConfig> {
    Some(ChooseConfig {
        listen: args.choose_listen?,
        url: Some(args.choose_url?),
        login_origin: None,
        ticket_key_file: args.ticket_key_file,
        page_dir: args.choose_page_dir,
    })
}

/// The three options are given together, or none is.
fn caller_jwt(args: CallerJwtArgs) -> Option<CallerJwtConfig> {
    let (issuer, audience) = args.caller_jwt_issuer.zip(args.caller_jwt_audience)?;
    Some(CallerJwtConfig { jwks_file: args.caller_jwks_file?, issuer, audience })
}

pub(super) fn redis_address(args: LedgerArgs) -> Option<RedisAddress> {
    Some(RedisAddress {
        url: args.url.filter(is_set)?,
        sentinel_master: args.ledger_sentinel_master,
        user: args.ledger_user,
        password_file: args.ledger_password_file,
        ca_file: args.ledger_ca_file,
    })
}

/// Charts leave optional variables empty.
pub(super) fn is_set(secret: &SecretString) -> bool {
    !secret.expose_secret().is_empty()
}
