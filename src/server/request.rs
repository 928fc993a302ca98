//! Parses the body of a check into a login.
//!
//! Two errors are distinct: a body that is not JSON, or is ambiguous because a known field appears twice, and JSON that is
//! not a check. `serde` collects the known fields and ignores the others. The fields stay untyped until the whole body is
//! known to be JSON, so that a wrong type is always the second error. The depth is bounded by hand, because `serde_json`'s
//! own bound does not reach into ignored fields.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
struct CheckFields<'a> {
    #[serde(borrow)]
    user_id: Option<Field<'a>>,
    #[serde(borrow)]
    client_id: Option<Field<'a>>,
    #[serde(borrow)]
    sid: Option<Field<'a>>,
    #[serde(borrow)]
    protocol: Option<Field<'a>>,
    #[serde(borrow)]
    prompt: Option<Field<'a>>,
    #[serde(borrow)]
    organization_id: Option<Field<'a>>,
    #[serde(borrow)]
    connection: Option<Field<'a>>,
    #[serde(borrow)]
    roles: Option<Field<'a>>,
    #[serde(borrow)]
    mfa: Option<Field<'a>>,
    #[serde(borrow)]
    amr: Option<Field<'a>>,
    #[serde(borrow)]
    actor: Option<Field<'a>>,
    #[serde(borrow)]
    session_transfer_token: Option<Field<'a>>,
    #[serde(borrow)]
    tenant: Option<Field<'a>>,
    #[serde(borrow)]
    can_redirect: Option<Field<'a>>,
    #[serde(borrow)]
    continued: Option<Field<'a>>,
    #[serde(borrow)]
    hostname: Option<Field<'a>>,
    #[serde(borrow)]
    locale: Option<Field<'a>>,
    #[serde(borrow)]
    skip_protocols: Option<Field<'a>>,
}

/// What a check may have in a field. `serde_json::Value` would build all of it, and copy every text.
enum Field<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    /// The items: the texts among them.
    List(Vec<Option<Cow<'a, str>>>),
    /// An object, and the last `client_id` in it.
    Object(Option<Box<Field<'a>>>),
    Null,
    Number,
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
        Some(b'{') => read::<CheckFields<'_>>(text)?.into_login(),
        Some(b'[') => read::<IgnoredAny>(text).and_then(|_| Err(not_an_object())),
        _ => read::<Field<'_>>(text).and_then(|_| Err(not_an_object())),
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
    // Nearly every body has too few brackets for it, and counting them is quick.
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_DEPTH {
        return false;
    }
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

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl<'de> Visitor<'de> for FieldVisitor {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any valid JSON value")
            }

            fn visit_unit<E>(self) -> Result<Field<'de>, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Field<'de>, E> {
                Ok(Field::Bool(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field<'de>, E> {
                Ok(Field::Number)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field<'de>, E> {
                Ok(Field::Number)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field<'de>, E> {
                Ok(Field::Number)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field<'de>, A::Error> {
                let mut items = Vec::new();
                // Every item is read as a field, and none is ignored: ignored text may have escapes that mean no character.
                while let Some(item) = list.next_element()? {
                    items.push(if let Field::Text(text) = item { Some(text) } else { None });
                }
                Ok(Field::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Field<'de>, A::Error> {
                let mut client_id = None;
                while let Some((Key(key), value)) = object.next_entry::<Key<'de>, Field<'de>>()? {
                    if key == "client_id" {
                        client_id = Some(Box::new(value));
                    }
                }
                Ok(Field::Object(client_id))
            }
        }
        from.deserialize_any(FieldVisitor)
    }
}

/// The key of an object, without a copy where it has no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl CheckFields<'_> {
    fn into_login(self) -> Result<Login, BodyError> {
        let user_id = string("user_id", self.user_id)?.ok_or_else(|| missing("user_id"))?;
        let client_id = string("client_id", self.client_id)?.ok_or_else(|| missing("client_id"))?;
        let sid = string("sid", self.sid)?;
        let context = LoginContext {
            protocol: string("protocol", self.protocol)?,
            prompt: match self.prompt {
                Some(Field::Text(one)) => vec![one.into_owned()],
                other => strings("prompt", other, "a string or a list of strings")?,
            },
            organization_id: string("organization_id", self.organization_id)?,
            connection: string("connection", self.connection)?,
            roles: strings("roles", self.roles, "a list of strings")?,
            mfa: boolean("mfa", self.mfa.as_ref())?,
            amr: match self.amr {
                Some(Field::Text(one)) => vec![one.into_owned()],
                other => strings("amr", other, "a string or a list of strings")?,
            },
            actor: match self.actor {
                None => false,
                Some(Field::Bool(actor)) => actor,
                // Auth0's own object, which says who it is.
                Some(Field::Object(_)) => true,
                Some(_) => return Err(must_be("actor", "true, false or an object")),
            },
            opened_by: match self.session_transfer_token {
                None => None,
                Some(Field::Object(client)) => {
                    let client = client.map(|client| *client).filter(|client| !matches!(client, Field::Null));
                    string("session_transfer_token.client_id", client)?
                }
                Some(_) => return Err(must_be("session_transfer_token", "an object with a client_id")),
            },
            tenant: string("tenant", self.tenant)?,
            can_redirect: boolean("can_redirect", self.can_redirect.as_ref())?,
            continued: boolean("continued", self.continued.as_ref())?,
            hostname: string("hostname", self.hostname)?,
            locale: string("locale", self.locale)?,
            skip_protocols: strings("skip_protocols", self.skip_protocols, "a list of strings")?,
        };
        Login::new(user_id, client_id, sid, context).map_err(|error| BodyError::Shape(error.to_string()))
    }
}

fn string(field: &str, value: Option<Field<'_>>) -> Result<Option<String>, BodyError> {
    match value {
        None => Ok(None),
        Some(Field::Text(text)) => Ok(Some(text.into_owned())),
        Some(_) => Err(must_be(field, "a string")),
    }
}

fn boolean(field: &str, value: Option<&Field<'_>>) -> Result<bool, BodyError> {
    match value {
        None => Ok(false),
        Some(Field::Bool(value)) => Ok(*value),
        Some(_) => Err(must_be(field, "true or false")),
    }
}

fn strings(field: &str, value: Option<Field<'_>>, expected: &str) -> Result<Vec<String>, BodyError> {
    let items = match value {
        None => return Ok(Vec::new()),
        Some(Field::List(items)) => items,
        Some(_) => return Err(must_be(field, expected)),
    };
    items.into_iter().map(|item| item.map(Cow::into_owned).ok_or_else(|| must_be(field, expected))).collect()
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

#[cfg(test)]
mod tests;
