//! The options of `doctor`.

use std::time::Duration;

use clap::Args as Group;
use clap::builder::BoolishValueParser;
use url::Url;

use super::{LedgerArgs, OutputFormat, SourceArgs, duration};

/// Options of `doctor`.
#[derive(Debug, Group)]
pub struct DoctorArgs {
    /// Let the running service with this admin URL examine itself, such as http://localhost:9090: it also knows its last checks
    /// and log streams. Policies and ledger are then those of the service [default: examine from here].
    #[arg(long, env = "SESSION_CHECKER_DOCTOR_ADMIN_URL", value_name = "URL")]
    pub admin_url: Option<Url>,
    /// Ask the service of --admin-url again, once a second, for at most this long, until it answers.
    #[arg(long, env = "SESSION_CHECKER_DOCTOR_WAIT", value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub wait: Duration,
    /// How to print the result.
    #[arg(long, short, env = "SESSION_CHECKER_DOCTOR_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Print only what is not ok.
    #[arg(long, env = "SESSION_CHECKER_DOCTOR_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
    /// Where policies come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The shared ledger.
    #[command(flatten)]
    pub ledger: LedgerArgs,
    /// Number of replicas. Several need a shared ledger.
    #[arg(long, env = "SESSION_CHECKER_REPLICAS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub replicas: u32,
}
