//! The tenant's users and their sessions, and the delay with which the Management API shows a change.
//!
//! There are two views. The *true* view changes at once. A browser uses it, and tests assert on it. The *listed* view is the
//! Management API's: the end of a session and a new application of a session show there after the visibility delay. Each
//! user has a lock, and each entry keeps its JSON, so that a list is a copy.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::session::{IDLE_LIFETIME, Session, date, push_client, set_field};

/// All users of the tenant.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_id: RwLock<HashMap<String, Arc<User>>>,
    by_session: RwLock<HashMap<String, Arc<User>>>,
}

/// One user, whom the maps above name.
#[derive(Debug, Default)]
struct User(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    /// In the order of the list, which is the order in which they were added.
    records: Vec<Record>,
    next_number: u64,
}

#[derive(Debug)]
struct Record {
    /// Its place in the list. A cursor names it.
    number: u64,
    session: Session,
    /// The entry as JSON.
    json: String,
    /// Applications that completed a login, and when the list shows them.
    pending_clients: Vec<(String, Timestamp)>,
    /// When the list stops to show it. `None` before its end.
    gone_at: Option<Timestamp>,
}

/// One page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The entries as JSON, with commas between them.
    pub entries: String,
    /// The cursor of the next page, if there is one.
    pub next: Option<String>,
}

impl Page {
    /// The page as Auth0 answers it.
    pub fn to_json(&self) -> String {
        match &self.next {
            None => format!(r#"{{"sessions":[{}]}}"#, self.entries),
            Some(next) => format!(r#"{{"sessions":[{}],"next":{}}}"#, self.entries, Value::from(next.as_str())),
        }
    }
}

impl Users {
    /// Makes sure that the user exists.
    pub fn add(&self, user_id: &str) {
        self.get_or_add(user_id);
    }

    /// Adds a session to a user. An unknown user is added.
    pub fn add_session(&self, user_id: &str, mut session: Session) {
        if session.names_owner && session.entry.get("user_id").is_none() {
            set_field(&mut session.entry, "user_id", user_id.into());
        }
        let user = self.get_or_add(user_id);
        self.by_session.write().unwrap_or_else(PoisonError::into_inner).insert(session.id.clone(), Arc::clone(&user));
        let mut sessions = user.lock();
        let number = sessions.next_number;
        sessions.next_number += 1;
        let json = session.entry.to_string();
        sessions.records.push(Record { number, session, json, pending_clients: Vec::new(), gone_at: None });
    }

    /// The true sessions of a user, in the order of the list.
    pub fn true_sessions(&self, user_id: &str) -> Vec<Session> {
        let Some(user) = self.get(user_id) else { return Vec::new() };
        let sessions = user.lock();
        sessions.records.iter().filter(|record| record.gone_at.is_none()).map(Record::true_session).collect()
    }

    /// A page of the listed view: at most `take` entries after the cursor `from`. `None` when the user is unknown.
    pub fn page(&self, user_id: &str, from: Option<u64>, take: usize, now: Timestamp) -> Option<Page> {
        let user = self.get(user_id)?;
        let mut sessions = user.lock();
        let ended = sessions.update(now);
        let mut rest = sessions.records.iter().filter(|record| from.is_none_or(|from| record.number > from)).peekable();
        let mut page = Page::default();
        for taken in 1..=take {
            let Some(record) = rest.next() else { break };
            if taken > 1 {
                page.entries.push(',');
            }
            page.entries.push_str(&record.json);
            if taken == take && rest.peek().is_some() {
                page.next = Some(cursor(record.number));
            }
        }
        drop(sessions);
        self.forget(ended);
        Some(page)
    }

    /// The listed entry of a session.
    pub fn entry(&self, session_id: &str, now: Timestamp) -> Option<String> {
        let user = self.owner(session_id)?;
        let mut sessions = user.lock();
        let ended = sessions.update(now);
        let json =
            sessions.records.iter().find(|record| record.session.id == session_id).map(|record| record.json.clone());
        drop(sessions);
        self.forget(ended);
        json
    }

    /// Replaces the metadata of a session in both views. Returns its listed entry; `None` when the listed view does not have it.
    pub fn set_metadata(&self, session_id: &str, metadata: Value, now: Timestamp) -> Option<String> {
        let user = self.owner(session_id)?;
        let mut sessions = user.lock();
        let ended = sessions.update(now);
        let json = sessions.records.iter_mut().find(|record| record.session.id == session_id).map(|record| {
            set_field(&mut record.session.entry, "session_metadata", metadata);
            record.json = record.session.entry.to_string();
            record.json.clone()
        });
        drop(sessions);
        self.forget(ended);
        json
    }

    /// Ends a session. The list shows it for `delay` more. False when the listed view does not have it.
    pub fn end_session(&self, session_id: &str, now: Timestamp, delay: Duration) -> bool {
        let Some(user) = self.owner(session_id) else { return false };
        let mut sessions = user.lock();
        let mut ended = sessions.update(now);
        let mut found = false;
        for record in sessions.records.iter_mut().filter(|record| record.session.id == session_id) {
            record.gone_at.get_or_insert(now + delay);
            found = true;
        }
        ended.extend(sessions.update(now));
        drop(sessions);
        self.forget(ended);
        found
    }

    /// Ends all sessions of a user. False when the user is unknown.
    pub fn end_sessions(&self, user_id: &str, now: Timestamp, delay: Duration) -> bool {
        let Some(user) = self.get(user_id) else { return false };
        let mut sessions = user.lock();
        for record in &mut sessions.records {
            record.gone_at.get_or_insert(now + delay);
        }
        let ended = sessions.update(now);
        drop(sessions);
        self.forget(ended);
        true
    }

    /// Whether the user has this session in the true view and a browser can use it.
    pub fn is_alive(&self, user_id: &str, session_id: &str, now: Timestamp) -> bool {
        self.true_sessions(user_id).iter().any(|session| session.id == session_id && session.is_alive(now))
    }

    /// Completes a login: the application joins the session, and the list shows it `delay` later. False when the session has
    /// ended.
    pub fn complete_login(&self, login: (&str, &str), client_id: &str, now: Timestamp, delay: Duration) -> bool {
        self.change(login, |record| {
            let entry = &mut record.session.entry;
            set_field(entry, "last_interacted_at", date(now).into());
            set_field(entry, "updated_at", date(now).into());
            set_field(entry, "idle_expires_at", date(now + IDLE_LIFETIME).into());
            if !record.pending_clients.iter().any(|(pending, _)| pending == client_id) {
                record.pending_clients.push((client_id.to_owned(), now + delay));
            }
        })
    }

    /// Fails a login: only `updated_at` changes. False when the session has ended.
    pub fn deny_login(&self, login: (&str, &str), now: Timestamp) -> bool {
        self.change(login, |record| set_field(&mut record.session.entry, "updated_at", date(now).into()))
    }

    /// Sets the user agent that last used the session of a login. An entry without a device does not change.
    pub fn set_user_agent(&self, login: (&str, &str), user_agent: &str) {
        self.change(login, |record| {
            if let Some(device) = record.session.entry.get_mut("device") {
                set_field(device, "last_user_agent", user_agent.into());
            }
        });
    }

    /// Changes the session of a login (user id, session id) and its JSON.
    fn change(&self, (user_id, session_id): (&str, &str), change: impl FnOnce(&mut Record)) -> bool {
        let Some(user) = self.get(user_id) else { return false };
        let mut sessions = user.lock();
        let mut living = sessions.records.iter_mut().filter(|record| record.gone_at.is_none());
        let Some(record) = living.find(|record| record.session.id == session_id) else { return false };
        change(record);
        record.json = record.session.entry.to_string();
        true
    }

    fn get(&self, user_id: &str) -> Option<Arc<User>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(user_id).cloned()
    }

    fn get_or_add(&self, user_id: &str) -> Arc<User> {
        let mut users = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(users.entry(user_id.to_owned()).or_default())
    }

    fn owner(&self, session_id: &str) -> Option<Arc<User>> {
        self.by_session.read().unwrap_or_else(PoisonError::into_inner).get(session_id).cloned()
    }

    fn forget(&self, session_ids: Vec<String>) {
        if !session_ids.is_empty() {
            let mut owners = self.by_session.write().unwrap_or_else(PoisonError::into_inner);
            for id in session_ids {
                owners.remove(&id);
            }
        }
    }
}

impl User {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Brings the listed view up to `now`, and returns the ids of the sessions that left it.
    fn update(&mut self, now: Timestamp) -> Vec<String> {
        let mut gone = Vec::new();
        self.records.retain(|record| {
            let stays = record.gone_at.is_none_or(|gone_at| gone_at > now);
            if !stays {
                gone.push(record.session.id.clone());
            }
            stays
        });
        for record in self.records.iter_mut().filter(|record| !record.pending_clients.is_empty()) {
            let Record { session, pending_clients, json, .. } = record;
            let before = pending_clients.len();
            pending_clients.retain(|(client_id, shown_at)| {
                let is_pending = *shown_at > now;
                if !is_pending {
                    push_client(&mut session.entry, client_id);
                }
                is_pending
            });
            if pending_clients.len() < before {
                *json = session.entry.to_string();
            }
        }
        gone
    }
}

impl Record {
    fn true_session(&self) -> Session {
        let mut session = self.session.clone();
        for (client_id, _) in &self.pending_clients {
            push_client(&mut session.entry, client_id);
        }
        session
    }
}

/// The cursor of a place in a list. It is opaque to clients, as Auth0's are.
fn cursor(number: u64) -> String {
    format!("cur_{number:016x}")
}

/// The place that a cursor names.
pub(super) fn parse_cursor(cursor: &str) -> Option<u64> {
    u64::from_str_radix(cursor.strip_prefix("cur_")?, 16).ok()
}
