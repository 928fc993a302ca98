//! `session-checker check` and `sessions`: what people ask from the command line about one user.
//!
//! Both read the same sources as `serve` and ask the tenant with the policies' own credentials. `check` decides by the very
//! rule of the service, on the tenant's list alone: what the service remembers of logins under way is not known here. It
//! changes nothing. `sessions end` is the way out for somebody who is locked out.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::args::{CheckArgs, EndArgs, SessionsCommand, UserArgs};
use crate::auth0::{Revoked, TenantClient};
use crate::policy::{
    ActivePolicy, Answer, Context, Decision, Failure, LimitInputs, Login, Policy, PolicyVersion, Resolution, Scope,
    SessionList, SessionRole, SessionView, Verdict,
};
use crate::run::{RunError, read_once};
use crate::snapshot::Snapshot;

/// How long a person waits for a list, and for each session that is ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Decides a login without any effect, and says why.
///
/// # Errors
/// When there is no source, or the login is not one.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn check(args: CheckArgs) -> Result<(), RunError> {
    let snapshot = read_once(&args.source).await?;
    let context = Context {
        protocol: args.protocol,
        organization_id: args.organization,
        connection: args.connection,
        roles: args.role,
        mfa: args.mfa,
        tenant: args.tenant,
        ..Context::default()
    };
    let login = Login::new(args.user, args.client, args.sid, context);
    let login = login.map_err(|error| RunError::Command(error.to_string()))?;
    print!("{}", explain(&snapshot, &login).await);
    Ok(())
}

/// Lists or ends a user's sessions.
///
/// # Errors
/// When the tenant is not clear, or it could not be asked, or a session could not be ended.
pub async fn sessions(command: &SessionsCommand) -> Result<(), RunError> {
    match command {
        SessionsCommand::List(args) => list(args).await,
        SessionsCommand::End(args) => end(args).await,
    }
}

async fn explain(snapshot: &Snapshot, login: &Login) -> String {
    let view = snapshot.policy_set.whole_view();
    match view.resolve(login) {
        Resolution::NoPolicy => "No policy governs this login: it is let in (no_policy).\n".to_owned(),
        Resolution::AmbiguousTenant => {
            "Policies of several tenants match this login: name one with --tenant. Unless the Action sends it, or each \
             tenant has callers of its own, the login is let in (tenant_ambiguous).\n"
                .to_owned()
        }
        Resolution::Policy(active_policy) => explain_by(snapshot, active_policy, login).await,
    }
}

async fn explain_by(snapshot: &Snapshot, active_policy: &ActivePolicy, login: &Login) -> String {
    let (scope, enforcement) = (active_policy.rule.scope(), active_policy.rule.enforcement());
    let mut text =
        format!("{} governs this login (tenant {}, priority {}).\n", scope.name, scope.tenant.domain(), scope.priority);
    for report in snapshot.reports.iter().filter(|report| report.name == scope.name) {
        for error in &report.errors {
            let _ = writeln!(text, "  It does not compile: {error}");
        }
    }
    let (verdict, details) = match &*active_policy.rule {
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
            format!("  Limits: {}, by its override {}.\n", limit_check.limits(), policy.overrides[position].name)
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
        let _ = writeln!(text, "  To be revoked for it: {}.", victims.join(", "));
    }
    (Verdict::from(&decision), text)
}

fn describe_standing(role: &SessionRole) -> String {
    match role {
        SessionRole::Current => "logs in".to_owned(),
        SessionRole::Ended => "has ended".to_owned(),
        SessionRole::Revoked => "was revoked".to_owned(),
        SessionRole::Inactive => "unused for longer than activeWithin".to_owned(),
        SessionRole::Counts(scopes) if scopes.is_empty() => "does not count towards a limit".to_owned(),
        SessionRole::Counts(scopes) => {
            let scopes: Vec<&str> = scopes.iter().copied().map(Scope::as_str).collect();
            format!("counts towards the limit of the {}", scopes.join(", "))
        }
    }
}

fn sentence(answer: &Answer) -> String {
    let decision = if answer.block { "refused" } else { "let in" };
    let mut text = format!("The login is {decision}: {}", answer.reason);
    if let Some(reason) = answer.audited_reason {
        let _ = write!(text, ", enforced it would be {reason}");
    }
    if let Some(count) = answer.count {
        let (scope, active, limit) = (count.scope.as_str(), count.active, count.limit);
        let _ = write!(text, ", {active} of {limit} sessions of the {scope} are taken by others");
    }
    if answer.revoke_session {
        text += ", and the Action ends its session";
    }
    text + ".\n"
}

fn describe(session: &SessionView<'_>) -> String {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
    let clients = session.clients.as_ref().map_or_else(
        || "unknown".to_owned(),
        |clients| if clients.is_empty() { "none".to_owned() } else { clients.join(",") },
    );
    format!(
        "{} began {} last used {} ends {} applications {clients}",
        session.id,
        time(session.created_at),
        time(session.last_used_at),
        time(session.ends_at),
    )
}

/// The user's sessions, and who was asked for them.
async fn fetch(args: &UserArgs) -> Result<(TenantClient, SessionList), RunError> {
    let snapshot = read_once(&args.source).await?;
    let client = client_of(&snapshot, args.tenant.as_deref())?;
    let sessions = client.list_sessions(&args.user, &(Instant::now() + PATIENCE).into()).await;
    let sessions = sessions.map_err(|error| RunError::Command(format!("the sessions could not be listed: {error}")))?;
    Ok((client, sessions))
}

/// A client of the tenant that is named, or of the only one.
fn client_of(snapshot: &Snapshot, tenant: Option<&str>) -> Result<TenantClient, RunError> {
    let mut tenants: BTreeMap<&str, &TenantClient> = BTreeMap::new();
    for active_policy in snapshot.policy_set.active_policies() {
        let scope = active_policy.rule.scope();
        if tenant.is_none_or(|name| scope.tenant.is_called(name))
            && let Some(client) = snapshot.client(&scope.name)
        {
            tenants.entry(scope.tenant.domain()).or_insert(client);
        }
    }
    let mut found = tenants.values();
    match (found.next(), found.next(), tenant) {
        (Some(client), None, _) => Ok(TenantClient::clone(client)),
        (None, _, Some(name)) => {
            Err(RunError::Command(format!("no policy with a credential is for the tenant {name}")))
        }
        (None, _, None) => Err(RunError::Command("no policy has a credential for its tenant".to_owned())),
        _ => {
            let names: Vec<&str> = tenants.into_keys().collect();
            Err(RunError::Command(format!("there are several tenants, name one with --tenant: {}", names.join(", "))))
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is the output of the command")]
async fn list(args: &UserArgs) -> Result<(), RunError> {
    let (_, sessions) = fetch(args).await?;
    for session in sessions.views() {
        println!("{}", describe(&session));
    }
    if sessions.is_empty() {
        println!("The user has no sessions.");
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is the output of the command")]
async fn end(args: &EndArgs) -> Result<(), RunError> {
    let (client, sessions) = fetch(&args.user).await?;
    let chosen: Vec<&str> =
        if args.all { sessions.ids().collect() } else { args.sid.iter().map(String::as_str).collect() };
    // All of them are looked at before the first is ended: a slip in one id must not end half of what was meant.
    if let Some(stranger) = chosen.iter().find(|sid| !sessions.ids().any(|id| id == **sid)) {
        return Err(RunError::Command(format!("{stranger} is not among the user's sessions; nothing was ended")));
    }
    let mut failed = 0;
    for sid in &chosen {
        match client.revoke_session(sid, &(Instant::now() + PATIENCE).into()).await {
            Ok(Revoked::Done) => println!("{sid} is ended"),
            Ok(Revoked::AlreadyGone) => println!("{sid} had ended already"),
            Err(error) => {
                failed += 1;
                println!("{sid} could not be ended: {error}");
            }
        }
    }
    if chosen.is_empty() {
        println!("The user has no sessions.");
    }
    if failed > 0 {
        return Err(RunError::Command(format!("{failed} of {} sessions could not be ended", chosen.len())));
    }
    Ok(())
}
