//! The policies and logins of the histories.

use serde_json::{Value, json};

use super::{CLIENTS, Pair};
use crate::policy::{Login, LoginContext, Manifest, ObjectName, Policy, compile};

/// Each login is decided by one of these.
pub fn policies() -> Vec<Policy> {
    let fields = [
        json!({ "limits": { "perClient": 1 } }),
        json!({ "limits": { "perClient": 2 } }),
        json!({ "limits": { "perUser": 2 } }),
        json!({ "limits": { "perGroup": 1, "perUser": 3 }, "selector": { "clientIds": ["a", "b"] } }),
        json!({ "limits": { "perClient": 1, "perUser": 2 }, "activeWithin": "30m" }),
        json!({ "limits": { "perClient": 1 }, "mode": "Audit" }),
        json!({ "limits": { "perClient": 2 }, "strategy": "RevokeOldest" }),
    ];
    fields.iter().map(compiled).collect()
}

/// A policy for all applications, with these fields.
pub fn compiled(fields: &Value) -> Policy {
    let mut spec = json!({
        "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } },
        "selector": { "clientIds": CLIENTS },
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = Value::clone(value);
    }
    let name = ObjectName::new("default", "limits");
    compile(&Manifest { name, generation: 1, created_at: None, spec }).unwrap()
}

pub fn login((sid, client): &Pair) -> Login {
    Login::new("u".into(), (*client).into(), Some(sid.clone()), LoginContext::default()).unwrap()
}
