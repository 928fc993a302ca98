//! The JSON Schemas for editors: of a `SessionPolicy`, from the schema of the CustomResourceDefinition, and of scenarios.

use kube::CustomResourceExt;
use serde_json::{Value, json};
use session_checker::crd::{API_VERSION, KIND, SessionPolicy};
use session_checker::server::OPENAPI;

use super::{assert_page, fences, root};
use crate::common::{Running, callers, credentials, policy, tenant};

const PATH: &str = "schemas/sessionpolicy.schema.json";
const SCENARIO_PATH: &str = "schemas/scenario.schema.json";

/// The schema for editors. Unlike the API server, it rejects unknown fields: in a file they are typing errors.
fn schema() -> Value {
    let definition = serde_json::to_value(SessionPolicy::crd()).unwrap();
    let mut schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    adapt(&mut schema);
    let properties = schema["properties"].as_object_mut().unwrap();
    properties.insert("apiVersion".to_owned(), json!({ "const": API_VERSION }));
    properties.insert("kind".to_owned(), json!({ "const": KIND }));
    properties.insert("metadata".to_owned(), json!({ "type": "object", "required": ["name"] }));
    properties.remove("status");
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema
}

/// Turns a schema of Kubernetes into one of JSON Schema, with all that is below it.
fn adapt(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|key, _| !key.starts_with("x-kubernetes-"));
            if map.remove("nullable") == Some(Value::Bool(true)) {
                map.insert("type".to_owned(), json!([map["type"], "null"]));
            }
            if map.get("properties").is_some_and(Value::is_object) {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
            map.values_mut().for_each(adapt);
        }
        Value::Array(items) => items.iter_mut().for_each(adapt),
        _ => {}
    }
}

/// The schema of scenarios, with that of the policy in them: a spec without tenant and callers, a whole resource, or a text.
fn scenario_schema() -> Value {
    let mut schema = session_checker::scenario::schema();
    let whole = self::schema();
    let mut spec = whole["properties"]["spec"].clone();
    spec["required"] = json!(["limits"]);
    let description = schema["properties"]["policy"]["description"].take();
    schema["properties"]["policy"] = json!({
        "description": description,
        "anyOf": [
            spec.clone(),
            { "type": "object", "required": ["kind", "spec"], "properties": { "kind": { "const": KIND }, "spec": spec } },
            { "type": "string" },
        ],
    });
    schema
}

#[test]
fn committed_schemas_for_editors_are_those_of_the_types() {
    for (path, schema) in [(PATH, schema()), (SCENARIO_PATH, scenario_schema())] {
        assert_page(path, &format!("{}\n", serde_json::to_string_pretty(&schema).unwrap()));
    }
}

#[test]
fn schema_of_scenarios_accepts_the_examples_and_no_typing_error() {
    let validator = jsonschema::validator_for(&scenario_schema()).unwrap();
    let mut accepted = 0;
    for folder in ["examples/scenarios", "examples/policy-tests"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let scenario: Value = serde_saphyr::from_str(&text).unwrap();
            assert!(validator.is_valid(&scenario), "{:?}", validator.iter_errors(&scenario).next());
            for (pointer, wrong) in [
                ("", json!({ "titel": "x" })),
                ("/people/0", json!({ "role": ["x"] })),
                ("/steps/0", json!({ "expct": "allowed" })),
                ("/steps/0", json!({ "expect": "alowed" })),
                ("/steps/0", json!({ "expect": "blocked limit_exceded" })),
                ("/policy", json!({ "limit": {} })),
            ] {
                let mut typing_error = scenario.clone();
                let Some(place) = typing_error.pointer_mut(pointer) else { continue };
                place.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
                assert!(!validator.is_valid(&typing_error), "{pointer} {wrong}");
            }
            accepted += 1;
        }
    }
    assert!(accepted > 6, "{accepted}");
}

#[test]
fn schema_for_editors_accepts_the_examples_and_no_typing_error() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut accepted = 0;
    for entry in std::fs::read_dir(root().join("examples/policies")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for policy in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert!(validator.is_valid(&policy), "{:?}", validator.iter_errors(&policy).next());
            let mut typing_error = policy.clone();
            typing_error["spec"]["limit"] = typing_error["spec"]["limits"].clone();
            assert!(!validator.is_valid(&typing_error));
            let mut too_many = policy;
            too_many["spec"]["limits"]["perUser"] = json!(1001);
            assert!(!validator.is_valid(&too_many));
            accepted += 1;
        }
    }
    assert!(accepted > 5, "{accepted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_openapi_is_that_of_the_types_and_served() {
    assert_page("schemas/openapi.json", &OPENAPI);
    let tenant = tenant().await;
    let service = Running::folder(&tenant, &[credentials(), callers(), policy("one", json!({}))], &[]).await;
    assert_eq!(service.admin("/openapi.json").await, *OPENAPI);
    service.stop().await.unwrap();
}

#[test]
fn page_about_editors_names_the_schemas() {
    let page = std::fs::read_to_string(root().join("docs/editors.md")).unwrap();
    for path in [PATH, SCENARIO_PATH] {
        assert!(fences(&page).iter().any(|(info, text)| info == "yaml" && text.contains(path)), "{path}");
    }
}
