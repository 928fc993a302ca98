//! The rules that the API server has for a policy that a person applies, and that the service does not need. A policy that was
//! stored before such a rule, or is in a file, stays active; `validate` says what would be rejected.

use serde_json::Value;

use super::{OVERRIDE_LISTS, SpecError};
use crate::crd::bounds;

/// The lists of a selector whose values never match with white space in them: ids, and names that Auth0 issues without.
const SELECTOR_LISTS: [&str; 3] = ["clientIds", "organizations", "connections"];

/// The errors of a spec that compiles.
pub(super) fn errors(spec: &Value) -> Vec<SpecError> {
    let mut errors = Vec::new();
    white_space(&spec["selector"], "spec.selector", &mut errors);
    let overrides = spec["overrides"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (position, entry) in overrides.iter().enumerate() {
        white_space(entry, &format!("spec.overrides[{position}]"), &mut errors);
    }
    let lists = overrides.iter().flat_map(|entry| OVERRIDE_LISTS.map(|list| texts(&entry[list])));
    let size: usize = lists.flatten().map(str::len).sum();
    if size > bounds::MAX_OVERRIDE_BYTES {
        let most = bounds::MAX_OVERRIDE_BYTES;
        let message = format!(
            "the lists of all overrides have {size} bytes together: write at most {most}, or put a part of them into \
             another policy"
        );
        errors.push(SpecError { field: "spec.overrides".to_owned(), message });
    }
    errors
}

fn white_space(selector: &Value, field: &str, errors: &mut Vec<SpecError>) {
    for list in SELECTOR_LISTS {
        for (position, text) in texts(&selector[list]).enumerate() {
            // The same characters as in the pattern of the schema.
            if text.contains([' ', '\t', '\n', '\r', '\x0c']) {
                let message = "has white space, so it never matches: write the value without".to_owned();
                errors.push(SpecError { field: format!("{field}.{list}[{position}]"), message });
            }
        }
    }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
