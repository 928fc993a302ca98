//! `--caller-jwks-file`: signed tokens of an issuer, such as Auth0's machine-to-machine tokens, as those of callers.

use std::path::Path;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use simulator::Simulator;

use crate::common::{APP, Running, TOKEN, callers, credentials, eventually, folder, policy, tenant, write_text};

const ISSUER: &str = "https://acme.eu.auth0.com/";
const AUDIENCE: &str = "https://sessions.example.com";
/// The file of the issuer's keys.
const FILE: &str = "keys.txt";

/// A key of the issuer.
struct Key(EncodingKey, &'static str);

impl Key {
    fn new(id: &'static str) -> Self {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap().serialize_pem();
        Self(EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(), id)
    }

    /// A token as Auth0 issues it to an application, with more claims.
    fn token(&self, more: Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": ISSUER, "sub": "action@clients", "aud": AUDIENCE, "iat": now, "exp": now + 86_400,
            "gty": "client-credentials", "azp": "action",
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = Header { kid: Some(self.1.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &self.0).unwrap()
    }
}

/// Writes the issuer's keys.
fn write_keys(folder: &Path, keys: &[&Key]) {
    let jwk = |key: &&Key| {
        let mut jwk = Jwk::from_encoding_key(&key.0, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(key.1.to_owned());
        jwk
    };
    let text = serde_json::to_string(&JwkSet { keys: keys.iter().map(jwk).collect() }).unwrap();
    write_text(folder, FILE, &text);
}

async fn serve(tenant: &Simulator, folder: &Path) -> Running {
    let file = folder.join(FILE);
    let options = ["--caller-jwks-file", file.to_str().unwrap(), "--caller-jwt-issuer", ISSUER];
    Running::path(tenant, folder, &[&options[..], &["--caller-jwt-audience", AUDIENCE]].concat()).await
}

/// The policy that answers, or the status of a rejection.
async fn answer(service: &Running, token: Option<&str>) -> Result<Value, u16> {
    let request = service.http.post(format!("http://{}/check", service.address));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.json(&json!({ "user_id": "u", "client_id": APP, "sid": "s" })).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Ok(answer.json::<Value>().await.unwrap()["policy"].take()),
        status => Err(status),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_token_is_for_the_policies_that_name_no_callers() {
    let (tenant, key, other) = (tenant().await, Key::new("one"), Key::new("one"));
    let own = policy("own", json!({ "callerSecretRef": null }));
    let named = policy("named", json!({ "priority": 5 }));
    let folder = folder(&[credentials(), callers(), own, named]);
    write_keys(folder.path(), &[&key]);
    let service = serve(&tenant, folder.path()).await;
    assert_eq!(answer(&service, Some(&key.token(json!({})))).await, Ok(json!("default/own")));
    assert_eq!(answer(&service, Some(TOKEN)).await, Ok(json!("default/named")), "other tokens work beside it");
    let expired = json!({ "exp": jiff::Timestamp::now().as_second() - 3600 });
    for wrong in [
        key.token(expired),
        key.token(json!({ "aud": "https://acme.eu.auth0.com/api/v2/" })),
        key.token(json!({ "iss": "https://globex.us.auth0.com/" })),
        other.token(json!({})),
    ] {
        assert_eq!(answer(&service, Some(&wrong)).await, Err(401), "{wrong}");
    }
    assert_eq!(answer(&service, None).await, Err(401));
    let debug = service.debug().await;
    assert_eq!(debug["policies"][1]["callers"], Value::Null, "a policy that names no callers has some: {debug}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_keys_decide_the_next_check() {
    let (tenant, first, second) = (tenant().await, Key::new("one"), Key::new("two"));
    let folder = folder(&[credentials(), policy("own", json!({ "callerSecretRef": null }))]);
    write_keys(folder.path(), &[&first]);
    let service = serve(&tenant, folder.path()).await;
    let [of_first, of_second] = [&first, &second].map(|key| key.token(json!({})));
    let is_accepted = async |token: &str| answer(&service, Some(token)).await.is_ok();
    assert!(is_accepted(&of_first).await && !is_accepted(&of_second).await);

    // The issuer publishes its next key before it signs with it.
    write_keys(folder.path(), &[&first, &second]);
    eventually("both keys are known", || async { is_accepted(&of_second).await }).await;
    assert!(is_accepted(&of_first).await);

    write_text(folder.path(), FILE, "<html>");
    write_keys(folder.path(), &[&second]);
    eventually("the first key is gone", || async { !is_accepted(&of_first).await }).await;
    assert!(is_accepted(&of_second).await);

    write_text(folder.path(), FILE, "no keys");
    for _ in 0..5 {
        assert!(is_accepted(&of_second).await, "what cannot be read changes nothing");
    }
    service.stop().await.unwrap();
}
