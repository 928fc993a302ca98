//! Compares a spec with the schema of the resource, and says in plain words what does not fit: all of it at once, and with the
//! nearest field name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::SpecError;
use crate::crd;

/// The longest part of a word or field name that a message quotes.
const MAX_QUOTED_CHARS: usize = 64;

/// What a spec has that the schema does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownFields {
    /// They are errors: a person wrote them.
    Rejected,
    /// They are left as they are: the resource's definition may be newer than this program.
    Ignored,
}

/// A comparison of a spec with the schema.
pub(super) struct Structure {
    /// What does not fit.
    pub errors: Vec<SpecError>,
    /// The fields that were replaced, so that nothing that follows from them is an error too.
    replaced: Vec<String>,
    unknown: UnknownFields,
}

impl Structure {
    /// Finds what does not fit, and replaces it in `spec` by a value that does.
    pub fn fit(spec: &mut Value, unknown: UnknownFields) -> Self {
        let mut structure = Self { errors: Vec::new(), replaced: Vec::new(), unknown };
        structure.value(crd::spec_schema(), spec, "spec");
        structure
    }

    /// Whether an error of this field may follow from something that was replaced.
    pub fn concerns(&self, field: &str) -> bool {
        self.replaced.iter().any(|replaced| is_within(field, replaced) || is_within(replaced, field))
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        self.errors.push(SpecError { field: field.to_owned(), message: message.into() });
    }

    /// Notes an error, and puts a value in place that fits.
    fn replace(&mut self, schema: &Value, value: &mut Value, path: &str, message: impl Into<String>) {
        self.add(path, message);
        self.replaced.push(path.to_owned());
        *value = placeholder(schema);
    }

    fn value(&mut self, schema: &Value, value: &mut Value, path: &str) {
        match (schema["type"].as_str().unwrap_or_default(), &mut *value) {
            ("object", Value::Object(fields)) => self.fields(schema, fields, path),
            ("object", _) => {
                self.replace(schema, value, path, "write an object with named fields, not a list or a single value");
            }
            ("array", Value::Array(items)) => {
                for (position, item) in items.iter_mut().enumerate() {
                    self.value(&schema["items"], item, &format!("{path}[{position}]"));
                }
            }
            ("array", _) => self.replace(schema, value, path, "write a list, such as [first, second]"),
            ("string", Value::String(text)) => {
                if let Some(words) = schema["enum"].as_array()
                    && !words.iter().any(|word| word == text.as_str())
                {
                    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                    let message = wrong_word(text, &words);
                    self.replace(schema, value, path, message);
                }
            }
            ("string", Value::Number(_) | Value::Bool(_)) => {
                // A rule of the field says more: a number is a duration without its unit.
                let rule = schema["x-kubernetes-validations"][0]["message"].as_str();
                self.replace(schema, value, path, rule.unwrap_or("write a text: put the value in quotes"));
            }
            ("string", _) => self.replace(schema, value, path, "write a text"),
            ("integer", Value::Number(number))
                if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
            ("integer", Value::Number(number)) => {
                let (least, most) = (bound(schema, "minimum", i32::MIN), bound(schema, "maximum", i32::MAX));
                let message = if number.is_f64() {
                    format!("write a whole number from {least} to {most}, not {number}")
                } else {
                    format!("write a whole number from {least} to {most}")
                };
                self.replace(schema, value, path, message);
            }
            ("integer", Value::String(text)) if text.trim().parse::<i64>().is_ok() => {
                self.replace(schema, value, path, "write a whole number without quotes");
            }
            ("integer", _) => self.replace(schema, value, path, "write a whole number"),
            ("boolean", Value::Bool(_)) => {}
            ("boolean", _) => self.replace(schema, value, path, "write true or false, without quotes"),
            _ => {}
        }
    }

    fn fields(&mut self, schema: &Value, fields: &mut Map<String, Value>, path: &str) {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let mut meant: Vec<&str> = Vec::new();
        if self.unknown == UnknownFields::Rejected {
            let unknown: Vec<String> = fields.keys().filter(|name| !properties.contains_key(*name)).cloned().collect();
            for name in unknown {
                let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                let near = nearest(&name, &names).filter(|near| !fields.contains_key(*near));
                let field = format!("{path}.{}", quoted(&name));
                self.add(&field, format!("no such field{}", hint(&name, path, near, &names)));
                self.replaced.push(field);
                if let Some(near) = near {
                    // What the field was meant for is not known.
                    self.replaced.push(format!("{path}.{near}"));
                    meant.push(near);
                }
                fields.remove(&name);
            }
        }
        for (name, value) in fields.iter_mut() {
            if let Some(schema) = properties.get(name) {
                self.value(schema, value, &format!("{path}.{name}"));
            }
        }
        for name in required(schema).filter(|name| !fields.contains_key(*name)).collect::<Vec<_>>() {
            if !meant.contains(&name) {
                self.add(path, format!("the field {name} is missing: add it"));
            }
            self.replaced.push(format!("{path}.{name}"));
            fields.insert(name.to_owned(), placeholder(&properties[name]));
        }
    }
}

/// Whether a field is another one or a part of it.
fn is_within(field: &str, whole: &str) -> bool {
    field.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A value of the schema's type.
fn placeholder(schema: &Value) -> Value {
    match schema["type"].as_str().unwrap_or_default() {
        "object" => required(schema).map(|name| (name.to_owned(), placeholder(&schema["properties"][name]))).collect(),
        "array" => Value::Array(Vec::new()),
        "integer" => 1.into(),
        "boolean" => false.into(),
        _ => schema["enum"].get(0).cloned().unwrap_or_else(|| "placeholder".into()),
    }
}

fn bound(schema: &Value, name: &str, default: i32) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the bounds of the schema are whole numbers")]
    schema[name].as_f64().map_or(i64::from(default), |bound| bound as i64)
}

/// The message for a word that is none of those that are allowed.
fn wrong_word(text: &str, words: &[&str]) -> String {
    let list = words.join(", ");
    match nearest(text, words) {
        Some(near) => format!("{:?} is not allowed: did you mean {near}? Otherwise write one of {list}", quoted(text)),
        None => format!("{:?} is not allowed: write one of {list}", quoted(text)),
    }
}

/// The rest of the message for an unknown field: the field that was probably meant.
fn hint(name: &str, path: &str, near: Option<&str>, names: &[&str]) -> String {
    if let Some(near) = near {
        return format!(": did you mean {near}?");
    }
    let mut elsewhere = BTreeMap::new();
    places(crd::spec_schema(), "spec", &mut elsewhere);
    let same = |other: &String| letters(other) == letters(name);
    if let Some((_, parents)) = elsewhere.iter().find(|(other, _)| same(other))
        && let [parent] = parents.iter().filter(|parent| *parent != path).collect::<Vec<_>>()[..]
    {
        return format!(": it belongs in {parent}");
    }
    format!(": the fields of {path} are {}", names.join(", "))
}

/// The objects that have a field of each name. Items of lists are left out: their fields repeat those of the spec.
fn places(schema: &Value, path: &str, found: &mut BTreeMap<String, Vec<String>>) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        found.entry(name.clone()).or_default().push(path.to_owned());
        places(child, &format!("{path}.{name}"), found);
    }
}

/// The name that somebody who wrote `name` probably meant.
pub(crate) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let written = letters(name);
    let distance = |other: &str| strsim::damerau_levenshtein(&written, &letters(other));
    let (distance, near) = names.iter().map(|other| (distance(other), *other)).min()?;
    // One mistake in a short name, and one more for each four letters.
    (distance <= 1 + near.len() / 5 && distance < near.len()).then_some(near)
}

/// The letters and digits of a name, in lower case.
fn letters(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The part of a name or word that a message quotes.
pub(super) fn quoted(name: &str) -> String {
    name.chars().take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(mut spec: Value) -> Vec<String> {
        let structure = Structure::fit(&mut spec, UnknownFields::Rejected);
        structure.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let tenant = json!({ "domian": "acme.eu.auth0.com", "credentialsSecretRef": "auth0" });
        let found = errors(json!({
            "tenant": tenant, "limits": { "per_user": "3" }, "strategy": "deny", "clientIds": ["a"], "mode": true,
            "revokeRequiresMfa": "yes", "overrides": [{ "user": "u" }],
        }));
        for expected in [
            "spec.tenant.domian: no such field: did you mean domain?",
            "spec.tenant.credentialsSecretRef: write an object",
            "spec.limits.per_user: no such field: did you mean perUser?",
            "spec.strategy: \"deny\" is not allowed: did you mean Deny?",
            "spec.clientIds: no such field: it belongs in spec.selector",
            "spec.mode: write a text",
            "spec.revokeRequiresMfa: write true or false, without quotes",
            "spec.overrides[0].user: no such field: did you mean users?",
            "spec.overrides[0]: the field name is missing: add it",
        ] {
            assert!(found.iter().any(|error| error.starts_with(expected)), "{expected} in {found:#?}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn spec_is_replaced_by_one_that_can_be_read() {
        for spec in [json!([]), json!("x"), json!({}), json!({ "tenant": [], "limits": 1, "messages": [1, {}] })] {
            let mut fitted = spec.clone();
            assert!(!Structure::fit(&mut fitted, UnknownFields::Rejected).errors.is_empty());
            assert!(serde_json::from_value::<crd::SessionPolicySpec>(fitted).is_ok(), "{spec}");
        }
    }

    #[test]
    fn nearest_name_is_near() {
        let names = ["perClient", "perGroup", "perUser"];
        for (written, near) in [
            ("perclient", Some("perClient")),
            ("per-user", Some("perUser")),
            ("prUser", Some("perUser")),
            ("max", None),
        ] {
            assert_eq!(nearest(written, &names), near, "{written}");
        }
    }
}
