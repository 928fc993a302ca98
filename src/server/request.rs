//! From the bytes of a body to a login.
//!
//! Two kinds of wrong are kept apart: a body that is not JSON (or is ambiguous: a known key twice) and JSON that is not
//! a check. Everything is read once, by a visitor that keeps the known fields and passes over the rest.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, de};
use serde_json::Value;

use crate::policy::{Login, LoginContext};

/// How deep JSON may be nested, also inside fields that are passed over.
const DEPTH: usize = 128;

/// Why a body is not a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is not JSON, or not unambiguously.
    Json(String),
    /// It is JSON of the wrong shape, type or length.
    Shape(String),
}

/// The fields of a check, in the order in which they are looked at.
const FIELDS: [&str; 10] =
    ["user_id", "client_id", "sid", "protocol", "prompt", "organization_id", "connection", "roles", "mfa", "tenant"];

/// The values of the known fields, by position.
struct Fields([Option<Value>; FIELDS.len()]);

/// Reads a check.
///
/// # Errors
/// Says what is wrong, by the name of the field where there is one.
pub fn parse(body: &[u8]) -> Result<Login, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::Json("the body is not UTF-8".to_owned()))?;
    if is_too_deep(text) {
        return Err(BodyError::Json(format!("the body is nested deeper than {DEPTH}")));
    }
    let json_error = |error: serde_json::Error| BodyError::Json(format!("the body is not valid JSON: {error}"));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    // The depth was looked at above, for ignored fields as well, which the parser's own bound does not reach.
    deserializer.disable_recursion_limit();
    let fields = deserializer.deserialize_any(BodyVisitor).map_err(json_error)?;
    deserializer.end().map_err(json_error)?;
    fields.ok_or_else(|| BodyError::Shape("the body must be a JSON object".to_owned()))?.into_login()
}

/// Whether arrays and objects are nested too deep, looking only at brackets outside strings. Text that is not JSON may
/// give either answer: the parser refuses it anyway.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Gives the fields of an object, and `None` for any other JSON.
struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Option<Fields>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields(std::array::from_fn(|_| None));
        while let Some(key) = map.next_key::<String>()? {
            let Some(position) = FIELDS.iter().position(|field| *field == key) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value()?;
            if fields.0[position].replace(value).is_some() {
                return Err(A::Error::custom(format_args!("{key} is there twice")));
            }
        }
        Ok(Some(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

impl Fields {
    fn into_login(self) -> Result<Login, BodyError> {
        let [user_id, client_id, sid, protocol, prompt, organization_id, connection, roles, mfa, tenant] = self.0;
        let user_id = text("user_id", user_id)?.ok_or_else(|| missing("user_id"))?;
        let client_id = text("client_id", client_id)?.ok_or_else(|| missing("client_id"))?;
        let sid = text("sid", sid)?;
        let context = LoginContext {
            protocol: text("protocol", protocol)?,
            prompt: match prompt {
                Some(Value::String(one)) => vec![one],
                other => texts("prompt", other, "a text or a list of texts")?,
            },
            organization_id: text("organization_id", organization_id)?,
            connection: text("connection", connection)?,
            roles: texts("roles", roles, "a list of texts")?,
            mfa: match mfa {
                None | Some(Value::Null) => false,
                Some(Value::Bool(mfa)) => mfa,
                Some(_) => return Err(must_be("mfa", "true or false")),
            },
            tenant: text("tenant", tenant)?,
        };
        Login::new(user_id, client_id, sid, context).map_err(|error| BodyError::Shape(error.to_string()))
    }
}

fn text(field: &str, value: Option<Value>) -> Result<Option<String>, BodyError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(must_be(field, "a text")),
    }
}

fn texts(field: &str, value: Option<Value>, what: &str) -> Result<Vec<String>, BodyError> {
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(must_be(field, what)),
    };
    let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(must_be(field, what)) };
    items.into_iter().map(text).collect()
}

fn missing(field: &str) -> BodyError {
    BodyError::Shape(format!("{field} is missing"))
}

fn must_be(field: &str, what: &str) -> BodyError {
    BodyError::Shape(format!("{field} must be {what}"))
}
