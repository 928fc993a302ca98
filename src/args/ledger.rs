//! The options about the shared ledger.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as Group;
use secrecy::SecretString;

use super::positive_duration;

/// Options about the shared ledger.
#[derive(Debug, Group)]
pub struct LedgerArgs {
    /// Redis or Valkey that replicas share: redis://, rediss:// or valkey://, with user:password@ for an ACL user.
    /// Several comma-separated URLs are the first nodes of a cluster. Without --ledger, each replica remembers only its own
    /// logins.
    #[arg(id = "ledger", long, env = "SESSION_CHECKER_LEDGER", value_name = "URL", hide_env_values = true)]
    pub url: Option<SecretString>,
    /// Name of the master that Sentinels watch. The URLs of --ledger are then the Sentinels, with their user and password if
    /// they have one.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_SENTINEL_MASTER", value_name = "NAME", requires = "ledger")]
    pub ledger_sentinel_master: Option<String>,
    /// ACL user of the shared ledger. Replaces the user in the URL.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_USER", value_name = "NAME", requires = "ledger")]
    pub ledger_user: Option<String>,
    /// File with the password of the shared ledger, in any characters. Replaces the password in the URL. The service reads
    /// the file for each new connection.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_PASSWORD_FILE", value_name = "FILE", requires = "ledger")]
    pub ledger_password_file: Option<PathBuf>,
    /// CA certificates for rediss:// instead of the system's, in PEM. The service reads the file for each new connection.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_CA_FILE", value_name = "PEM", requires = "ledger")]
    pub ledger_ca_file: Option<PathBuf>,
    /// Time limit of one operation on the shared ledger. When an operation takes longer, the replica uses its own memory.
    #[arg(long, env = "SESSION_CHECKER_LEDGER_TIMEOUT", value_name = "DURATION", value_parser = positive_duration, default_value = "50ms")]
    pub ledger_timeout: Duration,
    /// Key for the hashes of users and sessions in the shared ledger. Must be the same on all replicas
    /// [default: a fixed key].
    #[arg(long, env = "SESSION_CHECKER_LEDGER_KEY", value_name = "KEY", hide_env_values = true)]
    pub ledger_key: Option<SecretString>,
}
