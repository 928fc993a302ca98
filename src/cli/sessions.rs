//! `session-checker sessions`: lists or ends the sessions of a user.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::source::source_config;
use crate::args::{EndArgs, ListArgs, OutputFormat, SessionsCommand, UserArgs};
use crate::auth0::{Error, ReadList, Revoked, TenantClient};
use crate::check::{Hypothesis, dry_run};
use crate::choose::Device;
use crate::policy::{Failure, Login, LoginContext, PolicyVersion, SessionList, SessionView};
use crate::service::RunError;
use crate::snapshot::Snapshot;

/// A session id that Auth0 does not give.
const NEW_SESSION: &str = "session-checker.new";

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

/// The user's sessions, and the client that listed them. With `ends` it is the one of the policy that needs the most scopes,
/// which is one that may end sessions when there is one.
async fn fetch(
    snapshot: &Snapshot,
    user: &str,
    tenant: Option<&str>,
    ends: bool,
) -> Result<(TenantClient, ReadList), RunError> {
    let client = client_of(snapshot, tenant, ends)?;
    let context = (Instant::now() + REQUEST_TIMEOUT).into();
    let read = client.read_devices(user, &context).await.map_err(|error| {
        let remedy = scope_remedy(&error, "read:sessions");
        RunError::Command(format!("the sessions could not be listed: {error}{remedy}"))
    })?;
    Ok((client, read))
}

/// What to do about an error of a missing scope.
fn scope_remedy(error: &Error, scopes: &str) -> String {
    if error.failure == Failure::InsufficientScope {
        format!(". Grant {scopes} to the application of the credential, under APIs, Auth0 Management API")
    } else {
        String::new()
    }
}

/// A client of the named tenant, or of the only one.
fn client_of(snapshot: &Snapshot, tenant: Option<&str>, ends: bool) -> Result<TenantClient, RunError> {
    let mut tenants: BTreeMap<&str, (usize, &TenantClient)> = BTreeMap::new();
    for active_policy in snapshot.policy_set.active_policies() {
        let scope = active_policy.version.scope();
        if tenant.is_none_or(|name| scope.tenant.is_called(name))
            && let Some(client) = snapshot.client(&scope.name)
        {
            let scopes = match &*active_policy.version {
                PolicyVersion::Compiled(policy) if ends => policy.oauth_scopes().len(),
                _ => 0,
            };
            let chosen = tenants.entry(scope.tenant.domain()).or_insert((scopes, client));
            if scopes > chosen.0 {
                *chosen = (scopes, client);
            }
        }
    }
    let mut found = tenants.values();
    match (found.next(), found.next(), tenant) {
        (Some((_, client)), None, _) => Ok(TenantClient::clone(client)),
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
async fn list(args: ListArgs) -> Result<(), RunError> {
    let ListArgs { user: UserArgs { user, tenant, source }, client, output } = args;
    let snapshot = source_config(source)?.read_once().await?;
    let (tenant_client, read) = fetch(&snapshot, &user, tenant.as_deref(), false).await?;
    let places = places(&snapshot, tenant_client.tenant(), user, client, &read.sessions).await?;
    let ReadList { sessions, user_agents, .. } = read;
    let rows: Vec<SessionRow<'_>> = sessions
        .views()
        .map(|view| {
            let device = user_agents.get(view.id).map(|agent| Device::of(agent)).unwrap_or_default();
            let places = places.as_ref().map(|places| places.get(view.id).cloned().unwrap_or_default());
            SessionRow { view, device, places }
        })
        .collect();
    match output {
        OutputFormat::Json => {
            let views: Vec<Value> = rows.iter().map(SessionRow::json).collect();
            println!("{:#}", json!({ "known_user": !sessions.is_of_unknown_user(), "sessions": views }));
        }
        OutputFormat::Text if sessions.is_of_unknown_user() => println!("The tenant does not know this user."),
        OutputFormat::Text if sessions.is_empty() => println!("The user has no sessions."),
        OutputFormat::Text => print!("{}", table(rows)),
    }
    Ok(())
}

/// A session of the list.
struct SessionRow<'a> {
    view: SessionView<'a>,
    device: Device,
    /// The places that it takes, such as `client 1 of 2`. `None` when the application of a login is not known.
    places: Option<Vec<String>>,
}

impl SessionRow<'_> {
    fn json(&self) -> Value {
        let mut value = describe_json(&self.view);
        value["browser"] = self.device.browser.into();
        value["system"] = self.device.system.into();
        value["places"] = json!(self.places);
        value
    }
}

/// The place that each session takes in the limits of a login to the application, the oldest session first. Without an
/// application it is the only one that the sessions name.
async fn places(
    snapshot: &Snapshot,
    tenant: &str,
    user: String,
    client: Option<String>,
    sessions: &SessionList,
) -> Result<Option<HashMap<String, Vec<String>>>, RunError> {
    let named: BTreeSet<String> =
        sessions.views().flat_map(|view| view.clients.unwrap_or_default()).map(str::to_owned).collect();
    let only = || named.first().filter(|_| named.len() == 1).cloned();
    let Some(client) = client.or_else(only) else { return Ok(None) };
    let context = LoginContext { tenant: Some(tenant.to_owned()), ..LoginContext::default() };
    // A login on a new device: no listed session is its own.
    let login = Login::new(user, client, Some(NEW_SESSION.to_owned()), context);
    let login = login.map_err(|error| RunError::Command(error.to_string()))?;
    let view = snapshot.policy_set.whole_view();
    let given = Hypothesis { sessions: Some(sessions.clone()), at: None };
    let (_, seen) = dry_run(snapshot, &view, &login, given).await;
    let (Some(limit_check), Some(Ok((sessions, roles)))) = (seen.limit_check, seen.sessions) else { return Ok(None) };
    let mut views: Vec<_> = sessions.views().zip(&roles).collect();
    views.sort_by_key(|(view, _)| view.created_at);
    let mut places: HashMap<String, Vec<String>> = HashMap::new();
    for (scope, limit) in limit_check.limits().iter() {
        let counted = views.iter().filter(|(_, role)| role.limit_scopes().contains(&scope));
        for (position, (view, _)) in (1..).zip(counted) {
            let place = format!("{} {position} of {limit}", scope.as_str());
            places.entry(view.id.to_owned()).or_default().push(place);
        }
    }
    Ok(Some(places))
}

/// The sessions as a table, the latest used first.
fn table(mut rows: Vec<SessionRow<'_>>) -> String {
    rows.sort_by_key(|row| std::cmp::Reverse(row.view.last_used_at));
    let has_places = rows.iter().any(|row| row.places.is_some());
    let head = ["SESSION", "BEGAN", "LAST USED", "ENDS", "DEVICE", "APPLICATIONS", "PLACES"].map(str::to_owned);
    let row = |row: &SessionRow<'_>| {
        let (view, device) = (&row.view, device(row.device.browser, row.device.system));
        let places =
            row.places.as_ref().map(|places| if places.is_empty() { "none".to_owned() } else { places.join(", ") });
        [
            view.id.to_owned(),
            time(view.created_at),
            time(view.last_used_at),
            time(view.ends_at),
            if device.is_empty() { "unknown".to_owned() } else { device },
            applications(view),
            places.unwrap_or_default(),
        ]
    };
    let columns = if has_places { head.len() } else { head.len() - 1 };
    let rows: Vec<[String; 7]> = [head].into_iter().chain(rows.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The browser and the system of a session, as far as they are known.
pub(super) fn device(browser: Option<&str>, system: Option<&str>) -> String {
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (browser, system) => browser.or(system).unwrap_or_default().to_owned(),
    }
}

#[expect(clippy::print_stdout, reason = "it is the output of the command")]
async fn end(args: EndArgs) -> Result<(), RunError> {
    let UserArgs { user, tenant, source } = args.user;
    let snapshot = source_config(source)?.read_once().await?;
    let (client, ReadList { sessions, .. }) = fetch(&snapshot, &user, tenant.as_deref(), true).await?;
    let kept = args.others_than.as_deref();
    let named: Vec<&str> = args.sid.iter().map(String::as_str).chain(kept).collect();
    // Before the first session is ended: a mistyped id must not leave the command half done.
    if let Some(unknown) = named.iter().find(|sid| !sessions.ids().any(|id| id == **sid)) {
        return Err(RunError::Command(format!("{unknown} is not a session of the user. No session was ended")));
    }
    let chosen: Vec<&str> = if args.all || kept.is_some() {
        sessions.ids().filter(|id| kept != Some(*id)).collect()
    } else {
        args.sid.iter().map(String::as_str).collect()
    };
    if chosen.is_empty() {
        println!("The user has no {}sessions.", if kept.is_some() { "other " } else { "" });
        return Ok(());
    }
    if !args.yes && !confirm(&format!("End {} of {} sessions of {user}?", chosen.len(), sessions.len()))? {
        return Err(RunError::Command("no session was ended".to_owned()));
    }
    let mut failed = 0;
    for sid in &chosen {
        match client.revoke_session(sid, &(Instant::now() + REQUEST_TIMEOUT).into()).await {
            Ok(Revoked::Done) => println!("{sid} ended"),
            Ok(Revoked::AlreadyGone) => println!("{sid} had already ended"),
            Err(error) => {
                failed += 1;
                let remedy = scope_remedy(&error, "delete:sessions and delete:refresh_tokens");
                println!("{sid} could not be ended: {error}{remedy}");
            }
        }
    }
    if failed > 0 {
        return Err(RunError::Command(format!("{failed} of {} sessions could not be ended", chosen.len())));
    }
    Ok(())
}

/// Asks at the terminal, and returns whether the answer is yes.
#[expect(clippy::print_stderr, reason = "the question is not the output of the command")]
fn confirm(question: &str) -> Result<bool, RunError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(RunError::Command("there is no terminal to ask at: give --yes. No session was ended".to_owned()));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(|error| RunError::Command(format!("the answer could not be read: {error}")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// A time as text.
pub(super) fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

fn applications(session: &SessionView<'_>) -> String {
    session.clients.as_ref().map_or_else(
        || "unknown".to_owned(),
        |clients| if clients.is_empty() { "none".to_owned() } else { clients.join(",") },
    )
}

/// One session as a line of text.
pub(super) fn describe(session: &SessionView<'_>) -> String {
    let clients = applications(session);
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
