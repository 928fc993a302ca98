//! `session-checker why` and `session-checker hash`: ask a running service about its decisions.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::admin::ask;
use super::sessions::{device, time};
use crate::args::{HashArgs, OutputFormat, WhyArgs};
use crate::book;
use crate::decisions::{DecisionRecord, keep_latest};
use crate::doctor::in_words;
use crate::service::RunError;

/// The time limit of a request: the service reads a shared store of 20,000 records.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer of `/debug/decisions`.
#[derive(Deserialize)]
struct FoundDecisions {
    /// Whether the records are those of all replicas.
    shared: bool,
    decisions: Vec<DecisionRecord>,
}

/// The answer of `/debug/hash`.
#[derive(Deserialize)]
struct UserHash {
    hash: String,
}

/// Prints the decisions that match.
///
/// # Errors
/// When a service does not answer.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn run(args: WhyArgs) -> Result<(), RunError> {
    let ago = |age: Duration| (Timestamp::now() - age).to_string();
    let parameters: Vec<(&str, String)> = [
        ("user", args.user),
        ("user_hash", args.user_hash),
        ("request_id", args.request_id),
        ("since", args.since.map(ago)),
        ("until", args.until.map(ago)),
        ("limit", Some(args.limit.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let (mut decisions, mut is_shared) = (Vec::new(), args.admin_url.len() > 1);
    for admin in &args.admin_url {
        let found: FoundDecisions = ask(admin, "/debug/decisions", &parameters, REQUEST_TIMEOUT).await?;
        is_shared |= found.shared;
        decisions.extend(found.decisions);
    }
    keep_latest(&mut decisions, args.limit.into());
    match args.output {
        OutputFormat::Json => println!("{:#}", json!({ "shared": is_shared, "decisions": decisions })),
        OutputFormat::Text => {
            print!("{}", decisions.iter().map(describe).collect::<Vec<_>>().join("\n"));
            if decisions.is_empty() {
                println!(
                    "No decision was found. Every blocked login is recorded for 24 h, and one of a hundred others."
                );
            }
            if !is_shared {
                println!(
                    "These are the decisions of one replica since it started: replicas without a shared ledger share none."
                );
            }
        }
    }
    Ok(())
}

/// Prints the hash of a user.
///
/// # Errors
/// When the service does not answer.
#[expect(clippy::print_stdout, reason = "it is the output of the command")]
pub async fn hash(args: HashArgs) -> Result<(), RunError> {
    let parameters = [("user", args.user)];
    let found: UserHash = ask(&args.admin_url, "/debug/hash", &parameters, REQUEST_TIMEOUT).await?;
    println!("{}", found.hash);
    Ok(())
}

/// A decision in words.
fn describe(record: &DecisionRecord) -> String {
    let decision = if record.block { "blocked" } else { "allowed" };
    let mut text = format!("{:.0} {decision}: {}", record.at, record.reason);
    if let Some(reason) = &record.audited_reason {
        let _ = write!(text, " (with mode Enforce: {reason})");
    }
    let _ = writeln!(text, ", request {}", record.request_id);
    let reason = record.audited_reason.as_ref().unwrap_or(&record.reason);
    let _ = writeln!(text, "  see {}", book::reason(reason));
    let _ = writeln!(text, "  user {}, application {}", record.user, record.client_id);
    match &record.policy {
        None => text += "  no policy applied\n",
        Some(policy) => {
            let generation = record.generation.map_or_else(String::new, |number| format!(", generation {number}"));
            let _ = writeln!(text, "  policy {policy} (tenant {}{generation})", record.tenant);
        }
    }
    if let Some(limits) = &record.limits {
        let chosen = record.override_name.as_ref().map_or_else(String::new, |name| format!(" (override {name})"));
        let _ = writeln!(text, "  limits: {limits}{chosen}");
    }
    if let (Some(active), Some(limit), Some(scope)) = (record.active_sessions, record.limit, &record.limit_scope) {
        let sessions = if active == 1 { "session" } else { "sessions" };
        let _ = writeln!(text, "  {active} other {sessions} counted towards the {scope} limit of {limit}");
    }
    if let Some(age) = record.listing_age_s {
        let _ = writeln!(text, "  allowed by what is remembered: a list that was requested {age} s before");
    }
    if let Some(revoked) = record.revoked_sessions {
        let _ = writeln!(text, "  sessions revoked: {revoked}");
    }
    if let Some(message) = &record.message {
        let _ = writeln!(text, "  the user read: {message}");
    }
    if record.revoke_session {
        text += "  the answer asked the Action to end the session\n";
    }
    for session in &record.sessions {
        let counts = match session.role.as_str() {
            "current" => "is the session of this login".to_owned(),
            "other" if session.limits.is_empty() => "counted towards no limit".to_owned(),
            "other" => format!("counted towards {}", session.limits.join(" and ")),
            other => format!("did not count: {other}"),
        };
        let at = |then: Option<Timestamp>| then.map_or_else(|| time(None), |then| with_age(then, record.at));
        let (began, used) = (at(session.created_at), at(session.last_used_at));
        let device = device(session.browser.as_deref(), session.system.as_deref());
        let device = if device.is_empty() { device } else { format!(" ({device})") };
        let _ = writeln!(text, "    session {}{device} {counts}; began {began}, last used {used}", session.session);
    }
    if record.more_sessions > 0 {
        let _ = writeln!(text, "    and {} more sessions", record.more_sessions);
    }
    text
}

/// A time, and how long before the decision it was.
fn with_age(then: Timestamp, at: Timestamp) -> String {
    let age = Duration::try_from(at.duration_since(then)).unwrap_or_default();
    format!("{} ({} before)", time(Some(then)), in_words(age))
}
