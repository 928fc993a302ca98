//! The simulator's login host: it follows an Action's redirect and `/continue` as Auth0 does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use simulator::{Options, Simulator};
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;

use crate::clock::drive;
use crate::common::{DOMAIN, provider};

/// What the Action does in each handler: `hang`, or the answer that the login host reads.
type Handlers = Arc<dyn Fn(&str) -> Value + Send + Sync>;

struct Scene {
    tenant: Simulator,
    http: reqwest::Client,
}

/// An answer of the login host.
struct Answer {
    status: u16,
    location: Option<Url>,
    cookies: Vec<String>,
}

async fn action(State(handlers): State<Handlers>, Json(call): Json<Value>) -> Json<Value> {
    let did = handlers(call["handler"].as_str().unwrap());
    if did == "hang" {
        std::future::pending::<()>().await;
    }
    Json(did)
}

impl Scene {
    async fn new(handlers: impl Fn(&str) -> Value + Send + Sync + 'static) -> Self {
        provider();
        let tenant = Simulator::start(Options::new(DOMAIN)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handlers: Handlers = Arc::new(handlers);
        tokio::spawn(axum::serve(listener, Router::new().route("/", post(action)).with_state(handlers)).into_future());
        tenant.run_actions_at(&format!("http://{address}/"));
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { tenant, http }
    }

    async fn get(&self, path: &str, cookies: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.tenant.url())).header(COOKIE, cookies);
        let response = request.send().await.unwrap();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
        Answer {
            status: response.status().as_u16(),
            location: response.headers().get(LOCATION).map(|location| text(location).parse().unwrap()),
            cookies: response.headers().get_all(SET_COOKIE).iter().map(text).collect(),
        }
    }

    /// The begin of a login of the user `u`.
    async fn authorize(&self, more: &str) -> Answer {
        let callback = "http%3A%2F%2Fapp.test%2Fcallback";
        self.get(&format!("/authorize?client_id=shop&redirect_uri={callback}&state=of-the-app&user=u{more}"), "").await
    }

    fn sessions(&self) -> Vec<(String, usize)> {
        let sessions = self.tenant.sessions_of("u");
        sessions.iter().map(|session| (session.id().to_owned(), session.clients().len())).collect()
    }
}

impl Answer {
    /// A parameter of the address to which it redirects.
    fn parameter(&self, name: &str) -> Option<String> {
        let location = self.location.as_ref()?;
        location.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    /// A cookie as the browser sends it back.
    fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.cookies.iter().map(|cookie| cookie.split(';').next().unwrap());
        pairs.into_iter().find(|pair| pair.starts_with(&format!("{name}=")))
    }
}

fn redirects(handler: &str) -> Value {
    match handler {
        "onExecutePostLogin" => json!({ "redirect": "http://page.test/choose?ticket=t" }),
        _ => json!({}),
    }
}

#[tokio::test]
async fn state_works_once_and_in_the_browser_of_its_login() {
    let scene = Scene::new(redirects).await;
    let redirected = scene.authorize("").await;
    assert_eq!((redirected.status, redirected.parameter("ticket").as_deref()), (302, Some("t")));
    let state = redirected.parameter("state").unwrap();
    let cookie = redirected.cookie("auth0_browser").unwrap();
    assert!(redirected.cookies[0].ends_with("; Path=/; HttpOnly; Secure; SameSite=None"), "{:?}", redirected.cookies);
    assert_eq!(redirected.cookie("auth0"), None, "the login is not complete");
    let [(sid, 0)] = &scene.sessions()[..] else { panic!("the session exists before the application joins it") };

    let resume = format!("/continue?state={state}");
    for (path, cookies) in [
        (resume.as_str(), ""),
        (&resume, "auth0_browser=another"),
        ("/continue?state=unknown", cookie),
        ("/continue", cookie),
    ] {
        assert_eq!(scene.get(path, cookies).await.status, 400, "{path} {cookies}");
    }
    let resumed = scene.get(&resume, cookie).await;
    assert!(resumed.parameter("code").is_some(), "{:?}", resumed.location);
    assert_eq!(resumed.parameter("state").as_deref(), Some("of-the-app"));
    assert_eq!(resumed.cookie("auth0"), Some(format!("auth0={sid}").as_str()));
    assert_eq!(scene.sessions(), [(sid.clone(), 1)], "the application has joined the session");
    assert_eq!(scene.get(&resume, cookie).await.status, 400, "the state was used");
}

#[tokio::test]
async fn silent_login_that_is_redirected_needs_interaction() {
    let scene = Scene::new(redirects).await;
    let answer = scene.authorize("&prompt=none").await;
    assert_eq!(answer.parameter("error").as_deref(), Some("interaction_required"));
    assert_eq!(answer.parameter("ticket"), None);
}

#[tokio::test]
async fn denied_login_keeps_its_session_and_a_revoked_one_loses_it() {
    for (did, left) in [("deny", 1), ("revoke", 0)] {
        let scene = Scene::new(move |_| json!({ did: "You are signed in elsewhere." })).await;
        let answer = scene.authorize("").await;
        assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"));
        assert_eq!(answer.parameter("error_description").as_deref(), Some("You are signed in elsewhere."));
        assert_eq!(scene.sessions().len(), left, "{did}");
    }
}

#[tokio::test(start_paused = true)]
async fn action_has_twenty_seconds_for_each_way() {
    let clock = drive(Duration::from_millis(250));
    for slow in ["onExecutePostLogin", "onContinuePostLogin"] {
        let scene = Scene::new(move |handler| if handler == slow { json!("hang") } else { redirects(handler) }).await;
        let mut began = Instant::now();
        let mut answer = scene.authorize("").await;
        if slow == "onContinuePostLogin" {
            let (state, cookie) = (answer.parameter("state").unwrap(), answer.cookie("auth0_browser").unwrap());
            began = Instant::now();
            answer = scene.get(&format!("/continue?state={state}"), cookie).await;
        }
        assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"), "{slow}");
        assert_eq!(answer.parameter("error_description").as_deref(), Some("The Actions took too long."));
        let took = began.elapsed();
        assert!((Duration::from_secs(20)..Duration::from_secs(30)).contains(&took), "{slow}: {took:?}");
        assert_eq!(scene.sessions()[0].1, 0, "the application did not join");
    }
    clock.abort();
}
