//! The options of `probe`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as Group;
use url::Url;

use super::duration;

/// Options of `probe`.
#[derive(Debug, Group)]
pub struct ProbeArgs {
    /// URL of the admin port, such as http://session-checker-admin:9090. /readyz there has to answer 200.
    #[arg(long, env = "SESSION_CHECKER_PROBE_ADMIN_URL", value_name = "URL", required_unless_present = "url")]
    pub admin_url: Option<Url>,
    /// URL of /check, such as http://session-checker/check. It has to reject a caller without a token (401), or to answer
    /// the check of an unknown user (200).
    #[arg(long, env = "SESSION_CHECKER_PROBE_URL", value_name = "URL")]
    pub url: Option<Url>,
    /// Send the bearer token of this file to --url, which then has to answer 200. The file is read at the start: a change needs a
    /// restart.
    #[arg(long, env = "SESSION_CHECKER_PROBE_TOKEN_FILE", value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// Ask again, once a second, for at most this long.
    #[arg(long, env = "SESSION_CHECKER_PROBE_WAIT", value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub wait: Duration,
}
