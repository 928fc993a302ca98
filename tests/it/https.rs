//! A listener for HTTPS, and the files of its certificate.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use session_checker::metrics::MetricRegistry;
use session_checker::server::{ConnectionLimits, ConnectionTimeouts, Listener, ServeOptions, ServerMetrics};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Writes `cert.pem` and `key.pem` of a new certificate for loopback.
pub fn write_certificate(folder: &Path) -> reqwest::Certificate {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap()
}

/// A listener that answers every `POST /check` with 200.
pub struct Https {
    pub address: SocketAddr,
    draining: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl Https {
    pub fn serve(tls: RustlsConfig) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Some(tls)).unwrap();
        let (address, draining) = (listener.address().unwrap(), CancellationToken::new());
        let options = ServeOptions {
            limits: ConnectionLimits { total: 10, per_source: 10 },
            timeouts: ConnectionTimeouts::default(),
            metrics: ServerMetrics::new(&MetricRegistry::new()).connections("checks"),
            draining: draining.clone(),
            drain_timeout: Duration::from_secs(5),
        };
        let router = Router::new().route("/check", post(|| async { "served" }));
        let served = tokio::spawn(listener.serve(router, options));
        Self { address, draining, served }
    }

    pub async fn stop(self) {
        self.draining.cancel();
        self.served.await.unwrap().unwrap();
    }
}
