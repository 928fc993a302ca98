//! Parses the body of a check into a login.
//!
//! Two errors are distinct: a body that is not JSON, or is ambiguous because a known field appears twice, and JSON that is
//! not a check. `serde` collects the known fields and ignores the others. The fields stay untyped until the whole body is
//! known to be JSON, so that a wrong type is always the second error. The depth is bounded by hand, because `serde_json`'s
//! own bound does not reach into ignored fields.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::policy::{Login, LoginContext};

/// How deep JSON may be nested, in ignored fields as well. The limit of `serde_json` and other common parsers.
const MAX_DEPTH: usize = 128;

/// Why a body is not a check. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The body is text of another encoding than UTF-8.
    Encoding(String),
    /// The body is not JSON, or a known field appears twice.
    Json(String),
    /// The body is JSON of the wrong shape, type or length.
    Shape(String),
}

/// The known fields. `null` is the same as a missing field.
#[derive(Deserialize)]
struct CheckFields {
    user_id: Option<Value>,
    client_id: Option<Value>,
    sid: Option<Value>,
    protocol: Option<Value>,
    prompt: Option<Value>,
    organization_id: Option<Value>,
    connection: Option<Value>,
    roles: Option<Value>,
    mfa: Option<Value>,
    amr: Option<Value>,
    actor: Option<Value>,
    session_transfer_token: Option<Value>,
    tenant: Option<Value>,
    locale: Option<Value>,
}

/// Parses a check.
///
/// # Errors
/// Says what is wrong, and names the field if there is one.
pub fn parse(body: &[u8]) -> Result<Login, BodyError> {
    // Some clients on Windows write a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if is_utf16_or_utf32(body) {
        return Err(BodyError::Encoding("The body is UTF-16 or UTF-32. Send UTF-8.".to_owned()));
    }
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Json("The body is not UTF-8.".to_owned()))?;
    if is_too_deep(text) {
        return Err(BodyError::Json(format!("The body is nested deeper than {MAX_DEPTH} levels.")));
    }
    // A derived type would also accept an array of its fields.
    match text.trim_start().as_bytes().first() {
        Some(b'{') => read::<CheckFields>(text)?.into_login(),
        Some(b'[') => read::<IgnoredAny>(text).and_then(|_| Err(not_an_object())),
        _ => read::<Value>(text).and_then(|_| Err(not_an_object())),
    }
}

/// Whether the body begins with a byte order mark of UTF-16 or UTF-32, or with a zero byte beside the first character: JSON
/// begins with an ASCII character (RFC 4627, section 3).
fn is_utf16_or_utf32(body: &[u8]) -> bool {
    matches!(body, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..])
}

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, BodyError> {
    let json_error = |error| BodyError::Json(format!("The body is not valid JSON: {error}"));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // `is_too_deep` has bounded the depth; the parser's own bound allows one level less.
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer).map_err(json_error)?;
    deserializer.end().map_err(json_error)?;
    Ok(value)
}

/// Whether arrays and objects are nested too deep. Only brackets outside of strings count. The answer for text that is not
/// JSON may be wrong: the parser rejects that text anyway.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl CheckFields {
    fn into_login(self) -> Result<Login, BodyError> {
        let user_id = string("user_id", self.user_id)?.ok_or_else(|| missing("user_id"))?;
        let client_id = string("client_id", self.client_id)?.ok_or_else(|| missing("client_id"))?;
        let sid = string("sid", self.sid)?;
        let context = LoginContext {
            protocol: string("protocol", self.protocol)?,
            prompt: match self.prompt {
                Some(Value::String(one)) => vec![one],
                other => strings("prompt", other, "a string or a list of strings")?,
            },
            organization_id: string("organization_id", self.organization_id)?,
            connection: string("connection", self.connection)?,
            roles: strings("roles", self.roles, "a list of strings")?,
            mfa: match self.mfa {
                None => false,
                Some(Value::Bool(mfa)) => mfa,
                Some(_) => return Err(must_be("mfa", "true or false")),
            },
            amr: match self.amr {
                Some(Value::String(one)) => vec![one],
                other => strings("amr", other, "a string or a list of strings")?,
            },
            actor: match self.actor {
                None => false,
                Some(Value::Bool(actor)) => actor,
                // Auth0's own object, which says who it is.
                Some(Value::Object(_)) => true,
                Some(_) => return Err(must_be("actor", "true, false or an object")),
            },
            opened_by: match self.session_transfer_token {
                None => None,
                Some(Value::Object(mut token)) => {
                    let client = token.remove("client_id").filter(|client| !client.is_null());
                    string("session_transfer_token.client_id", client)?
                }
                Some(_) => return Err(must_be("session_transfer_token", "an object with a client_id")),
            },
            tenant: string("tenant", self.tenant)?,
            locale: string("locale", self.locale)?,
        };
        Login::new(user_id, client_id, sid, context).map_err(|error| BodyError::Shape(error.to_string()))
    }
}

fn string(field: &str, value: Option<Value>) -> Result<Option<String>, BodyError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(must_be(field, "a string")),
    }
}

fn strings(field: &str, value: Option<Value>, expected: &str) -> Result<Vec<String>, BodyError> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(must_be(field, expected)),
    };
    let string = |item| if let Value::String(text) = item { Ok(text) } else { Err(must_be(field, expected)) };
    items.into_iter().map(string).collect()
}

fn not_an_object() -> BodyError {
    BodyError::Shape("The body must be a JSON object.".to_owned())
}

fn missing(field: &str) -> BodyError {
    BodyError::Shape(format!("{field} is missing"))
}

fn must_be(field: &str, expected: &str) -> BodyError {
    BodyError::Shape(format!("{field} must be {expected}"))
}
