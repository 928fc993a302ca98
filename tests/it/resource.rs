//! The CRD in a real API server: accepted and rejected values, messages, defaults, and the output of `kubectl`.

use std::collections::BTreeSet;

use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt};
use serde_json::{Value, json};
use session_checker::crd::SessionPolicy;
use session_checker::validate::{InputFile, validate};

use crate::broken_manifests::{ApiServer, POLICY, broken_manifests, odd_spellings};
use crate::control_plane::{self, Namespace, Rbac};
use crate::session_policies::{broken_rules, full, invalid, valid, with};

/// A manifest of a policy with this spec.
fn policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// Creates a policy as a dry run. Like `kubectl apply`, this rejects unknown fields.
async fn created(client: &Client, namespace: &str, spec: &Value) -> Result<Value, String> {
    let url = format!(
        "/apis/sessionchecker.dev/v1alpha1/namespaces/{namespace}/sessionpolicies?dryRun=All&fieldValidation=Strict"
    );
    let body = policy("a", spec).to_string().into_bytes();
    let request = axum::http::Request::post(url).header("content-type", "application/json").body(body).unwrap();
    client.request(request).await.map_err(|error| match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 422) => status.message.clone(),
        other => panic!("neither accepted nor rejected: {other}"),
    })
}

fn policies(team: &Namespace<'_>, client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, &team.name, &ApiResource::erase::<SessionPolicy>(&()))
}

#[tokio::test]
async fn values_within_the_bounds_are_accepted() {
    let Some(plane) = control_plane::shared().await else { return };
    let admin = plane.admin().await;
    created(&admin, "default", &full()).await.unwrap();
    for (pointer, value) in valid() {
        if let Err(message) = created(&admin, "default", &with(pointer, Some(value.clone()))).await {
            panic!("{pointer} {value}: {message}");
        }
    }
}

#[tokio::test]
async fn values_out_of_bounds_are_rejected_by_their_field() {
    let Some(plane) = control_plane::shared().await else { return };
    let admin = plane.admin().await;
    // The error of a rule between fields names their parent, so its message is enough.
    let rules: Vec<&str> = broken_rules().into_iter().map(|(_, words)| words).collect();
    let mut wrong = Vec::new();
    for (pointer, value, field, _) in invalid() {
        match created(&admin, "default", &with(pointer, value.clone())).await {
            Err(message) if message.contains(field) || rules.iter().any(|words| message.contains(words)) => {}
            answer => wrong.push(format!("{pointer} {value:?}: {field}: {answer:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn rules_of_the_resource_say_what_to_write() {
    let Some(plane) = control_plane::shared().await else { return };
    let admin = plane.admin().await;
    let mut unseen: BTreeSet<String> = BTreeSet::new();
    messages(&serde_json::to_value(SessionPolicy::crd()).unwrap(), &mut unseen);
    assert!(unseen.len() > 10, "{unseen:?}");
    for (spec, words) in broken_rules() {
        let message = created(&admin, "default", &spec).await.unwrap_err();
        assert!(message.contains(words), "{message}");
        unseen.retain(|rule| !message.contains(rule.as_str()));
    }
    let to_change = unseen.into_iter().collect::<Vec<_>>();
    assert_eq!(to_change, ["tenant.domain cannot be changed: create a new SessionPolicy for the other tenant"]);
}

/// The messages of all CEL rules.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                found.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
            }
            fields.values().for_each(|child| messages(child, found));
        }
        Value::Array(items) => items.iter().for_each(|child| messages(child, found)),
        _ => {}
    }
}

#[tokio::test]
async fn kubectl_apply_shows_the_message_of_the_rule() {
    let Some(plane) = control_plane::shared().await else { return };
    let spec = with("/timeout", Some(json!("1h")));
    let output = plane.kubectl(&["apply", "--dry-run=server", "-f", "-"], &policy("a", &spec).to_string()).await;
    assert!(!output.is_success);
    // Between the two is the value, or its type in older API servers.
    let (field, words) =
        ("spec.timeout: Invalid value: ", "write a duration above zero and up to 10s, such as 3s or 1500ms");
    assert!(output.err.contains(field) && output.err.contains(words), "{}", output.err);
}

#[tokio::test]
async fn tenant_of_a_policy_changes_only_in_upper_case() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("a", &full())).await;
    let api = policies(&team, plane.admin().await);
    let change = async |domain: &str| {
        let patch = json!({ "spec": { "tenant": { "domain": domain } } });
        api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await
    };
    change("ACME.eu.auth0.com").await.unwrap();
    let error = change("other.eu.auth0.com").await.unwrap_err().to_string();
    assert!(error.contains("create a new SessionPolicy for the other tenant"), "{error}");
}

#[tokio::test]
async fn largest_policy_fits_the_rules_and_etcd() {
    let Some(plane) = control_plane::shared().await else { return };
    let texts = |count: usize, length: usize| -> Value {
        (0..count).map(|n| format!("{n:0>4}{}", "x".repeat(length - 4))).collect()
    };
    let organizations =
        |length: usize| -> Value { (0..100).map(|n| format!("org_{n:0>4}{}", "x".repeat(length - 8))).collect() };
    // Nearly as many bytes as the rule permits.
    let overrides: Value = (0..32)
        .map(|n| {
            json!({
                "name": format!("{n:0>2}{}", "x".repeat(61)), "users": texts(200, 35), "roles": texts(50, 10),
                "organizations": organizations(16), "connections": texts(100, 20), "clientIds": texts(100, 35),
                "limits": { "perClient": 1000, "perGroup": 1000, "perUser": 1000 },
                "expiresAt": "2027-01-31T00:00:00Z",
            })
        })
        .collect();
    let mut spec = with("/overrides", Some(overrides));
    spec["selector"] = json!({
        "clientIds": texts(100, 128), "organizations": organizations(60), "connections": texts(100, 64),
    });
    spec["skipProtocols"] = texts(32, 64);
    spec["message"] = json!("x".repeat(500));
    let team = plane.namespace(Rbac::Namespaced).await;
    // Once as it is created, and once as it is applied on the server's side: each value is in the managed fields too.
    created(&plane.admin().await, &team.name, &spec).await.unwrap();
    team.apply(policy("largest", &spec)).await;
}

#[tokio::test]
async fn omitted_fields_get_defaults_and_reapplying_is_a_no_op() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let written = json!({
        "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
        "limits": { "perClient": 1 },
    });
    let api = policies(&team, plane.admin().await);
    team.apply(policy("a", &written)).await;
    let first = api.get("a").await.unwrap();
    let mut expected = written.clone();
    let defaults = json!({
        "selector": {}, "priority": 0, "reentry": "KeepPlace", "strategy": "Deny", "revokeRequiresMfa": false,
        "explainEvictions": false,
        "mode": "Enforce", "missingSession": "Allow", "skipProtocols": ["oauth2-refresh-token"], "overrides": [],
        "failurePolicy": "Allow", "timeout": "3s", "admissionWindow": "10s", "recheckAfter": "1h", "actors": "Exempt",
    });
    expected.as_object_mut().unwrap().extend(defaults.as_object().unwrap().clone());
    assert_eq!(first.data["spec"], expected);
    // The second write stores the default of the status, which the first cannot.
    team.apply(policy("a", &written)).await;
    let second = api.get("a").await.unwrap();
    team.apply(policy("a", &written)).await;
    let third = api.get("a").await.unwrap();
    assert_eq!(third.metadata.resource_version, second.metadata.resource_version);
    assert_eq!(third.metadata.generation, Some(1));
}

#[tokio::test]
async fn policy_that_nobody_has_seen_has_unknown_conditions() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("a", &full())).await;
    let unseen = policies(&team, plane.admin().await).get("a").await.unwrap();
    let conditions = unseen.data["status"]["conditions"].as_array().unwrap().iter();
    let state: Vec<_> = conditions.map(|one| json!([one["type"], one["status"], one["reason"]])).collect();
    assert_eq!(state, [json!(["Accepted", "Unknown", "Pending"]), json!(["Ready", "Unknown", "Pending"])]);
    let output = plane.kubectl(&["get", "sesspol", "-n", &team.name], "").await;
    assert!(output.out.contains("Unknown") && output.out.contains("Pending"), "{}", output.out);
}

#[tokio::test]
async fn white_space_in_a_selector_is_rejected_by_its_item() {
    let Some(plane) = control_plane::shared().await else { return };
    let spec = with("/selector/clientIds", Some(json!(["c1", "My App"])));
    let message = created(&plane.admin().await, "default", &spec).await.unwrap_err();
    assert!(message.contains("spec.selector.clientIds[1]"), "{message}");
}

#[tokio::test]
async fn sets_merge_and_overrides_are_replaced_between_managers() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("a", &full())).await;
    let api = policies(&team, plane.admin().await);
    let second = PatchParams::apply("second").force();
    let selector = policy("a", &json!({ "selector": { "clientIds": ["c2"] } }));
    let shared = api.patch("a", &second, &Patch::Apply(&selector)).await.unwrap();
    assert_eq!(shared.data["spec"]["selector"]["clientIds"], json!(["c1", "c2"]));
    let overrides = json!([{ "name": "other", "users": ["v"], "exempt": true }]);
    let replaced =
        api.patch("a", &second, &Patch::Apply(&policy("a", &json!({ "overrides": overrides })))).await.unwrap();
    assert_eq!(replaced.data["spec"]["overrides"], overrides);
    assert_eq!(replaced.data["spec"]["selector"]["clientIds"], json!(["c1"]));
}

#[tokio::test]
async fn kubectl_get_shows_the_limit_and_the_readiness() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    team.apply(policy("seats", &with("/mode", Some(json!("Audit"))))).await;
    let status = json!({ "status": { "limits": "client=1 user=5", "conditions": [{
        "type": "Ready", "status": "False", "reason": "SecretMissing", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    let api = policies(&team, plane.admin().await);
    api.patch_status("seats", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let columns = |output: &str| {
        let lines: Vec<Vec<String>> = output
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect())
            .collect();
        lines
    };
    let output = plane.kubectl(&["get", "sesspol", "-n", &team.name], "").await;
    let lines = columns(&output.out);
    assert_eq!(lines[0], ["NAME", "STRATEGY", "LIMIT", "MODE", "READY", "REASON", "AGE"]);
    assert_eq!(lines[1][..6], ["seats", "Deny", "client=1 user=5", "Audit", "False", "SecretMissing"]);
    let wide = columns(&plane.kubectl(&["get", "sesspol", "-n", &team.name, "-o", "wide"], "").await.out);
    assert_eq!((wide[0].last().unwrap().as_str(), wide[1].last().unwrap().as_str()), ("TENANT", "acme.eu.auth0.com"));
}

#[tokio::test]
async fn kubectl_explain_describes_every_field() {
    let Some(plane) = control_plane::shared().await else { return };
    let output = plane.kubectl(&["explain", "sesspol.spec.limits.perUser"], "").await;
    assert!(output.out.contains("Sessions with any application of the tenant, together."), "{output:?}");
    let definition = serde_json::to_value(SessionPolicy::crd()).unwrap();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    let mut undocumented = Vec::new();
    find_undocumented(schema, "", &mut undocumented);
    assert_eq!(undocumented, Vec::<String>::new());
}

fn find_undocumented(schema: &Value, path: &str, found: &mut Vec<String>) {
    if schema["description"].as_str().is_none_or(str::is_empty) {
        found.push(path.to_owned());
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        find_undocumented(child, &format!("{path}.{name}"), found);
    }
    for (name, child) in schema["items"]["properties"].as_object().into_iter().flatten() {
        find_undocumented(child, &format!("{path}[].{name}"), found);
    }
}

#[tokio::test]
async fn examples_are_applied_unchanged_and_without_a_warning() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let admin = plane.admin().await;
    let mut policies = 0;
    for folder in ["examples", "examples/policies"] {
        for entry in std::fs::read_dir(format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"))).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let output = plane.kubectl(&["apply", "--server-side", "-n", &team.name, "-f", "-"], &text).await;
            assert!(output.is_success && output.err.is_empty(), "{}: {}", path.display(), output.err);
            for written in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                let kept = kept(&admin, &team.name, &written).await;
                assert_part(&written["spec"], &kept["spec"], &path.display().to_string());
                policies += usize::from(written["kind"] == "SessionPolicy");
            }
        }
    }
    assert!(policies > 5, "{policies}");
}

async fn kept(client: &Client, namespace: &str, written: &Value) -> Value {
    let object: DynamicObject = serde_json::from_value(written.clone()).unwrap();
    let kind = kube::core::GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    serde_json::to_value(api.get(object.metadata.name.as_deref().unwrap()).await.unwrap()).unwrap()
}

/// Asserts that every written field is stored unchanged.
fn assert_part(written: &Value, kept: &Value, place: &str) {
    match written {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_part(value, &kept[name], &format!("{place}: {name}"));
            }
        }
        Value::Array(items) => {
            assert_eq!(items.len(), kept.as_array().map_or(0, Vec::len), "{place}");
            for (position, item) in items.iter().enumerate() {
                assert_part(item, &kept[position], &format!("{place}[{position}]"));
            }
        }
        other => assert_eq!(other, kept, "{place}"),
    }
}

#[tokio::test]
async fn definition_is_installed_without_a_warning() {
    let Some(plane) = control_plane::shared().await else { return };
    let definition = session_checker::crd::manifest().unwrap();
    let output = plane
        .kubectl(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], &definition)
        .await;
    assert!(output.is_success && output.err.is_empty(), "{}", output.err);
}

#[tokio::test]
async fn status_is_written_in_parts_and_without_the_spec() {
    let Some(plane) = control_plane::shared().await else { return };
    let team = plane.namespace(Rbac::Namespaced).await;
    let api = policies(&team, plane.admin().await);
    let written: DynamicObject = serde_json::from_value(policy("a", &full())).unwrap();
    api.create(&PostParams::default(), &written).await.unwrap();
    let condition = |kind: &str| {
        json!({
            "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy",
            "spec": { "priority": 7 },
            "status": { "conditions": [{
                "type": kind, "status": "True", "reason": "Fine", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        })
    };
    for manager in ["Ready", "Other"] {
        let apply = PatchParams::apply(manager).force();
        api.patch_status("a", &apply, &Patch::Apply(condition(manager))).await.unwrap();
    }
    let kept = api.get("a").await.unwrap();
    assert_eq!(kept.data["spec"]["priority"], 0);
    let reasons: Vec<_> = kept.data["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| json!([one["type"], one["reason"]]))
        .collect();
    // `Accepted` is the default of the schema.
    assert_eq!(reasons, [json!(["Accepted", "Pending"]), json!(["Ready", "Fine"]), json!(["Other", "Fine"])]);
    assert_eq!(kept.metadata.generation, Some(1));
}

/// Sends the text of a manifest to the API server as a dry run, in YAML as it is.
async fn applied_text(client: &Client, text: &[u8]) -> Result<(), String> {
    let url = "/apis/sessionchecker.dev/v1alpha1/namespaces/default/sessionpolicies?dryRun=All&fieldValidation=Strict";
    let request =
        axum::http::Request::post(url).header("content-type", "application/yaml").body(text.to_vec()).unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => Err(status.message.clone()),
        Err(other) => panic!("neither accepted nor rejected: {other}: {}", String::from_utf8_lossy(text)),
    }
}

#[tokio::test]
async fn validate_and_the_api_server_give_the_same_verdict() {
    let Some(plane) = control_plane::shared().await else { return };
    let admin = plane.admin().await;
    let mut wrong = Vec::new();
    let mut compare = async |name: &str, text: &[u8]| {
        let file = InputFile { name: name.to_owned(), content: Ok(text.to_vec()) };
        let validation = validate(&[file], jiff::Timestamp::now());
        let server = applied_text(&admin, text).await;
        if server.is_ok() != validation.is_valid() {
            wrong.push(format!("{name}: the server says {server:?}, and validate {:#?}", validation.problems));
        }
        server.is_ok()
    };
    compare("good", POLICY.as_bytes()).await;
    for text in odd_spellings() {
        compare(&text, text.as_bytes()).await;
    }
    let mut expected = Vec::new();
    for row in broken_manifests().into_iter().filter(|row| row.server != ApiServer::NotAsked) {
        let accepted = compare(row.mistake, &row.text).await;
        if accepted != (row.server == ApiServer::Accepts) {
            expected.push(row.mistake);
        }
    }
    for (pointer, value, ..) in invalid() {
        compare(pointer, policy("a", &with(pointer, value)).to_string().as_bytes()).await;
    }
    for (pointer, value) in valid() {
        compare(pointer, policy("a", &with(pointer, Some(value))).to_string().as_bytes()).await;
    }
    for (spec, words) in broken_rules() {
        compare(words, policy("a", &spec).to_string().as_bytes()).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(expected, Vec::<&str>::new());
}
