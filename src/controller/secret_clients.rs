//! The clients for the watches of Secrets, which share connections.
//!
//! There is one watch for each Secret that a policy names. A connection with TLS for each of them would be hundreds of sockets
//! of each replica, and as many at the API server. HTTP/2 carries many watches over one connection. Everything else has another
//! client: a watch keeps its stream, an API server limits the streams of a connection, and a renewal of the Lease must not wait
//! for one.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt};
use tower::{BoxError, ServiceBuilder};

use super::client::{ClusterConnection, contact_layer};

/// How many watches share a connection. An API server permits 250 requests at a time by default; a watch has one.
const WATCHES_PER_CONNECTION: usize = 100;
/// How often a connection is asked for a sign of life, and how long it has for it. Without one, all of its watches start again.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// The clients for the watches of Secrets.
pub(super) struct SecretClients {
    connection: ClusterConnection,
    clients: Vec<SharedClient>,
}

struct SharedClient {
    client: Client,
    /// Each watch holds a clone.
    places: Arc<()>,
}

/// The place of a watch on a connection, until it is dropped.
pub(super) struct ClientPlace(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl SecretClients {
    pub fn new(connection: ClusterConnection) -> Self {
        Self { connection, clients: Vec::new() }
    }

    /// A client for one more watch.
    pub fn client(&mut self) -> (Client, ClientPlace) {
        let has_room = |client: &&SharedClient| Arc::strong_count(&client.places) <= WATCHES_PER_CONNECTION;
        if let Some(found) = self.clients.iter().find(has_room) {
            return (found.client.clone(), ClientPlace(Arc::clone(&found.places)));
        }
        let client = shared_client(&self.connection).unwrap_or_else(|error| {
            tracing::warn!(%error, "no shared connection for the watches of Secrets; each has its own");
            self.connection.client.clone()
        });
        let places = Arc::new(());
        self.clients.push(SharedClient { client: client.clone(), places: Arc::clone(&places) });
        (client, ClientPlace(places))
    }
}

/// A client that speaks HTTP/2 where the API server does, and else has a connection for each watch.
fn shared_client(connection: &ClusterConnection) -> Result<Client, kube::Error> {
    let config = &connection.config;
    if config.tls_server_name.is_some() || config.proxy_url.is_some() {
        return Ok(connection.client.clone());
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(config.connect_timeout);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    let client = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING.0)
        .http2_keep_alive_timeout(PING.1)
        .build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    let contact = contact_layer(Arc::clone(&connection.metrics));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).with_layer(&contact).build())
}
