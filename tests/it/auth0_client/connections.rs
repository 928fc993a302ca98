//! Endpoints, TLS and certificates.

use super::*;

#[tokio::test]
async fn private_address_is_reached_only_by_a_named_endpoint() {
    let server = Server::start().await;
    let named = format!("http://localhost:{}", server.port);
    let upstream = upstream(&[(DOMAIN, &named)], None, Arc::new(Recorder::default()));
    let client = |domain: &str| {
        TenantClient::new(&upstream, &Tenant::new(domain, None).unwrap(), credentials(SECRET, domain)).unwrap()
    };
    assert!(list(&client(DOMAIN)).await.is_ok());
}

/// Serves one endpoint over TLS with a certificate of a new CA. Returns the port and the CA in PEM.
async fn tls_server() -> (u16, String) {
    let (tls, ca_pem) = certificate();
    let tls = axum_server::tls_rustls::RustlsConfig::from_config(tls);

    let answer = || async { axum::Json(json!({"access_token": "t0ken", "sessions": [{"id": "s1"}]})) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(axum_server::from_tcp_rustls(listener, tls).unwrap().serve(app.into_make_service()));
    (port, ca_pem)
}

#[tokio::test]
async fn additional_ca_is_trusted_and_an_unknown_one_is_not() {
    let (port, ca_pem) = tls_server().await;
    let client = |host: &str, ca_pem| {
        let upstream = upstream(&[(DOMAIN, &format!("https://{host}:{port}"))], ca_pem, Arc::new(Recorder::default()));
        TenantClient::new(&upstream, &Tenant::new(DOMAIN, None).unwrap(), credentials(SECRET, DOMAIN)).unwrap()
    };
    assert_eq!(list(&client("localhost", Some(&*ca_pem))).await.unwrap().len(), 1);
    assert_eq!(failure(list(&client("localhost", None)).await), Failure::UpstreamUnreachable);
    // The name that the certificate must carry is the URL's.
    assert_eq!(failure(list(&client("127.0.0.1", Some(&*ca_pem))).await), Failure::UpstreamUnreachable);
}
