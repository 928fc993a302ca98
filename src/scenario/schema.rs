//! The JSON Schema of scenarios, for editors. It is made of the types and tables that read them.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::Auth0Condition;
use super::expect::reasons;
use super::parse::RawScenario;
use super::steps::MAX_AT_ONCE;

/// A login in a step.
const LOGIN: &str = "^\\S+ +on +\\S+( +to +\\S+)?( +with +mfa)?$";
/// A choice in a step.
const CHOICE: &str = "^\\S+ +on +\\S+ +(cancels|ends +\\S.*)$";
/// A browser in a step.
const ON_DEVICE: &str = "^\\S+ +on +\\S+$";
/// A time that passes.
const DURATION: &str = "^([0-9]+d)?([0-9]+(\\.[0-9]+)?(h|m|s|ms))*$";

/// The JSON Schema of a scenario. It says of a policy only that it is one.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<RawScenario>().to_value();
    schema["properties"]["steps"]["items"] = step();
    schema
}

fn step() -> Value {
    let conditions = Auth0Condition::ALL.map(Auth0Condition::as_str);
    json!({
        "description": "One key that says what happens. Beside a login, `expect` says how it should end.",
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 2,
        "properties": {
            "sign in": {
                "description": "A login in a browser: PERSON on DEVICE, with `to APPLICATION` and `with mfa` if they matter.",
                "type": "string",
                "pattern": LOGIN,
            },
            "at once": {
                "description": "Logins whose checks run at the same time.",
                "type": "array",
                "items": { "type": "string", "pattern": LOGIN },
                "minItems": 2,
                "maxItems": MAX_AT_ONCE,
            },
            "choose": {
                "description": "A person whose login waits at the page for choosing sessions ends sessions, or cancels: PERSON on DEVICE ends \
                                DEVICE, DEVICE, or PERSON on DEVICE cancels.",
                "type": "string",
                "pattern": CHOICE,
            },
            "has session": {
                "description": "A session begins without a check, such as before there was a policy: PERSON on DEVICE to APPLICATION.",
                "type": "string",
                "pattern": LOGIN,
            },
            "sign out": {
                "description": "The session of the browser ends: PERSON on DEVICE.",
                "type": "string",
                "pattern": ON_DEVICE,
            },
            "close browser": {
                "description": "The browser forgets its session, which stays: PERSON on DEVICE.",
                "type": "string",
                "pattern": ON_DEVICE,
            },
            "pass": {
                "description": "Time passes: 30s, 5m, 1h30m or 3d.",
                "type": "string",
                "pattern": DURATION,
            },
            "auth0": {
                "description": "How the Management API behaves from now on.",
                "enum": conditions,
            },
            "service": {
                "description": "Whether session-checker can be reached from now on.",
                "enum": ["works", "down"],
            },
            "expect": {
                "description": "How the logins of the step should end, with commas: allowed or blocked, with the reason if it matters; \
                                asks; evicts DEVICE and DEVICE.",
                "type": "string",
                "pattern": expectation(),
            },
        },
    })
}

fn expectation() -> String {
    let reason = format!("({})", reasons().join("|"));
    let login =
        format!("(allowed( +audit)?( +{reason})?|blocked( +{reason})?|asks|evicts +[^\\s,]+( +and +[^\\s,]+)*)");
    format!("^ *{login}( *, *{login})* *$")
}

#[cfg(test)]
mod tests {
    use super::super::steps::KEYS;
    use super::*;

    #[test]
    fn schema_has_the_keys_of_steps() {
        let step = step();
        let mut keys: Vec<&str> = step["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut known = [&KEYS[..], &["expect"]].concat();
        keys.sort_unstable();
        known.sort_unstable();
        assert_eq!(keys, known);
    }
}
