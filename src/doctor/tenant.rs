//! The steps of an examination that concern a tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{ExamLine, ExamStep, names};
use crate::auth0::{Reach, ReachStep, TenantClient};
use crate::policy::{Failure, ObjectName, PolicyVersion};
use crate::snapshot::Snapshot;

/// The time limit of all steps of one tenant: more than a check has, so that a slow tenant and one that does not answer make
/// different lines.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The user of the list that shows whether the tenant's plan has the endpoint. No provider of Auth0 has this name.
const NOBODY: &str = "session-checker|doctor";
/// How far a clock may be off: Auth0's tokens and assertions are valid from the second on.
const CLOCK_TOLERANCE: i64 = 5;
/// From here on Auth0 may reject assertions, which are valid for a minute.
const CLOCK_BOUND: i64 = 30;

/// A credential of a tenant, with the policies that use it.
pub(super) struct ExaminedTenant<'a> {
    domain: String,
    client: &'a TenantClient,
    policies: Vec<&'a ObjectName>,
    /// The OAuth scopes that the policies need, each with one policy that needs it.
    scopes: BTreeMap<&'static str, &'a ObjectName>,
    /// The same for the scopes that they use and work without.
    optional_scopes: BTreeMap<&'static str, &'a ObjectName>,
}

/// The credentials of the policies.
pub(super) fn tenants(snapshot: &Snapshot) -> Vec<ExaminedTenant<'_>> {
    let mut tenants: BTreeMap<(String, usize), ExaminedTenant<'_>> = BTreeMap::new();
    for active_policy in snapshot.policy_set.active_policies() {
        let scope = active_policy.version.scope();
        let Some(client) = snapshot.client(&scope.name) else { continue };
        let domain = scope.tenant.domain().to_owned();
        let tenant = tenants.entry((domain.clone(), client.id())).or_insert_with(|| ExaminedTenant {
            domain,
            client,
            policies: Vec::new(),
            scopes: BTreeMap::new(),
            optional_scopes: BTreeMap::new(),
        });
        tenant.policies.push(&scope.name);
        if let PolicyVersion::Compiled(policy) = &*active_policy.version {
            for needed in policy.oauth_scopes() {
                tenant.scopes.entry(needed).or_insert(&scope.name);
            }
            for used in policy.optional_scopes() {
                tenant.optional_scopes.entry(used).or_insert(&scope.name);
            }
        }
    }
    tenants.into_values().collect()
}

/// Takes the steps in their order, as far as each permits the next.
pub(super) async fn examine(tenant: ExaminedTenant<'_>) -> Vec<ExamLine> {
    let subject = format!("tenant {}", tenant.domain);
    let deadline = Instant::now() + TIMEOUT;
    let mut lines = Vec::new();
    let reach = tenant.client.reach(deadline).await;
    if !reach_lines(&subject, &reach, &mut lines) {
        return lines;
    }
    let verified = tenant.client.verify(deadline).await;
    lines.push(match &verified {
        Ok(_) => ExamLine::ok(
            &subject,
            ExamStep::Token,
            format!("Auth0 accepts the credential of {}", names(&tenant.policies)),
        ),
        Err(error) => {
            let remedy = error.remedy().unwrap_or_else(|| token_remedy(error.failure));
            ExamLine::problem(&subject, ExamStep::Token, error.to_string(), remedy)
        }
    });
    lines.push(clock_line(&subject, &tenant));
    let Ok(granted) = verified else { return lines };
    lines.push(scopes_line(&subject, &tenant, granted.as_ref()));
    lines.push(list_line(&subject, &tenant, deadline).await);
    lines.push(rate_limit_line(&subject, &tenant));
    lines
}

/// The lines of the steps to a connection; returns whether there is one.
fn reach_lines(subject: &str, reach: &Reach, lines: &mut Vec<ExamLine>) -> bool {
    let Reach { host, proxy, connected } = reach;
    let failed = connected.as_ref().err();
    let reached = |step: ReachStep| failed.is_none_or(|(failed, _)| *failed > step);
    let mut add = |step: ReachStep, name: ExamStep, detail: String, remedy: &str| match failed {
        Some((failed, error)) if *failed == step => {
            lines.push(ExamLine::problem(subject, name, error.clone(), remedy));
        }
        _ if reached(step) => lines.push(ExamLine::ok(subject, name, detail)),
        _ => {}
    };
    let by_proxy = proxy.is_some();
    let name = if by_proxy { format!("the proxy resolves {host}") } else { format!("{host} has an address") };
    add(
        ReachStep::Name,
        ExamStep::Name,
        name,
        "check tenant.domain, and that the Pod may reach DNS; for a private address set --auth0-endpoint",
    );
    let via = proxy.as_ref().map_or_else(|| "none".to_owned(), |proxy| format!("{proxy} opens a connection"));
    add(
        ReachStep::Proxy,
        ExamStep::Proxy,
        via,
        "check --auth0-proxy and its credentials, and that the proxy allows the tenant",
    );
    if !by_proxy || !reached(ReachStep::Connection) {
        add(
            ReachStep::Connection,
            ExamStep::Connection,
            format!("{host} accepts connections"),
            "allow egress to the tenant on port 443 (NetworkPolicy, firewall), or set --auth0-proxy",
        );
    }
    let took = connected.as_ref().map_or(0, Duration::as_millis);
    add(
        ReachStep::Tls,
        ExamStep::Tls,
        format!("connected in {took} ms"),
        "check the clock and the CA certificates; behind a proxy that inspects TLS set --auth0-ca-file",
    );
    failed.is_none()
}

fn token_remedy(failure: Failure) -> &'static str {
    match failure {
        Failure::CredentialsRejected => {
            "compare clientId and clientSecret (or privateKey) of the Secret with the machine-to-machine application, and authorize \
             it for the Auth0 Management API"
        }
        Failure::RateLimited => "wait: the rate limit of the token endpoint is used up",
        Failure::CircuitOpen => "the tenant failed too often; the circuit breaker asks again by itself",
        _ => "see Auth0's status page and what is between this service and Auth0",
    }
}

/// The line about the clock, once the tenant has answered.
fn clock_line(subject: &str, tenant: &ExaminedTenant<'_>) -> ExamLine {
    let ahead = tenant.client.clock_difference();
    let detail = match ahead {
        0 => "the same second as Auth0".to_owned(),
        1.. => format!("Auth0 is {ahead} s ahead"),
        _ => format!("Auth0 is {} s behind", -ahead),
    };
    let remedy = "synchronize the clock of the node (NTP)";
    if ahead.abs() <= CLOCK_TOLERANCE {
        ExamLine::ok(subject, ExamStep::Clock, detail)
    } else if ahead.abs() <= CLOCK_BOUND {
        ExamLine::notice(subject, ExamStep::Clock, detail, remedy)
    } else {
        ExamLine::problem(subject, ExamStep::Clock, detail, remedy)
    }
}

fn scopes_line(subject: &str, tenant: &ExaminedTenant<'_>, granted: Option<&BTreeSet<String>>) -> ExamLine {
    let needed: Vec<&str> = tenant.scopes.keys().chain(tenant.optional_scopes.keys()).copied().collect();
    let Some(granted) = granted else {
        return ExamLine::ok(
            subject,
            ExamStep::Scopes,
            format!("the tenant does not list them; needed: {}", needed.join(" ")),
        );
    };
    let missing = |scopes: &BTreeMap<&str, &ObjectName>| {
        let missing = scopes.iter().filter(|(scope, _)| !granted.contains(**scope));
        missing.map(|(scope, policy)| format!("{scope} (for {policy})")).collect::<Vec<_>>().join(", ")
    };
    let remedy = "grant them to the application under APIs, Auth0 Management API";
    match (missing(&tenant.scopes), missing(&tenant.optional_scopes)) {
        (lacked, unused) if lacked.is_empty() && unused.is_empty() => {
            ExamLine::ok(subject, ExamStep::Scopes, needed.join(" "))
        }
        (lacked, unused) if lacked.is_empty() => {
            let detail = format!("the application lacks {unused}: explainEvictions writes nothing");
            ExamLine::notice(subject, ExamStep::Scopes, detail, remedy)
        }
        (lacked, _) => ExamLine::problem(subject, ExamStep::Scopes, format!("the application lacks {lacked}"), remedy),
    }
}

/// Lists the sessions of a user that does not exist: only a tenant whose plan has the endpoint does that.
async fn list_line(subject: &str, tenant: &ExaminedTenant<'_>, deadline: Instant) -> ExamLine {
    match tenant.client.list_sessions(NOBODY, &deadline.into()).await {
        Ok(_) => ExamLine::ok(subject, ExamStep::Plan, "the tenant lists sessions"),
        Err(error) => {
            let remedy = match error.failure {
                Failure::NotEntitled => {
                    "the plan of the tenant has no Management API for sessions: ask Auth0 for one that has it"
                }
                Failure::InsufficientScope => "grant read:sessions to the application under APIs, Auth0 Management API",
                failure => token_remedy(failure),
            };
            ExamLine::problem(subject, ExamStep::Plan, error.to_string(), remedy)
        }
    }
}

fn rate_limit_line(subject: &str, tenant: &ExaminedTenant<'_>) -> ExamLine {
    let step = ExamStep::RateLimit;
    let Some((left, most)) = tenant.client.rate_limit_left() else {
        return ExamLine::ok(subject, step, "the tenant does not say how many requests are left");
    };
    let detail = format!("{left} of {most} requests are left");
    if left == 0 {
        let remedy = "find who else uses the Management API of this tenant, or set tenant.requestsPerSecond there";
        ExamLine::problem(subject, step, detail, remedy)
    } else if left * 5 < most {
        ExamLine::notice(subject, step, detail, "see who else uses the Management API of this tenant")
    } else {
        ExamLine::ok(subject, step, detail)
    }
}
