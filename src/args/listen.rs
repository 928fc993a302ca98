//! The address of a listener, as it is written: with or without a host, which may be a name.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where a listener binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// An address or a name; `None` is every address of both families.
    host: Option<String>,
    port: u16,
}

impl ListenAddress {
    /// Every address of the host, of IPv6 and IPv4.
    pub const fn any(port: u16) -> Self {
        Self { host: None, port }
    }

    /// The loopback address that every host has.
    pub fn loopback(port: u16) -> Self {
        Self { host: Some("127.0.0.1".to_owned()), port }
    }

    /// Whether only processes of this host reach it. A name other than `localhost` is not known to be loopback.
    pub fn is_loopback(&self) -> bool {
        let Some(host) = &self.host else { return false };
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// The addresses to bind: the first that can be bound counts.
    ///
    /// # Errors
    /// When a name cannot be looked up.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        match &self.host {
            None => Ok(vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port)]),
            Some(host) => Ok(tokio::net::lookup_host((host.as_str(), self.port)).await?.collect()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write ADDRESS:PORT, HOST:PORT or :PORT, such as [::]:3000, 127.0.0.1:3000 or :3000";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Some(address.ip().to_string()), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let port = port.parse().map_err(|_| FORM)?;
        let is_name = |host: &str| {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
                && !host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        match host {
            "" | "*" => Ok(Self { host: None, port }),
            name if is_name(name) => Ok(Self { host: Some(name.to_owned()), port }),
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, "[::]:{}", self.port),
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ListenAddress, &'static str> {
        text.parse()
    }

    #[test]
    fn address_host_and_port_may_be_written_in_each_usual_form() {
        for (text, shown, loopback) in [
            (":3000", "[::]:3000", false),
            ("*:3000", "[::]:3000", false),
            ("[::]:3000", "[::]:3000", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("127.0.0.1:3000", "127.0.0.1:3000", true),
            ("127.9.9.9:3000", "127.9.9.9:3000", true),
            ("[::1]:3000", "[::1]:3000", true),
            ("[::ffff:127.0.0.1]:3000", "[::ffff:127.0.0.1]:3000", true),
            ("[::ffff:192.0.2.1]:3000", "[::ffff:192.0.2.1]:3000", false),
            ("localhost:3000", "localhost:3000", true),
            ("LocalHost:3000", "LocalHost:3000", true),
            ("checker.internal:3000", "checker.internal:3000", false),
        ] {
            let address = parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (shown, loopback), "{text}");
            assert_eq!(parse(&address.to_string()).unwrap().to_string(), shown, "it can be written back");
        }
        for text in [
            "",
            "nowhere",
            "3000",
            ":",
            ":x",
            ":65536",
            "a b:1",
            "::1:3000",
            "http://a:1",
            "1.2.3:1",
            "[::1]",
            "/run/a:1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn name_is_looked_up_and_no_host_is_both_families() {
        let addresses = parse("localhost:3000").unwrap().resolve().await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()), "{addresses:?}");
        assert_eq!(parse(":3000").unwrap().resolve().await.unwrap(), ["[::]:3000".parse().unwrap()]);
    }
}
