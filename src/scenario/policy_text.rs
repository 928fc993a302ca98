//! The policy of a scenario: a `spec`, or a whole `SessionPolicy`, in which the run's own tenant, credential and callers
//! replace those that it names.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::names::{alternatives, did_you_mean};
use super::parse::read_yaml;
use crate::crd;
use crate::policy::{self, Manifest, ObjectName, SpecError};
use crate::validate::{FieldPlaces, parts};

/// The tenant's domain.
pub const DOMAIN: &str = "demo.eu.auth0.com";
/// The credential of the service at the tenant: client id and secret.
pub const CLIENT: (&str, &str) = ("demo-client", "demo-secret");
/// The Action's bearer token.
pub const TOKEN: &str = "demo-caller-token";
/// The policy's name.
const NAME: &str = "playground";

/// What the validation of a policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyMessages {
    /// Why the policy cannot be used. Empty when it can.
    pub problems: Vec<PolicyProblem>,
    /// Parts of it that have no effect.
    pub warnings: Vec<String>,
}

/// One reason why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyProblem {
    /// The line of the text, from 1, where it is known.
    pub line: Option<u64>,
    /// The field and what is wrong with it.
    pub message: String,
}

/// Validates the policy of a scenario by the rules of the service, as `validate` does.
pub fn check_policy(text: &str, now: Timestamp) -> PolicyMessages {
    let spec = match read(text) {
        Ok(spec) => spec,
        Err(problem) => return PolicyMessages { problems: vec![problem], warnings: Vec::new() },
    };
    let manifest = Manifest { name: ObjectName::new("default", NAME), generation: 0, created_at: None, spec };
    match policy::validate(&manifest) {
        Ok(policy) => PolicyMessages { problems: Vec::new(), warnings: policy::warnings(&policy, Some(now)) },
        Err(errors) => {
            let places = FieldPlaces::read(text, 1).unwrap_or_default();
            let problems = errors.iter().map(|error| located(error, &places)).collect();
            PolicyMessages { problems, warnings: Vec::new() }
        }
    }
}

/// One `SessionPolicy` of a file, with empty lines before it, so that its lines are those of the file.
///
/// # Errors
/// The file is not YAML, or it is not clear which policy is meant.
pub(super) fn select(text: &str, name: Option<&str>) -> Result<String, String> {
    let mut found = Vec::new();
    for part in parts(text) {
        let before = part.first_line - 1;
        let value: Value = read_yaml(part.text).map_err(|(line, message)| {
            let line = line.map_or(part.first_line as u64, |line| line + before as u64);
            format!("line {line}: is not YAML: {message}")
        })?;
        if value["kind"] == crd::KIND {
            let own = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            found.push((own, "\n".repeat(before) + part.text));
        }
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let position = match (name, &names[..]) {
        (_, []) => return Err("the file has no SessionPolicy".to_owned()),
        (None, [_]) => Some(0),
        (None, _) => {
            let names = alternatives(names);
            return Err(format!("the file has several policies: write `policyName:` and {names}"));
        }
        (Some(name), names) => names.iter().position(|own| *own == name),
    };
    let unknown = || {
        let name = name.unwrap_or_default();
        match did_you_mean(name, &names) {
            near if near.is_empty() => {
                format!("the file has no SessionPolicy `{name}`: write {}", alternatives(names.iter().copied()))
            }
            near => format!("the file has no SessionPolicy `{name}`{near}"),
        }
    };
    let position = position.ok_or_else(unknown)?;
    Ok(found.swap_remove(position).1)
}

/// The policy and the Secrets as the service reads them.
///
/// # Errors
/// The text is no YAML of a policy.
pub(super) fn manifests(text: &str) -> Result<String, PolicyProblem> {
    let spec = read(text)?;
    let secret = |name: &str, kind: &str, data: Value| {
        let kind = format!("{}/{kind}", crd::GROUP);
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": kind, "stringData": data })
    };
    let policy =
        json!({ "apiVersion": crd::API_VERSION, "kind": crd::KIND, "metadata": { "name": NAME }, "spec": spec });
    let (client_id, client_secret) = CLIENT;
    let credentials = json!({ "domain": DOMAIN, "clientId": client_id, "clientSecret": client_secret });
    let credentials = secret("demo-tenant", "credentials", credentials);
    let callers = secret("demo-callers", "callers", json!({ "action": TOKEN }));
    Ok([policy, credentials, callers].map(|document| document.to_string()).join("\n---\n"))
}

/// The spec, with the run's own references.
fn read(text: &str) -> Result<Value, PolicyProblem> {
    let mut value: Value = read_yaml(text)
        .map_err(|(line, message)| PolicyProblem { line, message: format!("is not YAML: {message}") })?;
    if value["kind"] == crd::KIND {
        value = value["spec"].take();
    }
    let Some(spec) = value.as_object_mut() else {
        let message = "is no policy: write the fields of its spec, such as `limits:` with `perClient: 1` below";
        return Err(PolicyProblem { line: Some(1), message: message.to_owned() });
    };
    let tenant = spec.entry("tenant").or_insert_with(|| json!({}));
    if let Some(tenant) = tenant.as_object_mut() {
        tenant.insert("domain".to_owned(), DOMAIN.into());
        tenant.insert("credentialsSecretRef".to_owned(), json!({ "name": "demo-tenant" }));
        for field in ["customDomain", "customDomains"] {
            tenant.remove(field);
        }
    }
    spec.insert("callerSecretRef".to_owned(), json!({ "name": "demo-callers" }));
    Ok(value)
}

/// The problem with the line of its field, or of what is written of the field's path. A text that is only the spec has the
/// field without `spec`.
fn located(error: &SpecError, places: &FieldPlaces) -> PolicyProblem {
    let field = error.field.as_str();
    let place = places.written_name(field).or_else(|| places.written_name(field.strip_prefix("spec.")?));
    PolicyProblem { line: place.and_then(|place| place.line.try_into().ok()), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> PolicyMessages {
        check_policy(text, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn spec_needs_no_tenant_and_a_whole_resource_keeps_its_limits() {
        assert_eq!(messages("limits:\n  perClient: 1\n"), PolicyMessages::default());
        let whole = include_str!("../../examples/demo.yaml").split("---").next().unwrap();
        assert_eq!(messages(whole), PolicyMessages::default());
        let manifests = manifests(whole).unwrap();
        assert!(manifests.contains(r#""perClient":1"#) && manifests.contains("demo-caller-token"), "{manifests}");
    }

    #[test]
    fn problem_names_its_line() {
        let lines = |text: &str| messages(text).problems.iter().map(|problem| problem.line).collect::<Vec<_>>();
        assert_eq!(lines("# two\nlimits:\n  perClient: 0\n"), [Some(3)]);
        assert_eq!(lines("limits:\n  perClient: 1\nstrategy: Maybe\n"), [Some(3)]);
        assert_eq!(lines("mode: Audit\nlimits: {,}\n").len(), 1);
        let overrides =
            "overrides:\n  - name: a\n    limits: { perClient: 2 }\n  - name: b\n    limits:\n      perClient: 0\n";
        let overrides = overrides.replace("name", "users: [u]\n    name");
        assert_eq!(lines(&format!("limits:\n  perClient: 1\n{overrides}")), [Some(10)], "not the first override");
        assert_eq!(lines("just text"), [Some(1)]);
    }
}
