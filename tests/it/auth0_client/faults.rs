//! Answers that fail, come late, or come from a tenant with another clock.

use super::*;
use crate::clock::drive;
use crate::common::closed_port;

fn broken() -> [Reply; 6] {
    [
        Reply::Reset,
        Reply::Raw(vec![]),
        Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"sessions\":[]}".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ses".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
    ]
}

#[tokio::test]
async fn single_failure_is_retried_unnoticed() {
    for reply in broken().into_iter().chain([status(500), status(502), status(503), status(504)]) {
        let (server, client) = pair().await;
        server.token([reply.clone()]);
        server.api([reply.clone(), sessions(&["s1"], &json!("a")), reply.clone(), sessions(&["s2"], &json!(null))]);
        assert_eq!(list(&client).await.unwrap().len(), 2);
        server.api([reply, http(202, &[], "{}")]);
        assert_eq!(client.revoke_session("s1", &late().into()).await.unwrap(), Revoked::Done);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 6));
    }
}

#[tokio::test]
async fn second_failure_is_reported() {
    let unreachable = broken().map(|reply| (reply, Failure::UpstreamUnreachable));
    for (reply, expected) in unreachable.into_iter().chain([(status(503), Failure::UpstreamError)]) {
        let (server, client) = pair().await;
        server.token([reply.clone(), reply.clone()]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 0));
        server.api([reply.clone(), reply]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (3, 2));
    }
}

#[tokio::test]
async fn closed_port_is_unreachable() {
    let (_port, closed) = closed_port();
    let server = Server { port: closed.port(), ..Server::default() };
    let client = client_of(&server, Arc::new(Recorder::default()));
    assert_eq!(failure(list(&client).await), Failure::UpstreamUnreachable);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_deadline_without_a_retry() {
    let _clock = drive(Duration::from_millis(10));
    let cut = Reply::Http(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{".to_vec());
    for reply in [Reply::Silence, cut] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        server.api([reply]);
        let started = Instant::now();
        assert_eq!(failure(client.list_sessions(USER, &within(200).into()).await), Failure::UpstreamTimeout);
        assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn silent_token_endpoint_is_a_timeout() {
    let _clock = drive(Duration::from_millis(10));
    let (server, client) = pair().await;
    server.token([Reply::Silence]);
    assert_eq!(failure(client.list_sessions(USER, &within(200).into()).await), Failure::UpstreamTimeout);
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 0));
}

#[tokio::test]
async fn nothing_is_sent_after_the_deadline() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    assert_eq!(failure(client.list_sessions(USER, &Instant::now().into()).await), Failure::UpstreamTimeout);
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn exhausted_limit_is_waited_out_only_before_the_deadline() {
    let _clock = drive(Duration::from_millis(10));
    let closed = |headers: &[(&str, &str)]| http(429, headers, r#"{"errorCode":"too_many_requests"}"#);
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    // The reset is in the past: retried after a second each time.
    server.api([
        closed(&[("retry-after", "0")]),
        closed(&[("x-ratelimit-reset", "1")]),
        sessions(&["s1"], &json!(null)),
    ]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    assert_eq!(server.calls().len(), 3);
    // Without a header the wait is a second.
    server.api([closed(&[])]);
    let started = Instant::now();
    assert!(list(&client).await.is_ok());
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.calls().len(), 5);
    // The reset is too late: no wait at all.
    for headers in [&[("retry-after", "60")][..], &[("x-ratelimit-reset", "99999999999")], &[]] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        server.api([closed(headers)]);
        let started = Instant::now();
        assert_eq!(failure(client.list_sessions(USER, &within(900).into()).await), Failure::RateLimited);
        assert!(started.elapsed() < Duration::from_millis(900));
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn status_429_of_the_token_endpoint_is_rate_limited() {
    let _clock = drive(Duration::from_millis(10));
    let (server, client) = pair().await;
    server.token([http(429, &[("retry-after", "5")], "{}")]);
    let started = Instant::now();
    let in_3s = (started + Duration::from_secs(3)).into();
    assert_eq!(failure(client.list_sessions(USER, &in_3s).await), Failure::RateLimited);
    assert_eq!(failure(client.list_sessions(USER, &in_3s).await), Failure::RateLimited, "the limit is known now");
    assert!(started.elapsed() < Duration::from_secs(3), "neither waited for its deadline");
    // Another credential of the tenant has the same limit.
    let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
    let tenant = Tenant::new(DOMAIN, None).unwrap();
    let [first, second] = [(); 2].map(|()| TenantClient::new(&upstream, &tenant, credentials(SECRET, DOMAIN)).unwrap());
    server.token([http(429, &[("retry-after", "5")], "{}")]);
    for client in [first, second] {
        let deadline = within(3_000);
        assert_eq!(failure(client.list_sessions(USER, &deadline.into()).await), Failure::RateLimited);
        assert!(Instant::now() < deadline);
    }
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (2, 0));
}

/// An answer of a tenant whose clock differs from ours by these seconds. The header is that many seconds later on its clock.
fn on_clock(code: u16, apart: i64, headers: &[(&str, String)], body: &str) -> Reply {
    let date = httpdate_of(unix_now() + apart);
    let mut all = vec![("date", date.as_str())];
    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
    http(code, &all, body)
}

fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn httpdate_of(second: i64) -> String {
    httpdate::fmt_http_date(jiff::Timestamp::from_second(second).unwrap().into())
}

#[tokio::test(start_paused = true)]
async fn reset_is_judged_by_the_date_of_its_answer() {
    let _clock = drive(Duration::from_millis(10));
    for apart in [240, -240, 100_000] {
        let (server, client) = pair().await;
        client.verify(late()).await.unwrap();
        let reset = (unix_now() + apart + 1).to_string();
        let spent = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset.clone())];
        server.api([on_clock(200, apart, &spent, r#"{"sessions":[]}"#)]);
        assert!(list(&client).await.is_ok());
        assert!(client.list_sessions(USER, &within(5_000).into()).await.is_ok(), "{apart}");
        assert_eq!(server.calls().len(), 2);
    }
}

#[tokio::test]
async fn assertion_is_valid_on_the_clock_of_the_tenant() {
    for apart in [240, -600] {
        let server = Server::start().await;
        let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem())];
        let tenant = Tenant::new(DOMAIN, None).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(&auth, DOMAIN)).unwrap();
        server.token([
            on_clock(401, apart, &[], r#"{"error":"invalid_client"}"#),
            on_clock(200, apart, &[], r#"{"access_token":"t0ken"}"#),
        ]);
        let before = unix_now();
        client.verify(late()).await.unwrap();
        let expires: Vec<i64> = server
            .tokens_asked()
            .iter()
            .map(|asked| {
                let parts = asked.form("client_assertion").unwrap();
                let claims =
                    base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, parts.split('.').nth(1).unwrap());
                serde_json::from_slice::<Value>(&claims.unwrap()).unwrap()["exp"].as_i64().unwrap()
            })
            .collect();
        assert_eq!(expires.len(), 2, "rejected by the other clock, and accepted");
        let now = unix_now();
        assert!((before + 60..=now + 60).contains(&expires[0]));
        assert!((before + apart + 59..=now + apart + 61).contains(&expires[1]), "{expires:?}");
    }
    // A rejection by a tenant whose clock is ours is final.
    let server = Server::start().await;
    let client = {
        let upstream = upstream(&[(DOMAIN, &server.url())], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem())];
        TenantClient::new(&upstream, &Tenant::new(DOMAIN, None).unwrap(), credentials(&auth, DOMAIN)).unwrap()
    };
    server.token([on_clock(401, 0, &[], r#"{"error":"invalid_client"}"#)]);
    assert_eq!(failure(client.verify(late()).await), Failure::CredentialsRejected);
    assert_eq!(server.tokens_asked().len(), 1);
}
