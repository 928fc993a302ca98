//! Faults of HTTP/2: streams and connections that end, and frames that a server must not send.

use h2::Reason;

use super::super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FIRST, GOAWAY, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, field, frame, setting,
};
use super::super::tenant::{Act, End, Protocol, When};
use super::{Fault, TIMED_OUT, UNREACHABLE};

const ENDED: &str = "HTTP/2: streams and connections that end";
const ABUSE: &str = "HTTP/2: frames that break the rules";

/// Every error code of RFC 9113, section 7.
const REASONS: [(&str, Reason); 14] = [
    ("NO_ERROR", Reason::NO_ERROR),
    ("PROTOCOL_ERROR", Reason::PROTOCOL_ERROR),
    ("INTERNAL_ERROR", Reason::INTERNAL_ERROR),
    ("FLOW_CONTROL_ERROR", Reason::FLOW_CONTROL_ERROR),
    ("SETTINGS_TIMEOUT", Reason::SETTINGS_TIMEOUT),
    ("STREAM_CLOSED", Reason::STREAM_CLOSED),
    ("FRAME_SIZE_ERROR", Reason::FRAME_SIZE_ERROR),
    ("REFUSED_STREAM", Reason::REFUSED_STREAM),
    ("CANCEL", Reason::CANCEL),
    ("COMPRESSION_ERROR", Reason::COMPRESSION_ERROR),
    ("CONNECT_ERROR", Reason::CONNECT_ERROR),
    ("ENHANCE_YOUR_CALM", Reason::ENHANCE_YOUR_CALM),
    ("INADEQUATE_SECURITY", Reason::INADEQUATE_SECURITY),
    ("HTTP_1_1_REQUIRED", Reason::HTTP_1_1_REQUIRED),
];

pub fn all() -> Vec<Fault> {
    let ended = |name: String, act| Fault::new(ENDED, name, act, UNREACHABLE).over(Protocol::Http2);
    let mut faults = Vec::new();
    for (name, reason) in REASONS {
        faults.push(ended(format!("RST_STREAM {name}"), Act::ResetStream(reason)));
    }
    faults.push(ended("RST_STREAM of an unknown code".to_owned(), Act::ResetStream(Reason::from(0xdead))));
    for (name, reason) in REASONS {
        faults.push(ended(format!("GOAWAY {name}"), Act::GoAway(reason)));
    }
    faults.extend(abuse());
    faults
}

/// Frames that come after the settings of the server and the request.
fn abuse() -> Vec<Fault> {
    let with = |name: &str, frames: &[&[u8]], end, reason| {
        let bytes = [&frame(SETTINGS, 0, 0, &[])[..], &frames.concat()].concat();
        Fault::new(ABUSE, name, Act::Raw(When::Requested, bytes, end), reason).over(Protocol::Http2)
    };
    let breaks = |name, frames: &[u8]| with(name, &[frames], End::Silence, UNREACHABLE);
    // The stream fails and the connection remains: it closes before the second try.
    let fails = |name, frames: &[u8]| with(name, &[frames], End::Close, UNREACHABLE);
    let ok = frame(HEADERS, END_HEADERS, FIRST, &[0x88]);
    let fields = |fields: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, FIRST, fields);
    // Pings get no answer either: lists and revocations give up the connection, and a second one.
    let is_dead = |fault: Fault| fault.reasons(TIMED_OUT, UNREACHABLE, UNREACHABLE);
    let stalls = |name, frames: &[u8]| is_dead(with(name, &[frames], End::Silence, TIMED_OUT));
    let repeats = |name, start: &[u8], again: Vec<u8>, reason| with(name, &[start], End::Repeat(again), reason);
    // The answers to them cannot be written in the end, so the client stops reading: it finds the connection dead, and the next.
    // How much it can write before, and thus whether that or the end of the check comes first, depends on the kernel's buffers.
    let floods = |name, bytes: Vec<u8>| with(name, &[], End::Flood(bytes), UNREACHABLE).or(TIMED_OUT);
    let no_settings = |name, bytes: &[u8], end, reason| {
        Fault::new(ABUSE, name, Act::Raw(When::Requested, bytes.to_vec(), end), reason).over(Protocol::Http2)
    };
    vec![
        no_settings(
            "an answer of HTTP/1.1",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            End::Close,
            UNREACHABLE,
        ),
        no_settings("garbage instead of frames", &[0xff; 64], End::Close, UNREACHABLE),
        no_settings("closed in a frame", &[0, 0, 9, DATA], End::Close, UNREACHABLE),
        is_dead(no_settings("neither settings nor an answer", b"", End::Silence, TIMED_OUT)),
        stalls("settings and no answer", b""),
        stalls("header and no body", &ok),
        breaks("SETTINGS of no whole setting", &frame(SETTINGS, 0, 0, &[0; 5])),
        breaks("SETTINGS on a stream", &frame(SETTINGS, 0, FIRST, &[])),
        breaks("SETTINGS_ENABLE_PUSH 2", &setting(2, 2)),
        breaks("SETTINGS_INITIAL_WINDOW_SIZE of 2³¹", &setting(4, 1 << 31)),
        breaks("SETTINGS_MAX_FRAME_SIZE 0", &setting(5, 0)),
        breaks("frame larger than 16 KiB", &frame(DATA, 0, FIRST, &vec![0; 32 << 10])),
        breaks("DATA before HEADERS", &frame(DATA, END_STREAM, FIRST, b"{}")),
        breaks("DATA on stream 0", &frame(DATA, 0, 0, b"{}")),
        breaks("DATA on a stream that was not opened", &frame(DATA, 0, 7, b"{}")),
        breaks("HEADERS on stream 0", &frame(HEADERS, END_HEADERS, 0, &[0x88])),
        breaks("HEADERS with broken compression", &fields(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        fails("HEADERS without a status", &fields(&field("x", "y"))),
        breaks("HEADERS with a status that is no number", &fields(&field(":status", "abc"))),
        breaks("HEADERS with an upper-case name", &fields(&[vec![0x88], field("X", "y")].concat())),
        fails("HEADERS with a field of the connection", &fields(&[vec![0x88], field("connection", "close")].concat())),
        breaks("CONTINUATION without HEADERS", &frame(CONTINUATION, END_HEADERS, FIRST, &[0x88])),
        breaks(
            "DATA between HEADERS and CONTINUATION",
            &[frame(HEADERS, 0, FIRST, &[0x88]), frame(DATA, 0, FIRST, b"")].concat(),
        ),
        breaks("PUSH_PROMISE", &frame(PUSH_PROMISE, END_HEADERS, FIRST, &[0, 0, 0, 2, 0x88])),
        breaks("RST_STREAM of 3 bytes", &frame(RST_STREAM, 0, FIRST, &[0; 3])),
        breaks("RST_STREAM of stream 0", &frame(RST_STREAM, 0, 0, &[0; 4])),
        breaks("PING of 7 bytes", &frame(PING, 0, 0, &[0; 7])),
        breaks("GOAWAY of 4 bytes", &frame(GOAWAY, 0, 0, &[0; 4])),
        breaks("WINDOW_UPDATE of 0", &frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        breaks("WINDOW_UPDATE beyond 2³¹", &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        fails("body longer than announced", &[fields_of_length(2), frame(DATA, END_STREAM, FIRST, b"{}{}")].concat()),
        fails("body shorter than announced", &[fields_of_length(9), frame(DATA, END_STREAM, FIRST, b"{}")].concat()),
        repeats("endless SETTINGS", b"", setting(3, 100).repeat(100), TIMED_OUT),
        repeats("endless PING", b"", frame(PING, 0, 0, &[0; 8]).repeat(100), TIMED_OUT),
        floods("flood of SETTINGS that reads nothing", setting(3, 100).repeat(10_000)),
        floods("flood of PING that reads nothing", frame(PING, 0, 0, &[0; 8]).repeat(10_000)),
        repeats("endless empty DATA", &ok, frame(DATA, 0, FIRST, b"").repeat(100), UNREACHABLE),
        repeats("endless frames of an unknown type", b"", frame(0xbe, 0, 0, &[0; 100]).repeat(100), TIMED_OUT),
        repeats(
            "endless CONTINUATION",
            &frame(HEADERS, 0, FIRST, &[0x88]),
            frame(CONTINUATION, 0, FIRST, &field("x", "y")).repeat(100),
            UNREACHABLE,
        ),
        repeats(
            "endless header fields in CONTINUATION",
            &frame(HEADERS, 0, FIRST, &[0x88]),
            frame(CONTINUATION, 0, FIRST, &field("x", &"y".repeat(100)).repeat(100)),
            UNREACHABLE,
        ),
        repeats(
            "endless informational answers",
            b"",
            frame(HEADERS, END_HEADERS, FIRST, &field(":status", "103")).repeat(100),
            TIMED_OUT,
        ),
    ]
}

fn fields_of_length(length: usize) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, FIRST, &[vec![0x88], field("content-length", &length.to_string())].concat())
}
