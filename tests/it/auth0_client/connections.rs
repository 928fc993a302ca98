//! Endpoints, TLS and certificates.

use super::*;
use crate::common::eventually;

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

#[tokio::test]
async fn http1_connection_carries_one_request_after_another() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    let connections = || server.connections.load(Ordering::SeqCst);
    assert_eq!(connections(), 1, "for the token");
    for _ in 0..3 {
        list(&client).await.unwrap();
        server.api([http(202, &[], "{}")]);
        client.revoke_session("s1", &late().into()).await.unwrap();
    }
    assert_eq!(connections(), 2);
    // The rest of an answer that is not read to its end must not precede the next answer.
    server.api([http(404, &[], &"x".repeat(200 << 10))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    server.api([sessions(&["s1"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    assert_eq!(connections(), 3);
    // One that waits holds up no other.
    server.api([Reply::Silence]);
    let context = late().into();
    let waiting = client.list_sessions(USER, &context);
    let other = async {
        eventually("the first arrives", async || server.calls().len() == 9).await;
        list(&client).await
    };
    tokio::select! {
        _ = waiting => panic!("nothing answers it"),
        other = other => assert!(other.is_ok()),
    }
    assert_eq!(connections(), 4);
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
