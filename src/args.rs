//! The options of the commands and the exit codes. Every option has an environment variable; `PORT` and `AUTH0_…` keep the
//! names of the Node demo.

mod caller_jwt;
mod check;
mod choose;
mod doctor;
mod ledger;
mod listen;
mod probe;
mod sessions;
mod source;
#[cfg(feature = "simulator")]
mod test;
mod validate;
mod why;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{Args as Group, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use secrecy::SecretString;

pub use caller_jwt::CallerJwtArgs;
pub use check::{CheckArgs, OutputFormat};
pub use choose::ChooseArgs;
pub use doctor::DoctorArgs;
pub use ledger::LedgerArgs;
pub use listen::ListenAddress;
pub use probe::ProbeArgs;
pub use sessions::{EndArgs, ListArgs, SessionsCommand, UserArgs};
pub use source::SourceArgs;
#[cfg(feature = "simulator")]
pub use test::{TestArgs, TestFormat};
pub use validate::{ReportFormat, ValidateArgs};
pub use why::{HashArgs, WhyArgs};

use crate::crd::GoDuration;
use crate::telemetry::LogFormat;

/// The exit code for a bad command line or configuration (`EX_USAGE` of sysexits).
pub const BAD_USAGE: u8 = 64;
/// The exit code for every other failure.
pub const FAILED: u8 = 1;
/// The exit code of `check` for a login that is blocked.
pub const BLOCKED: u8 = 2;
/// The exit code of `check` for a login that cannot be decided: the failure policy answers it.
pub const UNDECIDED: u8 = 3;

/// The exit code of `test` when a file cannot be played.
#[cfg(feature = "simulator")]
pub const UNPLAYABLE: u8 = 2;

/// The port for probes and metrics when `--admin-listen` is not given.
const ADMIN_PORT: u16 = 9090;
/// The default of `--max-connections`. Unfinished headers, TLS and HTTP/2 windows of this many connections take at most half
/// of the memory limit of the chart (256 MiB); `make abuse` measures it.
pub const DEFAULT_MAX_CONNECTIONS: usize = 1024;

/// Limits concurrent Auth0 sessions.
#[derive(Debug, Parser)]
#[command(name = "session-checker", version, max_term_width = 110)]
pub struct Args {
    /// Format of log lines [default: json in a cluster, else text].
    #[arg(long, env = "SESSION_CHECKER_LOG_FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service.
    Serve(Box<ServeArgs>),
    /// Run the service on loopback with a simulated tenant and an example policy: a page to click, and requests to try.
    #[cfg(feature = "simulator")]
    Demo(DemoArgs),
    /// Check one login and explain the decision. Changes nothing: no session is revoked, no login is recorded. Exits with 0 when
    /// the login is allowed, 2 when it is blocked, 3 when it cannot be decided.
    Check(Box<CheckArgs>),
    /// List or end the sessions of a user.
    #[command(subcommand)]
    Sessions(Box<SessionsCommand>),
    /// Examine the policies, their tenants and the ledger step by step, and say what to do. Changes nothing. Exits with 1 when
    /// there is a problem.
    Doctor(Box<DoctorArgs>),
    /// Ask a running service why it decided as it did: the latest decisions about a user or a request.
    Why(WhyArgs),
    /// Ask a running service for the hash under which a user appears in its log lines and decisions.
    Hash(HashArgs),
    /// Validate SessionPolicy YAML by the rules of the service and the API server.
    Validate(ValidateArgs),
    /// Play scenarios with a simulated tenant, and compare their logins with what the files expect. Exits with 1 when a login ends
    /// otherwise, 2 when a file cannot be played.
    #[cfg(feature = "simulator")]
    Test(TestArgs),
    /// Ask a running service whether it is ready and answers checks, as `helm test` does.
    Probe(ProbeArgs),
    /// Print the CustomResourceDefinition.
    Crd,
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages of the program and its commands into a folder.
    Man {
        /// The folder. It is created if it does not exist.
        folder: PathBuf,
    },
}

/// Options of `serve`.
#[derive(Debug, Group)]
pub struct ServeArgs {
    /// Address for checks: ADDRESS:PORT, HOST:PORT or :PORT [default: :$PORT, or :3000, on IPv6 and IPv4].
    #[arg(long, env = "SESSION_CHECKER_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<ListenAddress>,
    /// The port for checks when --listen is not given.
    #[arg(long, env = "PORT", default_value_t = 3000, hide = true)]
    pub port: u16,
    /// Address for probes, metrics and /debug/policies. Do not expose it [default: :9090 in a cluster, else 127.0.0.1:9090].
    #[arg(long, env = "SESSION_CHECKER_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<ListenAddress>,
    /// Address for Auth0's log streams, which show whether logins are checked: POST /logs [default: none].
    #[arg(long, env = "SESSION_CHECKER_LOGS_LISTEN", value_name = "ADDRESS")]
    pub logs_listen: Option<ListenAddress>,

    /// The page on which people choose sessions to end.
    #[command(flatten)]
    pub choose: ChooseArgs,

    /// Answer /check and /healthz under this path as well, for an ingress that does not rewrite paths, such as /sessions.
    #[arg(long, env = "SESSION_CHECKER_PATH_PREFIX", value_name = "PATH", default_value = "", hide_default_value = true, value_parser = path_prefix)]
    pub path_prefix: String,

    /// Where policies come from.
    #[command(flatten)]
    pub source: SourceArgs,

    /// File of bearer tokens for policies without callerSecretRef, one per line. The service
    /// reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_CALLER_TOKEN_FILE", value_name = "FILE")]
    pub caller_token_file: Option<PathBuf>,
    /// A bearer token for policies without callerSecretRef. Set the variable, not the option: other users of the host can
    /// read command lines.
    #[arg(long, env = "CALLER_TOKEN", hide = true, hide_env_values = true)]
    pub caller_token: Option<SecretString>,
    /// Signed tokens of callers.
    #[command(flatten)]
    pub caller_jwt: CallerJwtArgs,
    /// Allow callers without a token to use policies without callerSecretRef.
    #[arg(long, env = "SESSION_CHECKER_ALLOW_ANONYMOUS", value_parser = BoolishValueParser::new())]
    pub allow_anonymous: bool,

    /// The shared ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,

    /// Number of replicas. Without a shared ledger, each replica uses tenant.requestsPerSecond divided by N.
    #[arg(long, env = "SESSION_CHECKER_REPLICAS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,

    /// In a cluster: name of the Lease for leader election, in the service's namespace. The leader writes the status of
    /// policies.
    #[arg(long, env = "SESSION_CHECKER_LEASE_NAME", value_name = "NAME", default_value = "session-checker")]
    pub lease_name: String,
    /// Lease duration (at least 3s). Another replica takes over when the leader has not renewed the Lease for this time.
    #[arg(long, env = "SESSION_CHECKER_LEASE_DURATION", value_name = "DURATION", value_parser = lease_duration, default_value = "30s")]
    pub lease_duration: Duration,

    /// Run every policy in mode Audit: no login is blocked and no session is revoked.
    #[arg(long, env = "SESSION_CHECKER_FORCE_AUDIT", value_parser = BoolishValueParser::new())]
    pub force_audit: bool,
    /// Run every policy in mode Audit while this file contains true; it must contain true or false. The service reloads the
    /// file when it changes.
    #[arg(long, env = "SESSION_CHECKER_FORCE_AUDIT_FILE", value_name = "FILE")]
    pub force_audit_file: Option<PathBuf>,
    /// Maximum number of concurrent checks per tenant. For further checks the policy's
    /// failurePolicy applies, with reason overloaded [default: as many as a quarter of the container's memory holds, at most 2048].
    #[arg(long, env = "SESSION_CHECKER_MAX_IN_FLIGHT", value_name = "N", value_parser = count)]
    pub max_in_flight: Option<usize>,

    /// Maximum number of open connections for checks. At the maximum a new connection takes the room of one that nobody uses,
    /// or is closed at once. Lowered, with a warning, when the process may open too few files.
    #[arg(long, env = "SESSION_CHECKER_MAX_CONNECTIONS", value_name = "N", default_value_t = DEFAULT_MAX_CONNECTIONS, value_parser = count)]
    pub max_connections: usize,
    /// The same from one source: an IPv4 address or an IPv6 /64, such as an ingress [default: half of --max-connections].
    #[arg(long, env = "SESSION_CHECKER_MAX_CONNECTIONS_PER_SOURCE", value_name = "N", value_parser = count)]
    pub max_connections_per_source: Option<usize>,

    /// Serve HTTPS with this certificate chain. The service reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_TLS_CERT", value_name = "PEM", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert. The service reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_TLS_KEY", value_name = "PEM", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve checks only to clients with a certificate that a CA of this file issued, such as a gateway in front of the service.
    /// Callers need their bearer token as well. The service reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_TLS_CLIENT_CA", value_name = "PEM", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Key for the hashes of users in logs. Set the same key on all replicas to get the same hashes [default: made from
    /// --ledger-key, else kept in the shared ledger, else random].
    #[arg(long, env = "SESSION_CHECKER_LOG_HASH_KEY", value_name = "KEY", hide_env_values = true)]
    pub log_hash_key: Option<SecretString>,
    /// Keep serving for this time after SIGTERM, so that load balancers can stop sending requests [default: 5s in a cluster,
    /// else 0s].
    #[arg(long, env = "SESSION_CHECKER_SHUTDOWN_DELAY", value_name = "DURATION", value_parser = duration)]
    pub shutdown_delay: Option<Duration>,
    /// After --shutdown-delay, wait at most this long for open connections to finish.
    #[arg(long, env = "SESSION_CHECKER_DRAIN_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "25s")]
    pub drain_timeout: Duration,
}

/// Options of `demo`.
#[cfg(feature = "simulator")]
#[derive(Debug, Group)]
pub struct DemoArgs {
    /// Address for checks.
    #[arg(long, env = "SESSION_CHECKER_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    pub listen: ListenAddress,
    /// Address for probes and metrics.
    #[arg(long, env = "SESSION_CHECKER_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin_listen: ListenAddress,
    /// Loopback address for the playground, a page to click [default: 127.0.0.1:3001, or a free port].
    #[arg(long, env = "SESSION_CHECKER_PLAYGROUND_LISTEN", value_name = "ADDRESS")]
    pub playground_listen: Option<ListenAddress>,
    /// Open the playground in the browser.
    #[arg(long, env = "SESSION_CHECKER_OPEN", value_parser = BoolishValueParser::new())]
    pub open: bool,
}

/// The commands that read policies, and so the `.env` file that `serve` reads.
const SOURCE_COMMANDS: [&str; 4] = ["serve", "check", "sessions", "doctor"];

impl Args {
    /// Parses the process's arguments. Help and version end the process with 0, a bad command line ends it with 64.
    pub fn parse_or_exit(arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self::parse(arguments).unwrap_or_else(|error| {
            // A closed terminal must not turn help into a failure.
            let _ = error.print();
            std::process::exit(if error.use_stderr() { BAD_USAGE.into() } else { 0 });
        })
    }

    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        let matches = command.try_get_matches_from_mut(arguments).map_err(without_user_info)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Whether the command of these arguments reads policies. The answer does not depend on the environment, nor on the
    /// options of the command: `.env` is loaded after this and may set them.
    pub fn reads_sources(arguments: impl IntoIterator<Item = OsString>) -> bool {
        let matches = without_environment(Self::command()).ignore_errors(true).try_get_matches_from(arguments);
        matches.is_ok_and(|matches| matches.subcommand_name().is_some_and(|name| SOURCE_COMMANDS.contains(&name)))
    }

    /// The format of log lines.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or(if in_cluster() { LogFormat::Json } else { LogFormat::Text })
    }
}

impl ServeArgs {
    /// The address for checks.
    pub fn listen(&self) -> ListenAddress {
        self.listen.clone().unwrap_or(ListenAddress::any(self.port))
    }

    /// The address for probes and metrics. Outside of a cluster nothing else protects it, so only this host reaches it.
    pub fn admin_listen(&self) -> ListenAddress {
        let default =
            || if in_cluster() { ListenAddress::any(ADMIN_PORT) } else { ListenAddress::loopback(ADMIN_PORT) };
        self.admin_listen.clone().unwrap_or_else(default)
    }

    /// How long the service keeps serving after a signal.
    pub fn shutdown_delay(&self) -> Duration {
        self.shutdown_delay.unwrap_or(if in_cluster() { Duration::from_secs(5) } else { Duration::ZERO })
    }
}

/// Leaves user and password of a URL out of the error about an option: logs keep such errors.
fn without_user_info(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let Some((before, host)) = value.rsplit_once('@')
    {
        let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
        let shown = format!("{scheme}[hidden]@{host}");
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
    error
}

fn without_environment(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| argument.env(None)).mut_subcommands(without_environment)
}

/// Leaves out the variables that are set to nothing: charts and compose files set optional variables so, and clap would read
/// the empty text as a value.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| if argument.get_env().is_some_and(is_empty) { argument.env(None) } else { argument })
        .mut_subcommands(without_empty_variables)
}

/// Whether this process runs in a Pod: Kubernetes sets this variable in every container.
fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok()
        .filter(|duration| duration.subsec_nanos() == 0 && (3..=3600).contains(&duration.as_secs()))
        .ok_or_else(|| "write a duration of whole seconds from 3s to 1h, such as 30s".to_owned())
}

fn path_prefix(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~'))
    };
    match path.strip_prefix('/') {
        None if path.is_empty() => Ok(String::new()),
        Some(segments) if segments.split('/').all(is_plain) => Ok(path.to_owned()),
        _ => Err("write a path such as /sessions, of letters, digits, '-', '.', '_' and '~'".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count))
        .ok_or_else(|| "write a number from 1 to 1000000".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    GoDuration::new(text).parse().ok_or_else(|| "write a duration with its unit, such as 5s or 1m30s".to_owned())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("write a duration above zero, such as 50ms".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_option(command: &clap::Command, id: &str) -> bool {
        command.get_arguments().any(|argument| argument.get_id() == id)
            || command.get_subcommands().any(|command| has_option(command, id))
    }

    fn reads_sources(line: &str) -> bool {
        Args::reads_sources(["session-checker"].into_iter().chain(line.split(' ')).map(Into::into))
    }

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = argument.get_id().as_str();
                assert!(matches!(name, "help" | "version") || argument.get_env().is_some(), "--{name}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn option_that_names_a_file_says_whether_it_is_followed() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let value = argument.get_value_names().and_then(<[_]>::first).map(clap::builder::Str::as_str);
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                let says = [
                    "reloads the file when it changes",
                    "reads the file for each new connection",
                    "reloads them when they change",
                    "reloads the files when they change",
                    "a change needs a restart", // the token of `probe`, which ends at once
                ];
                let says = says.iter().any(|words| help.replace('\n', " ").contains(words));
                assert!(says || !matches!(value, Some("FILE" | "PEM" | "DIR")), "{}: {help}", argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Args::command());
    }

    #[test]
    fn commands_with_a_policy_source_are_known() {
        let command = Args::command();
        let with_source: Vec<&str> = command
            .get_subcommands()
            .filter(|command| has_option(command, "policy_dir"))
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(with_source, SOURCE_COMMANDS);
    }

    #[test]
    fn subcommand_decides_whether_sources_are_read() {
        for line in [
            "serve",
            "serve --listen nowhere",
            "--log-format json serve",
            "check --user serve",
            "check --user u --client c",
            "check",
            "sessions list --user u",
            "sessions end --sid validate",
            "sessions",
        ] {
            assert!(reads_sources(line), "{line}");
        }
        for line in [
            "validate serve",
            "validate check sessions",
            "crd",
            "crd serve",
            "demo",
            "--log-format=nonsense serve",
            "--frobnicate serve",
            "x",
        ] {
            assert!(!reads_sources(line), "{line}");
        }
        assert!(!Args::reads_sources([]));
    }
}
