//! Auth0's log events: which of them are logins, and what they say of a login.
//!
//! The table is made from Auth0's published schemas, `schemas/log-types/` of <https://github.com/auth0/auth0-log-schemas>. No
//! schema requires a session id.
//!
//! | type | event | session id |
//! |---|---|---|
//! | `s` | Successful Login | `details.session_id`, optional |
//! | `ssa` | Successful Silent Auth | `details.session_id`, optional |
//! | `sepft` | Successful Exchange of Password for Access Token | none: the grant makes no session |
//! | `ciba_exchange_succeeded` | Successful CIBA Exchange | none |
//!
//! Post-login Actions run for each of these, and an exchange of a code or of a refresh token is no login. A stream delivers an
//! event as `{"log_id": …, "data": {…}}`, as JSON lines, as an array, or alone. Whatever has another type than expected counts
//! as absent, so one odd field costs no login.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use crate::loose_json::{Keep, Loose};
use crate::policy::parse_rfc3339;

/// The most entries of a request, also of such as cannot be read. Auth0 batches fewer than a hundred.
pub const MAX_ENTRIES: usize = 1_000;
/// The longest id of a session or an application, as the contract bounds those of a check, and of a log entry. Auth0's log ids
/// have some 60 characters.
pub(super) const MAX_ID_CHARS: usize = 128;
/// The longest name of a connection or an organization, as the contract bounds those of a check.
pub(super) const MAX_NAME_CHARS: usize = 300;
/// The types of events that are logins.
const LOGIN_TYPES: [&str; 4] = ["s", "ssa", "sepft", "ciba_exchange_succeeded"];

/// The entries of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogEntries {
    /// The entries that could be read.
    pub entries: Vec<LogEntry>,
    /// How many could not be read.
    pub malformed: usize,
}

/// An entry of a log stream.
#[derive(Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The id, by which an entry that comes again is known.
    pub log_id: Option<String>,
    /// The login, when the entry is about one.
    pub login: Option<ReportedLogin>,
}

/// A login that Auth0 reports as successful.
#[derive(Debug, PartialEq, Eq)]
pub struct ReportedLogin {
    /// The session.
    pub sid: Option<String>,
    /// The application.
    pub client_id: Option<String>,
    /// The organization's id.
    pub organization_id: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// When the login completed, by Auth0's clock.
    pub at: Option<Timestamp>,
}

/// Why a body cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// It has more than [`MAX_ENTRIES`] entries.
    #[error("The body has more than {MAX_ENTRIES} entries.")]
    TooMany,
    /// No entry of it can be read.
    #[error("The body holds no log entry: send JSON lines, a JSON array or a JSON object.")]
    NoEntry,
}

/// Reads a body. Entries that cannot be read are left out, as long as there is any other.
///
/// # Errors
/// The body has too many entries, or none.
pub fn parse(body: &[u8]) -> Result<LogEntries, BatchError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let mut read = LogEntries::default();
    if body.first() == Some(&b'[') {
        let Loose(RawEntries(records)) = serde_json::from_slice(body).map_err(|_| BatchError::NoEntry)?;
        records.into_iter().try_for_each(|record| read.push(record.map(RawEntry::into_entry)))?;
    } else {
        let mut rest = body;
        while !rest.is_empty() {
            let mut records = serde_json::Deserializer::from_slice(rest).into_iter::<Loose<Object<RawEntry>>>();
            let item = records.next();
            let end = records.byte_offset();
            match item {
                None => break,
                Some(Ok(Loose(Object(record)))) => {
                    read.push(record.map(RawEntry::into_entry))?;
                    rest = rest[end..].trim_ascii_start();
                }
                Some(Err(_)) => {
                    // The next line may be whole.
                    read.push(None)?;
                    let line = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    rest = rest[line..].trim_ascii_start();
                }
            }
        }
    }
    if read.entries.is_empty() && (read.malformed > 0 || body.is_empty()) {
        return Err(BatchError::NoEntry);
    }
    Ok(read)
}

impl LogEntries {
    fn push(&mut self, entry: Option<LogEntry>) -> Result<(), BatchError> {
        if self.entries.len() + self.malformed >= MAX_ENTRIES {
            return Err(BatchError::TooMany);
        }
        match entry {
            Some(entry) => self.entries.push(entry),
            None => self.malformed += 1,
        }
        Ok(())
    }
}

/// An event, or the wrapper around one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEntry {
    log_id: Loose<Text>,
    data: Loose<Object<Box<RawEntry>>>,
    #[serde(rename = "type")]
    kind: Loose<Text>,
    date: Loose<Text>,
    client_id: Loose<Text>,
    organization_id: Loose<Text>,
    connection: Loose<Text>,
    details: Loose<Object<Details>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    session_id: Loose<Text>,
}

impl RawEntry {
    fn into_entry(self) -> LogEntry {
        let (log_id, kind, details) = (self.log_id.0.id(), self.kind.0.0, self.details.0.0);
        if let Some(event) = self.data.0.0 {
            let entry = event.into_entry();
            return LogEntry { log_id: log_id.or(entry.log_id), ..entry };
        }
        let is_login = kind.is_some_and(|kind| LOGIN_TYPES.contains(&&*kind));
        let login = is_login.then(|| ReportedLogin {
            sid: details.and_then(|details| details.session_id.0.id()),
            client_id: self.client_id.0.id(),
            organization_id: self.organization_id.0.within(MAX_NAME_CHARS),
            connection: self.connection.0.within(MAX_NAME_CHARS),
            at: self.date.0.0.as_deref().and_then(parse_rfc3339),
        });
        LogEntry { log_id, login }
    }
}

/// A text, or something else.
#[derive(Default)]
struct Text(Option<String>);

impl Text {
    fn id(self) -> Option<String> {
        self.within(MAX_ID_CHARS)
    }

    fn within(self, chars: usize) -> Option<String> {
        self.0.filter(|text| !text.is_empty() && text.chars().count() <= chars)
    }
}

impl<'de> Keep<'de> for Text {
    fn text(text: Cow<'de, str>) -> Self {
        Self(Some(text.into_owned()))
    }
}

/// An object, or something else.
struct Object<T>(Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Keep<'de> for Object<T> {
    fn object<A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(|value| Self(Some(value)))
    }
}

/// The items of an array, at most one more than may be.
#[derive(Default)]
struct RawEntries(Vec<Option<RawEntry>>);

impl<'de> Keep<'de> for RawEntries {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut records = Vec::new();
        while records.len() <= MAX_ENTRIES
            && let Some(Loose(Object(record))) = list.next_element()?
        {
            records.push(record);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self(records))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, sid: &str) -> Value {
        json!({
            "date": "2026-03-01T10:00:00.000Z", "type": kind, "client_id": "app-1", "connection": "users",
            "organization_id": "org_1", "user_id": "auth0|ann", "details": { "session_id": sid, "prompts": [{}] },
        })
    }

    fn wrapped(id: &str, data: &Value) -> Value {
        json!({ "log_id": id, "data": data })
    }

    fn lines(events: &[Value]) -> String {
        events.iter().map(|event| format!("{event}\n")).collect()
    }

    fn ids(body: &str) -> Vec<(Option<String>, Option<String>)> {
        let read = parse(body.as_bytes()).unwrap();
        read.entries.into_iter().map(|entry| (entry.log_id, entry.login.and_then(|login| login.sid))).collect()
    }

    #[test]
    fn every_content_format_has_the_same_entries() {
        let events = [wrapped("1", &event("s", "a")), wrapped("2", &event("ssa", "b"))];
        let expected: Vec<_> =
            [("1", "a"), ("2", "b")].map(|(id, sid)| (Some(id.to_owned()), Some(sid.to_owned()))).into();
        assert_eq!(ids(&lines(&events)), expected);
        assert_eq!(ids(&lines(&events).replace('\n', "\r\n")), expected);
        assert_eq!(ids(&Value::from(events.to_vec()).to_string()), expected);
        assert_eq!(ids(&format!("\u{feff}{}{}", events[0], events[1])), expected);
        assert_eq!(ids(&serde_json::to_string_pretty(&events[0]).unwrap()), expected[..1]);
    }

    #[test]
    fn event_without_the_wrapper_is_read() {
        let mut bare = event("s", "a");
        bare["log_id"] = json!("9");
        assert_eq!(ids(&bare.to_string()), [(Some("9".to_owned()), Some("a".to_owned()))]);
        assert_eq!(ids(&json!({ "data": bare }).to_string()), [(Some("9".to_owned()), Some("a".to_owned()))]);
    }

    #[test]
    fn login_has_all_that_selects_it() {
        let read = parse(event("s", "a").to_string().as_bytes()).unwrap();
        let login = read.entries[0].login.as_ref().unwrap();
        assert_eq!((login.client_id.as_deref(), login.connection.as_deref()), (Some("app-1"), Some("users")));
        assert_eq!(login.organization_id.as_deref(), Some("org_1"));
        assert_eq!(login.at, parse_rfc3339("2026-03-01T10:00:00Z"));
    }

    #[test]
    fn only_events_of_the_table_are_logins() {
        for (kind, is_login) in [("s", true), ("ssa", true), ("sepft", true), ("ciba_exchange_succeeded", true)]
            .into_iter()
            .chain(["f", "fp", "slo", "seacft", "sertft", "sapi", "S", ""].map(|kind| (kind, false)))
        {
            let read = parse(event(kind, "a").to_string().as_bytes()).unwrap();
            assert_eq!(read.entries[0].login.is_some(), is_login, "{kind}");
        }
    }

    #[test]
    fn odd_fields_count_as_absent() {
        for odd in [json!(null), json!(7), json!(-7), json!(1.5), json!(true), json!([1, {"a": 2}]), json!({"a": [1]})]
        {
            let mut odd_event = event("s", "a");
            for field in ["date", "client_id", "connection", "organization_id"] {
                odd_event[field] = odd.clone();
            }
            odd_event["details"] = json!({ "session_id": odd });
            let mut wrapper = wrapped("1", &odd_event);
            wrapper["log_id"] = odd;
            let entry = parse(wrapper.to_string().as_bytes()).unwrap().entries.remove(0);
            let absent =
                ReportedLogin { sid: None, client_id: None, organization_id: None, connection: None, at: None };
            assert_eq!((entry.log_id, entry.login), (None, Some(absent)));
        }
        for details in [json!("text"), json!(null), json!([])] {
            let mut without = event("s", "a");
            without["details"] = details;
            assert_eq!(ids(&without.to_string()), [(None, None)]);
        }
        assert_eq!(ids(&event("s", &"a".repeat(129)).to_string()), [(None, None)]);
    }

    #[test]
    fn broken_line_costs_only_itself() {
        let (a, b) = (wrapped("1", &event("s", "a")), wrapped("2", &event("s", "b")));
        let body = format!("{a}\n{{\"log_id\": \"x\", \nnot json\n17\n[1]\n{b}\n");
        let read = parse(body.as_bytes()).unwrap();
        assert_eq!((read.entries.len(), read.malformed), (2, 4));
    }

    #[test]
    fn body_without_an_entry_is_rejected() {
        for body in ["", "  \n ", "no", "[", "[1", "[1, 2]", "\"text\"", "17", "\u{feff}"] {
            assert_eq!(parse(body.as_bytes()), Err(BatchError::NoEntry), "{body}");
        }
        assert_eq!(parse(b"[]"), Ok(LogEntries::default()), "Auth0 may test the address with an empty batch");
    }

    #[test]
    fn entries_are_bounded() {
        let one = wrapped("1", &event("s", "a"));
        for (count, result) in [(MAX_ENTRIES, Ok(MAX_ENTRIES)), (MAX_ENTRIES + 1, Err(BatchError::TooMany))] {
            let events = vec![one.clone(); count];
            assert_eq!(parse(lines(&events).as_bytes()).map(|read| read.entries.len()), result);
            assert_eq!(parse(Value::from(events).to_string().as_bytes()).map(|read| read.entries.len()), result);
        }
        assert_eq!(parse("x\n".repeat(MAX_ENTRIES + 1).as_bytes()), Err(BatchError::TooMany));
        let deep = format!("{}{}", "{\"data\":".repeat(500), "}".repeat(500));
        assert_eq!(parse(deep.as_bytes()), Err(BatchError::NoEntry));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&body);
        }

        #[test]
        fn cut_streams_are_read_without_a_panic(cut in 0usize..900, noise in any::<u8>()) {
            let mut body = lines(&[wrapped("1", &event("s", "a")), wrapped("2", &event("s", "b"))]).into_bytes();
            let cut = cut.min(body.len() - 1);
            body[cut] = noise;
            let _ = parse(&body);
            let _ = parse(&body[..cut]);
        }
    }
}
