//! A manifest as it was written, before it is compiled.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use serde_ignored::Path;
use serde_json::{Number, Value};

use super::messages::LanguageMessages;
use super::name::ObjectName;

/// A `SessionPolicy` as its source holds it: the metadata that matters, and the spec as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// `metadata.namespace` and `metadata.name`.
    pub name: ObjectName,
    /// `metadata.generation`; 0 when the source has none.
    pub generation: i64,
    /// `metadata.creationTimestamp`, when the source has one.
    pub created_at: Option<Timestamp>,
    /// `spec`, not yet validated.
    pub spec: Value,
}

/// An error in one field of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The path of the field, such as `spec.limits.perClient`.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The values of a list when all of them are texts; an empty list counts as unreadable.
pub(super) fn readable_list(list: &Value) -> Option<HashSet<String>> {
    let items: Option<HashSet<String>> = list.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    items.filter(|items| !items.is_empty())
}

/// A text that is not empty.
pub(super) fn readable_text(text: &Value) -> Option<String> {
    text.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The texts of a language, as far as they can be read.
pub(super) fn readable_messages(item: &Value) -> Option<LanguageMessages> {
    Some(LanguageMessages {
        language: readable_text(&item["language"])?,
        limit_exceeded: readable_text(&item["limitExceeded"]),
        unavailable: readable_text(&item["unavailable"]),
        no_session: readable_text(&item["noSession"]),
    })
}

/// The path of a field in the notation of the other errors.
pub(super) fn field_path(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => format!("{}.{key}", field_path(parent)),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field_path(parent),
    }
}

/// The largest whole number up to which a float is exact.
const MAX_EXACT_FLOAT: f64 = 9_007_199_254_740_992.0;

/// The spec as the API server takes it: a field that is `null` is left out, and `1.0` is the whole number 1.
pub(crate) fn as_stored(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), as_stored(value)))
            .collect(),
        Value::Array(items) => items.iter().map(as_stored).collect(),
        Value::Number(number) if number.is_f64() => whole(number).unwrap_or_else(|| value.clone()),
        other => other.clone(),
    }
}

fn whole(number: &Number) -> Option<Value> {
    let number = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= MAX_EXACT_FLOAT)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the bound")]
    Some(Value::from(number as i64))
}

/// Whether a text is a label as in DNS: lower case letters, digits, and `-` between them.
pub(crate) fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}
