//! The command line. Every option has an environment variable; the two names of the Node demo (`PORT`, `AUTH0_…`) are
//! among them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args as Group, Parser, Subcommand};
use secrecy::SecretString;
use url::Url;

use crate::controller::Namespaces;
use crate::crd::GoDuration;
use crate::telemetry::LogFormat;

/// The exit code for a bad command line or configuration (`EX_USAGE` of sysexits).
pub const BAD_USAGE: u8 = 64;
/// The exit code for everything else that went wrong.
pub const FAILED: u8 = 1;

/// A limit on concurrent sessions for Auth0.
#[derive(Debug, Parser)]
#[command(name = "session-checker", version, about, max_term_width = 110)]
pub struct Args {
    /// How log lines look: json in a cluster, else text.
    #[arg(long, env = "SESSION_CHECKER_LOG_FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve checks.
    Serve(Box<ServeArgs>),
    /// A simulated tenant, an example policy and the service on loopback, with commands to try.
    #[cfg(feature = "simulator")]
    Demo(DemoArgs),
    /// Ask once and explain the decision. Nothing is remembered, and nobody is signed out.
    Check(Box<CheckArgs>),
    /// List or end the sessions of a user.
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Check SessionPolicy YAML with the same rules as the service and the API server.
    Validate(ValidateArgs),
    /// Print the CustomResourceDefinition.
    Crd,
}

/// Where policies come from, and the way to their tenants: the same for every command that needs them.
#[derive(Debug, Group)]
pub struct SourceArgs {
    /// Read SessionPolicy and Secret YAML from this folder, and again when it changes.
    #[arg(long, env = "SESSION_CHECKER_POLICY_DIR", value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,
    /// In a cluster: watch the policies of this namespace, repeatable [default: the service's own].
    #[arg(
        long,
        env = "SESSION_CHECKER_NAMESPACE",
        value_name = "NS",
        value_delimiter = ',',
        conflicts_with = "all_namespaces"
    )]
    pub namespace: Vec<String>,
    /// In a cluster: watch the policies of all namespaces.
    #[arg(long, env = "SESSION_CHECKER_ALL_NAMESPACES", value_parser = BoolishValueParser::new())]
    pub all_namespaces: bool,
    /// The tenant of the Node demo's mode.
    #[arg(long = "auth0-domain", env = "AUTH0_DOMAIN", hide = true)]
    pub auth0_domain: Option<String>,
    /// The application of the Node demo's mode.
    #[arg(long = "auth0-client-id", env = "AUTH0_CLIENT_ID", hide = true)]
    pub auth0_client_id: Option<String>,
    /// The secret of the Node demo's mode.
    #[arg(long = "auth0-client-secret", env = "AUTH0_CLIENT_SECRET", hide = true, hide_env_values = true)]
    pub auth0_client_secret: Option<SecretString>,

    /// Send a tenant's traffic to another URL (tests, egress gateways); http and a path are allowed.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_ENDPOINT", value_name = "DOMAIN=URL", value_parser = endpoint, value_delimiter = ',')]
    pub auth0_endpoint: Vec<(String, Url)>,
    /// Trust the CAs of this PEM file towards Auth0 as well.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_CA_FILE", value_name = "PEM")]
    pub auth0_ca_file: Option<PathBuf>,
}

/// Options of `serve`.
#[derive(Debug, Group)]
pub struct ServeArgs {
    /// Where to listen for checks [default: 0.0.0.0:$PORT, or 0.0.0.0:3000].
    #[arg(long, env = "SESSION_CHECKER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// The port for checks, where --listen is not given.
    #[arg(long, env = "PORT", default_value_t = 3000, hide = true)]
    pub port: u16,
    /// Where to listen for probes, metrics and /debug/policies. Never expose it.
    #[arg(long, env = "SESSION_CHECKER_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    /// Where policies come from.
    #[command(flatten)]
    pub source: SourceArgs,

    /// Bearer tokens for policies without callerSecretRef, one a line, reloaded on change.
    #[arg(long, env = "SESSION_CHECKER_CALLER_TOKEN_FILE", value_name = "FILE")]
    pub caller_token_file: Option<PathBuf>,
    /// One such token. Set it in the environment: a command line is there for everyone to see.
    #[arg(long, env = "CALLER_TOKEN", hide = true, hide_env_values = true)]
    pub caller_token: Option<SecretString>,
    /// Serve policies without callerSecretRef to whoever asks. Without it such a policy needs a token.
    #[arg(long, env = "SESSION_CHECKER_ALLOW_ANONYMOUS", value_parser = BoolishValueParser::new())]
    pub allow_anonymous: bool,

    /// Share admissions between replicas through Redis or Valkey: redis://, rediss:// or valkey://, with user:password@ for
    /// an ACL user; several URLs with commas between them are a cluster. Without it each replica limits by its own memory.
    #[arg(long, env = "SESSION_CHECKER_LEDGER", value_name = "URL", hide_env_values = true)]
    pub ledger: Option<SecretString>,
    /// What an operation of the shared ledger may cost a check; a slower one falls back to memory.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_TIMEOUT", value_parser = duration, default_value = "50ms")]
    pub ledger_timeout: Duration,
    /// Keys the hashes that stand for users and sessions in the shared ledger, the same on all replicas [default: made
    /// from the URL].
    #[arg(long, env = "SESSION_CHECKER_LEDGER_KEY", value_name = "KEY", hide_env_values = true)]
    pub ledger_key: Option<SecretString>,

    /// How many replicas there are: without a shared ledger, each keeps to its part of tenant.requestsPerSecond.
    #[arg(long, env = "SESSION_CHECKER_REPLICAS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,

    /// In a cluster: the Lease in the service's own namespace whose holder writes the status of policies for all replicas.
    #[arg(long, env = "SESSION_CHECKER_LEASE_NAME", value_name = "NAME", default_value = "session-checker")]
    pub lease_name: String,
    /// How long the Lease is good for after it was renewed, from 3s: so late a replica that died is succeeded.
    #[arg(long, env = "SESSION_CHECKER_LEASE_DURATION", value_parser = lease_duration, default_value = "30s")]
    pub lease_duration: Duration,

    /// Turn every policy to Audit: the way out when a limit locks people out.
    #[arg(long, env = "SESSION_CHECKER_FORCE_AUDIT", value_parser = BoolishValueParser::new())]
    pub force_audit: bool,
    /// The same while this file says true, and not while it says false; followed, so that no restart is needed.
    #[arg(long, env = "SESSION_CHECKER_FORCE_AUDIT_FILE", value_name = "FILE")]
    pub force_audit_file: Option<PathBuf>,
    /// How many checks may wait for one tenant at the same time; more are answered `overloaded`.
    #[arg(long, env = "SESSION_CHECKER_MAX_IN_FLIGHT", value_name = "N", default_value_t = 1024)]
    pub max_in_flight: usize,

    /// Serve HTTPS with this certificate chain (PEM), reloaded on change.
    #[arg(long, env = "SESSION_CHECKER_TLS_CERT", value_name = "PEM", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert (PEM).
    #[arg(long, env = "SESSION_CHECKER_TLS_KEY", value_name = "PEM", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Keys the hash under which users appear in logs, so that replicas agree [default: random].
    #[arg(long, env = "SESSION_CHECKER_LOG_HASH_KEY", hide_env_values = true)]
    pub log_hash_key: Option<SecretString>,
    /// How long to serve on after a signal, while the news spreads [default: 5s in a cluster, else 0s].
    #[arg(long, env = "SESSION_CHECKER_SHUTDOWN_DELAY", value_parser = duration)]
    pub shutdown_delay: Option<Duration>,
    /// How long connections may take to end after that.
    #[arg(long, env = "SESSION_CHECKER_DRAIN_TIMEOUT", value_parser = duration, default_value = "25s")]
    pub drain_timeout: Duration,
}

/// Options of `demo`.
#[cfg(feature = "simulator")]
#[derive(Debug, Group)]
pub struct DemoArgs {
    /// Where to listen for checks.
    #[arg(long, env = "SESSION_CHECKER_LISTEN", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// Where to listen for probes and metrics.
    #[arg(long, env = "SESSION_CHECKER_ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
}

/// Options of `check`: the login to ask about, as the Action would describe it.
#[derive(Debug, Group)]
pub struct CheckArgs {
    /// The user's id, such as auth0|507f1f77bcf86cd799439020.
    #[arg(long, env = "SESSION_CHECKER_CHECK_USER", value_name = "ID")]
    pub user: String,
    /// The client id of the application that logs in.
    #[arg(long, env = "SESSION_CHECKER_CHECK_CLIENT", value_name = "ID")]
    pub client: String,
    /// The session that logs in; without it the login has none.
    #[arg(long, env = "SESSION_CHECKER_CHECK_SID", value_name = "ID")]
    pub sid: Option<String>,
    /// The tenant's domain, where policies of several match.
    #[arg(long, env = "SESSION_CHECKER_CHECK_TENANT", value_name = "DOMAIN")]
    pub tenant: Option<String>,
    /// The organization's id.
    #[arg(long, env = "SESSION_CHECKER_CHECK_ORGANIZATION", value_name = "ID")]
    pub organization: Option<String>,
    /// The connection's name.
    #[arg(long, env = "SESSION_CHECKER_CHECK_CONNECTION", value_name = "NAME")]
    pub connection: Option<String>,
    /// The protocol, such as oidc-basic-profile.
    #[arg(long, env = "SESSION_CHECKER_CHECK_PROTOCOL", value_name = "NAME")]
    pub protocol: Option<String>,
    /// A role of the user; repeatable.
    #[arg(long, env = "SESSION_CHECKER_CHECK_ROLE", value_name = "NAME", value_delimiter = ',')]
    pub role: Vec<String>,
    /// The user passed a second factor.
    #[arg(long, env = "SESSION_CHECKER_CHECK_MFA", value_parser = BoolishValueParser::new())]
    pub mfa: bool,
    /// Where policies come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// What to do with a user's sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List them as Auth0 has them.
    List(UserArgs),
    /// End some or all of them, with their refresh tokens: the user has to sign in again.
    End(EndArgs),
}

/// Whose sessions.
#[derive(Debug, Group)]
pub struct UserArgs {
    /// The user's id, such as auth0|507f1f77bcf86cd799439020.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_USER", value_name = "ID")]
    pub user: String,
    /// The tenant's domain, where there are policies of several.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_TENANT", value_name = "DOMAIN")]
    pub tenant: Option<String>,
    /// Where policies, and with them the tenants' credentials, come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Which of a user's sessions to end.
#[derive(Debug, Group)]
pub struct EndArgs {
    /// The user.
    #[command(flatten)]
    pub user: UserArgs,
    /// A session to end, by its id; repeatable.
    #[arg(
        long,
        env = "SESSION_CHECKER_SESSIONS_SID",
        value_name = "ID",
        value_delimiter = ',',
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub sid: Vec<String>,
    /// End all of them.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
}

/// Options of `validate`.
#[derive(Debug, Group)]
pub struct ValidateArgs {
    /// Files, folders, or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

impl Args {
    /// Reads the process's arguments. Help and version end the process with 0, what cannot be understood with 64.
    pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self::try_parse_from(arguments).unwrap_or_else(|error| {
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { BAD_USAGE.into() } else { 0 });
        })
    }

    /// How log lines look.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(if in_cluster() { LogFormat::Json } else { LogFormat::Text })
    }
}

impl ServeArgs {
    /// Where to listen for checks.
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port))
    }

    /// How long to serve on after a signal.
    pub fn shutdown_delay(&self) -> Duration {
        self.shutdown_delay.unwrap_or(if in_cluster() { Duration::from_secs(5) } else { Duration::ZERO })
    }
}

impl SourceArgs {
    /// The namespaces to watch in a cluster; empty names, as charts leave them, are none.
    pub fn namespaces(&self) -> Namespaces {
        let named: BTreeSet<String> = self.namespace.iter().filter(|name| !name.is_empty()).cloned().collect();
        match (self.all_namespaces, named.is_empty()) {
            (true, _) => Namespaces::All,
            (false, true) => Namespaces::Own,
            (false, false) => Namespaces::Named(named),
        }
    }

    /// Where tenants' traffic goes instead, by domain in lower case.
    pub fn endpoints(&self) -> BTreeMap<String, Url> {
        self.auth0_endpoint.iter().cloned().collect()
    }
}

/// Whether this process runs in a Pod: Kubernetes sets this for every one.
fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn endpoint(text: &str) -> Result<(String, Url), String> {
    let (domain, url) =
        text.split_once('=').ok_or("write DOMAIN=URL, such as acme.eu.auth0.com=https://gateway.internal")?;
    let url = Url::parse(url).map_err(|error| format!("the URL cannot be read: {error}"))?;
    Ok((domain.to_ascii_lowercase(), url))
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok()
        .filter(|duration| duration.subsec_nanos() == 0 && (3..=3600).contains(&duration.as_secs()))
        .ok_or_else(|| "write a duration of whole seconds from 3s to 1h, such as 30s".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    GoDuration::new(text).parse().ok_or_else(|| "write a duration with its unit, such as 5s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_variable() {
        use clap::CommandFactory;
        let command = Args::command();
        let subcommands = command.get_subcommands().flat_map(clap::Command::get_arguments);
        for argument in subcommands.chain(command.get_arguments()).filter(|argument| argument.get_long().is_some()) {
            let name = argument.get_id().as_str();
            assert!(matches!(name, "help" | "version") || argument.get_env().is_some(), "--{name}");
        }
    }
}
