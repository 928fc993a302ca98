//! The options of the page on which people choose sessions to end.

use std::path::PathBuf;

use clap::Args as Group;
use url::{Host, Url};

use super::ListenAddress;

/// Where people choose sessions to end, under `strategy: Ask`.
#[derive(Debug, Group)]
pub struct ChooseArgs {
    /// Address for the page on which people choose which of their sessions to end (strategy Ask): GET and POST /choose
    /// [default: none].
    #[arg(long, env = "SESSION_CHECKER_CHOOSE_LISTEN", value_name = "ADDRESS", requires = "choose_url")]
    pub choose_listen: Option<ListenAddress>,
    /// The public origin of that page, such as `https://sessions.example.com`.
    #[arg(long, env = "SESSION_CHECKER_CHOOSE_URL", value_name = "URL", value_parser = origin, requires = "choose_listen")]
    pub choose_url: Option<Url>,
    /// File of keys for the addresses of that page: 32 random bytes in base64, one key a line. The first one makes addresses, all
    /// are read. The service reloads the file when it changes. With several replicas it is required [default: a random key].
    #[arg(long, env = "SESSION_CHECKER_TICKET_KEY_FILE", value_name = "FILE", requires = "choose_url")]
    pub ticket_key_file: Option<PathBuf>,
    /// Folder with templates that replace those of that page: base.html, choose.html, message.html, style.css. The service reloads
    /// the files when they change.
    #[arg(long, env = "SESSION_CHECKER_CHOOSE_PAGE_DIR", value_name = "DIR", requires = "choose_url")]
    pub choose_page_dir: Option<PathBuf>,
}

/// An origin: https, or http on this host, without a path.
fn origin(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the URL is invalid: {error}"))?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if is_secure && is_bare && !has_user && url.has_host() {
        Ok(url)
    } else {
        Err("write an origin without a path, such as https://sessions.example.com".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_https_without_a_path() {
        for text in
            ["https://sessions.example.com", "https://a.example:8443/", "http://localhost:3000", "http://[::1]:1"]
        {
            assert!(origin(text).is_ok(), "{text}");
        }
        for text in [
            "sessions.example.com",
            "http://sessions.example.com",
            "https://a.example/choose",
            "https://a.example?x",
            "https://me@a.example",
            "https://a.example#x",
            "ftp://localhost",
            "http://localhost.evil.example",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
