//! Where the shared Redis is, and how to log in to it: one server, a cluster, or the master that Sentinels name.
//!
//! Each connection is made from the options and from the files as they are then, so a rotated password or CA is used at the next
//! connection. Connections that are open keep working as long as the server lets them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};

use super::RedisConnection;

/// How long connecting may take, to the end of the log-in. No check waits for it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where Redis is, and how to log in to it.
#[derive(Clone, Debug)]
pub struct RedisAddress {
    /// `redis://`, `rediss://`, `valkey://` or `unix:` URLs with commas between them, with `user:password@` for an ACL user.
    /// Several are the first nodes of a cluster; one may be the address of a cluster. With [`Self::sentinel_master`] they are
    /// Sentinels, and user and password in them are those of the Sentinels.
    pub url: SecretString,
    /// The name of the master that Sentinels watch.
    pub sentinel_master: Option<String>,
    /// The ACL user of the servers. It stands instead of the URL's.
    pub user: Option<String>,
    /// The file with the servers' password. It stands instead of the URL's.
    pub password_file: Option<PathBuf>,
    /// PEM certificates of the CAs that sign for `rediss://` servers, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why an address cannot be used. The message does not repeat the URL.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The URL ends inside the user or the password.
    #[error(
        "the user or the password has a character with a meaning in URLs: write / as %2F, # as %23, ? as %3F, @ as %40, \
         , as %2C, or put the password into the file of --ledger-password-file"
    )]
    NotEncoded,
    /// A CA for connections without TLS.
    #[error("--ledger-ca-file is for rediss:// URLs, and this URL has another scheme")]
    NoTls,
    /// Sentinels have no sockets.
    #[error("--ledger-sentinel-master needs the URLs of Sentinels: redis://HOST:26379 or rediss://HOST:26379")]
    SentinelSocket,
    /// A file that an option names cannot be read.
    #[error("{0} {path}: {2}", path = .1.display())]
    File(&'static str, PathBuf, std::io::Error),
    /// What the client library says.
    #[error("{0}")]
    Redis(#[from] RedisError),
}

/// What the files contain.
struct LedgerLogin {
    password: Option<SecretString>,
    certificates: Option<TlsCertificates>,
}

impl RedisAddress {
    /// An address without further options.
    pub fn from_url(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), sentinel_master: None, user: None, password_file: None, ca_file: None }
    }

    /// Whether a connection can be tried.
    ///
    /// # Errors
    /// A URL or a file that cannot be read, or options that exclude each other.
    pub(super) async fn check(&self) -> Result<(), AddressError> {
        if self.urls().any(ends_in_user_info) {
            return Err(AddressError::NotEncoded);
        }
        for url in self.urls() {
            let info = url.into_connection_info()?;
            match info.addr() {
                ConnectionAddr::Unix(_) if self.sentinel_master.is_some() => return Err(AddressError::SentinelSocket),
                ConnectionAddr::TcpTls { .. } => {}
                _ if self.ca_file.is_some() => return Err(AddressError::NoTls),
                _ => {}
            }
        }
        let login = self.read_files().await?;
        match self.urls().collect::<Vec<_>>()[..] {
            _ if self.sentinel_master.is_some() => {}
            [url] => drop(self.server(url, &login)?),
            _ => drop(self.cluster(&login)?),
        }
        Ok(())
    }

    /// Connects, and resolves names again. `operation_timeout` is how long the caller waits for an operation: the library's own
    /// bound must not end it before.
    ///
    /// # Errors
    /// As for [`Self::check`], and when no server answers.
    pub(super) async fn connect(&self, operation_timeout: Duration) -> Result<RedisConnection, AddressError> {
        let login = self.read_files().await?;
        let response_timeout = CONNECT_TIMEOUT.max(operation_timeout * 2);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(response_timeout));
        if let Some(master) = &self.sentinel_master {
            let client = self.master(master, &login).await?;
            return Ok(RedisConnection::Single(client.get_multiplexed_async_connection_with_config(&config).await?));
        }
        if let [url] = self.urls().collect::<Vec<_>>()[..] {
            let server = self.server(url, &login)?;
            // A socket of this host has no cluster.
            let has_cluster = !matches!(server.get_connection_info().addr(), ConnectionAddr::Unix(_));
            let mut connection = server.get_multiplexed_async_connection_with_config(&config).await?;
            if !(has_cluster && is_cluster(&mut connection).await) {
                return Ok(RedisConnection::Single(connection));
            }
        }
        let config =
            ClusterConfig::new().set_connection_timeout(CONNECT_TIMEOUT).set_response_timeout(response_timeout);
        Ok(RedisConnection::Cluster(self.cluster(&login)?.get_async_connection_with_config(config).await?))
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.expose_secret().split(',').map(str::trim)
    }

    async fn read_files(&self) -> Result<LedgerLogin, AddressError> {
        let read = async |option, path: &Path| {
            tokio::fs::read_to_string(path).await.map_err(|error| AddressError::File(option, path.to_owned(), error))
        };
        let password = match &self.password_file {
            // Editors and `echo` end a file with a line end; no password ends with one.
            Some(path) => Some(read("--ledger-password-file", path).await?.trim_end_matches(['\r', '\n']).into()),
            None => None,
        };
        let certificates = match &self.ca_file {
            Some(path) => {
                let root_cert = Some(read("--ledger-ca-file", path).await?.into_bytes());
                Some(TlsCertificates { client_tls: None, root_cert })
            }
            None => None,
        };
        Ok(LedgerLogin { password, certificates })
    }

    fn server(&self, url: &str, login: &LedgerLogin) -> Result<Client, RedisError> {
        let info = self.with_login(url.into_connection_info()?, login);
        match &login.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }

    fn with_login(&self, info: ConnectionInfo, login: &LedgerLogin) -> ConnectionInfo {
        let mut settings = info.redis_settings().clone();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password.expose_secret());
        }
        info.set_redis_settings(settings)
    }

    fn cluster(&self, login: &LedgerLogin) -> Result<ClusterClient, RedisError> {
        let mut builder = ClusterClient::builder(self.urls());
        if let Some(user) = &self.user {
            builder = builder.username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.password(password.expose_secret());
        }
        if let Some(certificates) = &login.certificates {
            builder = builder.certs(certificates.clone());
        }
        builder.build()
    }

    /// Asks the Sentinels which server is the master now.
    async fn master(&self, name: &str, login: &LedgerLogin) -> Result<Client, RedisError> {
        let sentinels = self.urls().map(IntoConnectionInfo::into_connection_info).collect::<Result<Vec<_>, _>>()?;
        let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
        let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
        if let Some(first) = sentinels.first() {
            let settings = first.redis_settings();
            builder = builder.set_client_to_redis_db(settings.db());
            if let Some(user) = settings.username() {
                builder = builder.set_client_to_sentinel_username(user);
            }
            if let Some(password) = settings.password() {
                builder = builder.set_client_to_sentinel_password(password);
            }
            if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
                builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            }
        }
        if let Some(user) = &self.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &login.password {
            builder = builder.set_client_to_redis_password(password.expose_secret());
        }
        if let Some(certificates) = &login.certificates {
            builder = builder
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_certificates(certificates.clone());
        }
        Box::pin(builder.build()?.async_get_client()).await
    }
}

/// Whether the server is a node of a cluster. A server that does not say it is taken for none.
async fn is_cluster(connection: &mut MultiplexedConnection) -> bool {
    let info: Result<String, RedisError> = redis::cmd("INFO").arg("cluster").query_async(connection).await;
    info.is_ok_and(|info| info.contains("cluster_enabled:1"))
}

/// Whether the authority of a URL ends before the `@`, because a character of the user or the password ends it.
fn ends_in_user_info(url: &str) -> bool {
    let rest = match url.split_once("://") {
        Some((scheme, _)) if scheme.contains("unix") => return false,
        Some((_, rest)) => rest,
        // The second part of a password with a comma.
        None => return !url.starts_with("unix:") && url.contains('@'),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[end..].contains('@')
}
