//! The options of `why` and `hash`.

use std::time::Duration;

use clap::Args as Group;
use clap::builder::BoolishValueParser;
use url::Url;

use super::{OutputFormat, duration};

/// The admin port of a service on the same host.
const LOCAL_ADMIN: &str = "http://127.0.0.1:9090";

/// Options of `why`.
#[derive(Debug, Group)]
pub struct WhyArgs {
    /// The decisions about this user id, such as auth0|507f1f77bcf86cd799439020.
    #[arg(long, env = "SESSION_CHECKER_WHY_USER", value_name = "ID", required_unless_present_any = ["user_hash", "request_id", "all"])]
    pub user: Option<String>,
    /// The decisions about the user with this hash, as in log lines.
    #[arg(long, env = "SESSION_CHECKER_WHY_USER_HASH", value_name = "HASH", conflicts_with = "user")]
    pub user_hash: Option<String>,
    /// The decision of this request, which the answer and the Action's log name.
    #[arg(long, env = "SESSION_CHECKER_WHY_REQUEST_ID", value_name = "ID")]
    pub request_id: Option<String>,
    /// The decisions about all users.
    #[arg(long, env = "SESSION_CHECKER_WHY_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// Only decisions of this last time, such as 2h. Records are kept for 24h.
    #[arg(long, env = "SESSION_CHECKER_WHY_SINCE", value_name = "DURATION", value_parser = duration)]
    pub since: Option<Duration>,
    /// Only decisions that are at least this old, such as 1h.
    #[arg(long, env = "SESSION_CHECKER_WHY_UNTIL", value_name = "DURATION", value_parser = duration)]
    pub until: Option<Duration>,
    /// The most decisions to print, the latest first.
    #[arg(long, env = "SESSION_CHECKER_WHY_LIMIT", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Admin URL of the running service; repeatable, because replicas without a shared ledger know only their own decisions.
    #[arg(long, env = "SESSION_CHECKER_WHY_ADMIN_URL", value_name = "URL", value_delimiter = ',', default_value = LOCAL_ADMIN)]
    pub admin_url: Vec<Url>,
    /// How to print the decisions.
    #[arg(long, short, env = "SESSION_CHECKER_WHY_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
}

/// Options of `hash`.
#[derive(Debug, Group)]
pub struct HashArgs {
    /// User id, such as auth0|507f1f77bcf86cd799439020.
    pub user: String,
    /// Admin URL of the running service.
    #[arg(long, env = "SESSION_CHECKER_HASH_ADMIN_URL", value_name = "URL", default_value = LOCAL_ADMIN)]
    pub admin_url: Url,
}
