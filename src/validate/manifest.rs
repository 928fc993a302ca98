//! The fields of a resource around its spec or data: type, metadata, and what does not belong there.

use serde_json::Value;

use super::yaml::TEMPLATE;
use super::{FileResource, Problem, ProblemKind, ResourceContent};
use crate::crd;
use crate::policy::nearest;

/// The fields of a policy.
const POLICY_FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// The fields of a Secret.
const SECRET_FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "type", "data", "stringData", "immutable"];

/// The fields of `metadata`.
const METADATA_FIELDS: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
];

/// The fields of a spec that are text for people, where `{{` may be meant.
const TEXTS: [&str; 2] = ["message", "messages"];

/// The part of a document at the path of a resource.
pub(super) fn at<'a>(document: &'a Value, path: &str) -> &'a Value {
    let steps = path.split(['.', '[', ']']).filter(|step| !step.is_empty());
    steps.fold(document, |value, step| match step.parse::<usize>() {
        Ok(position) => &value[position],
        Err(_) => &value[step],
    })
}

/// The problems of a resource's own fields.
pub(super) fn problems(resource: &FileResource<'_>) -> Vec<Problem> {
    let written = &resource.written;
    let fields: &[&str] = match resource.content {
        ResourceContent::Policy { .. } => &POLICY_FIELDS,
        ResourceContent::Secret(_) => &SECRET_FIELDS,
        ResourceContent::Other => return Vec::new(),
    };
    let mut problems = unknown(resource, written, "", fields);
    problems.extend(unknown(resource, &written["metadata"], "metadata", &METADATA_FIELDS));
    for map in ["labels", "annotations"] {
        match &written["metadata"][map] {
            Value::Null => {}
            Value::Object(entries) => {
                let is_wrong = |value: &Value| !value.is_string() && !value.is_null();
                for (key, _) in entries.iter().filter(|(_, value)| is_wrong(value)) {
                    let field = format!("metadata.{map}.{key}");
                    problems.push(resource.error(ProblemKind::Field, &field, "write a text: put the value in quotes"));
                }
            }
            _ => problems.push(resource.error(
                ProblemKind::Field,
                &format!("metadata.{map}"),
                "write an object with named fields, not a list or a single value",
            )),
        }
    }
    let is_policy = matches!(resource.content, ResourceContent::Policy { .. });
    if is_policy && written["spec"].is_null() && !problems.iter().any(|problem| problem.message.contains("mean spec?"))
    {
        problems.push(resource.error(ProblemKind::Field, "", "the field spec is missing: add it"));
    }
    problems
}

fn unknown(resource: &FileResource<'_>, object: &Value, path: &str, known: &[&str]) -> Vec<Problem> {
    let names = object.as_object().into_iter().flat_map(|fields| fields.keys());
    names
        .filter(|name| !known.contains(&name.as_str()))
        .map(|name| {
            let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            resource.error_of_name(ProblemKind::Field, &field, format!("no such field{}", hint(name, known)))
        })
        .collect()
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!(": did you mean {near}?"),
        None if crd::spec_schema()["properties"].get(name).is_some() => ": it belongs in spec".to_owned(),
        None => format!(": the fields here are {}", known.join(", ")),
    }
}

/// The problem of a document that is no resource.
pub(super) fn unreadable(resource: &FileResource<'_>, message: &str) -> Vec<Problem> {
    let written = &resource.written;
    let is_named = message.contains("metadata");
    let mut problems: Vec<Problem> = if is_named {
        let fields: &[&str] = if written["kind"] == "Secret" { &SECRET_FIELDS } else { &POLICY_FIELDS };
        let mut unknown_fields = unknown(resource, written, "", fields);
        unknown_fields.extend(unknown(resource, &written["metadata"], "metadata", &METADATA_FIELDS));
        unknown_fields
    } else {
        let names = written.as_object().into_iter().flat_map(|fields| fields.keys());
        names
            .filter_map(|name| {
                let near = nearest(name, &["apiVersion", "kind"]).filter(|near| near != name)?;
                let message = format!("no such field: did you mean {near}?");
                Some(resource.error_of_name(ProblemKind::Field, name, message))
            })
            .collect()
    };
    let field = match () {
        () if is_named && !written["metadata"]["name"].is_null() => "metadata.name",
        () if is_named => "metadata",
        () => "",
    };
    problems.push(resource.error(ProblemKind::Type, field, message));
    problems
}

/// The problem of a resource of another kind whose type looks like a mistyped one of this service.
pub(super) fn mistyped(resource: &FileResource<'_>, api_version: &str, kind: &str) -> Option<Problem> {
    let group = api_version.split('/').next().unwrap_or_default();
    let is_near = nearest(group, &[crd::GROUP]).is_some() || nearest(kind, &[crd::KIND]).is_some();
    let secret = nearest(kind, &["Secret"]).is_some()
        && resource.written["type"].as_str().is_some_and(|type_| type_.contains(crd::GROUP));
    let message = if is_near {
        format!("{kind} of {api_version} is not known: did you mean kind {} of {}?", crd::KIND, crd::API_VERSION)
    } else if secret {
        format!("{kind} of {api_version} is not known: did you mean kind Secret of v1?")
    } else {
        return None;
    };
    Some(resource.error(ProblemKind::Type, "kind", message))
}

/// The values that are templates which were not rendered.
pub(super) fn templates(resource: &FileResource<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    let fields = match resource.content {
        ResourceContent::Policy { .. } => ["metadata", "spec"],
        // The value of a Secret may be anything; its name and type may not.
        ResourceContent::Secret(_) => ["metadata", "type"],
        ResourceContent::Other => return Vec::new(),
    };
    for field in fields {
        template_values(&resource.written[field], field, &mut found);
    }
    let problem = |field: &String| resource.error(ProblemKind::Template, field, TEMPLATE);
    found.iter().map(problem).collect()
}

fn template_values(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains("{{") && text.contains("}}") => found.push(path.to_owned()),
        Value::Object(fields) => {
            for (name, child) in fields.iter().filter(|(name, _)| !(path == "spec" && TEXTS.contains(&name.as_str()))) {
                template_values(child, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(items) => {
            for (position, child) in items.iter().enumerate() {
                template_values(child, &format!("{path}[{position}]"), found);
            }
        }
        _ => {}
    }
}
