//! The domains of a tenant.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;

use super::written::is_label;

/// The longest domain name, in characters (RFC 1035).
pub(super) const MAX_DOMAIN_CHARS: usize = 253;

/// How the canonical domains of Auth0's tenants end. A name that ends otherwise is a custom domain.
const CANONICAL_SUFFIXES: [&str; 2] = [".auth0.com", ".auth0app.com"];

/// A tenant by its domains, all of them plain host names in lower case. Clones share the text of both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    domain: Arc<str>,
    custom_domain: Option<Arc<str>>,
    /// Further custom domains that requests name the tenant by. No call goes there.
    other_names: BTreeSet<String>,
    origin: Url,
}

impl Tenant {
    /// Takes the canonical domain, and the custom domain when it is used; `None` when one of them is not a plain host name.
    pub fn new(domain: &str, custom_domain: Option<&str>) -> Option<Self> {
        let (domain, mut origin) = host(domain)?;
        let mut custom = None;
        if let Some(name) = custom_domain {
            let (name, url) = host(name)?;
            (custom, origin) = (Some(name.into()), url);
        }
        Some(Self { domain: domain.into(), custom_domain: custom, other_names: BTreeSet::new(), origin })
    }

    /// The same tenant with further custom domains. A name that is no custom domain is left out.
    pub fn also_called<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().filter(|name| is_custom_domain(name));
        self.other_names.extend(names.filter_map(host).map(|(name, _)| name));
        self
    }

    /// The canonical domain: the tenant's name in policies, logs and metrics.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The custom domain, when it is used.
    pub fn custom_domain(&self) -> Option<&str> {
        self.custom_domain.as_deref()
    }

    /// The canonical domain, and the custom domain when it is used: where calls go.
    pub(super) fn hosts(&self) -> (Arc<str>, Option<Arc<str>>) {
        (Arc::clone(&self.domain), self.custom_domain.clone())
    }

    /// The domains that requests may name the tenant by, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let own = [Some(self.domain()), self.custom_domain()].into_iter().flatten();
        own.chain(self.other_names.iter().map(String::as_str))
    }

    /// Whether `name` is one of the tenant's domains, in upper or lower case.
    pub fn is_called(&self, name: &str) -> bool {
        let name = lower_case(name);
        *self.domain == *name || self.custom_domain() == Some(&*name) || self.other_names.contains(&*name)
    }

    /// `https://<custom or canonical domain>/`: the root of the tenant's URLs, and its issuer.
    pub fn origin(&self) -> &Url {
        &self.origin
    }
}

/// Whether Auth0 gives domains of this form to tenants, so that the name is one tenant's and no other's.
pub(super) fn is_canonical_domain(name: &str) -> bool {
    let name = lower_case(name.strip_suffix('.').unwrap_or(name));
    CANONICAL_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether the name is a plain host name that can be a custom domain.
pub(super) fn is_custom_domain(name: &str) -> bool {
    host(name).is_some() && !is_canonical_domain(name)
}

/// The name in lower case; it is copied only when it is not.
pub(super) fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

/// The name in lower case and its root URL. Only a name that comes out of the URL unchanged is valid: anything that a URL
/// reads as more than a name or as an address, or writes differently, is `None`.
fn host(name: &str) -> Option<(String, Url)> {
    let name = name.to_ascii_lowercase();
    let url = Url::parse(&format!("https://{name}/")).ok()?;
    let unchanged = url.domain() == Some(&name) && url.as_str() == format!("https://{name}/");
    (is_host_name(&name) && unchanged).then_some((name, url))
}

/// The rule of the resource's schema, for a name in lower case. A URL would read a name whose last label begins with a digit as an IP address.
fn is_host_name(name: &str) -> bool {
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
    fn tenant_is_called_by_each_of_its_domains() {
        let tenant = Tenant::new("acme.eu.auth0.com", Some("login.acme.com")).unwrap();
        let tenant = tenant.also_called(["Login.Acme.DE", "login.acme.fr", "other.us.auth0.com", "http://x"]);
        let names = ["acme.eu.auth0.com", "login.acme.com", "login.acme.de", "login.acme.fr"];
        assert_eq!(tenant.names().collect::<Vec<_>>(), names);
        for name in names {
            assert!(tenant.is_called(name) && tenant.is_called(&name.to_uppercase()), "{name}");
        }
        for other in ["", "acme.com", "other.us.auth0.com", "http://x", "login.acme.de."] {
            assert!(!tenant.is_called(other), "{other}");
        }
        assert_eq!(tenant.origin().as_str(), "https://login.acme.com/");
    }

    #[test]
    fn canonical_domains_are_known_by_their_end() {
        for name in ["acme.eu.auth0.com", "ACME.AUTH0.COM", "acme.auth0app.com", "acme.us.auth0.com."] {
            assert!(is_canonical_domain(name), "{name}");
        }
        for name in ["login.acme.com", "auth0.com", "notauth0.com", "acme.auth0.com.evil.example", ""] {
            assert!(!is_canonical_domain(name), "{name}");
        }
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
