//! `session-checker check`: decides one login and explains the decision.
//!
//! The command reads the same policies as `serve` and lists the user's sessions with the policies' own credentials. It
//! decides by the service's rules and changes nothing. Logins in progress, which only the running service remembers, do
//! not count here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::read_input;
use super::sessions::{describe, describe_json};
use super::source::source_config;
use crate::args::{BLOCKED, CheckArgs, OutputFormat, UNDECIDED};
use crate::auth0::read_sessions;
use crate::book;
use crate::check::{DryRun, Hypothesis, dry_run};
use crate::doctor::in_words;
use crate::policy::{
    Answer, LimitScope, Login, LoginContext, PolicyVersion, Reason, SessionList, SessionRole, SessionView,
};
use crate::service::RunError;
use crate::snapshot::Snapshot;

/// Decides a login, prints the explanation, and returns the exit code: 0 when the login is allowed.
///
/// # Errors
/// When the policies or the sessions cannot be read, or a field of the login is invalid.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: CheckArgs) -> Result<u8, RunError> {
    let sessions = args.sessions.as_deref().map(|path| given_sessions(path, &args.user)).transpose()?;
    let snapshot = source_config(args.source)?.read_once().await?;
    let context = LoginContext {
        protocol: args.protocol,
        organization_id: args.organization,
        connection: args.connection,
        roles: args.role,
        mfa: args.mfa,
        can_redirect: args.can_redirect,
        locale: args.locale,
        hostname: args.hostname.or_else(|| args.tenant.clone()),
        tenant: args.tenant,
        ..LoginContext::default()
    };
    let login = Login::new(args.user, args.client, args.sid, context);
    let login = login.map_err(|error| RunError::Command(error.to_string()))?;
    let view = snapshot.policy_set.whole_view();
    let (answer, seen) = dry_run(&snapshot, &view, &login, Hypothesis { sessions, at: args.at }).await;
    let outcome = LoginOutcome::of(&answer);
    match args.output {
        OutputFormat::Text => print!("{}", explain(&snapshot, &answer, &seen)),
        OutputFormat::Json => println!("{:#}", json(&snapshot, &answer, &seen, outcome)),
    }
    Ok(outcome.exit_code())
}

/// The sessions of a file, or of standard input.
fn given_sessions(path: &Path, user: &str) -> Result<SessionList, RunError> {
    let file_error = |error| RunError::File("--sessions", PathBuf::from(path), error);
    let text = read_input(path).map_err(file_error)?;
    read_sessions(user, &text).map_err(|error| file_error(std::io::Error::other(error.to_string())))
}

/// What becomes of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginOutcome {
    Allowed,
    Blocked,
    /// The check could not be decided, or it is not known whose policy applies.
    Undecided,
}

impl LoginOutcome {
    fn of(answer: &Answer) -> Self {
        match answer.audited_reason.unwrap_or(answer.reason) {
            Reason::Failed(_) | Reason::TenantAmbiguous => Self::Undecided,
            _ if answer.block => Self::Blocked,
            _ => Self::Allowed,
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Blocked => BLOCKED,
            Self::Undecided => UNDECIDED,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
            Self::Undecided => "undecided",
        }
    }
}

/// The policies that there are, each with the logins that it selects.
fn policies(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for active_policy in snapshot.policy_set.active_policies() {
        let scope = active_policy.version.scope();
        let selector = &scope.selector;
        let mut parts = vec![format!("tenant {}", scope.tenant.domain())];
        for (name, values) in [
            ("clientIds", &selector.clients),
            ("organizations", &selector.organizations),
            ("connections", &selector.connections),
        ] {
            if let Some(values) = values {
                let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
                values.sort_unstable();
                let more = values.len().saturating_sub(MAX_NAMED_VALUES);
                values.truncate(MAX_NAMED_VALUES);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                parts.push(format!("{name} {}{more}", values.join(", ")));
            }
        }
        let _ = writeln!(text, "  {}: {}", scope.name, parts.join("; "));
    }
    if text.is_empty() { "There are no policies.\n".to_owned() } else { format!("The policies are:\n{text}") }
}

/// How many values of a selector are named: enough to recognize it in a line.
const MAX_NAMED_VALUES: usize = 5;

/// The decision as JSON.
fn json(snapshot: &Snapshot, answer: &Answer, seen: &DryRun<'_>, outcome: LoginOutcome) -> Value {
    let scope = seen.policy.map(PolicyVersion::scope);
    let (sessions, known_user, error) = match &seen.sessions {
        None => (Value::Null, None, None),
        Some(Err(error)) => (Value::Null, None, Some(error.to_string())),
        Some(Ok((sessions, roles))) => {
            let views = sessions.views().zip(roles).map(|(session, role)| session_json(&session, role));
            (views.collect(), Some(!sessions.is_of_unknown_user()), None)
        }
    };
    let names = snapshot.policy_set.active_policies().iter().map(|policy| policy.version.scope().name.to_string());
    json!({
        "outcome": outcome.as_str(),
        "block": answer.block,
        "reason": answer.reason.as_str(),
        "audited_reason": answer.audited_reason.map(Reason::as_str),
        "message": answer.message,
        "revoke_session": answer.revoke_session,
        "asks": answer.asks,
        "policy": scope.map(|scope| scope.name.to_string()),
        "tenant": scope.map(|scope| scope.tenant.domain()),
        "limits": seen.limit_check.map(|limit_check| limit_check.limits().to_string()),
        "override": seen.limit_check.and_then(|limit_check| limit_check.override_name()),
        "limit": answer.count.map(|count| count.limit),
        "limit_scope": answer.count.map(|count| count.limit_scope.as_str()),
        "active_sessions": answer.count.map(|count| count.active),
        "known_user": known_user,
        "sessions": sessions,
        "would_revoke": seen.victims,
        "recheck_after_s": seen.recheck_after.map(|recheck_after| recheck_after.as_secs()),
        "error": error,
        "policies": if scope.is_none() { Some(names.collect::<Vec<_>>()) } else { None },
    })
}

fn session_json(session: &SessionView<'_>, role: &SessionRole) -> Value {
    let mut value = describe_json(session);
    value["role"] = role.as_str().into();
    value["limits"] = role.limit_scopes().iter().copied().map(LimitScope::as_str).collect();
    value
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
        return text.to_owned() + &policies(snapshot);
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
        if let Some(name) = limit_check.override_name() {
            let _ = write!(text, " (override {name})");
        }
        text += ".\n";
    }
    match &seen.sessions {
        None => {}
        Some(Err(error)) => {
            let _ = writeln!(text, "  The user's sessions could not be listed: {error}");
        }
        Some(Ok((sessions, roles))) => {
            let _ = writeln!(text, "  Sessions: {}.", sessions.len());
            if sessions.is_of_unknown_user() {
                text += "  The tenant does not know this user: check the id, which begins with the connection's provider.\n";
            }
            for (session, role) in sessions.views().zip(roles) {
                let _ = writeln!(text, "    {:<44} {}", role.to_string(), describe(&session));
            }
        }
    }
    if !seen.victims.is_empty() {
        let _ = writeln!(text, "  Sessions that would be revoked: {}.", seen.victims.join(", "));
    }
    if let Some(recheck_after) = seen.recheck_after {
        let time = in_words(recheck_after);
        let _ = writeln!(
            text,
            "  The session holds a place: for {time} after this list (recheckAfter), the service allows it by what it \
             remembers, unless other sessions can have taken the place since."
        );
    }
    text + &sentence(answer)
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
    if answer.asks {
        let would = if answer.block { "is" } else { "would be" };
        let _ = write!(text, " The user {would} asked which sessions to end.");
    }
    if answer.revoke_session {
        text += " The Action ends the session.";
    }
    let reason = answer.audited_reason.unwrap_or(answer.reason);
    text + "\nSee " + &book::reason(reason.as_str()) + "\n"
}
