//! Values of a policy that are valid and probably never match, or have no effect. Auth0 does not say which names a tenant
//! has, so these are warnings: where the form of a value is certain, the compile step rejects it.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;

use super::model::{AskTerms, Policy, Reentry, Selector, Strategy};

/// The names that Auth0 documents for `event.transaction.protocol`.
const PROTOCOLS: [&str; 15] = [
    "oidc-basic-profile",
    "oidc-implicit-profile",
    "oidc-hybrid-profile",
    "oauth2-device-code",
    "oauth2-resource-owner",
    "oauth2-resource-owner-jwt-bearer",
    "oauth2-password",
    "oauth2-access-token",
    "oauth2-refresh-token",
    "oauth2-token-exchange",
    "samlp",
    "wsfed",
    "wstrust-usernamemixed",
    "delegation",
    "redirect-callback",
];

/// The default of `recheckAfter`: a policy with this value may not have written it.
const DEFAULT_RECHECK_AFTER: Duration = Duration::from_secs(3600);

/// The parts of a policy that have no effect. No message contains a value, which may be a user's id. `now` is the time by
/// which overrides have expired; without it, none has.
pub fn warnings(policy: &Policy, now: Option<Timestamp>) -> Vec<String> {
    let mut warnings = Vec::new();
    selector(&policy.scope.selector, "spec.selector", &mut warnings);
    for (position, entry) in policy.overrides.iter().enumerate() {
        let field = format!("spec.overrides[{position}]");
        selector(&entry.selector, &field, &mut warnings);
        let mut warn = |list, is_wrong: fn(&str) -> bool, problem: &str| {
            count(list, &format!("{field}.{problem}"), is_wrong, &mut warnings);
        };
        let users = entry.users.as_ref();
        warn(
            users,
            is_email,
            "users: an e-mail address is no user id: write one such as auth0|507f1f77bcf86cd799439020",
        );
        warn(
            users,
            |user| user.contains('*'),
            "users: ids are compared exactly, so a wildcard matches nobody: write each user id",
        );
        let is_no_id = |user: &str| !user.contains(['|', '@', '*']);
        warn(
            users,
            is_no_id,
            "users: a user id begins with its provider: write one such as auth0|507f1f77bcf86cd799439020",
        );
        warn(
            entry.roles.as_ref(),
            |role| is_id("rol_", role),
            "roles: roles are compared by name: write the name in place of the id",
        );
        if entry.expires_at.is_some_and(|end| now.is_some_and(|now| end <= now)) {
            warnings.push(format!("{field}.expiresAt: the override has expired: remove it"));
        }
    }
    let is_unknown = |protocol: &str| !PROTOCOLS.contains(&protocol);
    let protocols = Some(&policy.skip_protocols);
    let problem = "spec.skipProtocols: Auth0 documents no such protocol: write one such as oauth2-refresh-token";
    count(protocols, problem, is_unknown, &mut warnings);
    if policy.revoke_requires_mfa && policy.strategy == Strategy::Deny {
        warnings.push("spec.revokeRequiresMfa: it has no effect with strategy Deny, which revokes nothing".to_owned());
    }
    if policy.explain_evictions && policy.strategy == Strategy::Deny {
        warnings.push("spec.explainEvictions: it has no effect with strategy Deny, which revokes nothing".to_owned());
    }
    if policy.ask != AskTerms::default() && policy.strategy != Strategy::Ask {
        warnings.push("spec.ask: it has no effect without strategy Ask".to_owned());
    }
    let rechecks = !policy.recheck_after.is_zero() && policy.recheck_after != DEFAULT_RECHECK_AFTER;
    if rechecks && policy.reentry == Reentry::CountOthers {
        warnings.push("spec.recheckAfter: it has no effect with reentry CountOthers".to_owned());
    }
    warnings
}

fn selector(selector: &Selector, field: &str, warnings: &mut Vec<String>) {
    let connections = selector.connections.as_ref();
    let problem = format!("{field}.connections: connections are compared by name: write the name in place of the id");
    count(connections, &problem, |connection| is_id("con_", connection), warnings);
    let clients = selector.clients.as_ref();
    let problem = format!("{field}.clientIds: a client id has no white space: write the id in place of the name");
    count(clients, &problem, |client| client.contains(char::is_whitespace), warnings);
}

/// Adds the problem with the number of values of a list that have it, when some have.
fn count(list: Option<&HashSet<String>>, problem: &str, is_wrong: impl Fn(&str) -> bool, warnings: &mut Vec<String>) {
    match list.into_iter().flatten().filter(|value| is_wrong(value)).count() {
        0 => {}
        1 => warnings.push(format!("{problem} (1 value)")),
        count => warnings.push(format!("{problem} ({count} values)")),
    }
}

/// Whether a value looks like an id that Auth0 issued: a prefix, and sixteen letters and digits.
fn is_id(prefix: &str, value: &str) -> bool {
    value.strip_prefix(prefix).is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn is_email(user: &str) -> bool {
    !user.contains('|') && user.contains('@')
}
