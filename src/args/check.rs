//! The options of `check`, and what other commands share with it.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args as Group, ValueEnum};
use jiff::Timestamp;

use super::SourceArgs;

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// Options of `check`: the login to decide, as the Action would send it.
#[derive(Debug, Group)]
pub struct CheckArgs {
    /// User id, such as auth0|507f1f77bcf86cd799439020.
    #[arg(long, env = "SESSION_CHECKER_CHECK_USER", value_name = "ID")]
    pub user: String,
    /// Client id of the application.
    #[arg(long, env = "SESSION_CHECKER_CHECK_CLIENT", value_name = "ID")]
    pub client: String,
    /// Session id of the login [default: the login has no session].
    #[arg(long, env = "SESSION_CHECKER_CHECK_SID", value_name = "ID")]
    pub sid: Option<String>,
    /// Tenant domain. Required when policies of several tenants select the login.
    #[arg(long, env = "SESSION_CHECKER_CHECK_TENANT", value_name = "DOMAIN")]
    pub tenant: Option<String>,
    /// Organization id.
    #[arg(long, env = "SESSION_CHECKER_CHECK_ORGANIZATION", value_name = "ID")]
    pub organization: Option<String>,
    /// Connection name.
    #[arg(long, env = "SESSION_CHECKER_CHECK_CONNECTION", value_name = "NAME")]
    pub connection: Option<String>,
    /// Protocol, such as oidc-basic-profile.
    #[arg(long, env = "SESSION_CHECKER_CHECK_PROTOCOL", value_name = "NAME")]
    pub protocol: Option<String>,
    /// Role of the user; repeatable.
    #[arg(long, env = "SESSION_CHECKER_CHECK_ROLE", value_name = "NAME", value_delimiter = ',')]
    pub role: Vec<String>,
    /// Language of the message, such as pt-BR (message and messages of the policy) [default: the policy's message].
    #[arg(long, env = "SESSION_CHECKER_CHECK_LOCALE", value_name = "TAG")]
    pub locale: Option<String>,
    /// The user has passed a second factor.
    #[arg(long, env = "SESSION_CHECKER_CHECK_MFA", value_parser = BoolishValueParser::new())]
    pub mfa: bool,
    /// Auth0 can send the browser of the login to another page (strategy Ask).
    #[arg(long, env = "SESSION_CHECKER_CHECK_CAN_REDIRECT", value_parser = BoolishValueParser::new())]
    pub can_redirect: bool,
    /// Host of the login page (strategy Ask) [default: the one of --tenant].
    #[arg(long, env = "SESSION_CHECKER_CHECK_HOSTNAME", value_name = "HOST")]
    pub hostname: Option<String>,
    /// Decide by the sessions of this JSON file, and do not ask the tenant: the answer of Auth0's GET /api/v2/users/ID/sessions,
    /// or a list of such sessions. - reads standard input. The file is read once: a change needs a restart of the command.
    #[arg(long, env = "SESSION_CHECKER_CHECK_SESSIONS", value_name = "FILE")]
    pub sessions: Option<PathBuf>,
    /// Decide as of this time, such as 2027-01-31T08:00:00Z [default: now].
    #[arg(long, env = "SESSION_CHECKER_CHECK_AT", value_name = "TIME", value_parser = time)]
    pub at: Option<Timestamp>,
    /// How to print the decision.
    #[arg(long, short, env = "SESSION_CHECKER_CHECK_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Where policies come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write a time of RFC 3339, such as 2027-01-31T08:00:00Z".to_owned())
}
