//! What a login, a log-out and a revocation change, and when a list shows it.

use super::*;

#[tokio::test]
async fn session_exists_before_the_actions_run() {
    let tenant = Tenant::plain().await;
    let login = tenant.simulator.begin_login(USER, "c1", None);
    assert_eq!(tenant.listed().await, [(login.sid().to_owned(), vec![])]);
    assert_eq!(tenant.list().await["sessions"][0]["user_id"], USER);
}

#[tokio::test]
async fn client_is_listed_only_after_the_login_completes() {
    let tenant = Tenant::start(|options| options.visibility_delay = Duration::from_secs(3)).await;
    let sid = tenant.simulator.begin_login(USER, "c1", None).complete().unwrap();
    assert_eq!(tenant.simulator.sessions_of(USER)[0].clients(), ["c1"]);
    tenant.clock.advance(Duration::from_millis(2_999));
    assert_eq!(tenant.listed().await, [(sid.clone(), vec![])]);
    tenant.clock.advance(Duration::from_millis(1));
    assert_eq!(tenant.listed().await, [(sid, vec!["c1".to_owned()])]);
}

#[tokio::test]
async fn denied_login_leaves_its_session() {
    let tenant = Tenant::plain().await;
    let login = tenant.simulator.begin_login(USER, "c1", None);
    tenant.clock.advance(Duration::from_secs(1));
    let sid = login.deny().unwrap();
    assert_eq!(tenant.listed().await, [(sid.clone(), vec![])]);
    let session = &tenant.simulator.sessions_of(USER)[0];
    assert_eq!(session.date("last_interacted_at"), session.date("created_at"));
    assert_eq!(session.date("updated_at"), Some(tenant.clock.now()));
    // The browser tries again with the same session.
    assert_eq!(tenant.simulator.begin_login(USER, "c1", Some(&sid)).sid(), sid);
}

#[tokio::test]
async fn revoked_login_ends_its_session() {
    let tenant = Tenant::start(|options| options.visibility_delay = Duration::from_secs(3)).await;
    let login = tenant.simulator.begin_login(USER, "c1", None);
    let sid = login.sid().to_owned();
    login.revoke();
    assert!(tenant.simulator.sessions_of(USER).is_empty());
    assert_eq!(tenant.listed_ids().await, [sid.as_str()]);
    tenant.clock.advance(Duration::from_secs(3));
    assert!(tenant.listed_ids().await.is_empty());
    assert_ne!(tenant.simulator.begin_login(USER, "c1", Some(&sid)).sid(), sid);
}

#[tokio::test]
async fn single_sign_on_adds_the_second_client_to_the_same_session() {
    let tenant = Tenant::plain().await;
    let sid = tenant.simulator.begin_login(USER, "c1", None).complete().unwrap();
    tenant.clock.advance(Duration::from_secs(60));
    let second = tenant.simulator.begin_login(USER, "c2", Some(&sid));
    assert!(second.is_resumed());
    assert_eq!(tenant.listed().await[0].1, ["c1"]);
    second.complete().unwrap();
    tenant.simulator.begin_login(USER, "c1", Some(&sid)).complete().unwrap();
    assert_eq!(tenant.listed().await, [(sid, vec!["c1".to_owned(), "c2".to_owned()])]);
    let session = &tenant.simulator.sessions_of(USER)[0];
    assert_eq!(session.date("last_interacted_at"), Some(tenant.clock.now()));
    assert_eq!(session.date("authenticated_at"), session.date("created_at"));
}

#[tokio::test]
async fn browser_with_an_unusable_session_gets_a_new_one() {
    let tenant = Tenant::plain().await;
    let now = tenant.clock.now();
    tenant.simulator.add_session(USER, Session::new("old", now).at("expires_at", now));
    tenant.simulator.add_session("auth0|bob", Session::new("bobs", now));
    for cookie in ["old", "bobs", "unknown"] {
        let login = tenant.simulator.begin_login(USER, "c1", Some(cookie));
        assert!(!login.is_resumed());
        assert_ne!(login.sid(), cookie);
    }
    assert!(tenant.listed_ids().await.contains(&"old".to_owned()), "an expired session stays listed");
}

#[tokio::test]
async fn login_with_a_revoked_session_does_not_complete() {
    let tenant = Tenant::plain().await;
    let login = tenant.simulator.begin_login(USER, "c1", None);
    assert_eq!(tenant.send(Method::POST, &format!("sessions/{}/revoke", login.sid())).await.0, 202);
    assert_eq!(login.complete(), None);
    assert!(tenant.listed().await.is_empty());
}

// Lists, deletions

#[tokio::test]
async fn revocation_shows_only_after_the_visibility_delay() {
    let tenant = Tenant::start(|options| options.visibility_delay = Duration::from_secs(2)).await;
    tenant.add_session("s1");
    tenant.add_session("s2");
    let revoke = || tenant.send(Method::POST, "sessions/s1/revoke");
    assert_eq!(revoke().await, (StatusCode::ACCEPTED, json!({})));
    assert_eq!(tenant.simulator.sessions_of(USER).len(), 1);
    tenant.clock.advance(Duration::from_secs(1));
    assert_eq!(tenant.listed_ids().await, ["s1", "s2"]);
    assert_eq!(revoke().await.0, 202, "a second revocation succeeds and does not delay the first");
    tenant.clock.advance(Duration::from_secs(1));
    assert_eq!(tenant.listed_ids().await, ["s2"]);
    assert_eq!(revoke().await.0, 404);
    assert_eq!(tenant.send(Method::GET, "sessions/s1").await.0, 404);

    assert_eq!(tenant.send(Method::DELETE, "users/auth0%7Cann/sessions").await.0, 202);
    assert_eq!(tenant.listed_ids().await, ["s2"]);
    tenant.clock.advance(Duration::from_secs(2));
    assert!(tenant.listed_ids().await.is_empty());
}
