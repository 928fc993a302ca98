//! Reaching a tenant through a proxy.

use std::sync::{Arc, Mutex};

use session_checker::auth0::{
    ProxyCredentials, ProxyLogin, ProxyOptions, TenantClient, TrustedCas, Upstream, UpstreamOptions,
};
use session_checker::policy::{Failure, Tenant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::auth0_client::{DOMAIN, SECRET, credentials, failure, late, list};
use crate::auth0_connections::Peer;
use crate::ca_file::{self, reason, with_ca};
use crate::common::{Running, eventually, provider, serve_args, write_text};

/// A proxy that opens tunnels, or answers with a line of a test.
struct Proxy {
    port: u16,
    /// The headers of all requests.
    seen: Mutex<Vec<String>>,
    /// What it answers instead of a tunnel.
    answer: Mutex<Option<&'static str>>,
}

impl Proxy {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Self { port, seen: Mutex::default(), answer: Mutex::default() });
        let serving = Arc::clone(&proxy);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let proxy = Arc::clone(&serving);
                tokio::spawn(async move { proxy.serve(connection).await });
            }
        });
        proxy
    }

    async fn serve(&self, connection: TcpStream) {
        let mut stream = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
        self.seen.lock().unwrap().push(head);
        let answer = *self.answer.lock().unwrap();
        if let Some(answer) = answer {
            let _ = stream.write_all(answer.as_bytes()).await;
            return;
        }
        let mut tenant = TcpStream::connect(target).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: a proxy\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut tenant).await;
    }

    fn options(&self, exceptions: &[&str]) -> ProxyOptions {
        ProxyOptions {
            url: format!("http://localhost:{}", self.port).parse().unwrap(),
            exceptions: exceptions.iter().map(|exception| (*exception).to_owned()).collect(),
            credentials: ProxyCredentials::default(),
        }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn client(peer: &Peer, proxy: ProxyOptions) -> TenantClient {
    let upstream = Upstream::new(UpstreamOptions {
        endpoints: [(DOMAIN.to_owned(), peer.url().parse().unwrap())].into(),
        cas: TrustedCas::parse(peer.ca.as_bytes()).unwrap(),
        proxy: Some(proxy),
        ..UpstreamOptions::default()
    });
    let tenant = Tenant::new(DOMAIN, None).unwrap();
    TenantClient::new(&upstream.unwrap(), &tenant, credentials(SECRET, DOMAIN)).unwrap()
}

fn login(text: &str) -> ProxyLogin {
    ProxyLogin::parse(text).unwrap()
}

#[tokio::test]
async fn tokens_and_lists_go_through_the_proxy_with_its_credentials() {
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    let options = proxy.options(&["other.example"]);
    options.credentials.set(login("me:p:w"));
    let client = client(&peer, options.clone());
    list(&client).await.unwrap();
    let target = peer.url().strip_prefix("https://").unwrap().to_owned();
    let seen = proxy.seen();
    assert_eq!(seen.len(), 2, "for the token and for lists");
    for head in &seen {
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\nproxy-authorization: basic "), "{head}");
        assert!(head.contains("bWU6cDp3\r\n"), "{head}");
    }
    assert_eq!(peer.accepted(), 2, "nothing goes past it");

    // A changed file takes effect with the next connection.
    options.credentials.set(login("you:pw"));
    peer.close_all(&client).await;
    list(&client).await.unwrap();
    assert!(proxy.seen()[2].contains("eW91OnB3\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_file_of_the_proxys_credentials_is_followed() {
    provider();
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    let folder = with_ca(&peer.ca);
    write_text(folder.path(), "login.txt", "me:p:w");
    let [ca, login] = [ca_file::FILE, "login.txt"].map(|name| folder.path().join(name).display().to_string());
    let (endpoint, url) = (format!("{DOMAIN}={}", peer.url()), format!("http://localhost:{}", proxy.port));
    let of_proxy = ["--auth0-proxy", &url, "--auth0-proxy-credentials-file", &login];
    let of_tenant = ["--auth0-endpoint", &endpoint, "--auth0-ca-file", &ca, "--allow-anonymous"];
    let options = [&["--policy-dir", folder.path().to_str().unwrap()], &of_tenant[..], &of_proxy].concat();
    let service = Running::start(serve_args(&options)).await.unwrap();
    let is_used = async |encoded: &str| {
        peer.close.notify_waiters();
        reason(&service, "u").await;
        proxy.seen().last().is_some_and(|head| head.contains(encoded))
    };
    eventually("the proxy is used", async || is_used("bWU6cDp3\r\n").await).await;
    write_text(folder.path(), "login.txt", "you:pw");
    eventually("the new credentials are used", async || is_used("eW91OnB3\r\n").await).await;
    service.stop().await.unwrap();
}

#[tokio::test]
async fn password_of_the_proxy_is_sent_as_it_is_written() {
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    let options = proxy.options(&[]);
    options.credentials.set(login("me:p%41w"));
    list(&client(&peer, options)).await.unwrap();
    for head in proxy.seen() {
        assert!(head.contains("bWU6cCU0MXc=\r\n"), "{head}");
    }
}

#[tokio::test]
async fn exceptions_are_reached_without_the_proxy() {
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    list(&client(&peer, proxy.options(&["localhost"]))).await.unwrap();
    assert_eq!((proxy.seen().len(), peer.accepted()), (0, 2));
}

#[tokio::test]
async fn answer_of_the_proxy_is_upstream_error_and_says_what_to_do() {
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    for (answer, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "--auth0-proxy-credentials-file",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\nno", "--auth0-proxy"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "--auth0-proxy"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "--auth0-proxy"),
    ] {
        let options = proxy.options(&[]);
        options.credentials.set(login("me:s3cret"));
        let client = client(&peer, options);
        // Once for the token, and once for lists.
        for has_token in [false, true] {
            if has_token {
                *proxy.answer.lock().unwrap() = None;
                client.verify(late()).await.unwrap();
            }
            *proxy.answer.lock().unwrap() = Some(answer);
            let error = list(&client).await.unwrap_err();
            assert!(error.remedy().unwrap().contains(words), "{error}");
            assert_eq!(failure::<()>(Err(error)), Failure::UpstreamError, "{answer}");
        }
    }
    assert_eq!(peer.requests(), 0);
}

#[tokio::test]
async fn proxy_that_speaks_no_http_or_is_away_is_named() {
    let (peer, proxy) = (Peer::start(100).await, Proxy::start().await);
    let talking = client(&peer, proxy.options(&[]));
    talking.verify(late()).await.unwrap();
    *proxy.answer.lock().unwrap() = Some("220 mail.example.com ESMTP ready\r\n");
    let error = list(&talking).await.unwrap_err();
    assert_eq!((error.failure, error.remedy().is_some()), (Failure::UpstreamError, true), "{error}");

    let closed = ProxyOptions { url: "http://localhost:1".parse().unwrap(), ..proxy.options(&[]) };
    assert_eq!(failure(list(&client(&peer, closed)).await), Failure::UpstreamUnreachable);
}
