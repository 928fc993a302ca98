//! The TLS configuration of every connection to a tenant.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

/// The CAs that are trusted for tenants: those of the platform, and these or only these.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TrustedCas {
    certificates: Vec<CertificateDer<'static>>,
    only: bool,
}

/// A file of CA certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is no certificate, or one is not readable.
    #[error("it contains no readable PEM certificate: write the CA certificates in PEM, one after the other")]
    Unreadable,
    /// A certificate cannot be that of a CA.
    #[error("its certificate number {number} cannot be a CA: {error}")]
    NotACa {
        /// Counted from 1.
        number: usize,
        /// Why.
        error: rustls::Error,
    },
}

impl TrustedCas {
    /// The platform's CAs and those of a PEM file.
    ///
    /// # Errors
    /// The file holds no certificate, or something else than certificates of CAs.
    pub fn parse(pem: &[u8]) -> Result<Self, CaError> {
        let certificates =
            CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| CaError::Unreadable)?;
        if certificates.is_empty() {
            return Err(CaError::Unreadable);
        }
        let mut roots = RootCertStore::empty();
        for (number, certificate) in (1..).zip(&certificates) {
            roots.add(certificate.clone()).map_err(|error| CaError::NotACa { number, error })?;
        }
        Ok(Self { certificates, only: false })
    }

    /// Without the platform's CAs.
    pub fn only(self) -> Self {
        Self { only: true, ..self }
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        let provider = Arc::new(default_provider());
        let certificates = self.certificates.iter().cloned();
        if !self.only {
            return Ok(Arc::new(Verifier::new_with_extra_roots(certificates, provider)?));
        }
        let mut roots = RootCertStore::empty();
        certificates.into_iter().try_for_each(|certificate| roots.add(certificate))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        // Without revocation lists only a store without roots is an error.
        verifier.map_err(|error| rustls::Error::General(error.to_string())).map(|verifier| verifier as _)
    }
}

/// A configuration that trusts these CAs, and offers HTTP/2 and HTTP/1.1. Connections that share it resume each other's
/// sessions, which saves the signatures and certificates of a handshake. A resumed session is not verified again, so other CAs
/// need another configuration.
///
/// # Errors
/// The platform has no root certificates.
pub(in crate::auth0) fn config(cas: &TrustedCas) -> Result<ClientConfig, rustls::Error> {
    let verifier = cas.verifier()?;
    let builder =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions()?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_ca_certificates_is_an_error() {
        for pem in [&b""[..], b"no", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(TrustedCas::parse(pem), Err(CaError::Unreadable)), "{}", String::from_utf8_lossy(pem));
        }
        let no_certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = TrustedCas::parse(no_certificate).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.starts_with("its certificate number 1 cannot be a CA")));
    }
}
