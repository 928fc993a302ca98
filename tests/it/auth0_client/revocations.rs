//! Revocations of sessions.

use super::*;

#[tokio::test]
async fn session_is_revoked_with_its_refresh_tokens() {
    let (server, client) = pair().await;
    server.api([http(202, &[], "{}"), http(204, &[], ""), status(404)]);
    for expected in [Revoked::Done, Revoked::Done, Revoked::AlreadyGone] {
        assert_eq!(client.revoke_session("s1d-of-a-session", &late().into()).await.unwrap(), expected);
    }
    let call = &server.calls()[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/api/v2/sessions/s1d-of-a-session/revoke"));
    assert_eq!((call.header("content-length"), call.body.as_str()), (Some("0"), ""));
    assert_eq!(call.header("authorization"), Some("Bearer t0ken-1"));
}

#[tokio::test]
async fn failed_revocation_has_its_failure() {
    for (reply, expected) in [
        (http(403, &[], r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope),
        (status(403), Failure::NotEntitled),
        (status(400), Failure::UpstreamError),
        (http(302, &[("location", "/")], ""), Failure::UpstreamError),
        (http(404, &[], "<html>no such page</html>"), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([reply]);
        assert_eq!(failure(client.revoke_session("s1d-of-a-session", &late().into()).await), expected);
    }
    let (server, client) = pair().await;
    for sid in ["", ".", ".."] {
        assert_eq!(failure(client.revoke_session(sid, &late().into()).await), Failure::UpstreamError);
    }
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test]
async fn recorded_revocation_is_understood() {
    let path = format!("{}/tests/fixtures/auth0/recordings/TestSessionManager_Revoke.yaml", env!("CARGO_MANIFEST_DIR"));
    let recorded: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let exchange = &recorded["interactions"][0];
    let (server, client) = pair().await;
    let code = u16::try_from(exchange["response"]["code"].as_u64().unwrap()).unwrap();
    server.api([http(code, &[], exchange["response"]["body"].as_str().unwrap())]);
    assert_eq!(client.revoke_session("SessionID", &late().into()).await.unwrap(), Revoked::Done);
    let sent = &server.calls()[0];
    assert_eq!(sent.method, exchange["request"]["method"]);
    let url = exchange["request"]["url"].as_str().unwrap();
    assert!(url.ends_with(&sent.target), "{url}");
}
