//! The simulated tenant behaves as Auth0's documents and recordings say.

// Clippy allows it in tests, but does not see that the helper functions belong to tests.
#![allow(clippy::unwrap_used)]

mod faults;
mod logins;
mod recordings;
mod requests;
mod tokens;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use reqwest::header::{ALLOW, AUTHORIZATION, HOST, HeaderName, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use simulator::{Application, Clock, Fault, Operation, Options, RateLimit, Session, Simulator, Tls};

const DOMAIN: &str = "demo.eu.auth0.com";
const CLIENT: &str = "m2m";
const SECRET: &str = "correct horse battery staple";
const USER: &str = "auth0|ann";
const START: &str = "2026-01-02T03:04:05.678Z";

/// A tenant with a stopped clock, one application and one user, and an HTTP client with a token for it.
struct Tenant {
    simulator: Simulator,
    clock: Clock,
    http: Client,
    token: String,
}

impl Tenant {
    async fn start(change: impl FnOnce(&mut Options)) -> Self {
        let clock = Clock::stopped_at(START.parse().unwrap());
        let mut options = Options { clock: clock.clone(), ..Options::new(DOMAIN) };
        change(&mut options);
        let simulator = Simulator::start(options).await.unwrap();
        simulator.add_application(Application::with_secret(CLIENT, SECRET));
        simulator.add_user(USER);
        let http = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        let mut tenant = Self { simulator, clock, http, token: String::new() };
        tenant.token = tenant.fetch_token().await;
        tenant
    }

    async fn plain() -> Self {
        Self::start(|_| {}).await
    }

    async fn fetch_token(&self) -> String {
        let (status, answer) = read(self.ask_token(&secret_form()).send().await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn ask_token(&self, fields: &[(&str, &str)]) -> RequestBuilder {
        self.http.post(format!("{}/oauth/token", self.simulator.url())).form(fields)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v2/{path}", self.simulator.url())).bearer_auth(&self.token)
    }

    async fn send(&self, method: Method, path: &str) -> (StatusCode, Value) {
        read(self.request(method, path).send().await.unwrap()).await
    }

    async fn list(&self) -> Value {
        let (status, page) = self.send(Method::GET, "users/auth0%7Cann/sessions?take=50").await;
        assert_eq!(status, 200, "{page}");
        page
    }

    /// The listed sessions as (id, clients).
    async fn listed(&self) -> Vec<(String, Vec<String>)> {
        let page = self.list().await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let sessions = page["sessions"].as_array().unwrap().iter();
        sessions
            .map(|session| {
                let clients = session["clients"].as_array().unwrap().iter();
                (text(&session["id"]), clients.map(|client| text(&client["client_id"])).collect())
            })
            .collect()
    }

    async fn listed_ids(&self) -> Vec<String> {
        self.listed().await.into_iter().map(|(id, _)| id).collect()
    }

    fn add_session(&self, id: &str) {
        self.simulator.add_session(USER, Session::new(id, self.clock.now()));
    }
}

fn secret_form() -> [(&'static str, &'static str); 4] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("audience", "https://demo.eu.auth0.com/api/v2/"),
    ]
}

/// The form with some fields replaced. An empty value leaves the field out.
fn form_with<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = secret_form().into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes.iter().copied().filter(|(_, value)| !value.is_empty())).collect()
}

async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

// Auth0's documents

/// A private key whose public half is registered.
struct Signer {
    key: EncodingKey,
    public: String,
    algorithm: Algorithm,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { key, public: pair.public_key_pem(), algorithm }
    }

    fn application(&self) -> Application {
        Application::with_keys(CLIENT).public_key(&self.public, self.algorithm, Some("k1")).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(&Header::new(self.algorithm), claims)
    }

    fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

/// The claims of a valid assertion.
fn claims(tenant: &Tenant) -> Value {
    let now = tenant.clock.now().as_second();
    json!({ "iss": CLIENT, "sub": CLIENT, "aud": "https://demo.eu.auth0.com/", "iat": now, "exp": now + 60, "jti": "j1" })
}
