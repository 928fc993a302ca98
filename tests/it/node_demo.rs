//! Compatibility with the Node demo that the service replaces: its variables, its rule and its calls.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use simulator::{Session, Simulator};

use crate::common::{APP, DOMAIN, Running, TOKEN, serve_args, tenant};

const APPS: [&str; 4] = [APP, "app-2", "app-3", "https://app.example/4"];
const USERS: usize = 300;

/// A service configured by nothing but the Node demo's variables; it allows anonymous callers on loopback.
async fn demo(tenant: &Simulator) -> Running {
    let endpoint = format!("{DOMAIN}={}", tenant.url());
    let variables =
        ["--auth0-domain", DOMAIN, "--auth0-client-id", "checker", "--auth0-client-secret", "checker-secret"];
    let options = [&variables[..], &["--auth0-endpoint", &endpoint]].concat();
    Running::start(serve_args(&options)).await.unwrap()
}

/// Calls the service as the Node demo's Action does: three fields and no token.
async fn call(service: &Running, user_id: &str, client_id: &str, sid: &str) -> Value {
    let body = json!({ "user_id": user_id, "client_id": client_id, "sid": sid });
    let response = service.http.post(format!("http://{}/check", service.address)).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// The Node demo's rule: block when any other session uses the application.
fn oracle(sessions: &[Session], client_id: &str, sid: &str) -> bool {
    sessions.iter().any(|session| session.id() != sid && session.clients().contains(&client_id))
}

/// At most a page of sessions, some of them without an application.
fn random_sessions(random: &mut StdRng, user: usize, tenant: &Simulator) -> Vec<Session> {
    let most = *[0, 1, 2, 3, 8, 50].choose(random).unwrap();
    let count = random.random_range(0..=most);
    (0..count)
        .map(|number| {
            let began = tenant.now() - jiff::SignedDuration::from_secs(random.random_range(0..86_400));
            let session = Session::new(format!("s-{user}-{number}"), began);
            let share = *[0.02, 0.3].choose(random).unwrap();
            APPS.iter().filter(|_| random.random_bool(share)).fold(session, |session, app| session.client(app))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_equal_those_of_the_node_demo() {
    let mut random = StdRng::seed_from_u64(20_240_607);
    let tenant = tenant().await;
    let service = demo(&tenant).await;
    let mut blocked = 0;
    for user in 0..USERS {
        let user_id = format!("auth0|{user}");
        let sessions = random_sessions(&mut random, user, &tenant);
        tenant.add_user(&user_id);
        for session in &sessions {
            tenant.add_session(&user_id, session.clone());
        }
        let listed = sessions.choose(&mut random).filter(|_| random.random_bool(0.7)).map(Session::id);
        let sid = listed.unwrap_or("a-session-not-listed-yet");
        let client_id = *APPS.choose(&mut random).unwrap();

        let answer = call(&service, &user_id, client_id, sid).await;
        let expected = oracle(&sessions, client_id, sid);
        blocked += usize::from(expected);
        assert_eq!(answer["block"], expected, "user {user}, {client_id}, {sid}, {sessions:?}: {answer}");
        let reason = if expected { "limit_exceeded" } else { "within_limit" };
        assert_eq!((&answer["reason"], &answer["policy"]), (&json!(reason), &json!("env/auth0")), "{answer}");
    }
    assert!((USERS / 5..USERS * 4 / 5).contains(&blocked), "both answers are common: {blocked} of {USERS}");
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_session_counts_at_every_check() {
    let tenant = tenant().await;
    tenant.add_session("u", Session::new("s1", tenant.now()).client(APP));
    tenant.add_session("u", Session::new("s2", tenant.now()).client(APP));
    let service = demo(&tenant).await;
    for sid in ["s1", "s2", "s1", "s2"] {
        assert_eq!(call(&service, "u", APP, sid).await["block"], true, "neither session is admitted: {sid}");
    }
    assert!(tenant.end_session("s2"));
    assert_eq!(call(&service, "u", APP, "s1").await["block"], false);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_token_is_rejected_where_none_is_required() {
    let tenant = tenant().await;
    let service = demo(&tenant).await;
    let (status, body) = service.ask(&json!({ "user_id": "u", "client_id": APP, "sid": "s" })).await;
    assert_eq!((status, &body["error"]), (401, &json!("unauthorized")), "{body}");
    assert!(!body.to_string().contains(TOKEN));
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_auth0_allows_the_login() {
    let tenant = tenant().await;
    let service = demo(&tenant).await;
    tenant.shutdown().await.unwrap();
    let answer = call(&service, "u", APP, "s").await;
    assert_eq!((&answer["block"], &answer["reason"]), (&json!(false), &json!("upstream_unreachable")), "{answer}");
    service.stop().await.unwrap();
}
