//! Specs of a newer version of the resource, as an API server holds them during an upgrade or after a rollback: what this
//! program does not know of them must not switch a limit off.
//!
//! The API server fills in the defaults of its own definition, so one new field with a default is in every policy that this
//! program reads. Fields that are not known are ignored, and a word that is not known acts as the field's default. A field that
//! may narrow the logins of the policy or of an override is not ignored. Newer versions of the resource keep two rules for
//! this: a new field whose default changes nothing, and new criteria as lists or objects of the selector and of overrides.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::read::unknown_fields;
use super::structure::quoted;
use super::{OVERRIDE_LISTS, SpecError};
use crate::crd::{self, ActorsSpec, AllowDenySpec, ModeSpec, OtherwiseSpec, ReentrySpec, StrategySpec};

/// The limits that this program knows.
const LIMITS: [&str; 3] = ["perClient", "perGroup", "perUser"];

/// What a spec has that this program does not know.
pub(super) struct Unknown {
    /// What was removed, or is ignored.
    pub notes: Vec<SpecError>,
    /// What cannot be ignored: the policy would govern more logins than it says.
    pub errors: Vec<SpecError>,
}

/// Removes from a spec what this program does not know, and says what that was.
pub(super) fn without_unknown(spec: &mut Value) -> Unknown {
    let errors = unknown_selectors(spec);
    let mut unknown: Vec<SpecError> = Vec::new();
    choice::<ReentrySpec>(spec, "spec", "reentry", &mut unknown);
    choice::<StrategySpec>(spec, "spec", "strategy", &mut unknown);
    choice::<ModeSpec>(spec, "spec", "mode", &mut unknown);
    choice::<ActorsSpec>(spec, "spec", "actors", &mut unknown);
    choice::<AllowDenySpec>(spec, "spec", "missingSession", &mut unknown);
    choice::<AllowDenySpec>(spec, "spec", "failurePolicy", &mut unknown);
    if let Some(ask) = spec.get_mut("ask") {
        choice::<OtherwiseSpec>(ask, "spec.ask", "otherwise", &mut unknown);
    }
    let ignored = unknown_fields(spec).into_iter().filter(|unknown| errors.iter().all(|e| e.field != unknown.field));
    unknown.extend(ignored.map(|SpecError { field, .. }| SpecError {
        field,
        message: "this version of the service does not know the field and ignores it: upgrade the service".to_owned(),
    }));
    left_out_overrides(spec, &mut unknown);
    Unknown { notes: unknown, errors }
}

/// The unknown fields that may narrow the logins that the policy selects. Without them it would select more logins, up to
/// all of the tenant.
pub(super) fn unknown_selectors(spec: &Value) -> Vec<SpecError> {
    let names = unknown_criteria(&crd::spec_schema()["properties"]["selector"], &spec["selector"]);
    let error = |name| SpecError {
        field: format!("spec.selector.{name}"),
        message:
            "this version of the service does not know the field, which may narrow the logins that the policy selects: \
                  upgrade the service, or remove the field"
                .to_owned(),
    };
    names.into_iter().map(error).collect()
}

/// Removes a word that is not known, so that the default applies.
fn choice<T: DeserializeOwned + Serialize + Default>(
    spec: &mut Value,
    path: &str,
    field: &str,
    unknown: &mut Vec<SpecError>,
) {
    let Some(word) = spec[field].as_str().filter(|_| T::deserialize(&spec[field]).is_err()) else { return };
    let word = quoted(word);
    let default = serde_json::to_value(T::default()).unwrap_or_default();
    unknown.push(SpecError {
        field: format!("{path}.{field}"),
        message: format!(
            "this version of the service does not know {word:?} and acts by the default {default}: upgrade the service"
        ),
    });
    if let Some(fields) = spec.as_object_mut() {
        fields.remove(field);
    }
}

/// Removes the overrides that would mean more logins or other limits than they say without their unknown fields: the limits of
/// the policy apply to their logins.
fn left_out_overrides(spec: &mut Value, unknown: &mut Vec<SpecError>) {
    let Some(overrides) = spec.get_mut("overrides").and_then(Value::as_array_mut) else { return };
    let schema = &crd::spec_schema()["properties"]["overrides"]["items"];
    let mut position = 0;
    overrides.retain(|entry| {
        let field = format!("spec.overrides[{position}]");
        position += 1;
        let inside = format!("{field}.");
        let is_known = !unknown.iter().any(|note| note.field.starts_with(&inside));
        let is_kept = is_known || (means_the_same(entry) && unknown_criteria(schema, entry).is_empty());
        if !is_kept {
            let message =
                "the override is left out, because it means something else without the field that this version of \
                           the service does not know: the limits of the policy apply"
                    .to_owned();
            unknown.push(SpecError { field, message });
        }
        is_kept
    });
}

/// Whether an override selects logins and says what applies to them without its unknown fields.
fn means_the_same(entry: &Value) -> bool {
    let has_limit = LIMITS.iter().any(|limit| entry["limits"].get(limit).is_some());
    OVERRIDE_LISTS.iter().any(|list| entry.get(list).is_some()) && has_limit != (entry["exempt"] == true)
}

/// The fields of an object that its schema does not know and that may narrow the logins that it selects: a criterion is a list
/// or an object with content.
fn unknown_criteria(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match (schema["properties"].get(name), value) {
            (Some(known), _) => {
                let inside = unknown_criteria(known, value).into_iter();
                found.extend(inside.map(|criterion| format!("{}.{criterion}", quoted(name))));
            }
            (None, Value::Array(items)) if !items.is_empty() => found.push(quoted(name)),
            (None, Value::Object(fields)) if !fields.is_empty() => found.push(quoted(name)),
            (None, _) => {}
        }
    }
    found
}
