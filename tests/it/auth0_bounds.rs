//! What one tenant can cost: answers of any size and number stay within bounds.

use std::fmt::Write as _;
use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use session_checker::policy::{Completeness, Failure};

use crate::auth0_client::{Recorder, Reply, Server, USER, client_of, failure, http, late, list};

/// A page with these entries and this cursor.
fn page(entries: &str, next: &str) -> Reply {
    http(200, &[], &format!(r#"{{"sessions":[{entries}],"next":"{next}"}}"#))
}

/// The observer, the server and a client of it.
async fn observed() -> (Arc<Recorder>, Arc<Server>, session_checker::auth0::TenantClient) {
    let (server, recorder) = (Server::start().await, Arc::new(Recorder::default()));
    let client = client_of(&server, Arc::clone(&recorder) as _);
    (recorder, server, client)
}

/// The list is read until it exceeds the bound, after this many requests.
async fn assert_capped(pages: Vec<Reply>, requests: usize, bound: &str) {
    let (recorder, server, client) = observed().await;
    server.api(pages);
    assert_eq!(list(&client).await.unwrap().completeness(), Completeness::Capped, "{bound}");
    assert_eq!(server.calls().len(), requests, "{bound}");
    assert_eq!(recorder.lines().iter().filter(|line| **line == format!("oversized {bound}")).count(), 1);
}

#[tokio::test]
async fn one_id_a_hundred_thousand_times_is_bounded() {
    let mut entries = String::new();
    for number in 0..94_758 {
        let comma = if number == 0 { "" } else { "," };
        write!(entries, r#"{comma}{{"id":"s","clients":[{{"client_id":"{}"}}]}}"#, number % 1_000).unwrap();
    }
    // As many as a page of 4 MiB has.
    entries.truncate((4 << 20) - 100);
    entries.truncate(entries.rfind(",{").unwrap());
    assert_capped(vec![page(&entries, "")], 1, "entries").await;
}

#[tokio::test]
async fn tiny_entries_on_endless_pages_are_bounded() {
    let entries = vec![r#"{"id":"s"}"#; 284_273].join(",");
    assert_capped(vec![page(&entries, "a"), page(&entries, "b")], 1, "entries").await;
    // Entries that cannot be read count too.
    let nulls = vec!["0"; 1_500].join(",");
    assert_capped(vec![page(&nulls, "a"), page(&nulls, "b"), page(&nulls, "c")], 2, "entries").await;
}

#[tokio::test]
async fn bytes_of_all_pages_are_bounded() {
    let padded =
        |number: usize| page(&format!(r#"{{"id":"s{number}","x":"{}"}}"#, "x".repeat(3 << 20)), &number.to_string());
    assert_capped((0..40).map(padded).collect(), 3, "bytes").await;
}

async fn assert_too_many_clients(pages: Vec<Reply>) {
    let (recorder, server, client) = observed().await;
    server.api(pages);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert!(recorder.lines().contains(&"oversized clients".to_owned()));
}

#[tokio::test]
async fn applications_of_one_session_are_bounded() {
    let clients = |range: std::ops::Range<usize>| {
        let clients: Vec<_> = range.map(|number| format!(r#"{{"client_id":"c{number}"}}"#)).collect();
        format!(r#"{{"id":"s","clients":[{}]}}"#, clients.join(","))
    };
    let (_, server, client) = observed().await;
    server.api([page(&clients(0..1_000), "")]);
    assert_eq!(list(&client).await.unwrap().len(), 1);
    assert_too_many_clients(vec![page(&clients(0..1_001), "")]).await;
    // Over several entries and pages of the session.
    assert_too_many_clients(vec![page(&clients(0..600), "a"), page(&clients(500..1_100), "")]).await;
}

#[tokio::test]
async fn cursor_longer_than_a_url_is_an_error() {
    let (_, server, client) = observed().await;
    server.api([page(r#"{"id":"s"}"#, &"c".repeat(1 << 20))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn error_of_any_size_keeps_its_meaning() {
    let (_, server, client) = observed().await;
    let long = |start: &str| format!("{start}{}", "[0,".repeat(1 << 20));
    server.api([http(404, &[], &long(r#"{"x":"#)), http(404, &[], r#"{"statusCode":404}"#)]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError, "no object within 64 KiB");
    assert!(list(&client).await.unwrap().is_empty());
}

#[tokio::test]
async fn token_answer_of_megabytes_is_an_error() {
    let (_, server, client) = observed().await;
    server.token([http(200, &[], &format!(r#"{{"access_token":"t","x":[0{}]}}"#, ",0".repeat(1 << 20)))]);
    assert_eq!(failure(list(&client).await), Failure::UpstreamError);
    assert!(list(&client).await.is_ok(), "the next check fetches again");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_in_memory_are_bounded_for_each_tenant() {
    let (recorder, server, client) = observed().await;
    client.verify(late()).await.unwrap();
    // Bodies of 4 MiB that miss their last byte: they stay in memory until the deadline.
    let stuck = || {
        let head = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", 4 << 20);
        Reply::Http([head.into_bytes(), vec![b' '; (4 << 20) - 1]].concat())
    };
    server.api((0..10).map(|_| stuck()));
    let context = late().into();
    let mut checks: FuturesUnordered<_> = (0..10).map(|_| client.list_sessions(USER, &context)).collect();
    for _ in 0..2 {
        assert_eq!(failure(checks.next().await.unwrap()), Failure::Overloaded, "eight bodies of 4 MiB fit");
    }
    assert_eq!(recorder.lines().iter().filter(|line| *line == "no memory tenant").count(), 2);
    drop(checks);
    // What was held is given back.
    assert!(list(&client).await.is_ok());
}
