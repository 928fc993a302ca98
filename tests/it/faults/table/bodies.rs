//! Bodies of successful answers that are not what Auth0 sends.

use serde_json::{Value, json};
use session_checker::auth0::Operation;

use super::super::tenant::{Answer, Body};
use super::{ERROR, EVICTED, Fault, REJECTED, WITHIN, first};

const BODIES: &str = "Bodies of successful answers";
const TOKENS: &str = "Answers of the token endpoint";

/// The body of a gzip stream: its first bytes are enough.
const GZIP: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x8b, 0x8e, 5, 0];

pub fn all() -> Vec<Fault> {
    // A revocation is a success by its status alone.
    let body = |name: &str, body: &[u8]| {
        Fault::answer(BODIES, name, Answer::new(200, body), ERROR).reasons(ERROR, ERROR, EVICTED)
    };
    let utf16: Vec<u8> = "{\"sessions\":[]}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut faults = vec![
        body("empty", b""),
        body("white space", b" \n\t "),
        body("HTML", b"<!doctype html><title>Sign in</title>"),
        body("a list", b"[]"),
        body("a text", b"\"sessions\""),
        body("a number", b"5"),
        body("null", b"null"),
        body("true", b"true"),
        body("cut short", br#"{"access_token":"t","sessions":[{"id":"old""#),
        body("two objects", br#"{"access_token":"t","sessions":[]}{"sessions":[]}"#),
        body("a trailing comma", br#"{"access_token":"t","sessions":[],}"#),
        body("single quotes", b"{'access_token':'t','sessions':[]}"),
        body("NaN", br#"{"access_token":"t","sessions":[],"x":NaN}"#),
        // A field that is not read does not matter.
        body("invalid UTF-8 in an unknown field", b"{\"access_token\":\"t\",\"sessions\":[],\"x\":\"\xff\"}")
            .reasons(ERROR, WITHIN, EVICTED),
        body("a byte order mark", "\u{feff}{\"access_token\":\"t\",\"sessions\":[]}".as_bytes()),
        body("UTF-16", &utf16),
        body("zero bytes", &[0; 100]),
        body("half of a surrogate pair", br#"{"access_token":"\ud800","sessions":[{"id":"\ud800"}]}"#),
        body("nested 20,000 deep", format!("{}{}", r#"{"x":"#, "[".repeat(20_000)).as_bytes()),
        Fault::answer(
            BODIES,
            "compressed, not asked for",
            Answer::new(200, GZIP).header("content-encoding", "gzip"),
            ERROR,
        )
        .reasons(ERROR, ERROR, EVICTED),
    ];
    for operation in Operation::OF_CHECKS {
        let usual = || Answer::usual(operation);
        for (name, answer) in [
            ("usual body as text/html", usual().header("content-type", "text/html")),
            (
                "usual body as UTF-16, which it is not",
                usual().header("content-type", "application/json; charset=utf-16"),
            ),
            ("usual body with an unreadable content type", usual().header("content-type", ";;;")),
            ("usual body that says it is compressed", usual().header("content-encoding", "br")),
            ("usual body after white space", padded(usual())),
        ] {
            faults.push(Fault::answer(BODIES, name, answer, EVICTED).only(operation));
        }
    }
    // One name a row, whatever the operation.
    faults.sort_by_key(|fault| fault.name.starts_with("usual").then(|| fault.name.clone()));
    faults
}

fn padded(answer: Answer) -> Answer {
    let Body::Whole(body) = answer.body else { return answer };
    Answer { body: Body::Whole([b" \r\n\t".repeat(1_000), body].concat()), ..answer }
}

pub fn of_tokens() -> Vec<Fault> {
    let token = |name: &str, body: Value, reason| {
        Fault::answer(TOKENS, name, Answer::new(200, body.to_string()), reason).only(Operation::Token)
    };
    let lives =
        |name: &str, expires_in: Value| token(name, json!({ "access_token": "t", "expires_in": expires_in }), EVICTED);
    let text = |name: &str, body: &str, reason| {
        Fault::answer(TOKENS, name, Answer::new(200, body), reason).only(Operation::Token)
    };
    let error = |status, code: &str| Answer::new(status, json!({ "error": code }).to_string());
    let mut faults = vec![
        token("no access_token", json!({ "expires_in": 5 }), ERROR),
        token("access_token null", json!({ "access_token": null }), ERROR),
        token("access_token a number", json!({ "access_token": 5 }), ERROR),
        token("access_token empty", json!({ "access_token": "" }), ERROR),
        token("access_token with a line end", json!({ "access_token": "a\nb" }), ERROR),
        token("an error with status 200", json!({ "error": "access_denied" }), ERROR),
        token("access_token alone", json!({ "access_token": "t" }), EVICTED),
        text("access_token twice", r#"{"access_token":"a","access_token":"b"}"#, EVICTED),
        lives("expires_in 0", json!(0)),
        lives("expires_in -5", json!(-5)),
        lives("expires_in a text", json!("86400")),
        lives("expires_in a word", json!("soon")),
        lives("expires_in null", json!(null)),
        lives("expires_in a list", json!([1])),
        lives("expires_in of a million years", json!(31_536_000_000_000u64)),
        lives("expires_in a fraction", json!(0.001)),
        text("expires_in 1e308", r#"{"access_token":"t","expires_in":1e308}"#, EVICTED),
        token("scope a number", json!({ "access_token": "t", "scope": 5 }), EVICTED),
        token("scope without the needed ones", json!({ "access_token": "t", "scope": "read:users" }), EVICTED),
        token("token_type of another kind", json!({ "access_token": "t", "token_type": "DPoP" }), EVICTED),
    ];
    for code in ["invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"] {
        for status in [400, 401, 403] {
            let name = format!("{status} {code}");
            faults.push(Fault::answer(TOKENS, name, error(status, code), REJECTED).only(Operation::Token));
        }
    }
    for (name, answer) in [("500", error(500, "x")), ("503", error(503, "x"))] {
        let act = first(vec![answer], Operation::Token);
        faults.push(Fault::new(TOKENS, format!("{name}, then a token"), act, EVICTED).only(Operation::Token));
    }
    faults
}
