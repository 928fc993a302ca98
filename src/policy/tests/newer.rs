//! Specs of a newer version of the resource: nothing that this program does not know switches a limit off.

use proptest::prelude::*;

use super::session_policies::{full, with};
use super::*;

fn stored(spec: &Value) -> Result<(Policy, Vec<SpecError>), Vec<SpecError>> {
    compile_stored(&Manifest { spec: spec.clone(), ..manifest(json!({})) })
}

fn strict(spec: &Value) -> Result<Policy, Vec<SpecError>> {
    compile(&Manifest { spec: spec.clone(), ..manifest(json!({})) })
}

#[test]
fn unknown_field_of_the_api_server_is_ignored_and_named() {
    for pointer in ["/devices", "/tenant/audience", "/selector/groups", "/limits/perDevice", "/overrides/0/note"] {
        for value in [json!(3), json!("x"), json!(false), json!([]), json!({})] {
            let spec = with(pointer, Some(value.clone()));
            let (policy, unknown) = stored(&spec).unwrap_or_else(|errors| panic!("{pointer} {value}: {errors:?}"));
            assert_eq!(format!("{policy:?}"), format!("{:?}", strict(&full()).unwrap()), "{pointer} {value}");
            let field = format!("spec{}", pointer.replace("/0", "[0]").replace('/', "."));
            assert_eq!(unknown.iter().map(|note| note.field.as_str()).collect::<Vec<_>>(), [field]);
            assert!(unknown[0].message.contains("upgrade the service"), "{}", unknown[0]);
            assert!(strict(&spec).is_err(), "{pointer}: as a person wrote it, it is an error");
        }
    }
}

#[test]
fn unknown_word_of_the_api_server_acts_as_the_default() {
    for field in ["reentry", "strategy", "mode", "actors", "missingSession", "failurePolicy"] {
        let pointer = format!("/{field}");
        let spec = with(&pointer, Some(json!("OfALaterVersion")));
        let (policy, unknown) = stored(&spec).unwrap();
        assert_eq!(format!("{policy:?}"), format!("{:?}", strict(&full()).unwrap()), "{field}");
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].field, format!("spec.{field}"));
        assert!(unknown[0].message.contains(r#""OfALaterVersion""#), "{}", unknown[0]);
        assert!(strict(&spec).is_err());
    }
}

#[test]
fn override_that_an_unknown_field_may_narrow_is_left_out() {
    let exempt = |more: Value| {
        let mut entry = json!({ "name": "vip", "exempt": true });
        merge(&mut entry, more);
        with("/overrides", Some(json!([{ "name": "kept", "users": ["a"], "exempt": true }, entry])))
    };
    for spec in [
        exempt(json!({ "users": ["u"], "countries": ["se"] })),
        exempt(json!({ "users": ["u"], "window": { "from": "8:00" } })),
        // It has no criterion that this program knows.
        exempt(json!({ "country": "se" })),
        exempt(json!({ "exempt": false, "users": ["u"], "limits": { "perDevice": 1 } })),
    ] {
        let (policy, unknown) = stored(&spec).unwrap();
        let names: Vec<&str> = policy.overrides.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["kept"], "{spec}");
        assert!(unknown.iter().any(|note| note.field == "spec.overrides[1]"), "{unknown:?}");
    }
}

/// The objects of the spec that the schema describes, as pointers into [`full`], each with whether it selects logins.
fn objects() -> Vec<(String, bool)> {
    fn visit(schema: &Value, pointer: String, found: &mut Vec<(String, bool)>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, field) in properties {
            visit(field, format!("{pointer}/{name}"), found);
            visit(&field["items"], format!("{pointer}/{name}/0"), found);
        }
        found.push((pointer, properties.contains_key("organizations")));
    }
    let mut found = Vec::new();
    visit(crate::crd::spec_schema(), String::new(), &mut found);
    found
}

/// The spec of [`full`] with a field at a place, whose parents are made.
fn with_field(place: &str, name: &str, value: &Value) -> Value {
    let mut field = json!({ name: value });
    for part in place.rsplit('/').filter(|part| !part.is_empty()) {
        field = match part {
            "0" => json!([field]),
            part => json!({ part: field }),
        };
    }
    let mut spec = full();
    add(&mut spec, field);
    // What is required beside it.
    match place {
        "/messages/0" => add(&mut spec, json!({ "messages": [{ "language": "de", "unavailable": "x" }] })),
        "/tenant/logStreamSecretRef" => {
            add(&mut spec, json!({ "tenant": { "logStreamSecretRef": { "name": "stream" } } }));
        }
        _ => {}
    }
    spec
}

/// Merges lists by position.
fn add(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (name, value) in extra {
                add(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(extra)) if !base.is_empty() => {
            base.iter_mut().zip(extra).for_each(|(base, extra)| add(base, extra));
        }
        (base, extra) => *base = extra,
    }
}

/// Applies a policy of an API server to an index.
fn applied(index: &mut Index, spec: Value, generation: i64) -> PolicyReport {
    index.apply_stored_policy(&Manifest { spec, generation, ..manifest(json!({})) });
    index.publish(&CallerAccess::default()).1.remove(0)
}

#[test]
fn unknown_criterion_widens_no_policy_and_no_override() {
    let objects = objects();
    let selecting: Vec<&str> = objects.iter().filter(|object| object.1).map(|object| object.0.as_str()).collect();
    assert_eq!(selecting, ["/overrides/0", "/selector"], "the places where criteria are");
    assert!(objects.len() > 8, "{objects:?}");
    for (place, _) in &objects {
        for value in [json!(["x"]), json!([{ "from": "8:00" }]), json!({ "matchLabels": {} })] {
            let spec = with_field(place, "later.Roles", &value);
            let context = format!("{place} {value}");
            if place == "/selector" {
                let errors = stored(&spec).expect_err(&context);
                assert!(errors.iter().any(|error| error.field == "spec.selector.later.Roles"), "{context}: {errors:?}");
                let report = applied(&mut Index::default(), spec.clone(), 1);
                assert_eq!(report.active_version, ActiveVersion::Nothing, "{context}");
                assert!(fallback(&manifest(spec)).is_some(), "in a file it is a typing error");
                continue;
            }
            let (policy, unknown) = stored(&spec).unwrap_or_else(|errors| panic!("{context}: {errors:?}"));
            assert!(!unknown.is_empty(), "{context}");
            let plain = strict(&without(&spec, "later.Roles")).unwrap();
            assert_eq!(policy.scope.selector, plain.scope.selector, "{context}");
            if place.starts_with("/overrides") {
                assert!(policy.overrides.is_empty(), "{context}: {:?}", policy.overrides);
            } else {
                assert_eq!(format!("{policy:?}"), format!("{plain:?}"), "{context}");
            }
        }
    }
}

/// A spec without each field of a name.
fn without(spec: &Value, name: &str) -> Value {
    match spec {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|field| field.0 != name);
            kept.map(|(field, value)| (field.clone(), without(value, name))).collect()
        }
        Value::Array(items) => items.iter().map(|item| without(item, name)).collect(),
        other => other.clone(),
    }
}

#[test]
fn unknown_criterion_of_the_selector_keeps_the_last_good_version() {
    let narrow = with("/selector/roles", Some(json!(["contractor"])));
    let mut index = Index::default();
    assert_eq!(applied(&mut index, full(), 1).active_version, ActiveVersion::Newest);
    let report = applied(&mut index, narrow.clone(), 2);
    assert_eq!(report.active_version, ActiveVersion::LastGood);
    let accepted = report.accepted();
    assert_eq!((accepted.status, accepted.reason), (ConditionStatus::False, ConditionReason::Invalid));
    assert!(accepted.message.contains("spec.selector.roles") && accepted.message.contains("upgrade the service"));
    // A replica that never saw another version governs no login by it.
    let report = applied(&mut Index::default(), narrow, 2);
    assert_eq!((report.version.is_none(), report.active_version), (true, ActiveVersion::Nothing));
    assert!(report.accepted().message.ends_with("the policy applies to no login until then"), "{report:?}");
}

#[test]
fn known_rules_hold_for_what_the_api_server_sends() {
    for (pointer, value) in [
        ("/limits", json!({ "perDevice": 2 })),
        ("/timeout", json!("1h")),
        ("/mode", json!(5)),
        ("/tenant/domain", json!("https://x")),
    ] {
        assert!(stored(&with(pointer, Some(value))).is_err(), "{pointer}");
    }
    let errors = stored(&with("/limits", Some(json!({ "perDevice": 2 })))).unwrap_err();
    assert!(errors.iter().any(|error| error.field == "spec.limits.perDevice"), "{errors:?}");
}

#[test]
fn unknown_field_is_noted_in_the_condition_and_as_a_warning() {
    let mut index = Index::default();
    let spec = with("/devices", Some(json!(3)));
    index.apply_stored_policy(&Manifest { spec: spec.clone(), ..manifest(json!({})) });
    let report = index.publish(&CallerAccess::default()).1.remove(0);
    let accepted = report.accepted();
    assert_eq!(accepted.status, ConditionStatus::True);
    assert!(accepted.message.contains("spec.devices: this version of the service does not know"), "{accepted:?}");
    assert!(report.warnings.iter().any(|warning| warning.starts_with("spec.devices")), "{:?}", report.warnings);
    // The same from a file is an error.
    index.apply_policy(&Manifest { spec, generation: 2, ..manifest(json!({})) });
    assert_eq!(index.publish(&CallerAccess::default()).1[0].accepted().status, ConditionStatus::False);
}

proptest! {
    #[test]
    fn new_field_with_a_default_never_changes_a_policy(
        pointer in prop::sample::select(vec!["", "/tenant", "/selector", "/limits", "/overrides/0", "/callerSecretRef"]),
        name in "later[A-Z][a-z]{1,8}",
        value in prop_oneof![Just(json!(false)), Just(json!("0s")), Just(json!(0)), Just(json!([])), Just(json!({}))],
    ) {
        let spec = with(&format!("{pointer}/{name}"), Some(value));
        let (policy, unknown) = stored(&spec).unwrap();
        prop_assert_eq!(format!("{policy:?}"), format!("{:?}", strict(&full()).unwrap()));
        prop_assert_eq!(unknown.len(), 1);
    }
}

fn secret(name: &str, kind: &str, data: &[(&str, &str)]) -> SecretManifest {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
    SecretManifest { name: ObjectName::new("team", name), kind: kind.to_owned(), data: Ok(data.collect()) }
}

/// Applies a policy for a tenant that a list of a later version may narrow, with callers and a log stream.
fn apply_narrow(index: &mut Index, name: &str, domain: &str, selector: &Value) {
    let spec = json!({
        "tenant": {
            "domain": domain, "credentialsSecretRef": { "name": "auth0" }, "logStreamSecretRef": { "name": name },
        },
        "callerSecretRef": { "name": "callers" },
        "selector": selector,
        "limits": { "perUser": 1 },
    });
    index.apply_stored_policy(&Manifest { name: ObjectName::new("team", name), generation: 1, created_at: None, spec });
}

/// A policy for another tenant, by all of whose names its logins are known, without an active version.
fn narrow_policy_of_another_tenant(callers: &Value) -> Manifest {
    let tenant = json!({
        "domain": "b.eu.auth0.com", "customDomains": ["login.b.example"], "credentialsSecretRef": { "name": "auth0" },
    });
    let selector = json!({ "roles": ["contractor"] });
    let mut spec = json!({ "tenant": tenant, "selector": selector, "limits": { "perUser": 1 } });
    spec.as_object_mut().unwrap().append(&mut callers.as_object().unwrap().clone());
    Manifest { name: ObjectName::new("team", "inactive"), generation: 1, created_at: None, spec }
}

#[test]
fn login_of_an_inactive_tenant_is_not_assumed_to_be_anothers() {
    const CALLER: &str = "0123456789abcdef-caller";
    let named = json!({ "callerSecretRef": { "name": "callers" } });
    let access = CallerAccess { tokens: HashSet::from([TokenDigest::of(CALLER)]), ..CallerAccess::default() };
    for (callers, access) in [(named, CallerAccess::default()), (json!({}), access)] {
        let mut index = Index::default();
        index.apply_secret(&secret("callers", crate::secret::CALLERS_TYPE, &[("token", CALLER)]));
        let mut spec = json!({ "limits": { "perUser": 1 } });
        spec.as_object_mut().unwrap().append(&mut callers.as_object().unwrap().clone());
        index.apply_policy(&manifest(spec));
        index.apply_stored_policy(&narrow_policy_of_another_tenant(&callers));
        let (policy_set, reports) = index.publish(&access);
        assert!(reports.iter().any(|report| report.active_version == ActiveVersion::Nothing));
        for view in [policy_set.view(Some(CALLER)).unwrap(), &policy_set.whole_view()] {
            let resolved = |tenant: &str| {
                let context = LoginContext { tenant: Some(tenant.to_owned()), ..LoginContext::default() };
                let login = Login::new("u".to_owned(), "c1".to_owned(), None, context).unwrap();
                format!("{:?}", view.resolve(&login)).split('(').next().unwrap().to_owned()
            };
            assert_eq!(resolved("acme.eu.auth0.com"), "Policy");
            assert_eq!([resolved("Login.B.example"), resolved("b.eu.auth0.com")], ["NoPolicy", "NoPolicy"]);
            assert_eq!(resolved("login.acme.it"), "UnknownTenant", "it may be the name of either tenant");
        }
    }
}

#[test]
fn callers_of_a_policy_that_is_not_active_stay_known() {
    const CALLER: &str = "0123456789abcdef-caller";
    const STREAM: &str = "0123456789abcdef-stream";
    let narrow = json!({ "roles": ["contractor"] });
    let mut index = Index::default();
    apply_narrow(&mut index, "stream", "acme.eu.auth0.com", &narrow);
    let named: Vec<String> = index.named_secrets().into_iter().map(ToString::to_string).collect();
    assert_eq!(named, ["team/callers", "team/stream"], "the credential has no use");
    index.apply_secret(&secret("callers", crate::secret::CALLERS_TYPE, &[("token", CALLER)]));
    let log_stream = [("domain", "acme.eu.auth0.com"), ("token", STREAM)];
    index.apply_secret(&secret("stream", crate::secret::LOG_STREAM_TYPE, &log_stream));

    let login = |tenant: Option<&str>| {
        let context = LoginContext { tenant: tenant.map(str::to_owned), ..LoginContext::default() };
        Login::new("u".to_owned(), "c1".to_owned(), None, context).unwrap()
    };
    let (policy_set, reports) = index.publish(&CallerAccess::default());
    assert_eq!(reports[0].active_version, ActiveVersion::Nothing);
    assert!(policy_set.active_policies().is_empty());
    let view = policy_set.view(Some(CALLER)).expect("the caller is known");
    for tenant in [None, Some("acme.eu.auth0.com")] {
        assert!(matches!(view.resolve(&login(tenant)), Resolution::NoPolicy), "{tenant:?}");
    }
    assert_eq!(policy_set.log_stream(STREAM).map(AsRef::as_ref), Some("acme.eu.auth0.com"));
    assert!(policy_set.selecting(&login(None)).is_empty());
    assert!(policy_set.view(Some(STREAM)).is_none() && policy_set.view(Some("another")).is_none());
    assert!(policy_set.view(None).is_none());

    // Another policy of the same callers governs its logins.
    apply_narrow(&mut index, "whole", "acme.eu.auth0.com", &json!({}));
    let (policy_set, _) = index.publish(&CallerAccess::default());
    let view = policy_set.view(Some(CALLER)).unwrap();
    assert!(
        matches!(view.resolve(&login(None)), Resolution::Policy(active) if active.version.scope().name.name() == "whole")
    );

    // A token of a log stream counts for one tenant alone.
    index.apply_secret(&secret(
        "other",
        crate::secret::LOG_STREAM_TYPE,
        &[("domain", "b.eu.auth0.com"), ("token", STREAM)],
    ));
    apply_narrow(&mut index, "other", "b.eu.auth0.com", &narrow);
    assert_eq!(index.publish(&CallerAccess::default()).0.log_stream(STREAM), None);

    for name in ["stream", "whole", "other"] {
        index.remove_policy(&ObjectName::new("team", name));
    }
    let (policy_set, _) = index.publish(&CallerAccess::default());
    assert!(index.named_secrets().is_empty());
    assert!(policy_set.view(Some(CALLER)).is_none() && policy_set.log_stream(STREAM).is_none());
}
