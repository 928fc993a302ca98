//! The session list: its requests, its pages, and what is read of it.

use super::*;

#[tokio::test]
async fn list_request_is_as_the_api_documents_it() {
    let (server, client) = pair().await;
    server.api([sessions(&["s1", "s2"], &json!(null))]);
    assert_eq!(list(&client).await.unwrap().len(), 2);
    let call = &server.calls()[0];
    assert_eq!(
        (call.method.as_str(), call.target.as_str()),
        ("GET", "/api/v2/users/auth0%7C5f7c8ec7c33c6c004bbafe82/sessions?take=50",)
    );
    assert_eq!(call.header("authorization"), Some("Bearer t0ken-1"));
    assert_eq!(call.header("host"), Some(server.url().strip_prefix("http://").unwrap()));
    assert_eq!(call.header("user-agent"), Some(concat!("session-checker/", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn odd_user_id_is_one_segment_of_the_request_path() {
    let (server, client) = pair().await;
    for (id, path) in [("auth0|a/b", "auth0%7Ca%2Fb"), ("waad|x%3A", "waad%7Cx%253A"), ("£?#", "%C2%A3%3F%23")] {
        client.list_sessions(id, &late().into()).await.unwrap();
        assert_eq!(server.calls().last().unwrap().target, format!("/api/v2/users/{path}/sessions?take=50"));
    }
    let before = server.calls().len();
    for id in ["", ".", ".."] {
        assert_eq!(failure(client.list_sessions(id, &late().into()).await), Failure::UpstreamError);
    }
    assert_eq!(server.calls().len(), before, "nothing was sent");
}

#[tokio::test]
async fn pages_are_fetched_to_the_end_with_the_cursor_encoded() {
    let (server, client) = pair().await;
    server.api([
        sessions(&["s1"], &json!("a&b=c/+")),
        sessions(&["s2", "s1"], &json!("d")),
        sessions(&["s3"], &json!(null)),
    ]);
    assert_eq!(list(&client).await.unwrap().len(), 3);
    let queries: Vec<_> = server.calls().iter().map(|call| call.target.split_once('?').unwrap().1.to_owned()).collect();
    assert_eq!(queries, ["take=50", "take=50&from=a%26b%3Dc%2F%2B", "take=50&from=d"]);
}

#[tokio::test]
async fn list_ends_at_a_page_without_a_usable_cursor() {
    for (pages, calls, found) in [
        (vec![sessions(&["s1"], &json!(null))], 1, 1),
        (vec![sessions(&["s1"], &json!(""))], 1, 1),
        (vec![sessions(&["s1"], &json!(5))], 1, 1),
        (vec![sessions(&[], &json!("a"))], 1, 0),
        (vec![sessions(&["s1"], &json!("a")), sessions(&[], &json!("b"))], 2, 1),
        (vec![sessions(&["s1"], &json!("a")), sessions(&["s2"], &json!("a"))], 2, 2),
        (vec![sessions(&["s1"], &json!("a")), sessions(&["s2"], &json!("b")), sessions(&["s3"], &json!("a"))], 3, 3),
        // A page of unusable entries is not an empty page.
        (vec![ok(&json!({"sessions": [null], "next": "a"})), sessions(&["s1"], &json!(null))], 2, 1),
    ] {
        let (server, client) = pair().await;
        server.api(pages);
        assert_eq!(list(&client).await.unwrap().len(), found);
        assert_eq!(server.calls().len(), calls);
    }
}

#[tokio::test]
async fn list_of_more_than_forty_pages_is_read_in_part() {
    let page = |number: usize, last: usize| {
        let next = if number < last { json!(format!("cursor-{number}")) } else { json!(null) };
        sessions(&[&format!("s{number}")], &next)
    };
    let (server, client) = pair().await;
    server.api((1..=40).map(|number| page(number, 40)));
    let whole = list(&client).await.unwrap();
    assert_eq!((whole.len(), whole.completeness()), (40, Completeness::Whole));

    server.api((1..=41).map(|number| page(number, 41)));
    let capped = list(&client).await.unwrap();
    assert_eq!((capped.len(), capped.completeness()), (40, Completeness::Capped));
    assert_eq!(server.calls().len(), 80, "the 41st page is not requested");
}

#[tokio::test]
async fn failed_page_fails_the_list() {
    for (reply, expected) in [
        (status(400), Failure::UpstreamError),
        (status(403), Failure::NotEntitled),
        (status(404), Failure::UpstreamError),
        (http(200, &[], "<html>"), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([sessions(&["s1"], &json!("a")), reply]);
        assert_eq!(failure(list(&client).await), expected);
    }
}

#[tokio::test]
async fn each_answer_has_its_failure() {
    for (reply, expected) in [
        (http(403, &[], r#"{"errorCode":"insufficient_scope"}"#), Failure::InsufficientScope),
        (
            http(403, &[], r#"{"message":"Insufficient scope, expected any of: read:sessions"}"#),
            Failure::InsufficientScope,
        ),
        (status(403), Failure::NotEntitled),
        (http(403, &[], "no"), Failure::UpstreamError),
        (http(407, &[], "<html>"), Failure::UpstreamError),
        (status(400), Failure::UpstreamError),
        (status(402), Failure::UpstreamError),
        (status(409), Failure::UpstreamError),
        (http(200, &[], ""), Failure::UpstreamError),
        (http(200, &[], "<html>auth0|5f7c8ec7c33c6c004bbafe82</html>"), Failure::UpstreamError),
        (http(200, &[], "[]"), Failure::UpstreamError),
        (http(200, &[], r#"{"sessions":"auth0|5f7c8ec7c33c6c004bbafe82"}"#), Failure::UpstreamError),
        (http(204, &[], ""), Failure::UpstreamError),
    ] {
        let (server, client) = pair().await;
        server.api([reply]);
        assert_eq!(failure(list(&client).await), expected);
        assert_eq!(server.calls().len(), 1, "none of these is retried");
    }
}

#[tokio::test]
async fn content_type_does_not_matter() {
    let (server, client) = pair().await;
    server.api([http(200, &[("content-type", "text/html; charset=latin1")], r#"{"sessions":[{"id":"s1"}]}"#)]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_user_has_no_sessions_and_is_counted() {
    let server = Server::start().await;
    let recorder = Arc::new(Recorder::default());
    let client = client_of(&server, Arc::clone(&recorder) as _);
    server.api([http(404, &[], r#"{"statusCode":404,"errorCode":"inexistent_user"}"#)]);
    let unknown = list(&client).await.unwrap();
    assert!(unknown.is_empty() && unknown.is_of_unknown_user());
    assert!(recorder.lines().contains(&"unknown user".to_owned()));
    for body in ["", "<html>not here</html>", "[]", "null", "404"] {
        server.api([http(404, &[], body)]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError, "{body}");
    }
    assert_eq!(recorder.lines().iter().filter(|line| *line == "unknown user").count(), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for code in [301, 302, 303, 304, 307, 308] {
        let (server, client) = pair().await;
        let elsewhere = format!("{}/elsewhere", server.url());
        server.api([http(code, &[("location", &elsewhere)], "")]);
        server.token([]);
        assert_eq!(failure(list(&client).await), Failure::UpstreamError, "{code}");
        assert_eq!(server.calls().len(), 1);
    }
    let (server, client) = pair().await;
    server.token([http(307, &[("location", "/elsewhere")], "")]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert_eq!(server.calls().len(), 0);
}

#[tokio::test]
async fn page_of_more_than_four_mebibytes_is_an_error() {
    let body = |size: usize| {
        let frame = r#"{"sessions":[],"x":""}"#.len();
        format!(r#"{{"sessions":[],"x":"{}"}}"#, "x".repeat(size - frame))
    };
    let chunked = |body: &str| {
        let head = "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n";
        Reply::Raw(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes())
    };
    let (server, client) = pair().await;
    server.api([http(200, &[], &body(4 << 20)), chunked(&body(4 << 20))]);
    assert!(list(&client).await.is_ok());
    assert!(list(&client).await.is_ok());
    // Once the headers announce the length, once they do not.
    server.api([http(200, &[], &body((4 << 20) + 1))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    let endless = format!("HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n400001\r\n{}", body((4 << 20) + 1));
    server.api([Reply::Http(endless.into_bytes())]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
}

#[tokio::test]
async fn dropped_entries_are_counted() {
    let server = Server::start().await;
    let recorder = Arc::new(Recorder::default());
    let client = client_of(&server, Arc::clone(&recorder) as _);
    let entries = json!([{"id": "s1", "user_id": USER}, {"id": "s2", "user_id": "auth0|other"}, null, {"id": "a/b"}]);
    server.api([ok(&json!({ "sessions": entries }))]);
    assert_eq!(list(&client).await.unwrap().len(), 2);
    for line in ["2 dropped", "1 unusual"] {
        assert!(recorder.lines().contains(&line.to_owned()), "{:?}", recorder.lines());
    }
}

#[tokio::test]
async fn missing_fields_are_counted() {
    let whole = json!({"id": "s1", "clients": [{"client_id": "a"}]});
    for (answer, line) in [
        (json!({}), Some("1 without sessions")),
        (json!({ "sessions": null }), Some("1 without sessions")),
        (json!({ "sessions": [] }), None),
        (json!({ "sessions": [whole, {"id": "s2", "clients": []}] }), None),
        (json!({ "sessions": [whole, {"id": "s2"}, {"id": "s3", "clients": "a"}] }), Some("2 without clients")),
        (json!({ "sessions": [{"id": "s1", "clients": [{"id": "a"}]}, whole] }), Some("1 without clients")),
        (json!({ "sessions": [{"id": "s1", "clients": [{"client_id": "a"}, {}]}] }), Some("1 without clients")),
    ] {
        let server = Server::start().await;
        let recorder = Arc::new(Recorder::default());
        let client = client_of(&server, Arc::clone(&recorder) as _);
        server.api([ok(&answer)]);
        list(&client).await.unwrap();
        let noted = recorder.lines().into_iter().find(|line| line.contains("without"));
        assert_eq!(noted.as_deref(), line, "{answer}");
    }
}
