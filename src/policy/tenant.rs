//! The domains of a tenant.

use url::Url;

/// The longest domain name, in characters (RFC 1035).
pub(super) const MAX_DOMAIN_CHARS: usize = 253;

/// A tenant by its domains, both plain host names in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    domain: String,
    custom_domain: Option<String>,
    origin: Url,
}

impl Tenant {
    /// Takes the canonical domain, and the custom domain when it is used; `None` when one of them is not a plain host name.
    pub fn new(domain: &str, custom_domain: Option<&str>) -> Option<Self> {
        let (domain, mut origin) = host(domain)?;
        let mut custom = None;
        if let Some(name) = custom_domain {
            let (name, url) = host(name)?;
            (custom, origin) = (Some(name), url);
        }
        Some(Self { domain, custom_domain: custom, origin })
    }

    /// The canonical domain: the tenant's name in policies, logs and metrics.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The custom domain, when it is used.
    pub fn custom_domain(&self) -> Option<&str> {
        self.custom_domain.as_deref()
    }

    /// Whether `name` is one of the tenant's domains, in upper or lower case.
    pub fn is_called(&self, name: &str) -> bool {
        [Some(&self.domain), self.custom_domain.as_ref()]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(name))
    }

    /// `https://<custom or canonical domain>/`: the root of the tenant's URLs, and its issuer.
    pub fn origin(&self) -> &Url {
        &self.origin
    }
}

/// The name in lower case and its root URL. Only a name that comes out of the URL unchanged is valid: anything that a URL
/// reads as more than a name or as an address, or writes differently, is `None`.
fn host(name: &str) -> Option<(String, Url)> {
    let name = name.to_ascii_lowercase();
    let url = Url::parse(&format!("https://{name}/")).ok()?;
    let unchanged = url.domain() == Some(&name) && url.as_str() == format!("https://{name}/");
    (is_host_name(&name) && unchanged).then_some((name, url))
}

/// The rule of the resource's schema. A URL would read a name whose last label begins with a digit as an IP address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let mut labels = name.rsplit('.');
    let last_is_a_name = labels.next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()));
    (4..=MAX_DOMAIN_CHARS).contains(&name.len())
        && name.contains('.')
        && last_is_a_name
        && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_kept_in_lower_case() {
        let tenant = Tenant::new("ACME.eu.auth0.com", Some("Login.Acme.com")).unwrap();
        assert_eq!(tenant.domain(), "acme.eu.auth0.com");
        assert_eq!(tenant.custom_domain(), Some("login.acme.com"));
        assert_eq!(tenant.origin().as_str(), "https://login.acme.com/");
    }

    #[test]
    fn only_plain_host_names_are_domains() {
        for name in [
            "",
            ".",
            "https://acme.eu.auth0.com",
            "acme.eu.auth0.com/",
            "acme.eu.auth0.com:443",
            "acme.eu.auth0.com:8443",
            "acme.eu.auth0.com.",
            "acme.eu.auth0.com?x",
            "acme.eu.auth0.com#x",
            "me@acme.eu.auth0.com",
            "acme.eu.auth0.com\n",
            " acme.eu.auth0.com",
            "a\tcme.eu.auth0.com",
            "127.0.0.1",
            "localhost",
            "-a.auth0.com",
            "a-.auth0.com",
            "a..auth0.com",
            "0x7f.1",
            "2130706433",
            "[::1]",
            "::1",
            "münchen.example",
            "%61cme.eu.auth0.com",
        ] {
            assert_eq!(Tenant::new(name, None), None, "{name}");
            assert_eq!(Tenant::new("acme.eu.auth0.com", Some(name)), None, "{name}");
        }
    }
}
