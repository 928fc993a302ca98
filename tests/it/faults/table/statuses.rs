//! Statuses, with and without the JSON object in which Auth0 describes an error.

use serde_json::json;
use session_checker::auth0::Operation;

use super::super::tenant::{Answer, Protocol};
use super::{ERROR, EVICTED, Fault, LIMITED, NOT_ENTITLED, REJECTED, SCOPE, UNKNOWN};

const SUCCESSES: &str = "Statuses 1xx, 2xx and 3xx";
const OF_AUTH0: &str = "Statuses 4xx and 5xx of Auth0";
const IN_BETWEEN: &str = "Statuses 4xx and 5xx of something in between";

const CLIENT: [u16; 29] = [
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424,
    425, 426, 428, 429, 431, 451,
];
const SERVER: [u16; 21] =
    [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 521, 522, 523, 524, 525, 526, 527, 530, 599];

pub fn all() -> Vec<Fault> {
    [successes(), of_auth0(), in_between()].into_iter().flatten().collect()
}

fn successes() -> Vec<Fault> {
    let mut faults = vec![
        Fault::answer(
            SUCCESSES,
            "101",
            Answer::new(101, "").header("connection", "upgrade").header("upgrade", "x"),
            ERROR,
        )
        .over(Protocol::Http1),
    ];
    let list = Answer::usual(Operation::List).body;
    for status in [200, 201, 202, 203, 206, 226] {
        for operation in Operation::OF_CHECKS {
            let answer = Answer { status, ..Answer::usual(operation) };
            faults.push(
                Fault::answer(SUCCESSES, format!("{status} with the usual body"), answer, EVICTED).only(operation),
            );
        }
    }
    faults.push(
        Fault::answer(SUCCESSES, "200 with the body of a list", Answer { body: list, ..Answer::new(200, "") }, EVICTED)
            .reasons(ERROR, EVICTED, EVICTED),
    );
    for status in [204, 205] {
        let answer = Answer::new(status, "");
        faults.push(Fault::answer(SUCCESSES, format!("{status}"), answer, ERROR).reasons(ERROR, ERROR, EVICTED));
    }
    for status in [300, 301, 302, 303, 304, 305, 307, 308, 399] {
        let answer = Answer::new(status, "").header("location", "https://elsewhere.example/");
        faults.push(Fault::answer(SUCCESSES, format!("{status}"), answer, ERROR));
    }
    let nowhere = Answer::new(302, "").header("location", "https://127.0.0.1:1/");
    faults.push(Fault::answer(SUCCESSES, "302 to a private address", nowhere, ERROR));
    faults
}

fn of_auth0() -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut push = |name: String, status: u16, body: serde_json::Value, reasons: [&'static str; 3]| {
        let [token, list, revoke] = reasons;
        let answer = Answer::new(status, body.to_string()).header("content-type", "application/json");
        faults.push(Fault::answer(OF_AUTH0, name, answer, ERROR).reasons(token, list, revoke));
    };
    for status in CLIENT {
        let body = json!({
            "statusCode": status, "error": "access_denied", "message": "scripted", "errorCode": "scripted",
        });
        let reasons = match status {
            401 => [REJECTED; 3],
            403 => [REJECTED, NOT_ENTITLED, NOT_ENTITLED],
            400 => [REJECTED, ERROR, ERROR],
            404 => [ERROR, UNKNOWN, EVICTED],
            429 => [LIMITED; 3],
            _ => [ERROR; 3],
        };
        push(status.to_string(), status, body, reasons);
    }
    let scope = json!({ "statusCode": 403, "error": "Forbidden", "message": "x", "errorCode": "insufficient_scope" });
    push("403 insufficient_scope".to_owned(), 403, scope, [REJECTED, SCOPE, SCOPE]);
    let scope = json!({ "message": "Insufficient scope, expected any of: read:sessions" });
    push("403 that names the scope in its message".to_owned(), 403, scope, [ERROR, SCOPE, SCOPE]);
    for status in SERVER {
        let body = json!({ "statusCode": status, "error": "Internal Server Error", "message": "scripted" });
        push(status.to_string(), status, body, [ERROR; 3]);
    }
    push("600".to_owned(), 600, json!({ "statusCode": 600 }), [ERROR; 3]);
    push("999".to_owned(), 999, json!({ "statusCode": 999 }), [ERROR; 3]);
    faults
}

fn in_between() -> Vec<Fault> {
    let mut faults = Vec::new();
    for status in CLIENT.into_iter().chain(SERVER) {
        let answer = Answer::new(status, "<html>no</html>").header("content-type", "text/html");
        let reason = if status == 429 { LIMITED } else { ERROR };
        faults.push(Fault::answer(IN_BETWEEN, status.to_string(), answer, reason));
    }
    for (name, body) in [
        ("nothing", ""),
        ("another object", r#"{"message":"Forbidden"}"#),
        ("a list", "[]"),
        ("a status of another error", r#"{"statusCode":500}"#),
        ("wrong types", r#"{"error":5,"message":null,"errorCode":[],"statusCode":"404"}"#),
    ] {
        for status in [401, 403, 404] {
            faults.push(Fault::answer(IN_BETWEEN, format!("{status} with {name}"), Answer::new(status, body), ERROR));
        }
    }
    faults
}
