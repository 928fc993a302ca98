//! `session-checker sessions`: lists or ends the sessions of a user.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::source::source_config;
use crate::args::{EndArgs, SessionsCommand, UserArgs};
use crate::auth0::{Revoked, TenantClient};
use crate::policy::{SessionList, SessionView};
use crate::service::RunError;
use crate::snapshot::Snapshot;

/// The time limit of a list and of each revocation: a person waits, and Auth0 answers either in well under a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Lists or ends a user's sessions.
///
/// # Errors
/// When the tenant is ambiguous or fails, or a session could not be ended.
pub async fn run(command: SessionsCommand) -> Result<(), RunError> {
    match command {
        SessionsCommand::List(args) => list(args).await,
        SessionsCommand::End(args) => end(args).await,
    }
}

/// The user's sessions, and the client that listed them.
async fn fetch(args: UserArgs) -> Result<(TenantClient, SessionList), RunError> {
    let snapshot = source_config(args.source)?.read_once().await?;
    let client = client_of(&snapshot, args.tenant.as_deref())?;
    let sessions = client.list_sessions(&args.user, &(Instant::now() + REQUEST_TIMEOUT).into()).await;
    let sessions = sessions.map_err(|error| RunError::Command(format!("the sessions could not be listed: {error}")))?;
    Ok((client, sessions))
}

/// A client of the named tenant, or of the only one.
fn client_of(snapshot: &Snapshot, tenant: Option<&str>) -> Result<TenantClient, RunError> {
    let mut tenants: BTreeMap<&str, &TenantClient> = BTreeMap::new();
    for active_policy in snapshot.policy_set.active_policies() {
        let scope = active_policy.version.scope();
        if tenant.is_none_or(|name| scope.tenant.is_called(name))
            && let Some(client) = snapshot.client(&scope.name)
        {
            tenants.entry(scope.tenant.domain()).or_insert(client);
        }
    }
    let mut found = tenants.values();
    match (found.next(), found.next(), tenant) {
        (Some(client), None, _) => Ok(TenantClient::clone(client)),
        (None, _, Some(name)) => Err(RunError::Command(format!("no policy has a credential for the tenant {name}"))),
        (None, _, None) => Err(RunError::Command("no policy has a credential for its tenant".to_owned())),
        _ => {
            let names: Vec<&str> = tenants.into_keys().collect();
            Err(RunError::Command(format!(
                "the policies have several tenants. Name one with --tenant: {}",
                names.join(", ")
            )))
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is the output of the command")]
async fn list(args: UserArgs) -> Result<(), RunError> {
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
async fn end(args: EndArgs) -> Result<(), RunError> {
    let (client, sessions) = fetch(args.user).await?;
    let chosen: Vec<&str> =
        if args.all { sessions.ids().collect() } else { args.sid.iter().map(String::as_str).collect() };
    // Before the first session is ended: a mistyped id must not leave the command half done.
    if let Some(unknown) = chosen.iter().find(|sid| !sessions.ids().any(|id| id == **sid)) {
        return Err(RunError::Command(format!("{unknown} is not a session of the user. No session was ended")));
    }
    let mut failed = 0;
    for sid in &chosen {
        match client.revoke_session(sid, &(Instant::now() + REQUEST_TIMEOUT).into()).await {
            Ok(Revoked::Done) => println!("{sid} ended"),
            Ok(Revoked::AlreadyGone) => println!("{sid} had already ended"),
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

/// One session as a line of text.
pub(super) fn describe(session: &SessionView<'_>) -> String {
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

/// One session as JSON.
pub(super) fn describe_json(session: &SessionView<'_>) -> Value {
    json!({
        "id": session.id,
        "created_at": session.created_at,
        "last_used_at": session.last_used_at,
        "ends_at": session.ends_at,
        "clients": session.clients,
    })
}
