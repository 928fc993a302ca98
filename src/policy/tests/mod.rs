//! Tests of the core against its specification. This file has their helpers: user `u` logs in to application `c1` with
//! session `s9`, unless a test says otherwise.

mod answer;
mod ask;
mod compile;
mod counting;
mod examples;
mod explain;
mod index;
mod limits;
mod log_streams;
mod messages;
mod newer;
mod oracle;
mod origins;
mod partial;
mod pre_checks;
mod properties;
mod schema;
#[path = "../../../tests/fixtures/session_policies.rs"]
mod session_policies;
mod tenants;
mod victims;
mod warnings;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;

/// The time of every test.
fn now() -> Timestamp {
    Timestamp::from_second(1_767_323_045).unwrap()
}

/// A time `seconds` after now; before it when negative.
fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

/// A manifest with the required fields and no limit; `extra` is merged into its spec.
fn manifest(extra: Value) -> Manifest {
    let mut spec = json!({ "tenant": { "domain": "acme.eu.auth0.com", "credentialsSecretRef": { "name": "auth0" } } });
    merge(&mut spec, extra);
    Manifest { name: ObjectName::new("team", "seats"), generation: 1, created_at: None, spec }
}

fn merge(base: &mut Value, extra: Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (name, value) in extra {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, extra) => *base = extra,
    }
}

/// A policy whose spec has the fields of `extra` beside the tenant.
fn policy(extra: Value) -> Policy {
    compile(&manifest(extra)).unwrap()
}

/// A listed session without dates.
fn session(id: &str, clients: &[&str]) -> ListedSession {
    ListedSession {
        id: id.to_owned(),
        clients: Some(clients.iter().map(|client| (*client).to_owned()).collect()),
        ..ListedSession::default()
    }
}

/// Builder methods for listed sessions; times are seconds after now.
trait ListedSessionExt: Sized {
    fn created(self, seconds: i64) -> Self;
    fn authenticated(self, seconds: i64) -> Self;
    fn used(self, seconds: i64) -> Self;
    fn idle_ends(self, seconds: i64) -> Self;
    fn ends(self, seconds: i64) -> Self;
    fn of(self, user: &str) -> Self;
    fn without_clients(self) -> Self;
}

impl ListedSessionExt for ListedSession {
    fn created(self, seconds: i64) -> Self {
        Self { created_at: Some(at(seconds)), ..self }
    }
    fn authenticated(self, seconds: i64) -> Self {
        Self { authenticated_at: Some(at(seconds)), ..self }
    }
    fn used(self, seconds: i64) -> Self {
        Self { last_interacted_at: Some(at(seconds)), ..self }
    }
    fn idle_ends(self, seconds: i64) -> Self {
        Self { idle_expires_at: Some(at(seconds)), ..self }
    }
    fn ends(self, seconds: i64) -> Self {
        Self { expires_at: Some(at(seconds)), ..self }
    }
    fn of(self, user: &str) -> Self {
        Self { user_id: Some(user.to_owned()), ..self }
    }
    fn without_clients(self) -> Self {
        Self { clients: None, ..self }
    }
}

/// An admission `seconds` after now.
fn admitted(sid: &str, client: &str, seconds: i64) -> Admission {
    Admission { sid: sid.to_owned(), client_id: client.to_owned(), age: now().duration_since(at(seconds)) }
}

/// A login with the policy and the inputs of its decision.
#[derive(Clone, Debug)]
struct Check {
    policy: Policy,
    client: String,
    sid: String,
    mfa: bool,
    listed: Vec<ListedSession>,
    admissions: Vec<Admission>,
    revoked: HashSet<String>,
    origins: Origins,
    opened_by: Option<String>,
}

impl Check {
    fn new(extra: Value) -> Self {
        Self {
            policy: policy(extra),
            client: "c1".to_owned(),
            sid: "s9".to_owned(),
            mfa: false,
            listed: Vec::new(),
            admissions: Vec::new(),
            revoked: HashSet::new(),
            origins: Origins::default(),
            opened_by: None,
        }
    }

    fn by(self, sid: &str, client: &str) -> Self {
        Self { sid: sid.to_owned(), client: client.to_owned(), ..self }
    }

    fn with_mfa(self) -> Self {
        Self { mfa: true, ..self }
    }

    /// Sets the list; sessions keep their dates.
    fn listed(self, listed: impl IntoIterator<Item = ListedSession>) -> Self {
        Self { listed: listed.into_iter().collect(), ..self }
    }

    /// Sets the list, with each session created a minute after the one before it.
    fn oldest_first(self, listed: impl IntoIterator<Item = ListedSession>) -> Self {
        let minutes = (-600..).step_by(60);
        Self { listed: listed.into_iter().zip(minutes).map(|(session, at)| session.created(at)).collect(), ..self }
    }

    fn remembering(self, admissions: impl IntoIterator<Item = Admission>) -> Self {
        Self { admissions: admissions.into_iter().collect(), ..self }
    }

    fn revoked(self, sids: &[&str]) -> Self {
        Self { revoked: sids.iter().map(|sid| (*sid).to_owned()).collect(), ..self }
    }

    /// Sets how a session began.
    fn began(mut self, sid: &str, origin: &Origin) -> Self {
        self.origins.add(sid.to_owned(), origin);
        self
    }

    /// Makes the login a web view that an application opened.
    fn opened_by(self, client: &str) -> Self {
        Self { opened_by: Some(client.to_owned()), ..self }
    }

    fn login(&self) -> Login {
        let context = LoginContext { mfa: self.mfa, opened_by: self.opened_by.clone(), ..LoginContext::default() };
        Login::new("u".to_owned(), self.client.clone(), Some(self.sid.clone()), context).unwrap()
    }

    fn decide(&self) -> Decision {
        let login = self.login();
        let limit_check = self.policy.pre_checks(&login, now()).unwrap();
        limit_check.decide(LimitInputs {
            sessions: &SessionList::new("u", self.listed.iter().cloned()),
            admissions: &self.admissions,
            revoked: &self.revoked,
            origins: &self.origins,
            now: now(),
        })
    }

    /// How many other sessions count.
    fn active(&self) -> usize {
        count(&self.decide()).active
    }
}

fn count(decision: &Decision) -> Count {
    match decision {
        Decision::Within { count, .. }
        | Decision::UnknownUser { count }
        | Decision::Exceeded { count, .. }
        | Decision::Ask { count }
        | Decision::Evict { count, .. } => *count,
        Decision::Undecided => panic!("nothing was counted"),
    }
}

fn is_within(decision: &Decision) -> bool {
    matches!(decision, Decision::Within { .. })
}

fn within(limit_scope: LimitScope, limit: u32, active: usize, holder: bool) -> Decision {
    Decision::Within { count: Count { limit_scope, limit, active, at_least: false }, holder }
}

fn exceeded(limit_scope: LimitScope, limit: u32, active: usize, revoke_session: bool) -> Decision {
    Decision::Exceeded { count: Count { limit_scope, limit, active, at_least: false }, revoke_session }
}

fn evict(limit_scope: LimitScope, limit: u32, active: usize, victims: &[&str]) -> Decision {
    let victims = victims.iter().map(|sid| (*sid).to_owned()).collect();
    Decision::Evict { count: Count { limit_scope, limit, active, at_least: false }, victims }
}
