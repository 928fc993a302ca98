//! The tenant's users and their sessions, and how late the Management API learns of a change.
//!
//! There are two views. The *true* one changes at once: it is what a browser meets, and what tests assert on. The *listed*
//! one is the Management API's: a session that ended, and an application that was added, show there only after the
//! visibility delay. Each user has a lock of their own, and each entry keeps its JSON, so that listing is copying.

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

/// One user, known to the maps above by name.
#[derive(Debug, Default)]
struct User(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    /// In the order in which they were added, which is the order of the list.
    records: Vec<Record>,
    next_number: u64,
}

#[derive(Debug)]
struct Record {
    /// Its place in the list, which is what a cursor names.
    number: u64,
    session: Session,
    /// The entry as JSON.
    json: String,
    /// Applications that completed a login, and when the list shows them.
    arriving: Vec<(String, Timestamp)>,
    /// When the list stops showing it, once it has ended.
    gone_at: Option<Timestamp>,
}

/// One page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The entries as JSON, with commas between them.
    pub entries: String,
    /// The cursor of the next page, when there is more.
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

    /// Adds a session to a user, who is made when unknown.
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
        sessions.records.push(Record { number, session, json, arriving: Vec::new(), gone_at: None });
    }

    /// The true sessions of a user, in the order of the list.
    pub fn true_sessions(&self, user_id: &str) -> Vec<Session> {
        let Some(user) = self.get(user_id) else { return Vec::new() };
        let sessions = user.lock();
        sessions.records.iter().filter(|record| record.gone_at.is_none()).map(Record::true_session).collect()
    }

    /// A page of the listed view: at most `take` entries that come after the cursor `from`. `None` when the user is unknown.
    pub fn page(&self, user_id: &str, from: Option<u64>, take: usize, now: Timestamp) -> Option<Page> {
        let user = self.get(user_id)?;
        let mut sessions = user.lock();
        let ended = sessions.settle(now);
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
        let ended = sessions.settle(now);
        let json =
            sessions.records.iter().find(|record| record.session.id == session_id).map(|record| record.json.clone());
        drop(sessions);
        self.forget(ended);
        json
    }

    /// Ends a session; the list shows it for `delay` more. False when the listed view does not have it.
    pub fn end_session(&self, session_id: &str, now: Timestamp, delay: Duration) -> bool {
        let Some(user) = self.owner(session_id) else { return false };
        let mut sessions = user.lock();
        let mut ended = sessions.settle(now);
        let mut found = false;
        for record in sessions.records.iter_mut().filter(|record| record.session.id == session_id) {
            record.gone_at.get_or_insert(now + delay);
            found = true;
        }
        ended.extend(sessions.settle(now));
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
        let ended = sessions.settle(now);
        drop(sessions);
        self.forget(ended);
        true
    }

    /// Whether the user truly has this session and a browser can still use it.
    pub fn is_alive(&self, user_id: &str, session_id: &str, now: Timestamp) -> bool {
        self.true_sessions(user_id).iter().any(|session| session.id == session_id && session.is_alive(now))
    }

    /// Notes a completed login: the application joins the session, and the list shows it `delay` later. False when the
    /// session has ended meanwhile.
    pub fn complete_login(&self, login: (&str, &str), client_id: &str, now: Timestamp, delay: Duration) -> bool {
        self.change(login, |record| {
            let entry = &mut record.session.entry;
            set_field(entry, "last_interacted_at", date(now).into());
            set_field(entry, "updated_at", date(now).into());
            set_field(entry, "idle_expires_at", date(now + IDLE_LIFETIME).into());
            if !record.arriving.iter().any(|(arriving, _)| arriving == client_id) {
                record.arriving.push((client_id.to_owned(), now + delay));
            }
        })
    }

    /// Notes a login that failed: only `updated_at` moves. False when the session has ended meanwhile.
    pub fn deny_login(&self, login: (&str, &str), now: Timestamp) -> bool {
        self.change(login, |record| set_field(&mut record.session.entry, "updated_at", date(now).into()))
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
    /// Brings the listed view up to `now`, and gives the ids of the sessions that left it.
    fn settle(&mut self, now: Timestamp) -> Vec<String> {
        let mut gone = Vec::new();
        self.records.retain(|record| {
            let stays = record.gone_at.is_none_or(|gone_at| gone_at > now);
            if !stays {
                gone.push(record.session.id.clone());
            }
            stays
        });
        for record in self.records.iter_mut().filter(|record| !record.arriving.is_empty()) {
            let Record { session, arriving, json, .. } = record;
            let before = arriving.len();
            arriving.retain(|(client_id, shown_at)| {
                let waits = *shown_at > now;
                if !waits {
                    push_client(&mut session.entry, client_id);
                }
                waits
            });
            if arriving.len() < before {
                *json = session.entry.to_string();
            }
        }
        gone
    }
}

impl Record {
    fn true_session(&self) -> Session {
        let mut session = self.session.clone();
        for (client_id, _) in &self.arriving {
            push_client(&mut session.entry, client_id);
        }
        session
    }
}

/// The cursor of a place in a list: opaque to clients, as Auth0's are.
fn cursor(number: u64) -> String {
    format!("cur_{number:016x}")
}

/// The place that a cursor names.
pub(super) fn parse_cursor(cursor: &str) -> Option<u64> {
    u64::from_str_radix(cursor.strip_prefix("cur_")?, 16).ok()
}
