//! One layer retries: each request that reaches the tenant is one that the budget and the metrics count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use serde_json::json;
use session_checker::auth0::TenantClient;
use session_checker::policy::{Failure, Tenant};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::auth0_client::{DOMAIN, Recorder, SECRET, TOKEN, certificate, credentials, failure, list, upstream};

/// How the tenant ends a request of its API.
#[derive(Clone, Copy)]
enum End {
    /// Refuses the stream: the request was not processed.
    Refuse(Reason),
    /// Ends the connection in order: later streams were not processed.
    GoAway,
}

/// Serves HTTP/2 over TLS: gives tokens, and ends each request of the API. Counts these.
async fn serve(connection: TlsStream<TcpStream>, end: End, requests: Arc<AtomicUsize>) {
    let Ok(mut connection) = h2::server::handshake(connection).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == TOKEN {
            let mut body = respond.send_response(axum::http::Response::new(()), false).unwrap();
            body.send_data(json!({ "access_token": "t" }).to_string().into(), true).unwrap();
            continue;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        match end {
            End::Refuse(reason) => respond.send_reset(reason),
            End::GoAway => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                respond.send_reset(Reason::REFUSED_STREAM);
            }
        }
    }
}

#[tokio::test]
async fn refused_stream_is_sent_twice_and_counted_twice() {
    let ends = [
        End::Refuse(Reason::REFUSED_STREAM),
        End::Refuse(Reason::ENHANCE_YOUR_CALM),
        End::Refuse(Reason::CANCEL),
        End::GoAway,
    ];
    for end in ends {
        let (tls, ca) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(tls);
            while let Ok((connection, _)) = listener.accept().await {
                if let Ok(connection) = acceptor.accept(connection).await {
                    tokio::spawn(serve(connection, end, Arc::clone(&seen)));
                }
            }
        });
        let recorder = Arc::new(Recorder::default());
        let upstream = upstream(&[(DOMAIN, &url)], Some(&ca), Arc::clone(&recorder) as _);
        let tenant = Tenant::new(DOMAIN, None).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(SECRET, DOMAIN)).unwrap();
        assert_eq!(failure(list(&client).await), Failure::UpstreamUnreachable);
        assert_eq!(requests.load(Ordering::Relaxed), 2);
        assert_eq!(recorder.lines().iter().filter(|line| *line == "list unreachable").count(), 2);
    }
}
