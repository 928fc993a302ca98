//! Turns the options about the source of policies into a configuration.

use std::collections::BTreeSet;

use crate::args::SourceArgs;
use crate::auth0::{ProxyCredentials, ProxyOptions, SetupError};
use crate::controller::{Cluster, Namespaces};
use crate::service::{RunError, Source, SourceConfig};
use crate::source::Environment;

/// Chooses the source: the folder when one is given, else the Node demo's variables when they are set, else the cluster.
///
/// # Errors
/// When the folder does not exist, only some of the variables are set, or no CA would be trusted.
pub(super) fn source_config(args: SourceArgs) -> Result<SourceConfig, RunError> {
    let policies = match args.policy_dir {
        Some(path) if path.is_dir() => Source::Directory(path),
        Some(path) => return Err(RunError::PolicyDir(path)),
        None => match Environment::new(args.auth0_domain, args.auth0_client_id, args.auth0_client_secret)? {
            Some(environment) => Source::Environment(environment),
            None => {
                let namespaces = namespaces(args.all_namespaces, args.namespace);
                Source::Cluster(Cluster {
                    config: None,
                    namespaces,
                    class_name: Some(args.class_name),
                    audit_switch: args.force_audit_config_map,
                })
            }
        },
    };
    if args.auth0_ca_only && args.auth0_ca_file.is_none() {
        return Err(SetupError::NoCas.into());
    }
    let exceptions = args.auth0_no_proxy;
    let proxy = args.auth0_proxy.map(|url| ProxyOptions { url, exceptions, credentials: ProxyCredentials::default() });
    Ok(SourceConfig {
        policies,
        endpoints: args.auth0_endpoint.into_iter().collect(),
        ca_file: args.auth0_ca_file,
        ca_only: args.auth0_ca_only,
        proxy,
        proxy_credentials_file: args.auth0_proxy_credentials_file,
    })
}

fn namespaces(all: bool, named: Vec<String>) -> Namespaces {
    // Charts leave optional variables empty, which gives one empty name.
    let named: BTreeSet<String> = named.into_iter().filter(|name| !name.is_empty()).collect();
    match (all, named.is_empty()) {
        (true, _) => Namespaces::All,
        (false, true) => Namespaces::Own,
        (false, false) => Namespaces::Named(named),
    }
}
