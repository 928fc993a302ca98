//! The options about policies and tenants, which all commands that read policies have.

use std::path::PathBuf;

use clap::Args as Group;
use clap::builder::BoolishValueParser;
use secrecy::SecretString;
use url::Url;

use crate::crd::DEFAULT_CLASS;

/// Where policies come from and how their tenants are reached: the same options for every command that reads policies.
#[derive(Debug, Group)]
pub struct SourceArgs {
    /// Read SessionPolicy and Secret YAML from this folder. serve reloads them when they change.
    #[arg(long, env = "SESSION_CHECKER_POLICY_DIR", value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,
    /// In a cluster: read the policies of this namespace; repeatable [default: the service's own namespace].
    #[arg(
        long,
        env = "SESSION_CHECKER_NAMESPACE",
        value_name = "NS",
        value_delimiter = ',',
        conflicts_with = "all_namespaces"
    )]
    pub namespace: Vec<String>,
    /// In a cluster: read the policies of all namespaces.
    #[arg(long, env = "SESSION_CHECKER_ALL_NAMESPACES", value_parser = BoolishValueParser::new())]
    pub all_namespaces: bool,
    /// In a cluster: use the policies with this spec.className, and no others. Two releases that see the same namespaces need
    /// different classes.
    #[arg(long, env = "SESSION_CHECKER_CLASS_NAME", value_name = "NAME", default_value = DEFAULT_CLASS)]
    pub class_name: String,
    /// In a cluster: name of ConfigMaps with annotation sessionchecker.dev/force-audit or key value. true in the service's own
    /// namespace forces every policy to audit, in another namespace those of that namespace. Watched.
    #[arg(long, env = "SESSION_CHECKER_FORCE_AUDIT_CONFIG_MAP", value_name = "NAME")]
    pub force_audit_config_map: Option<String>,
    /// The Node demo's tenant domain.
    #[arg(long = "auth0-domain", env = "AUTH0_DOMAIN", hide = true)]
    pub auth0_domain: Option<String>,
    /// The Node demo's client id.
    #[arg(long = "auth0-client-id", env = "AUTH0_CLIENT_ID", hide = true)]
    pub auth0_client_id: Option<String>,
    /// The Node demo's client secret.
    #[arg(long = "auth0-client-secret", env = "AUTH0_CLIENT_SECRET", hide = true, hide_env_values = true)]
    pub auth0_client_secret: Option<SecretString>,

    /// Send requests for DOMAIN to URL instead of to the tenant (for tests and egress gateways). The URL can use http and
    /// have a path. Repeatable.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_ENDPOINT", value_name = "DOMAIN=URL", value_parser = endpoint, value_delimiter = ',')]
    pub auth0_endpoint: Vec<(String, Url)>,
    /// Trust the CA certificates of this file for Auth0, in addition to the system's. serve reloads the file when it changes,
    /// for new connections.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_CA_FILE", value_name = "PEM")]
    pub auth0_ca_file: Option<PathBuf>,
    /// Trust only the CA certificates of --auth0-ca-file for Auth0, and not the system's.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_CA_ONLY", value_parser = BoolishValueParser::new())]
    pub auth0_ca_only: bool,
    /// Reach Auth0 through this HTTP proxy, with CONNECT: http://HOST:PORT. HTTPS_PROXY is not used.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_PROXY", value_name = "URL", value_parser = proxy)]
    pub auth0_proxy: Option<Url>,
    /// File with USER:PASSWORD for --auth0-proxy. The service reloads the file when it changes.
    #[arg(long, env = "SESSION_CHECKER_AUTH0_PROXY_CREDENTIALS_FILE", value_name = "FILE", requires = "auth0_proxy")]
    pub auth0_proxy_credentials_file: Option<PathBuf>,
    /// Reach HOST without --auth0-proxy: a domain with its subdomains, an address, or a network such as 10.0.0.0/8.
    /// Repeatable.
    #[arg(
        long,
        env = "SESSION_CHECKER_AUTH0_NO_PROXY",
        value_name = "HOST",
        value_delimiter = ',',
        requires = "auth0_proxy"
    )]
    pub auth0_no_proxy: Vec<String>,
}

fn endpoint(text: &str) -> Result<(String, Url), String> {
    let (domain, url) =
        text.split_once('=').ok_or("write DOMAIN=URL, such as acme.eu.auth0.com=https://gateway.internal")?;
    let url = Url::parse(url).map_err(|error| format!("the URL is invalid: {error}"))?;
    Ok((domain.to_ascii_lowercase(), url))
}

fn proxy(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("the URL is invalid: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("write user and password into the file of --auth0-proxy-credentials-file".to_owned());
    }
    let is_plain = url.scheme() == "http" && url.has_host() && url.path() == "/" && url.query().is_none();
    if is_plain && url.fragment().is_none() { Ok(url) } else { Err("write http://HOST:PORT".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_is_a_plain_http_url_without_credentials() {
        assert_eq!(proxy("http://proxy.corp:3128").unwrap().port(), Some(3128));
        for text in ["proxy.corp:3128", "https://proxy.corp", "socks5://proxy.corp", "http://p/x", "http://p/?q", ""] {
            assert!(proxy(text).is_err(), "{text}");
        }
        for text in ["http://me:s3cret@proxy.corp", "http://me@proxy.corp"] {
            let error = proxy(text).unwrap_err();
            assert!(error.contains("--auth0-proxy-credentials-file") && !error.contains("s3cret"), "{error}");
        }
    }
}
