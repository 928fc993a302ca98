//! Values that never match.

use super::*;

fn warnings_of(extra: Value) -> Vec<String> {
    let mut spec = json!({ "limits": { "perUser": 1 } });
    merge(&mut spec, extra);
    let policy = compile(&manifest(spec)).unwrap();
    warnings(&policy, Some(at(1000)))
}

fn exempt(more: Value) -> Value {
    let mut entry = json!({ "name": "x", "exempt": true });
    merge(&mut entry, more);
    json!({ "overrides": [entry] })
}

#[test]
fn values_that_never_match_are_warned_about() {
    let past = at(999).to_string();
    for (extra, field) in [
        (json!({ "selector": { "connections": ["con_0123456789abcdef"] } }), "spec.selector.connections"),
        (json!({ "selector": { "clientIds": ["My application"] } }), "spec.selector.clientIds"),
        (exempt(json!({ "connections": ["db", "con_0123456789ABCDEF"] })), "spec.overrides[0].connections"),
        (exempt(json!({ "users": ["ann@x.com", "auth0|1"] })), "spec.overrides[0].users"),
        (exempt(json!({ "users": ["auth0|*"] })), "spec.overrides[0].users"),
        (exempt(json!({ "users": ["507f1f77bcf86cd799439020"] })), "spec.overrides[0].users"),
        (exempt(json!({ "roles": ["rol_0123456789abcdef"] })), "spec.overrides[0].roles"),
        (exempt(json!({ "roles": ["staff"], "expiresAt": past })), "spec.overrides[0].expiresAt"),
        (json!({ "skipProtocols": ["refresh_token"] }), "spec.skipProtocols"),
        (json!({ "revokeRequiresMfa": true }), "spec.revokeRequiresMfa"),
        (json!({ "explainEvictions": true }), "spec.explainEvictions"),
        (json!({ "reentry": "CountOthers", "recheckAfter": "10m" }), "spec.recheckAfter"),
    ] {
        let warnings = warnings_of(extra.clone());
        assert_eq!(warnings.len(), 1, "{extra}: {warnings:?}");
        assert!(warnings[0].starts_with(field), "{extra}: {warnings:?}");
        assert!(!warnings[0].contains("ann@x.com"), "{warnings:?}");
    }
}

#[test]
fn values_that_may_match_are_not_warned_about() {
    let future = at(1001).to_string();
    for extra in [
        json!({}),
        json!({ "selector": { "connections": ["con_artists", "db"], "organizations": ["org_1"] } }),
        json!({ "skipProtocols": [] }),
        json!({ "skipProtocols": ["oauth2-refresh-token", "samlp"] }),
        json!({ "revokeRequiresMfa": true, "strategy": "RevokeOldest" }),
        json!({ "explainEvictions": true, "strategy": "Ask" }),
        json!({ "reentry": "CountOthers" }),
        json!({ "reentry": "CountOthers", "recheckAfter": "0s" }),
        exempt(
            json!({ "users": ["auth0|1", "samlp|acme|ann@x.com"], "roles": ["rol_of_honour"], "expiresAt": future }),
        ),
    ] {
        assert_eq!(warnings_of(extra.clone()), Vec::<String>::new(), "{extra}");
    }
}

#[test]
fn organization_names_are_rejected() {
    for (pointer, field) in [
        ("/selector/organizations", "spec.selector.organizations"),
        ("/overrides/0/organizations", "spec.overrides[0].organizations"),
    ] {
        let spec = session_policies::with(pointer, Some(json!(["org_1", "acme-corp"])));
        let errors = compile(&Manifest { spec, ..manifest(json!({})) }).unwrap_err();
        assert!(errors.iter().any(|error| error.field == field && error.message.contains("org_")), "{errors:?}");
    }
}
