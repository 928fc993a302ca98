//! Pages of a list, and how they follow each other.

use std::sync::Arc;

use serde_json::{Value, json};
use session_checker::auth0::Operation;

use super::super::tenant::{Act, Answer, Body, Cut, old_session};
use super::{ERROR, EVICTED, Fault, LIMITED, NOT_ENTITLED, REJECTED, TIMED_OUT, WITHIN};

const PAGES: &str = "Pages of the list";
const ENTRIES: &str = "Entries of the list";

pub fn all() -> Vec<Fault> {
    [pages(), entries()].into_iter().flatten().collect()
}

fn page(sessions: &[Value], next: Value) -> Answer {
    Answer::new(200, json!({ "sessions": sessions, "next": next }).to_string())
}

fn pages() -> Vec<Fault> {
    let fault = |name: &str, act, reason| Fault::new(PAGES, name, act, reason).only(Operation::List);
    let answers = |answer: fn(usize) -> Answer| Act::Answers(Arc::new(answer));
    let text =
        |name, body: &str, reason| Fault::answer(PAGES, name, Answer::new(200, body), reason).only(Operation::List);
    let after_one = |answer: Answer| {
        Act::Answers(Arc::new(move |number| match number {
            0 => page(&[json!({ "id": "s" })], json!("c")),
            _ => answer.clone(),
        }))
    };
    let old = old_session;
    vec![
        text("sessions missing", "{}", WITHIN),
        text("sessions null", r#"{"sessions":null}"#, WITHIN),
        text("sessions empty", r#"{"sessions":[]}"#, WITHIN),
        text("sessions an object", r#"{"sessions":{}}"#, ERROR),
        text("sessions a text", r#"{"sessions":"none"}"#, ERROR),
        text("sessions false", r#"{"sessions":false}"#, ERROR),
        text("sessions twice, then null", r#"{"sessions":[{"id":"old"}],"sessions":null}"#, WITHIN),
        fault("the same cursor for ever", answers(|_| page(&[old_session()], json!("a"))), EVICTED),
        fault(
            "cursors in a circle",
            answers(|number| page(&[old_session()], json!(["a", "b", "c"][number % 3]))),
            EVICTED,
        ),
        fault("pages without end", answers(|number| page(&[old_session()], json!(number.to_string()))), EVICTED),
        fault("empty pages without end", answers(|number| page(&[], json!(number.to_string()))), WITHIN),
        fault(
            "an empty page with a next one",
            Act::Answers(Arc::new(move |number| match number {
                0 => page(&[], json!("a")),
                _ => page(&[old()], json!(null)),
            })),
            WITHIN,
        ),
        fault("next a number", answers(|_| page(&[old_session()], json!(5))), EVICTED),
        fault("next an object", answers(|_| page(&[old_session()], json!({ "from": "a" }))), EVICTED),
        fault("next empty", answers(|_| page(&[old_session()], json!(""))), EVICTED),
        fault("next of 5 KiB", answers(|_| page(&[old_session()], json!("c".repeat(5_000)))), ERROR),
        fault("page of 3,000 entries", answers(|_| page(&vec![old_session(); 3_000], json!("a"))), EVICTED),
        fault("second page 500", after_one(Answer::new(500, "")), ERROR),
        fault("second page 404 of Auth0", after_one(Answer::new(404, r#"{"statusCode":404}"#)), ERROR),
        fault("second page 401 of Auth0", after_one(Answer::new(401, r#"{"statusCode":401}"#)), REJECTED),
        fault("second page 403 of Auth0", after_one(Answer::new(403, r#"{"statusCode":403}"#)), NOT_ENTITLED),
        fault("second page 429", after_one(Answer::new(429, "").header("retry-after", "60")), LIMITED),
        fault("second page no JSON", after_one(Answer::new(200, "<html>")), ERROR),
        fault(
            "second page stalls",
            after_one(Answer { body: Body::Part(Vec::new(), Cut::Silence), ..Answer::new(200, "") }),
            TIMED_OUT,
        ),
    ]
}

fn entries() -> Vec<Fault> {
    // The other session, with these fields changed.
    let changed = |changes: Value| {
        let mut session = old_session();
        session.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        session
    };
    let entry = |name: &str, entry: Value, reason| {
        Fault::answer(ENTRIES, name, page(&[entry], json!(null)), reason).only(Operation::List)
    };
    let client = |item: Value| changed(json!({ "clients": [item, { "client_id": super::super::APP }] }));
    vec![
        entry("null", json!(null), WITHIN),
        entry("a number", json!(5), WITHIN),
        entry("a text", json!("old"), WITHIN),
        entry("a list", json!(["old"]), WITHIN),
        entry("an empty object", json!({}), WITHIN),
        entry("id null", changed(json!({ "id": null })), WITHIN),
        entry("id a number", changed(json!({ "id": 5 })), WITHIN),
        entry("id empty", changed(json!({ "id": "" })), WITHIN),
        entry("user_id of another user", changed(json!({ "user_id": "auth0|other" })), WITHIN),
        entry("user_id a number", changed(json!({ "user_id": 5 })), WITHIN),
        entry("user_id null", changed(json!({ "user_id": null })), EVICTED),
        entry("clients missing", json!({ "id": "old" }), WITHIN),
        entry("clients null", changed(json!({ "clients": null })), WITHIN),
        entry("clients an object", changed(json!({ "clients": {} })), WITHIN),
        entry("clients of other types", client(json!(5)), EVICTED),
        entry("client_id null", client(json!({ "client_id": null })), EVICTED),
        entry("dates null", changed(json!({ "created_at": null, "expires_at": null })), EVICTED),
        entry("dates objects", changed(json!({ "created_at": {}, "last_interacted_at": {} })), EVICTED),
        entry("dates numbers", changed(json!({ "created_at": 5, "authenticated_at": -1e300 })), EVICTED),
        entry("dates of no calendar", changed(json!({ "created_at": "2024-02-31T25:61:61Z" })), EVICTED),
        entry("a date of the year 99999", changed(json!({ "expires_at": "99999-01-01T00:00:00Z" })), EVICTED),
        entry(
            "1,001 applications",
            changed(json!({
                "clients": (0..1_001).map(|number| json!({ "client_id": format!("c{number}") })).collect::<Vec<_>>(),
            })),
            ERROR,
        ),
        entry("an unknown field of any shape", changed(json!({ "device": [[{ "x": null }]] })), EVICTED),
    ]
}
