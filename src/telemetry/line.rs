//! The formats of a log line: JSON, and text for people. Both end with the fields of the request, where there is one.
//!
//! JSON is written here, and not by `tracing-subscriber`, because that checks every piece for UTF-8 again, and because the fields
//! of the request belong into the line itself.

use std::cell::Cell;
use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::request::RequestContext;

/// Writes an event as one JSON object: `timestamp`, `level`, the fields of the event, `target`, and those of the request.
pub(super) struct JsonLine;

/// Writes the fields of an event as text, and then those of the request.
pub(super) struct TextFields;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        line.write_str("{\"timestamp\":\"")?;
        time(&mut line, Timestamp::now())?;
        line.write_str("\",\"level\":\"")?;
        line.write_str(metadata.level().as_str())?;
        line.write_char('"')?;
        let mut fields = JsonFields { line, result: Ok(()) };
        event.record(&mut fields);
        let JsonFields { mut line, result } = fields;
        result?;
        line.write_str(",\"target\":")?;
        string(&mut line, metadata.target())?;
        RequestContext::with_current(|request| {
            line.write_str(",\"request_id\":")?;
            string(&mut line, request.request_id())?;
            request.trace_id().map_or(Ok(()), |trace_id| write!(line, ",\"trace_id\":\"{trace_id}\""))
        })
        .unwrap_or(Ok(()))?;
        line.write_str("}\n")
    }
}

/// Writes a time as RFC 3339 with microseconds. The text of its second is kept, because other lines of the second need it: to make
/// it for each line would take a fifth of the line's instructions.
fn time(line: &mut Writer<'_>, now: Timestamp) -> fmt::Result {
    thread_local! {
        static SECOND: Cell<(i64, [u8; 19])> = const { Cell::new((i64::MIN, [0; 19])) };
    }
    let micros = now.subsec_nanosecond() / 1_000;
    let (mut second, mut text) = SECOND.get();
    if second != now.as_second() {
        let written = now.to_string();
        let (Some(first), false) = (written.as_bytes().first_chunk(), now.as_second() < 0) else {
            return line.write_str(&written);
        };
        (second, text) = (now.as_second(), *first);
        SECOND.set((second, text));
    }
    let mut all = *b"0000-00-00T00:00:00.000000Z";
    all[..19].copy_from_slice(&text);
    let mut rest = micros.unsigned_abs();
    for digit in all[20..26].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line.write_str(std::str::from_utf8(&all).map_err(|_| fmt::Error)?)
}

/// Adds fields to a JSON object.
struct JsonFields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl JsonFields<'_> {
    fn add(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = name(&mut self.line, field).and_then(|()| write(&mut self.line));
        }
    }
}

impl Visit for JsonFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |line| string(line, value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |line| line.write_str(if value { "true" } else { "false" }));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |line| write!(line, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no other numbers. Rust's form of them is JSON's.
        self.add(field, |line| if value.is_finite() { write!(line, "{value:?}") } else { line.write_str("null") });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |line| {
            line.write_char('"')?;
            write!(Escaped(line), "{value:?}")?;
            line.write_char('"')
        });
    }
}

fn name(line: &mut Writer<'_>, field: &Field) -> fmt::Result {
    line.write_str(",\"")?;
    // A name in Rust's source needs no escape.
    line.write_str(field.name())?;
    line.write_str("\":")
}

fn string(line: &mut Writer<'_>, text: &str) -> fmt::Result {
    line.write_char('"')?;
    Escaped(line).write_str(text)?;
    line.write_char('"')
}

/// Writes text into a JSON string.
struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let mut rest = text;
        while let Some(at) = rest.bytes().position(is_special) {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'\n' => self.0.write_str("\\n")?,
                special @ (b'"' | b'\\') => {
                    self.0.write_char('\\')?;
                    self.0.write_char(special.into())?;
                }
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

impl<'a> FormatFields<'a> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut line: Writer<'a>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(line.by_ref(), fields)?;
        let mut add = |name: &str, value: &dyn fmt::Display| {
            if line.has_ansi_escapes() {
                write!(line, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m\"{value}\"")
            } else {
                write!(line, " {name}=\"{value}\"")
            }
        };
        RequestContext::with_current(|request| {
            add("request_id", &request.request_id())?;
            request.trace_id().map_or(Ok(()), |trace_id| add("trace_id", &trace_id))
        })
        .unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TraceId;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(data)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What the function logs, by this format and by `tracing-subscriber`'s.
    fn lines(log: impl FnOnce()) -> [Value; 2] {
        let written = [Lines::default(), Lines::default()];
        let ours = tracing_subscriber::fmt::layer().event_format(JsonLine).with_writer(written[0].clone());
        let theirs = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(written[1].clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(ours).with(theirs), log);
        written.map(|lines| {
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
            let mut line: Value = serde_json::from_str(&text).unwrap();
            assert!(line["timestamp"].take().is_string());
            line
        })
    }

    proptest! {
        /// Whatever an event has, the line says the same as that of `tracing-subscriber`.
        #[test]
        fn json_line_has_the_fields_of_the_event(
            text in "(?s:.){0,20}|[\\x00-\\x20\"\\\\\u{7f}\u{2028}a]{0,20}", whole: i64, positive: u64, number: f64, is_so: bool,
        ) {
            let some: Option<&str> = None;
            let [ours, theirs] = lines(|| tracing::warn!(
                text, display = %text, debug = ?text, whole, positive, number, is_so, absent = some, "about {text}",
            ));
            prop_assert_eq!(ours, theirs);
        }
    }

    proptest! {
        #[test]
        fn time_of_a_line_is_rfc_3339(seconds in proptest::collection::vec((0i64..253_402_000_000, 0i32..1_000_000), 1..4)) {
            for (second, micros) in seconds {
                let now = Timestamp::new(second, micros * 1_000).unwrap();
                let mut text = String::new();
                time(&mut Writer::new(&mut text), now).unwrap();
                prop_assert_eq!(text.len(), 27);
                prop_assert_eq!(text.parse::<Timestamp>().unwrap(), now);
            }
        }
    }

    #[test]
    fn lines_of_a_request_have_its_ids() {
        let trace_id = TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let request = RequestContext::new("my-request".into(), Some(trace_id));
        let [line, _] = lines(|| request.sync_scope(|| tracing::info!(block = false, "check")));
        let expected = json!({
            "timestamp": null, "level": "INFO", "message": "check", "block": false, "target": module_path!(),
            "request_id": "my-request", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn lines_as_text_have_the_ids_of_the_request() {
        let written = Lines::default();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).fmt_fields(TextFields).with_writer(written.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            RequestContext::new("my-request".into(), None)
                .sync_scope(|| tracing::info!(reason = "within_limit", "check"));
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with(": check reason=\"within_limit\" request_id=\"my-request\"\n"), "{text}");
    }
}
