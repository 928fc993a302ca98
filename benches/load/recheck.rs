//! Checks of sessions that hold a place already: the service decides them by the list that it remembers.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    Result, Settings,
    caller::Question,
    service::Service,
    steady::{self, Steady},
    tenant::{APPLICATION, CLIENT_ID, CLIENT_SECRET, DOMAIN, HOLDERS, Tenant, USERS},
    wrk::{Load, Round},
};

/// Starts a service that remembers lists. The policy of the `AUTH0_*` variables never does.
pub fn start(directory: &Path, tenant: &Tenant) -> Result<Service> {
    let policies = directory.join("policies");
    fs::create_dir(&policies)?;
    let credentials = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "auth0" }, "type": "sessionchecker.dev/credentials",
        "stringData": { "domain": DOMAIN, "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET },
    });
    let policy = json!({
        "apiVersion": "sessionchecker.dev/v1alpha1", "kind": "SessionPolicy", "metadata": { "name": "remembering" },
        "spec": {
            "tenant": { "domain": DOMAIN, "credentialsSecretRef": { "name": "auth0" } },
            "selector": { "clientIds": [APPLICATION] },
            "limits": { "perClient": 1 },
            "priority": 1,
        },
    });
    fs::write(policies.join("policy.yaml"), format!("{credentials}\n---\n{policy}\n"))?;
    let policies = policies.to_string_lossy();
    Service::start_at(directory, tenant, &tenant.url, &[], &["--policy-dir", &policies])
}

/// Measures a steady load.
pub fn steady(service: &Service, tenant: &mut Tenant, seconds: u32) -> Result<Steady> {
    let measure = |_: &mut Tenant| steady::measure(Question::Recheck, service.address, &service.process, seconds);
    decided_from_memory(service, tenant, measure, |steady| steady.requests as u64)
}

/// Measures one round.
pub fn round(service: &Service, tenant: &mut Tenant, settings: &Settings) -> Result<Round> {
    let measure = |tenant: &mut Tenant| Load::recheck(settings).measure(service.address, &service.process, tenant);
    decided_from_memory(service, tenant, measure, |round| round.requests)
}

/// Lets the service list the sessions of each holder, and measures. Fails unless every check of the measurement was allowed by what
/// is remembered: answers of the failure policy are fast, too.
fn decided_from_memory<T>(
    service: &Service,
    tenant: &mut Tenant,
    measure: impl FnOnce(&mut Tenant) -> Result<T>,
    requests: impl FnOnce(&T) -> u64,
) -> Result<T> {
    let holders = || USERS..USERS + HOLDERS;
    holders().try_for_each(|holder| within_limit(service, holder).map(drop))?;
    for holder in holders() {
        let answer = within_limit(service, holder)?;
        if !answer["active_sessions"].is_null() {
            return Err(format!("user {holder} was counted in place of remembered: {answer}").into());
        }
    }
    let (lists, before) = (tenant.counters()?.lists, remembered(service)?);
    let measured = measure(tenant)?;
    let (lists, remembered, requests) =
        (tenant.counters()?.lists - lists, remembered(service)? - before, requests(&measured));
    match lists == 0 && remembered >= requests {
        true => Ok(measured),
        false => Err(format!("{remembered} of {requests} checks were decided from memory, with {lists} lists").into()),
    }
}

fn within_limit(service: &Service, holder: u32) -> Result<Value> {
    let answer = service.check(holder)?;
    match answer["reason"] == "within_limit" {
        true => Ok(answer),
        false => Err(format!("user {holder} is not within the limit: {answer}").into()),
    }
}

/// How many checks were allowed by what is remembered.
fn remembered(service: &Service) -> Result<u64> {
    service.metric(&format!("session_checker_decision_basis_total{{basis=\"remembered\",tenant=\"{DOMAIN}\"}}"))
}
