//! Credentials, assertions and tokens.

use super::*;

#[tokio::test]
async fn secret_is_accepted_in_a_form_in_json_and_in_basic() {
    let tenant = Tenant::plain().await;
    let url = format!("{}/oauth/token", tenant.simulator.url());
    let as_json: HashMap<_, _> = secret_form().into_iter().collect();
    let bare = form_with(&[("client_id", ""), ("client_secret", "")]);
    for request in [
        tenant.ask_token(&secret_form()),
        tenant.http.post(&url).json(&as_json),
        tenant.ask_token(&bare).basic_auth(CLIENT, Some(SECRET)),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let both = tenant.ask_token(&secret_form()).basic_auth(CLIENT, Some(SECRET));
    assert_eq!(both.send().await.unwrap().status(), 400);
}

async fn try_assertion(tenant: &Tenant, assertion: &str) -> (StatusCode, Value) {
    let form = form_with(&[
        ("client_secret", ""),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ]);
    read(tenant.ask_token(&form).send().await.unwrap()).await
}

#[tokio::test]
async fn assertion_is_accepted_once() {
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::PS256] {
        let tenant = Tenant::plain().await;
        let signer = Signer::new(algorithm);
        tenant.simulator.add_application(signer.application());
        let assertion = signer.sign(&claims(&tenant));
        assert_eq!(try_assertion(&tenant, &assertion).await.0, 200, "{algorithm:?}");
        let (status, body) = try_assertion(&tenant, &assertion).await;
        assert_eq!((status.as_u16(), &body["error"]), (401, &json!("invalid_client")), "{algorithm:?}");
    }
}

#[tokio::test]
async fn assertion_needs_a_registered_key_and_its_algorithm() {
    let tenant = Tenant::plain().await;
    let (signer, stranger) = (Signer::new(Algorithm::RS256), Signer::new(Algorithm::RS256));
    tenant.simulator.add_application(signer.application());
    let claims = claims(&tenant);
    let of_key = |kid: &str| Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
    let secret = EncodingKey::from_secret(signer.public.as_bytes());
    for rejected in [
        stranger.sign(&claims),
        signer.sign_with(&Header::new(Algorithm::RS384), &claims),
        signer.sign_with(&of_key("k2"), &claims),
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap(),
        "not.a.jwt".to_owned(),
    ] {
        assert_eq!(try_assertion(&tenant, &rejected).await.0, 401, "{rejected}");
    }
    assert_eq!(try_assertion(&tenant, &signer.sign_with(&of_key("k1"), &claims)).await.0, 200);
    // An application that signs cannot use its secret.
    assert_eq!(tenant.ask_token(&secret_form()).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn assertion_names_client_tenant_and_a_short_lifetime() {
    let tenant = Tenant::start(|options| options.custom_domain = Some("login.example.com".to_owned())).await;
    let signer = Signer::new(Algorithm::RS256);
    tenant.simulator.add_application(signer.application());
    let now = tenant.clock.now().as_second();
    let changed = |name: &str, value: Value| {
        let mut claims = claims(&tenant);
        claims["jti"] = format!("{name} {value}").into();
        claims[name] = value;
        signer.sign(&claims)
    };
    for (name, value) in [
        ("aud", json!("https://login.example.com/")),
        ("aud", json!(["https://demo.eu.auth0.com/", "https://elsewhere/"])),
        ("exp", json!(now + 300)),
        ("nbf", json!(now + 10)),
    ] {
        assert_eq!(try_assertion(&tenant, &changed(name, value.clone())).await.0, 200, "{name} {value}");
    }
    for (name, value) in [
        ("iss", json!("other")),
        ("sub", json!("other")),
        ("aud", json!("https://demo.eu.auth0.com")),
        ("aud", json!("https://demo.eu.auth0.com/oauth/token")),
        ("exp", json!(now)),
        ("exp", json!(now + 301)),
        ("iat", json!(now - 250)),
        ("nbf", json!(now + 11)),
        ("jti", json!("")),
        ("jti", json!("j".repeat(65))),
        ("padding", json!("p".repeat(2048))),
    ] {
        assert_eq!(try_assertion(&tenant, &changed(name, value.clone())).await.0, 401, "{name} {value}");
    }
}

#[tokio::test]
async fn token_ends_with_its_lifetime_or_a_revocation_of_all() {
    let tenant = Tenant::start(|options| options.token_lifetime = Duration::from_secs(60)).await;
    tenant.clock.advance(Duration::from_millis(59_999));
    tenant.list().await;
    tenant.clock.advance(Duration::from_millis(1));
    let path = "users/auth0%7Cann/sessions";
    assert_eq!(tenant.send(Method::GET, path).await.0, 401);

    let tenant = Tenant { token: tenant.fetch_token().await, ..tenant };
    tenant.list().await;
    tenant.simulator.revoke_tokens();
    assert_eq!(tenant.send(Method::GET, path).await.0, 401);
    let without = tenant.http.get(format!("{}/api/v2/{path}", tenant.simulator.url()));
    assert_eq!(without.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn token_without_the_scope_is_forbidden() {
    let tenant = Tenant::plain().await;
    tenant
        .simulator
        .add_application(Application::with_secret(CLIENT, SECRET).scopes(["read:users", "delete:sessions"]));
    let tenant = Tenant { token: tenant.fetch_token().await, ..tenant };
    tenant.add_session("s1");
    let (status, body) = tenant.send(Method::GET, "users/auth0%7Cann/sessions").await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (403, &json!("insufficient_scope")));
    let (status, body) = tenant.send(Method::POST, "sessions/s1/revoke").await;
    assert_eq!(status, 403);
    assert_eq!(body["message"], "Insufficient scope, expected any of: delete:refresh_tokens");
    assert_eq!(tenant.send(Method::DELETE, "sessions/s1").await.0, 202);
}

#[tokio::test]
async fn token_is_valid_only_on_the_host_that_issued_it() {
    let tenant = Tenant::plain().await;
    let elsewhere = tenant.request(Method::GET, "users/auth0%7Cann/sessions").header(HOST, "login.example.com");
    assert_eq!(elsewhere.send().await.unwrap().status(), 401);
    tenant.list().await;
}

// The login pipeline
