//! `session-checker check`: decides one login and explains the decision.
//!
//! The command reads the same policies as `serve` and lists the user's sessions with the policies' own credentials. It
//! decides by the service's rules and changes nothing. Logins in progress, which only the running service remembers, do
//! not count here.

use std::fmt::Write as _;

use super::sessions::describe;
use super::source::source_config;
use crate::args::CheckArgs;
use crate::check::{DryRun, dry_run};
use crate::policy::{Answer, LimitScope, Login, LoginContext, Reason, SessionRole};
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
    let view = snapshot.policy_set.whole_view();
    let (answer, seen) = dry_run(&snapshot, &view, &login).await;
    print!("{}", explain(&snapshot, &answer, &seen));
    Ok(())
}

fn explain(snapshot: &Snapshot, answer: &Answer, seen: &DryRun<'_>) -> String {
    let Some(policy) = seen.policy else {
        let text = match answer.reason {
            Reason::TenantAmbiguous => {
                "Policies of several tenants select this login. Name the tenant with --tenant. The service allows such a \
                 login (tenant_ambiguous) unless the Action sends the tenant or each tenant has its own callers.\n"
            }
            Reason::TenantUnknown => {
                "No policy is for this tenant. The service allows such a login (tenant_unknown). If the name is a custom \
                 domain of a tenant, add it to tenant.customDomains of the policy.\n"
            }
            _ => "No policy selects this login. It is allowed (no_policy).\n",
        };
        return text.to_owned();
    };
    let scope = policy.scope();
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
    if let Some(limit_check) = seen.limit_check {
        let _ = write!(text, "  Limits: {}", limit_check.limits());
        if let Some(position) = limit_check.chosen_by() {
            let _ = write!(text, " (override {})", limit_check.policy().overrides[position].name);
        }
        text += ".\n";
    }
    match &seen.sessions {
        None => {}
        Some(Err(error)) => {
            let _ = writeln!(text, "  The user's sessions could not be listed: {error}");
        }
        Some(Ok((sessions, roles))) => {
            let _ = writeln!(text, "  Sessions at Auth0: {}.", sessions.len());
            for (session, role) in sessions.views().zip(roles) {
                let _ = writeln!(text, "    {:<44} {}", describe_role(role), describe(&session));
            }
        }
    }
    if !seen.victims.is_empty() {
        let _ = writeln!(text, "  Sessions that would be revoked: {}.", seen.victims.join(", "));
    }
    text + &sentence(answer)
}

fn describe_role(role: &SessionRole) -> String {
    match role {
        SessionRole::Current => "is the session of this login".to_owned(),
        SessionRole::Ended => "has ended".to_owned(),
        SessionRole::Revoked => "was revoked".to_owned(),
        SessionRole::Delegated => "belongs to somebody who acts as the user".to_owned(),
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
