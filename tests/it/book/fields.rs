//! The reference of the fields of a `SessionPolicy`, from the schema of the CustomResourceDefinition.

use std::fmt::Write;

use kube::CustomResourceExt;
use serde_json::Value;
use session_checker::crd::SessionPolicy;

use super::{NOTE, assert_page, inline, wrapped};

const INTRODUCTION: &str = "\
`apiVersion: sessionchecker.dev/v1alpha1`, `kind: SessionPolicy`. `kubectl explain
sessionpolicy.spec` prints the same descriptions. [SessionPolicy](policy.md) explains how the fields
work together. A rule of a field is what the API server and `session-checker validate` answer when
it is broken.
";

#[test]
fn page_of_fields_is_that_of_the_schema() {
    let schema = serde_json::to_value(SessionPolicy::crd()).unwrap();
    let schema = &schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut page = format!("# Fields of a SessionPolicy\n\n{NOTE}\n\n{INTRODUCTION}");
    for part in ["spec", "status"] {
        write!(page, "\n## `{part}`\n\n{}\n", text(&schema[part])).unwrap();
        page += &rules(&schema[part]);
        fields(&schema[part], part, &mut page);
    }
    assert_page("docs/fields.md", &page);
}

/// Describes the fields of an object, depth first, each with a heading that is its path.
fn fields(object: &Value, path: &str, page: &mut String) {
    let Some(properties) = object["properties"].as_object() else { return };
    let required = |name: &str| object["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
    for (name, field) in properties {
        let path = format!("{path}.{name}");
        write!(page, "\n### `{path}`\n\n{}", facts(field, required(name))).unwrap();
        let text = text(field);
        if !text.is_empty() {
            write!(page, "\n\n{text}").unwrap();
        }
        page.push('\n');
        page.push_str(&rules(field));
        // The conditions are Kubernetes' own type.
        if path == "status.conditions" {
            continue;
        }
        fields(field, &path, page);
        fields(&field["items"], &format!("{path}[]"), page);
    }
}

/// Type, default and bounds of a field, on one line.
fn facts(field: &Value, is_required: bool) -> String {
    let mut facts = vec![kind(field)];
    if is_required {
        facts.push("required".to_owned());
    }
    match &field["default"] {
        Value::Null | Value::Object(_) => {}
        Value::Array(items) if items.is_empty() => facts.push("default: none".to_owned()),
        Value::String(text) => facts.push(format!("default `{text}`")),
        other => facts.push(format!("default `{other}`")),
    }
    facts.extend(bounds(field));
    if let Some(item) = field.get("items").filter(|item| item["type"] != "object") {
        let bounds = bounds(item);
        if !bounds.is_empty() {
            facts.push(format!("each {}", bounds.join(", ")));
        }
    }
    facts.join(" · ")
}

fn kind(field: &Value) -> String {
    let name = field["type"].as_str().unwrap_or("any");
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(" or ");
    }
    match name {
        "array" => format!("list of {}s", field["items"]["type"].as_str().unwrap_or("value")),
        "string" if field["format"] == "date-time" => "time (RFC 3339)".to_owned(),
        _ => name.to_owned(),
    }
}

fn bounds(field: &Value) -> Vec<String> {
    let range = |least: &str, most: &str, unit: &str| match (number(&field[least]), number(&field[most])) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let mut bounds = Vec::new();
    bounds.extend(range("minimum", "maximum", ""));
    bounds.extend(range("minLength", "maxLength", " characters"));
    bounds.extend(range("minItems", "maxItems", " items"));
    bounds.extend(field["pattern"].as_str().map(|pattern| format!("pattern `{}`", pattern.replace('|', "\\|"))));
    bounds
}

/// A bound as it is written: the schema has whole numbers as floating-point numbers.
fn number(value: &Value) -> Option<String> {
    value.as_f64().map(|number| number.to_string())
}

fn text(field: &Value) -> String {
    wrapped(&inline(field["description"].as_str().unwrap_or_default()))
}

/// The messages of the CEL rules that guard a field.
fn rules(field: &Value) -> String {
    let rules = field["x-kubernetes-validations"].as_array().into_iter().flatten();
    let messages: String = rules
        .filter_map(|rule| rule["message"].as_str())
        .map(|message| wrapped(&format!("* Rule: {}", inline(message))) + "\n")
        .collect();
    if messages.is_empty() { messages } else { format!("\n{messages}") }
}
