//! Where policies come from: followed for the service, or read once for a command.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use url::Url;

use super::error::RunError;
use crate::auth0::{Auth0Metrics, ProxyLogin, ProxyOptions, QuotaConfig, TrustedCas, Upstream, UpstreamOptions};
use crate::controller::metrics::ControllerMetrics;
use crate::controller::{Cluster, ClusterConnection, ObservedPolicies, follow_cluster};
use crate::metrics::MetricRegistry;
use crate::readiness::Readiness;
use crate::snapshot::{ObservedState, Publisher, Snapshot, SnapshotMetrics};
use crate::source::{Environment, SettingFile, follow_folder, read_documents, read_folder};

/// The option that names the file with the credentials of the proxy.
pub(super) const PROXY_CREDENTIALS: &str = "--auth0-proxy-credentials-file";
/// The option that names the file with the CAs of tenants.
pub(super) const CA_FILE: &str = "--auth0-ca-file";

/// How long a command waits until the API server has sent all policies and Secrets: a healthy one takes a second or two,
/// and a person is waiting.
const CLUSTER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Where policies come from and how their tenants are reached.
pub struct SourceConfig {
    /// Where policies come from.
    pub policies: Source,
    /// URLs that replace a tenant's own, by domain in lower case.
    pub endpoints: BTreeMap<String, Url>,
    /// A PEM file with CA certificates to trust for Auth0. Followed.
    pub ca_file: Option<PathBuf>,
    /// Do not trust the system's CAs as well.
    pub ca_only: bool,
    /// The proxy for Auth0.
    pub proxy: Option<ProxyOptions>,
    /// A file with its user and password. Followed.
    pub proxy_credentials_file: Option<PathBuf>,
}

/// A source of policies.
pub enum Source {
    /// A folder of YAML files. Followed.
    Directory(PathBuf),
    /// The Node demo's variables.
    Environment(Environment),
    /// A Kubernetes cluster. Followed.
    Cluster(Cluster),
    /// YAML that never changes.
    Text(Cow<'static, str>),
}

/// Opens the file that an option names.
pub(super) fn setting<T: PartialEq>(
    option: &'static str,
    path: &Path,
    parse: fn(&Path, &str) -> Result<T, String>,
) -> Result<SettingFile<T>, RunError> {
    SettingFile::open(path.to_owned(), parse).map_err(|error| RunError::File(option, path.to_owned(), error))
}

#[cfg(feature = "simulator")]
impl SourceConfig {
    /// The policies of a text, whose tenant `domain` is simulated at `endpoint`.
    ///
    /// # Errors
    /// When the endpoint is not a URL.
    pub fn simulated(policies: impl Into<Cow<'static, str>>, domain: &str, endpoint: &str) -> Result<Self, RunError> {
        let endpoint = endpoint.parse().map_err(|error| RunError::Command(format!("the tenant's URL: {error}")))?;
        Ok(Self {
            policies: Source::Text(policies.into()),
            endpoints: [(domain.to_owned(), endpoint)].into(),
            ca_file: None,
            ca_only: false,
            proxy: None,
            proxy_credentials_file: None,
        })
    }
}

impl SourceConfig {
    /// Reads the CAs for tenants, and returns their file to be followed.
    ///
    /// # Errors
    /// When the file cannot be read or holds no CA certificate.
    pub(super) fn read_cas(&self) -> Result<Option<SettingFile<TrustedCas>>, RunError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let parse: fn(&Path, &str) -> Result<TrustedCas, String> = match self.ca_only {
            false => |_, text| TrustedCas::parse(text.as_bytes()).map_err(|error| error.to_string()),
            true => {
                |_, text| TrustedCas::parse(text.as_bytes()).map(TrustedCas::only).map_err(|error| error.to_string())
            }
        };
        setting(CA_FILE, path, parse).map(Some)
    }

    /// Builds the HTTP clients for the tenants.
    ///
    /// # Errors
    /// When an endpoint is not usable, or TLS cannot be set up.
    pub(super) fn upstream(
        &self,
        cas: TrustedCas,
        quotas: QuotaConfig,
        registry: &MetricRegistry,
    ) -> Result<Upstream, RunError> {
        let observer = Arc::new(Auth0Metrics::new(registry));
        let (endpoints, proxy) = (self.endpoints.clone(), self.proxy.clone());
        Ok(Upstream::new(UpstreamOptions { endpoints, cas, proxy, quotas, observer })?)
    }

    /// Reads the credentials of the proxy, and returns their file to be followed.
    ///
    /// # Errors
    /// When the file cannot be read, or is not `USER:PASSWORD`.
    pub(super) fn read_proxy_credentials(&self) -> Result<Option<SettingFile<ProxyLogin>>, RunError> {
        let (Some(proxy), Some(path)) = (&self.proxy, &self.proxy_credentials_file) else { return Ok(None) };
        let file = setting(PROXY_CREDENTIALS, path, |_, text| ProxyLogin::parse(text))?;
        proxy.credentials.set(file.value().clone());
        Ok(Some(file))
    }

    /// Reads policies and their Secrets once, for a command. Caller tokens are not read: whoever runs the command already
    /// has the tenants' credentials.
    ///
    /// # Errors
    /// When the source cannot be read, or a cluster does not send everything within 30 seconds.
    pub async fn read_once(self) -> Result<Arc<Snapshot>, RunError> {
        // The metrics are counted and never scraped.
        let registry = MetricRegistry::new();
        self.read_proxy_credentials()?;
        let cas = self.read_cas()?.map(|file| file.value().clone()).unwrap_or_default();
        let upstream = self.upstream(cas, QuotaConfig::default(), &registry)?;
        let metrics = SnapshotMetrics::new(&registry);
        let publisher = Arc::new(Publisher::new(upstream, ObservedState::default(), 1, metrics));
        // Dropped at the end, which stops them.
        let mut followers = JoinSet::new();
        let readiness = Readiness::default();
        let metrics = Arc::new(ControllerMetrics::new(&registry));
        self.policies.begin(&publisher, &metrics, &readiness, &mut followers).await?;
        if timeout(CLUSTER_READ_TIMEOUT, readiness.complete()).await.is_err() {
            return Err(RunError::Command(format!(
                "the API server did not send everything within {} s; missing: {}",
                CLUSTER_READ_TIMEOUT.as_secs(),
                readiness.pending().join("; ")
            )));
        }
        Ok(publisher.current().load_full())
    }
}

impl Source {
    /// Publishes what the source contains now, and spawns tasks in `followers` that publish its changes. Returns the
    /// connection to a cluster and the objects that were seen there.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub(super) async fn begin(
        self,
        publisher: &Arc<Publisher>,
        metrics: &Arc<ControllerMetrics>,
        readiness: &Readiness,
        followers: &mut JoinSet<Result<(), RunError>>,
    ) -> Result<Option<(ClusterConnection, Arc<ObservedPolicies>)>, RunError> {
        match self {
            Self::Directory(path) => {
                let folder = read_folder(path, Arc::clone(publisher)).await?;
                followers.spawn(never_ends("the reader of --policy-dir", follow_folder(folder, Arc::clone(publisher))));
            }
            Self::Environment(environment) => publisher.update(|observed| environment.feed(&mut observed.index))?,
            Self::Cluster(cluster) => {
                let connection = cluster.connect(Arc::clone(metrics)).await?;
                let (publisher, metrics) = (Arc::clone(publisher), Arc::clone(metrics));
                let observed = Arc::new(ObservedPolicies::default());
                let follower =
                    follow_cluster(connection.clone(), publisher, Arc::clone(&observed), metrics, readiness.clone());
                followers.spawn(never_ends("the reader of the cluster", follower));
                return Ok(Some((connection, observed)));
            }
            Self::Text(manifests) => {
                let documents = read_documents(&manifests).map_err(|error| RunError::Command(error.to_string()))?;
                publisher.update(|observed| documents.iter().for_each(|document| document.feed(&mut observed.index)));
            }
        }
        Ok(None)
    }
}

/// Runs a part of the service that ends only when it panics or is aborted.
pub(super) async fn never_ends(
    part: &'static str,
    task: impl Future<Output = Result<Infallible, JoinError>>,
) -> Result<(), RunError> {
    super::named(part, async { match task.await? {} }).await
}
