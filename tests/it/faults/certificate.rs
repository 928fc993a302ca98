//! The certificates of the tenants: the right one, and those that a client must not accept.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tenant::Protocol;
use crate::authority::Authority;

/// Which certificate a tenant has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    Right,
    OtherName,
    Expired,
    NotYetValid,
    UnknownCa,
}

/// The certificates, made once.
pub struct Certificates {
    /// The CA that the clients trust, in PEM.
    pub ca: String,
    configs: Vec<(Certificate, Protocol, Arc<ServerConfig>)>,
}

impl Certificates {
    pub fn new() -> Self {
        crate::common::provider();
        let (ca, unknown) = (Authority::new(), Authority::new());
        let made = [
            (Certificate::Right, "127.0.0.1", (2020, 2090), &ca),
            (Certificate::OtherName, "elsewhere.example", (2020, 2090), &ca),
            (Certificate::Expired, "127.0.0.1", (2020, 2021), &ca),
            (Certificate::NotYetValid, "127.0.0.1", (2089, 2090), &ca),
            (Certificate::UnknownCa, "127.0.0.1", (2020, 2090), &unknown),
        ];
        let made = made.map(|(certificate, name, (from, to), authority)| {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
            let (signed, key) = authority.sign(params);
            Protocol::ALL.map(|protocol| (certificate, protocol, config(signed.der().clone(), &key, protocol)))
        });
        Self { ca: ca.pem, configs: made.into_iter().flatten().collect() }
    }

    /// A configuration with this certificate that offers this protocol.
    pub fn config(&self, certificate: Certificate, protocol: Protocol) -> Arc<ServerConfig> {
        let found = self.configs.iter().find(|(known, speaks, _)| (*known, *speaks) == (certificate, protocol));
        Arc::clone(&found.unwrap().2)
    }
}

fn config(certificate: CertificateDer<'static>, key: &KeyPair, protocol: Protocol) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let tls = ServerConfig::builder().with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![certificate], key).unwrap();
    tls.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    // A resumed session is less work, which is not what is tested.
    tls.send_tls13_tickets = 0;
    Arc::new(tls)
}
