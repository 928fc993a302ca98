//! Specs of a newer version of the resource, as an API server holds them during an upgrade or after a rollback: what this
//! program does not know of them must not switch a limit off.
//!
//! The API server fills in the defaults of its own definition, so one new field with a default is in every policy that this
//! program reads. Fields that are not known are ignored, and a word that is not known acts as the field's default. Newer
//! versions of the resource keep two rules for this: a new field whose default changes nothing, and criteria of overrides as
//! lists.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::read::unknown_fields;
use super::structure::quoted;
use super::{OVERRIDE_LISTS, SpecError};
use crate::crd::{ActorsSpec, AllowDenySpec, ModeSpec, OtherwiseSpec, ReentrySpec, StrategySpec};

/// The limits that this program knows.
const LIMITS: [&str; 3] = ["perClient", "perGroup", "perUser"];

/// Removes from a spec what this program does not know, and says what that was.
pub(super) fn without_unknown(spec: &mut Value) -> Vec<SpecError> {
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
    unknown.extend(unknown_fields(spec).into_iter().map(|SpecError { field, .. }| SpecError {
        field,
        message: "this version of the service does not know the field and ignores it: upgrade the service".to_owned(),
    }));
    left_out_overrides(spec, &mut unknown);
    unknown
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
    let mut position = 0;
    overrides.retain(|entry| {
        let field = format!("spec.overrides[{position}]");
        position += 1;
        let inside = format!("{field}.");
        let paths = unknown.iter().filter_map(|note| note.field.strip_prefix(&inside));
        let fields: Vec<String> = paths.map(str::to_owned).collect();
        let is_kept =
            fields.is_empty() || (means_the_same(entry) && fields.iter().all(|name| !is_criterion(entry, name)));
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

/// Whether an unknown field of an override may narrow the logins that it selects.
fn is_criterion(entry: &Value, field: &str) -> bool {
    match &entry[field] {
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}
