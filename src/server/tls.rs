//! The certificate of a listener, and the CAs whose client certificates it demands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::task::spawn_blocking;

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain in PEM.
    pub certificate: PathBuf,
    /// The private key in PEM.
    pub key: PathBuf,
    /// CA certificates in PEM. A client has to present a certificate that one of them issued.
    pub client_ca: Option<PathBuf>,
}

/// Why the files of a listener cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate or its key.
    #[error("the certificate {certificate} and key {key} cannot be used: {source}")]
    Certificate {
        /// The file of the certificate.
        certificate: String,
        /// The file of the key.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// The CAs of clients.
    #[error("the CA certificates {file} of --tls-client-ca cannot be used: {source}")]
    ClientCa {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or is not PEM, or the key does not belong to the certificate.
    pub async fn load(&self) -> Result<RustlsConfig, TlsError> {
        Ok(RustlsConfig::from_config(self.read().await?))
    }

    /// Reads the files again, for new connections.
    ///
    /// # Errors
    /// As [`load`](Self::load). The old certificate and CAs stay in use.
    pub async fn reload(&self, config: &RustlsConfig) -> Result<(), TlsError> {
        config.reload_from_config(self.read().await?);
        Ok(())
    }

    /// A new configuration, also when nothing changed: it resumes no session that other CAs verified.
    async fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let files = self.clone();
        let read = spawn_blocking(move || {
            let client_roots =
                |file: &Path| client_roots(file).map_err(|source| TlsError::ClientCa { file: show(file), source });
            let roots = files.client_ca.as_deref().map(client_roots).transpose()?;
            config(&files, roots).map_err(|source| files.error(source))
        });
        read.await.unwrap_or_else(|error| Err(self.error(io::Error::other(error)))).map(Arc::new)
    }

    fn error(&self, source: io::Error) -> TlsError {
        TlsError::Certificate { certificate: show(&self.certificate), key: show(&self.key), source }
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The certificates of a PEM file, at least one.
fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(io::Error::other)?;
    if certificates.is_empty() { Err(io::Error::other("it contains no PEM certificate")) } else { Ok(certificates) }
}

fn client_roots(file: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    certificates(file)?.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(io::Error::other)?;
    Ok(roots)
}

fn config(files: &TlsFiles, client_roots: Option<RootCertStore>) -> io::Result<ServerConfig> {
    let provider = Arc::new(default_provider());
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(io::Error::other)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
