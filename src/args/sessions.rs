//! The options of `sessions`.

use clap::builder::BoolishValueParser;
use clap::{Args as Group, Subcommand};

use super::{OutputFormat, SourceArgs};

/// The commands about a user's sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// List the user's sessions at Auth0.
    List(ListArgs),
    /// End sessions together with their refresh tokens. The user has to log in again.
    End(EndArgs),
}

/// The user whose sessions are listed or ended.
#[derive(Debug, Group)]
pub struct UserArgs {
    /// User id, such as auth0|507f1f77bcf86cd799439020.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_USER", value_name = "ID")]
    pub user: String,
    /// Tenant domain. Required when there are policies of several tenants.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_TENANT", value_name = "DOMAIN")]
    pub tenant: Option<String>,
    /// Where policies and the tenants' credentials come from.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// The sessions to list.
#[derive(Debug, Group)]
pub struct ListArgs {
    /// The user whose sessions are listed.
    #[command(flatten)]
    pub user: UserArgs,
    /// Also print which place each session takes in the limits of a login to this application [default: the application of the
    /// sessions, when they have only one].
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_CLIENT", value_name = "ID")]
    pub client: Option<String>,
    /// How to print the sessions.
    #[arg(long, short, env = "SESSION_CHECKER_SESSIONS_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
}

/// The sessions to end.
#[derive(Debug, Group)]
pub struct EndArgs {
    /// The user whose sessions end.
    #[command(flatten)]
    pub user: UserArgs,
    /// Id of a session to end; repeatable.
    #[arg(
        long,
        env = "SESSION_CHECKER_SESSIONS_SID",
        value_name = "ID",
        value_delimiter = ',',
        required_unless_present_any = ["all", "others_than"],
        conflicts_with_all = ["all", "others_than"]
    )]
    pub sid: Vec<String>,
    /// End all sessions of the user except this one, such as that of the device in front of the user.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_OTHERS_THAN", value_name = "ID", conflicts_with = "all")]
    pub others_than: Option<String>,
    /// End all sessions of the user.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_ALL", value_parser = BoolishValueParser::new())]
    pub all: bool,
    /// Do not ask before the sessions end. Required without a terminal.
    #[arg(long, env = "SESSION_CHECKER_SESSIONS_YES", value_parser = BoolishValueParser::new())]
    pub yes: bool,
}
