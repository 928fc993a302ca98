//! Reaches tenants through an HTTP proxy, by CONNECT.
//!
//! The proxy resolves the names of tenants, so this service cannot check their addresses: the proxy decides what it connects to.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest header of an answer to CONNECT. Proxies send some hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 << 10;

/// The options of a proxy.
#[derive(Clone)]
pub struct ProxyOptions {
    /// An `http` URL without user, path and query.
    pub url: Url,
    /// Hosts that are reached without it, as in `NO_PROXY`: domains with their subdomains, addresses and networks.
    pub exceptions: Vec<String>,
    /// The user and the password that it needs.
    pub credentials: ProxyCredentials,
}

/// The user and the password for a proxy. Clones share them, and they can be replaced.
#[derive(Clone, Default)]
pub struct ProxyCredentials(Arc<ArcSwapOption<ProxyLogin>>);

/// `USER:PASSWORD`.
#[derive(Clone)]
pub struct ProxyLogin(SecretString);

/// An HTTP proxy.
pub(in crate::auth0) struct Proxy {
    url: Url,
    matcher: Matcher,
    credentials: ProxyCredentials,
}

/// Why a proxy opened no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::auth0) enum ProxyError {
    #[error(
        "the proxy (--auth0-proxy) answered 407: it does not accept the user and password of --auth0-proxy-credentials-file, or it needs them"
    )]
    Unauthorized,
    #[error("the proxy (--auth0-proxy) answered {status} to a connection to {target}: {}", advice(*status))]
    Status { status: u16, target: String },
    #[error("the proxy (--auth0-proxy) opened no connection to the tenant: see its log")]
    NoTunnel,
    #[error("the proxy (--auth0-proxy) did not answer with HTTP")]
    NotHttp,
    #[error("no connection to the proxy (--auth0-proxy): {0}")]
    Unreachable(Arc<io::Error>),
}

fn advice(status: u16) -> &'static str {
    match status {
        403 => "allow it there",
        502..=504 => "it cannot reach it",
        _ => "see its log",
    }
}

impl ProxyLogin {
    /// Reads `USER:PASSWORD`, surrounded by optional white space.
    ///
    /// # Errors
    /// Says what the text must be, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.split_once(':') {
            Some((user, _)) if !user.is_empty() && !text.contains(char::is_control) => Ok(Self(text.into())),
            _ => Err("must contain one line USER:PASSWORD, and nothing else".to_owned()),
        }
    }
}

impl PartialEq for ProxyLogin {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl ProxyCredentials {
    /// Replaces them.
    pub fn set(&self, login: ProxyLogin) {
        self.0.store(Some(Arc::new(login)));
    }
}

impl Proxy {
    pub fn new(options: ProxyOptions) -> Self {
        let matcher = Matcher::builder().all(options.url.to_string()).no(options.exceptions.join(",")).build();
        Self { url: options.url, matcher, credentials: options.credentials }
    }

    /// Whether the host of a URL is reached through the proxy. A URL with `http` is not: it names a gateway.
    pub fn applies_to(&self, base: &Url) -> bool {
        let is_intercepted = |uri: Uri| self.matcher.intercept(&uri).is_some();
        base.scheme() == "https" && base.as_str().parse().is_ok_and(is_intercepted)
    }

    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(80)
    }

    /// Its URL with the credentials of now, for a client that wants them so. It must not be shown.
    pub fn url_with_credentials(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(login) = &*self.credentials.0.load()
            && let Some((user, password)) = login.0.expose_secret().split_once(':')
        {
            // Its reader decodes `%41`, and `Url` does not encode `%`.
            let [user, password] = [user, password].map(|text| text.replace('%', "%25"));
            // They fail only for a URL without a host.
            let _ = (url.set_username(&user), url.set_password(Some(&password)));
        }
        url
    }

    /// Asks the proxy to connect to a host. After that the stream leads there.
    pub async fn open(&self, stream: &mut TcpStream, host: &str, port: u16) -> Result<(), ProxyError> {
        let broken = |error| ProxyError::Unreachable(Arc::new(error));
        let target = format!("{host}:{port}");
        stream.write_all(self.request(&target).expose_secret().as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\r\n\r\n") {
            // The bytes after the answer are the tenant's, so it is read to its end and not further.
            let byte = stream.read_u8().await.map_err(broken)?;
            answer.push(byte);
            if answer.len() > MAX_ANSWER_BYTES || !answer.starts_with(&b"HTTP/1."[..answer.len().min(7)]) {
                return Err(ProxyError::NotHttp);
            }
        }
        match status(&answer) {
            Some(200..=299) => Ok(()),
            Some(407) => Err(ProxyError::Unauthorized),
            Some(status) => Err(ProxyError::Status { status, target }),
            None => Err(ProxyError::NotHttp),
        }
    }

    fn request(&self, target: &str) -> SecretString {
        let authorization = self.credentials.0.load().as_ref().map_or_else(String::new, |login| {
            format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(login.0.expose_secret()))
        });
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").into()
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(exceptions: &[&str]) -> Proxy {
        Proxy::new(ProxyOptions {
            url: "http://proxy.corp:3128".parse().unwrap(),
            exceptions: exceptions.iter().map(|exception| (*exception).to_owned()).collect(),
            credentials: ProxyCredentials::default(),
        })
    }

    #[test]
    fn exceptions_are_domains_addresses_and_networks() {
        let applies = |exceptions: &[&str], url: &str| proxy(exceptions).applies_to(&url.parse().unwrap());
        assert!(applies(&[], "https://acme.eu.auth0.com/"));
        assert!(applies(&["other.com", "10.0.0.0/8"], "https://acme.eu.auth0.com/"));
        for exceptions in [&["acme.eu.auth0.com"][..], &["x.com", ".auth0.com"], &["auth0.com"], &["*"]] {
            assert!(!applies(exceptions, "https://acme.eu.auth0.com/"), "{exceptions:?}");
        }
        assert!(applies(&["th0.com"], "https://acme.eu.auth0.com/"), "a domain is whole labels");
        assert!(!applies(&["10.0.0.0/8"], "https://10.1.2.3/gateway/"));
        assert!(!applies(&[], "http://gateway.internal/"), "http names a gateway");
    }

    #[test]
    fn credentials_are_sent_as_basic_and_replaced() {
        let proxy = proxy(&[]);
        assert!(!proxy.request("a:443").expose_secret().contains("Proxy-Authorization"));
        assert_eq!(proxy.url_with_credentials().as_str(), "http://proxy.corp:3128/");
        for (login, expected) in [("me:p:w", "bWU6cDp3"), ("you:p@/#", "eW91OnBALyM=")] {
            proxy.credentials.set(ProxyLogin::parse(&format!(" {login}\n")).unwrap_or_else(|error| panic!("{error}")));
            let line = format!("\r\nProxy-Authorization: Basic {expected}\r\n\r\n");
            assert!(proxy.request("a:443").expose_secret().ends_with(&line));
        }
        assert_eq!(proxy.url_with_credentials().as_str(), "http://you:p%40%2F%23@proxy.corp:3128/");
    }

    #[test]
    fn login_is_one_line_with_a_user() {
        for text in ["", "me", ":pw", "me:pw\nyou:pw", "me:p\0w"] {
            assert!(ProxyLogin::parse(text).is_err(), "{text:?}");
        }
        assert!(ProxyLogin::parse("me:\n").is_ok());
    }
}
