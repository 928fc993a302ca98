//! Tokens: how they are requested, shared and replaced.

use super::*;

#[tokio::test]
async fn client_secret_is_sent_in_the_form() {
    let (server, client) = pair().await;
    let scopes = client.verify(late()).await.unwrap().unwrap();
    assert!(scopes.iter().eq(["read:sessions"]));
    let asked = &server.tokens_asked()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", TOKEN));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("authorization"), None);
    for (key, value) in [
        ("grant_type", Some("client_credentials")),
        ("client_id", Some("machine")),
        ("client_secret", Some("s3cret&=+ ")),
        ("audience", Some("https://acme.eu.auth0.com/api/v2/")),
        ("client_assertion", None),
    ] {
        assert_eq!(asked.form(key).as_deref(), value, "{key}");
    }
}

fn verified(assertion: &str, algorithm: Algorithm, audience: &str) -> Map<String, Value> {
    let mut rules = Validation::new(algorithm);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["machine"]);
    let key = DecodingKey::from_rsa_pem(KEY.public_key_pem().as_bytes()).unwrap();
    decode(assertion, &key, &rules).unwrap().claims
}

#[tokio::test]
async fn private_key_signs_a_new_assertion_for_each_request() {
    let server = Server::start().await;
    // The claims name the tenant's domains, wherever the requests go. The audience always names the canonical domain.
    for (custom_domain, issuer) in
        [(None, "https://acme.eu.auth0.com/"), (Some("login.acme.com"), "https://login.acme.com/")]
    {
        let upstream =
            upstream(&[(DOMAIN, &format!("{}/gateway/", server.url()))], None, Arc::new(Recorder::default()));
        let auth = [("privateKey", &*KEY.serialize_pem()), ("signingAlgorithm", "PS256"), ("keyId", "k1")];
        let tenant = Tenant::new(DOMAIN, custom_domain).unwrap();
        let client = TenantClient::new(&upstream, &tenant, credentials(&auth, DOMAIN)).unwrap();
        let before = server.tokens_asked().len();
        server.token([status(503)]);
        list(&client).await.unwrap();
        let asked = server.tokens_asked().split_off(before);
        let ids: Vec<_> = asked
            .iter()
            .map(|asked| {
                assert_eq!(asked.target, "/gateway/oauth/token");
                assert_eq!(asked.form("audience").unwrap(), "https://acme.eu.auth0.com/api/v2/");
                assert_eq!(asked.form("client_id").unwrap(), "machine");
                assert_eq!(asked.form("client_secret"), None);
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                assert_eq!(asked.form("client_assertion_type").unwrap(), kind);
                verified(&asked.form("client_assertion").unwrap(), Algorithm::PS256, issuer)["jti"].clone()
            })
            .collect();
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1]);
        assert!(server.calls().last().unwrap().target.starts_with("/gateway/api/v2/users/"));
    }
}

#[tokio::test]
async fn concurrent_calls_share_one_token() {
    let (server, client) = pair().await;
    let all = futures::future::join_all((0..50).map(|_| list(&client))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 50));
}

#[tokio::test]
async fn token_that_the_api_rejects_is_replaced_once() {
    let (server, client) = pair().await;
    server.api([status(401), sessions(&["s1"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    let used: Vec<_> = server.calls().iter().map(|call| call.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(used, ["Bearer t0ken-1", "Bearer t0ken-2"]);

    server.api([status(401), status(401)]);
    assert_eq!(failure(list(&client).await), Failure::CredentialsRejected);
    assert_eq!((server.tokens_asked().len(), server.calls().len()), (3, 4));
}

#[tokio::test]
async fn status_401_of_something_in_between_costs_no_token() {
    for body in ["<html>Unauthorized</html>", "", "{}", r#"{"message":"Unauthorized"}"#, r#"{"statusCode":403}"#] {
        let (server, client) = pair().await;
        server.api((0..6).map(|_| http(401, &[], body)));
        for _ in 0..5 {
            assert_eq!(failure(list(&client).await), Failure::UpstreamError, "{body}");
        }
        let revoked = client.revoke_session("s1d-of-a-session", &late().into()).await;
        assert_eq!(failure(revoked), Failure::UpstreamError, "{body}");
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 6), "{body}");
        assert!(list(&client).await.is_ok(), "the token is kept");
    }
    let (server, client) = pair().await;
    server.api([status(401), http(401, &[], "<html>Unauthorized</html>")]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert!(list(&client).await.is_ok(), "the second token was not rejected");
    assert_eq!(server.tokens_asked().len(), 2);
}

#[tokio::test]
async fn concurrent_calls_replace_a_dead_token_once_and_succeed() {
    let (server, client) = pair().await;
    client.verify(late()).await.unwrap();
    *server.dead_token.lock().unwrap() = Some("Bearer t0ken-1".to_owned());
    let all = futures::future::join_all((0..50).map(|_| list(&client))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.tokens_asked().len(), 2, "one new token for all calls, however late they report");
}

#[tokio::test]
async fn rejected_credential_is_sent_once() {
    for code in [400, 401, 403] {
        let (server, client) = pair().await;
        server.token([http(code, &[], r#"{"error":"access_denied","error_description":"t0ken s3cret"}"#)]);
        for _ in 0..5 {
            assert_eq!(failure(list(&client).await), Failure::CredentialsRejected);
        }
        assert_eq!((server.tokens_asked().len(), server.calls().len()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn undocumented_answer_of_the_token_endpoint_is_upstream_error() {
    for reply in
        [status(404), status(405), status(418), http(200, &[], "{}"), http(200, &[], "t0ken"), http(204, &[], "")]
    {
        let (server, client) = pair().await;
        server.token([reply]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError);
        assert!(list(&client).await.is_ok(), "the next check fetches again");
    }
}

#[test]
fn credential_is_bound_to_the_domain_of_its_secret() {
    let upstream = upstream(&[], None, Arc::new(Recorder::default()));
    let bound = |domain: &str, custom_domain| {
        TenantClient::new(&upstream, &Tenant::new(domain, custom_domain).unwrap(), credentials(SECRET, DOMAIN)).is_ok()
    };
    assert!(bound("ACME.eu.auth0.com", None));
    assert!(bound(DOMAIN, Some("Login.acme.com")));
    assert!(!bound("evil.example", None));
    assert!(!bound(DOMAIN, Some("evil.example")));
}
