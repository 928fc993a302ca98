//! Faults of connections, of TLS, and of the bytes that should be HTTP.

use std::time::Duration;

use session_checker::auth0::Operation;

use super::super::certificate::Certificate;
use super::super::http2::{END_HEADERS, FIRST, HEADERS, frame};
use super::super::tenant::{Act, Answer, Body, Cut, End, Protocol, When};
use super::{ERROR, EVICTED, Fault, TIMED_OUT, UNREACHABLE};

const BEFORE: &str = "Connections and TLS";
const IN: &str = "Broken answers";

/// A fatal alert of TLS with this description.
const fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

const HANDSHAKE_FAILURE: [u8; 7] = alert(40);
const INTERNAL_ERROR: [u8; 7] = alert(80);
const UNRECOGNIZED_NAME: [u8; 7] = alert(112);

pub fn before_the_answer() -> Vec<Fault> {
    let fault = |name, act| Fault::new(BEFORE, name, act, UNREACHABLE);
    let closes = |bytes| Act::NotTls(bytes, End::Close);
    let raw = |when, end| Act::Raw(when, Vec::new(), end);
    vec![
        fault("connection refused", Act::Refused),
        fault("reset at once", Act::Dropped(End::Reset)),
        fault("closed at once", Act::Dropped(End::Close)),
        // Connecting may take the whole time of the check. The token's client does not say that it was connecting.
        fault("no TLS handshake", Act::Dropped(End::Silence)).reasons(TIMED_OUT, UNREACHABLE, UNREACHABLE),
        fault("handshake cut short", closes(&[22, 3, 3, 0, 122, 2, 0, 0])),
        fault("handshake reset", Act::NotTls(&[22, 3, 3], End::Reset)),
        fault("handshake stalls", Act::NotTls(&[22, 3, 3, 0, 122, 2], End::Silence)).reasons(
            TIMED_OUT,
            UNREACHABLE,
            UNREACHABLE,
        ),
        fault("TLS alert handshake_failure", closes(&HANDSHAKE_FAILURE)),
        fault("TLS alert internal_error", closes(&INTERNAL_ERROR)),
        fault("TLS alert unrecognized_name", closes(&UNRECOGNIZED_NAME)),
        fault("plain HTTP instead of TLS", closes(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")),
        fault("SSH instead of TLS", closes(b"SSH-2.0-OpenSSH_9.2\r\n")),
        fault("certificate of another name", Act::Presents(Certificate::OtherName)),
        fault("certificate expired", Act::Presents(Certificate::Expired)),
        fault("certificate not valid yet", Act::Presents(Certificate::NotYetValid)),
        fault("certificate of an unknown CA", Act::Presents(Certificate::UnknownCa)),
        fault("closed after the handshake", raw(When::Connected, End::Close)),
        fault("reset after the handshake", raw(When::Connected, End::Reset)),
        fault("closed after the request", raw(When::Requested, End::Close)),
        fault("reset after the request", raw(When::Requested, End::Reset)),
        fault("silence after the request", raw(When::Requested, End::Silence))
            .over(Protocol::Http1)
            .reasons(TIMED_OUT, TIMED_OUT, TIMED_OUT),
        // Lists and revocations give up a connection that does not answer a ping, and a second one.
        fault("silence after the request, to pings too", raw(When::Requested, End::Silence))
            .over(Protocol::Http2)
            .reasons(TIMED_OUT, UNREACHABLE, UNREACHABLE),
    ]
}

pub fn in_the_answer() -> Vec<Fault> {
    let mut faults: Vec<Fault> = http1();
    let body = |name, body, reason| Fault::answer(IN, name, Answer { body, ..Answer::new(200, "") }, reason);
    let part = || br#"{"sessions":[],"access_token":"t"#.to_vec();
    faults.extend([
        body("closed in the body", Body::Part(part(), Cut::Close), UNREACHABLE),
        body("reset in the body", Body::Part(part(), Cut::Reset), UNREACHABLE),
        body("body stalls", Body::Part(part(), Cut::Silence), TIMED_OUT),
        body("body stalls before its first byte", Body::Part(Vec::new(), Cut::Silence), TIMED_OUT),
        body("slow body: a byte each second", Body::Endless(1, Duration::from_secs(1)), TIMED_OUT),
        body("endless body", Body::Endless(64 << 10, Duration::ZERO), ERROR),
        body("body of 5 MiB", Body::Announced(5 << 20), ERROR),
        Fault::answer(
            IN,
            "endless body of a 500",
            Answer { body: Body::Endless(64 << 10, Duration::ZERO), ..Answer::new(500, "") },
            ERROR,
        ),
        Fault::answer(
            IN,
            "body of a 403 stalls",
            Answer { body: Body::Part(Vec::new(), Cut::Silence), ..Answer::new(403, "") },
            TIMED_OUT,
        ),
    ]);
    faults
}

/// Bytes that are no HTTP/1.1, or only the beginning of it.
fn http1() -> Vec<Fault> {
    let raw = |name, bytes: &[u8], end, reason| {
        Fault::new(IN, name, Act::Raw(When::Requested, bytes.to_vec(), end), reason).over(Protocol::Http1)
    };
    let text = |name, bytes: &str| raw(name, bytes.as_bytes(), End::Close, UNREACHABLE);
    let header = "HTTP/1.1 200 OK\r\n";
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let status = frame(HEADERS, END_HEADERS, FIRST, &[0x88]);
    vec![
        text("garbage instead of an answer", "\u{1}\u{2}garbage\r\n\r\n"),
        text("an answer without a header", "{\"sessions\":[]}"),
        text("an answer of HTTP/2", &String::from_utf8_lossy(&status)),
        text("status that is no number", "HTTP/1.1 abc OK\r\n\r\n"),
        text("status of four digits", "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
        text("version 3.7", "HTTP/3.7 200 OK\r\n\r\n"),
        text("closed in the header", "HTTP/1.1 200 OK\r\ncontent-le"),
        raw("reset in the header", b"HTTP/1.1 200 OK\r\ncontent-le", End::Reset, UNREACHABLE),
        raw("header stalls", b"HTTP/1.1 200 OK\r\ncontent-le", End::Silence, TIMED_OUT),
        raw("slow header", b"HTTP/1.1 200 OK\r\nx: ", End::Repeat(b"x".to_vec()), TIMED_OUT),
        text("200 header fields", &format!("{header}{many}\r\n")),
        text("header of 1 MiB", &format!("{header}x: {}\r\n\r\n", "y".repeat(1 << 20))),
        text("header field with a zero byte", &format!("{header}x: \0\r\ncontent-length: 2\r\n\r\n{{}}")),
        text("two lengths", &format!("{header}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}")),
        text("length that is no number", &format!("{header}content-length: two\r\n\r\n{{}}")),
        text("negative length", &format!("{header}content-length: -2\r\n\r\n{{}}")),
        text("chunk of no size", &format!("{header}transfer-encoding: chunked\r\n\r\nxyz\r\n{{}}\r\n0\r\n\r\n")),
        text(
            "chunk of too large a size",
            &format!("{header}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{{}}\r\n0\r\n\r\n"),
        ),
        text("closed in a chunk", &format!("{header}transfer-encoding: chunked\r\n\r\n5\r\n{{\"ses")),
        text("closed before the last chunk", &format!("{header}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n")),
        raw(
            "endless 100 Continue",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            End::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            TIMED_OUT,
        ),
        Fault::answer(
            IN,
            "each answer closes its connection",
            Answer::new(202, "{}").header("connection", "close"),
            EVICTED,
        )
        .over(Protocol::Http1)
        .only(Operation::Revoke),
    ]
}
