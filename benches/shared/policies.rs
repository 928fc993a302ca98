//! Many policies of many tenants, as objects of Kubernetes.

use serde_json::{Value, json};

/// Number of tenants. The policies are distributed evenly over them.
pub const TENANTS: usize = 100;

/// The application that a policy selects.
pub fn application(policy: usize) -> String {
    format!("app-{policy}")
}

/// The caller token of a policy's tenant.
pub fn caller_token(policy: usize) -> String {
    format!("a-callers-token-of-tenant-{}", policy % TENANTS)
}

/// The canonical domain of a tenant.
pub fn domain(tenant: usize) -> String {
    format!("t{tenant}.eu.auth0.com")
}

/// The client secret of a client id.
pub fn secret(id: &str) -> String {
    format!("{id}-secret")
}

/// A policy, for an application of its own.
pub fn policy(number: usize) -> Value {
    let tenant = number % TENANTS;
    json!({
        "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy", "metadata": { "name": format!("policy-{number}") },
        "spec": {
            "tenant": { "domain": domain(tenant), "credentialsSecretRef": { "name": format!("tenant-{tenant}") } },
            "callerSecretRef": { "name": format!("callers-{tenant}") },
            "selector": { "clientIds": [application(number)] },
            "limits": { "perClient": 1 },
            "overrides": [{ "name": "support", "users": ["auth0|507f1f77bcf86cd799439020"], "exempt": true }],
        },
    })
}

/// The Secret with the credential of a tenant.
pub fn credentials(tenant: usize, id: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("tenant-{tenant}") },
        "type": "sessionchecker.dev/credentials",
        "stringData": { "domain": domain(tenant), "clientId": id, "clientSecret": secret(id) },
    })
}

/// The Secret with the callers of a tenant.
pub fn callers(tenant: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": format!("callers-{tenant}") },
        "type": "sessionchecker.dev/callers", "stringData": { "bench": caller_token(tenant) },
    })
}
