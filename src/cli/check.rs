//! `session-checker check`: decides one login and explains the decision.
//!
//! The command reads the same policies as `serve` and lists the user's sessions with the policies' own credentials. It
//! decides by the service's rules and changes nothing. Logins in progress, which only the running service remembers, do
//! not count here.

use std::collections::HashSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use tokio::time::Instant;

use super::sessions::describe;
use super::source::source_config;
use crate::args::CheckArgs;
use crate::auth0::TenantClient;
use crate::policy::{
    ActivePolicy, Answer, Decision, Failure, LimitInputs, LimitScope, Login, LoginContext, Policy, PolicyVersion,
    Resolution, SessionRole, Verdict,
};
use crate::service::RunError;
use crate::snapshot::Snapshot;

/// Decides a login and prints the explanation.
///
/// # Errors
/// When the policies cannot be read, or a field of the login is invalid.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: CheckArgs) -> Result<(), RunError> {
    let snapshot = source_config(args.source)?.read_once().await?;
    let context = LoginContext {
        protocol: args.protocol,
        organization_id: args.organization,
        connection: args.connection,
        roles: args.role,
        mfa: args.mfa,
        tenant: args.tenant,
        ..LoginContext::default()
    };
    let login = Login::new(args.user, args.client, args.sid, context);
    let login = login.map_err(|error| RunError::Command(error.to_string()))?;
    print!("{}", explain(&snapshot, &login).await);
    Ok(())
}

async fn explain(snapshot: &Snapshot, login: &Login) -> String {
    let view = snapshot.policy_set.whole_view();
    match view.resolve(login) {
        Resolution::NoPolicy => "No policy selects this login. It is allowed (no_policy).\n".to_owned(),
        Resolution::AmbiguousTenant => {
            "Policies of several tenants select this login. Name the tenant with --tenant. The service allows such a login \
             (tenant_ambiguous) unless the Action sends the tenant or each tenant has its own callers.\n"
                .to_owned()
        }
        Resolution::Policy(active_policy) => explain_by(snapshot, active_policy, login).await,
    }
}

async fn explain_by(snapshot: &Snapshot, active_policy: &ActivePolicy, login: &Login) -> String {
    let (scope, enforcement) = (active_policy.version.scope(), active_policy.version.enforcement());
    let mut text = format!(
        "Policy {} applies to this login (tenant {}, priority {}).\n",
        scope.name,
        scope.tenant.domain(),
        scope.priority
    );
    for report in snapshot.reports.iter().filter(|report| report.name == scope.name) {
        for error in &report.errors {
            let _ = writeln!(text, "  The policy is invalid: {error}");
        }
    }
    let (verdict, details) = match &*active_policy.version {
        PolicyVersion::Invalid(_) => (Verdict::failed(Failure::PolicyInvalid), String::new()),
        PolicyVersion::Compiled(policy) => ask(snapshot.client(&scope.name), policy, login).await,
    };
    text += &details;
    text += &sentence(&enforcement.answer(verdict, snapshot.force_audit));
    text
}

/// The steps of a check, without any that has an effect: the verdict, and what was seen on the way.
async fn ask(client: Option<&TenantClient>, policy: &Policy, login: &Login) -> (Verdict, String) {
    let now = Timestamp::now();
    let limit_check = match policy.pre_checks(login, now) {
        Ok(limit_check) => limit_check,
        Err(verdict) => return (verdict, String::new()),
    };
    let mut text = match limit_check.chosen_by() {
        None => format!("  Limits: {}.\n", limit_check.limits()),
        Some(position) => {
            format!("  Limits: {} (override {}).\n", limit_check.limits(), policy.overrides[position].name)
        }
    };
    let Some(client) = client else {
        return (Verdict::failed(Failure::CredentialsMissing), text);
    };
    let sessions = match client.list_sessions(limit_check.user_id(), &(Instant::now() + policy.timeout).into()).await {
        Ok(sessions) => sessions,
        Err(error) => {
            let _ = writeln!(text, "  The user's sessions could not be listed: {error}");
            return (Verdict::failed(error.failure), text);
        }
    };
    let inputs = LimitInputs { sessions: &sessions, admissions: &[], revoked: &HashSet::new(), now };
    let _ = writeln!(text, "  Sessions at Auth0: {}.", sessions.len());
    for (session, role) in sessions.views().zip(limit_check.explain(inputs)) {
        let _ = writeln!(text, "    {:<44} {}", describe_standing(&role), describe(&session));
    }
    let decision = limit_check.decide(inputs);
    if let Decision::Evict { victims, .. } = &decision {
        let _ = writeln!(text, "  Sessions that would be revoked: {}.", victims.join(", "));
    }
    (Verdict::from(&decision), text)
}

fn describe_standing(role: &SessionRole) -> String {
    match role {
        SessionRole::Current => "is the session of this login".to_owned(),
        SessionRole::Ended => "has ended".to_owned(),
        SessionRole::Revoked => "was revoked".to_owned(),
        SessionRole::Inactive => "is unused for longer than activeWithin".to_owned(),
        SessionRole::Counts(scopes) if scopes.is_empty() => "does not count towards a limit".to_owned(),
        SessionRole::Counts(scopes) => {
            let scopes: Vec<&str> = scopes.iter().copied().map(LimitScope::as_str).collect();
            let limits = if scopes.len() == 1 { "limit" } else { "limits" };
            format!("counts towards the {} {limits}", scopes.join(" and "))
        }
    }
}

/// The answer as the service would give it, as a sentence.
fn sentence(answer: &Answer) -> String {
    let decision = if answer.block { "blocked" } else { "allowed" };
    let mut text = format!("The login is {decision}: {}", answer.reason);
    if let Some(reason) = answer.audited_reason {
        let _ = write!(text, " (with mode Enforce: {reason})");
    }
    text.push('.');
    if let Some(count) = answer.count {
        let (active, limit) = (count.active, count.limit);
        let (sessions, verb) = if active == 1 { ("session", "uses") } else { ("sessions", "use") };
        let _ = match count.limit_scope {
            LimitScope::Client => write!(text, " {active} other {sessions} {verb} this application"),
            LimitScope::Group => {
                write!(text, " {active} other {sessions} {verb} an application that the policy selects")
            }
            LimitScope::User => write!(text, " The user has {active} other {sessions}"),
        };
        let _ = write!(text, "; the limit is {limit}.");
    }
    if answer.revoke_session {
        text += " The Action ends the session.";
    }
    text + "\n"
}
