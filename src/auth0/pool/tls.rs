//! The TLS configuration of every connection to a tenant.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;

/// The extra certificates are not readable PEM.
pub(in crate::auth0) struct UnreadableCa;

/// The CA certificates of a PEM file.
pub(in crate::auth0) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, UnreadableCa> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(UnreadableCa),
    }
}

/// A configuration that trusts the platform's CAs and these, and offers HTTP/2 and HTTP/1.1. Connections that share it resume
/// each other's sessions, which saves the signatures and certificates of a handshake.
///
/// # Errors
/// The platform has no root certificates, or one of these cannot be a root.
pub(in crate::auth0) fn config(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let verified = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
