//! The resource's own schema and CEL rules, evaluated here as the API server evaluates them, agree with `compile` on every
//! manifest: those that `kubectl apply` accepts compile, and those that it rejects do not.
//!
//! Every CEL rule is evaluated here. Two things are not compared, because the evaluators at hand are not the API server's:
//! odd spellings of `expiresAt` (its `date-time` takes an offset of 99 hours and no space for the `T`; `compile` is the other
//! way round), and whole numbers written as `1.0`, which only the API server takes.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use kube::core::cel::{ErrorKind, Validator, compile_schema};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;
use serde_json::Map;

use super::compile::compiled;
use super::session_policies::{broken_rules, full, invalid, valid, with};
use super::*;
use crate::crd::SessionPolicy;

/// The schema of `spec`, as the definition has it.
static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let definition = serde_json::to_value(SessionPolicy::crd()).unwrap();
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap().clone()
});

/// The structural part as JSON Schema.
static STRUCTURE: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let mut schema = SPEC.clone();
    as_json_schema(&mut schema);
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

/// Adds in JSON Schema what the API server and `kubectl` check beside it: sets have no duplicates, `int32` is a range, and
/// an unknown field is an error.
fn as_json_schema(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if schema.get("x-kubernetes-list-type") == Some(&json!("set")) {
        schema.insert("uniqueItems".into(), json!(true));
    }
    if schema.get("format") == Some(&json!("int32")) {
        schema.entry("minimum").or_insert(json!(i32::MIN));
        schema.entry("maximum").or_insert(json!(i32::MAX));
    }
    if schema.contains_key("properties") {
        schema.insert("additionalProperties".into(), json!(false));
    }
    for (name, child) in schema.iter_mut() {
        match name.as_str() {
            "properties" => child.as_object_mut().unwrap().values_mut().for_each(as_json_schema),
            "items" => as_json_schema(child),
            _ => {}
        }
    }
}

/// The API server treats `null` as an omitted field, unless the field is nullable; none is.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, pruned(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        other => other,
    }
}

/// The answer of the API server to a new policy with this spec.
fn applied(spec: &Value) -> Result<(), Vec<String>> {
    let spec = pruned(spec.clone());
    let broken: Vec<String> =
        STRUCTURE.iter_errors(&spec).map(|error| format!("{}: {error}", error.instance_path())).collect();
    if !broken.is_empty() {
        return Err(broken);
    }
    Validator::new().validate(&SPEC, &spec, None).map_err(|errors| {
        let unsupported = errors
            .as_slice()
            .iter()
            .find(|error| !matches!(error.kind, ErrorKind::ValidationFailure | ErrorKind::EvaluationError));
        assert_eq!(unsupported, None, "every rule can be evaluated");
        errors.as_slice().iter().map(ToString::to_string).collect()
    })
}

#[test]
fn rules_of_the_resource_are_valid_cel() {
    assert_eq!(compile_schema(&SPEC).compilation_errors().len(), 0);
}

#[test]
fn spec_has_no_nullable_field() {
    assert!(!SPEC.to_string().contains("nullable"));
}

#[test]
fn valid_specs_can_be_applied() {
    assert_eq!(applied(&full()), Ok(()));
    for (pointer, value) in valid() {
        assert_eq!(applied(&with(pointer, Some(value.clone()))), Ok(()), "{pointer} {value}");
    }
}

#[test]
fn invalid_specs_cannot_be_applied() {
    for (pointer, value, ..) in invalid() {
        assert!(applied(&with(pointer, value.clone())).is_err(), "{pointer} {value:?}");
    }
}

#[test]
fn broken_rules_say_what_to_write() {
    for (spec, words) in broken_rules() {
        let errors = applied(&spec).unwrap_err();
        assert!(errors.iter().any(|error| error.contains(words)), "{errors:?}");
    }
}

#[test]
fn group_limit_with_clients_can_be_applied() {
    for limits in ["/limits", "/overrides/0/limits"] {
        assert_eq!(applied(&with(limits, Some(json!({ "perGroup": 1 })))), Ok(()), "{limits}");
    }
}

#[test]
fn tenant_cannot_change_except_for_upper_case() {
    let change = |domain: &str| {
        Validator::new().validate(&SPEC, &with("/tenant/domain", Some(json!(domain))), Some(&full())).is_ok()
    };
    assert!(change("ACME.eu.auth0.com"));
    assert!(!change("other.eu.auth0.com"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = ["", "a", "0s", "5m", "Deny", "Audit", "acme.eu.auth0.com", "auth0", "callers", "2027-01-31T00:00:00Z"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..1005i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(words.to_vec()).prop_map(Value::from),
        "[0-9.+]{0,4}(ns|us|µs|ms|s|m|h|d)?([0-9]{1,3}(s|m|h))?".prop_map(Value::from),
        "([a-zA-Z0-9-]{0,3}[.]){0,3}[a-zA-Z0-9-]{0,4}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let fields = [
        "name",
        "domain",
        "customDomain",
        "credentialsSecretRef",
        "clientIds",
        "organizations",
        "users",
        "roles",
        "limits",
        "perClient",
        "perGroup",
        "perUser",
        "exempt",
        "expiresAt",
        "requestsPerSecond",
        "other",
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(select(fields.to_vec()).prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

const POINTERS: [&str; 40] = [
    "/className",
    "/tenant",
    "/tenant/domain",
    "/tenant/customDomain",
    "/tenant/credentialsSecretRef",
    "/tenant/credentialsSecretRef/name",
    "/tenant/requestsPerSecond",
    "/callerSecretRef",
    "/callerSecretRef/name",
    "/selector",
    "/selector/clientIds",
    "/selector/organizations",
    "/selector/connections",
    "/priority",
    "/limits",
    "/limits/perClient",
    "/limits/perGroup",
    "/limits/perUser",
    "/reentry",
    "/strategy",
    "/revokeRequiresMfa",
    "/explainEvictions",
    "/mode",
    "/activeWithin",
    "/missingSession",
    "/skipProtocols",
    "/overrides",
    "/overrides/0",
    "/overrides/0/name",
    "/overrides/0/users",
    "/overrides/0/clientIds",
    "/overrides/0/limits",
    "/overrides/0/limits/perGroup",
    "/overrides/0/exempt",
    "/failurePolicy",
    "/timeout",
    "/admissionWindow",
    "/recheckAfter",
    "/message",
    "/other",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn compiling_any_json_never_panics(spec in any_json()) {
        let manifest = Manifest { spec, ..manifest(json!({})) };
        let _ = (compile(&manifest), fallback(&manifest));
    }

    #[test]
    fn manifest_compiles_exactly_when_it_can_be_applied(pointer in select(&POINTERS[..]), value in any_json()) {
        let spec = with(pointer, Some(value));
        // The CEL implementation of these tests does not accept `µ`, unlike Go's.
        prop_assume!(!spec.to_string().contains(['µ', 'μ']));
        let compiled = compiled(&spec);
        let applied = applied(&spec);
        prop_assert_eq!(compiled.is_ok(), applied.is_ok(), "{}: {:?} but {:?}", spec, compiled.err(), applied.err());
    }

    #[test]
    fn errors_name_fields_and_leave_a_fallback_with_the_tenant(
        pointer in select(&POINTERS[..]), value in any_json()
    ) {
        let spec = with(pointer, Some(value));
        let in_tenant = pointer.starts_with("/tenant");
        if let Err(errors) = compiled(&spec) {
            prop_assert!(errors.iter().all(|error| error.field.starts_with("spec") && !error.message.is_empty()));
            let fallback = fallback(&Manifest { spec, ..manifest(json!({})) });
            prop_assert!(fallback.is_some() || in_tenant);
        }
    }
}
