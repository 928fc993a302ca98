//! A tenant's names.

use url::Url;

use crate::crd::bounds;

/// A tenant by its domains, both in lower case and plain host names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    domain: String,
    custom_domain: Option<String>,
    origin: Url,
}

/// A domain that is not a plain host name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's domain is a host name alone, like acme.eu.auth0.com: no scheme, port, path or IP address")]
pub struct InvalidDomain;

impl Tenant {
    /// Takes the canonical domain and, when the tenant has one that is used, the custom domain.
    ///
    /// # Errors
    /// Either is not a host name alone.
    pub fn new(domain: &str, custom_domain: Option<&str>) -> Result<Self, InvalidDomain> {
        let (domain, mut origin) = host(domain)?;
        let mut custom = None;
        if let Some(name) = custom_domain {
            let (name, url) = host(name)?;
            (custom, origin) = (Some(name), url);
        }
        Ok(Self { domain, custom_domain: custom, origin })
    }

    /// The canonical domain, which names the tenant everywhere.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The custom domain that is used.
    pub fn custom_domain(&self) -> Option<&str> {
        self.custom_domain.as_deref()
    }

    /// Whether this is one of the tenant's names, in any case.
    pub fn is_called(&self, name: &str) -> bool {
        [Some(&self.domain), self.custom_domain.as_ref()]
            .into_iter()
            .flatten()
            .any(|own| own.eq_ignore_ascii_case(name))
    }

    /// `https://<custom or canonical domain>/`: where the tenant is, and what it calls itself there.
    pub fn origin(&self) -> &Url {
        &self.origin
    }
}

/// The name in lower case and its root, when nothing is lost on the way: whatever a URL would take for more than a name,
/// write differently or read as an address is refused.
fn host(name: &str) -> Result<(String, Url), InvalidDomain> {
    let name = name.to_ascii_lowercase();
    let url = Url::parse(&format!("https://{name}/")).map_err(|_| InvalidDomain)?;
    if !is_host_name(&name) || url.domain() != Some(&name) || url.as_str() != format!("https://{name}/") {
        return Err(InvalidDomain);
    }
    Ok((name, url))
}

/// The rule of the resource's schema; a name whose last label begins with a digit would be read as an IP address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let mut labels = name.rsplit('.');
    let last_is_a_name = labels.next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()));
    (4..=bounds::DOMAIN).contains(&name.len()) && name.contains('.') && last_is_a_name && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        let tenant = Tenant::new("ACME.eu.auth0.com", Some("Login.Acme.com")).unwrap();
        assert_eq!(tenant.domain(), "acme.eu.auth0.com");
        assert_eq!(tenant.custom_domain(), Some("login.acme.com"));
        assert_eq!(tenant.origin().as_str(), "https://login.acme.com/");
    }

    #[test]
    fn anything_but_a_host_name_is_refused() {
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
            assert_eq!(Tenant::new(name, None), Err(InvalidDomain), "{name}");
            assert_eq!(Tenant::new("acme.eu.auth0.com", Some(name)), Err(InvalidDomain), "{name}");
        }
    }
}
