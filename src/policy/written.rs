//! A spec as it was written, before it is compiled.

use std::collections::HashSet;

use serde_json::Value;

/// The values of a list when all of them are texts; an empty list counts as unreadable.
pub(super) fn readable_list(list: &Value) -> Option<HashSet<String>> {
    let items: Option<HashSet<String>> = list.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    items.filter(|items| !items.is_empty())
}

/// Drops fields that are `null`: the API server treats them as left out.
pub(super) fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_null(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_null).collect(),
        other => other.clone(),
    }
}
