//! Requests to the Management API, their pages and their rate limit.

use super::*;

#[tokio::test]
async fn pages_follow_each_other_until_all_are_listed() {
    let tenant = Tenant::start(|options| options.page_size_cap = 3).await;
    for number in 0..6 {
        tenant.add_session(&format!("s{number}"));
    }
    let mut seen = Vec::new();
    let mut path = "users/auth0%7Cann/sessions?take=100".to_owned();
    for expected in [3, 3] {
        let (_, page) = tenant.send(Method::GET, &path).await;
        let sessions = page["sessions"].as_array().unwrap();
        assert_eq!(sessions.len(), expected, "100 are requested, the cap is 3");
        seen.extend(sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("users/auth0%7Cann/sessions?take=100&from={next}");
        // A change between two pages neither hides nor repeats other sessions.
        tenant.simulator.end_session("s0");
    }
    assert_eq!(seen, ["s0", "s1", "s2", "s3", "s4", "s5"], "an exactly full last page has no next");
}

#[tokio::test]
async fn query_outside_the_documented_bounds_is_an_error() {
    let tenant = Tenant::plain().await;
    for query in ["take=0", "take=101", "take=x", "from=nowhere"] {
        let (status, body) = tenant.send(Method::GET, &format!("users/auth0%7Cann/sessions?{query}")).await;
        assert_eq!((status.as_u16(), &body["statusCode"]), (400, &json!(400)), "{query}");
    }
}

#[tokio::test]
async fn user_id_is_one_encoded_segment() {
    let tenant = Tenant::plain().await;
    for id in ["samlp|idp|CN=Ann/OU=Ä", "waad|a%3Ab", "auth0|ann+b"] {
        tenant.simulator.add_session(id, Session::new(id.len().to_string(), tenant.clock.now()));
        let encoded = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let (status, page) = tenant.send(Method::GET, &format!("users/{encoded}/sessions")).await;
        assert_eq!((status.as_u16(), &page["sessions"][0]["user_id"]), (200, &json!(id)));
    }
    let bare = tenant.send(Method::GET, "users/samlp%7Cidp%7CCN=Ann/OU=%C3%84/sessions").await;
    assert_eq!(bare.0, 404);
    assert_eq!(tenant.send(Method::GET, "users/%FF/sessions").await.0, 400);
}

#[tokio::test]
async fn unknown_paths_are_404_and_unknown_methods_405() {
    let tenant = Tenant::plain().await;
    for path in ["", "users", "users/auth0%7Cann", "users//sessions", "users/u/sessions/", "sessions/s/x", "sessions/"]
    {
        assert_eq!(tenant.send(Method::GET, path).await.0, 404, "{path}");
    }
    for (method, path, allow) in [
        (Method::POST, "users/u/sessions", "GET, DELETE"),
        (Method::PUT, "sessions/s", "GET, DELETE, PATCH"),
        (Method::GET, "sessions/s/revoke", "POST"),
    ] {
        let response = tenant.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], allow);
    }
}

#[tokio::test]
async fn entry_is_listed_exactly_as_given() {
    let tenant = Tenant::plain().await;
    let now = tenant.clock.now();
    let entries = [json!("not an object"), json!({ "id": 7 }), json!({ "id": "x", "clients": {} })];
    for entry in entries.clone() {
        tenant.simulator.add_session(USER, Session::raw("x", entry));
    }
    let session = Session::new("s1", now).without("user_id").without("clients").field("expires_at", json!({"d": 1}));
    tenant.simulator.add_session(USER, session.clone());
    tenant.simulator.add_session(USER, Session::new("s2", now).field("user_id", json!("auth0|bob")));
    let page = tenant.list().await;
    let listed = page["sessions"].as_array().unwrap();
    assert_eq!(listed[..3], entries);
    assert_eq!(&listed[3], session.entry());
    assert!(listed[3].get("user_id").is_none() && listed[3].get("clients").is_none());
    assert_eq!(listed[4]["user_id"], "auth0|bob");
}

// Rate limit

#[tokio::test]
async fn rate_limit_empties_and_refills_with_the_clock() {
    let limit = RateLimit { burst: 2, per_second: 2 };
    let tenant = Tenant::start(|options| options.rate_limit = Some(limit)).await;
    let ask = async || {
        let response = tenant.request(Method::GET, "users/auth0%7Cann/sessions").send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().parse::<i64>().unwrap();
        let limits = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(header);
        (response.status().as_u16(), limits)
    };
    // The clock shows .678. The next token comes half a second later, so it is announced for the second after that.
    let now = tenant.clock.now().as_second();
    assert_eq!(ask().await, (200, [2, 1, now + 2]));
    assert_eq!(ask().await, (200, [2, 0, now + 2]));
    assert_eq!(ask().await, (429, [2, 0, now + 2]));
    tenant.clock.advance(Duration::from_millis(499));
    assert_eq!(ask().await.0, 429);
    tenant.clock.advance(Duration::from_millis(1));
    assert_eq!(ask().await, (200, [2, 0, now + 2]));
    tenant.clock.advance(Duration::from_secs(3600));
    assert_eq!(ask().await.1[..2], [2, 1]);
    // The token endpoint has no part in it.
    let response = tenant.ask_token(&secret_form()).send().await.unwrap();
    assert!(!response.headers().contains_key("x-ratelimit-limit"));
}

// Faults
