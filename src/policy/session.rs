//! A user's sessions as the tenant listed them, in the form that decisions read.
//!
//! [`ListedSession`] is one entry of the list. [`SessionList`] is the whole list after the first step of the rule: entries of
//! other users are dropped, and entries with the same id are merged. That step needs neither the time nor a policy, so it
//! happens once, when the list arrives. All other steps are in [`decide`](super::decide).

use std::collections::HashMap;

use indexmap::map::Entry;
use indexmap::{IndexMap, IndexSet};
use jiff::{SignedDuration, Timestamp};

/// A session that ended this long before a list was requested, by our clock and by the tenant's, is not remembered with the list: a
/// tenant may list one that ended a moment ago, and the difference of the clocks is known to a few seconds.
const CERTAIN_END: SignedDuration = SignedDuration::from_secs(60);

/// The most sessions of a list that is remembered: those of one page.
const MAX_REMEMBERED: usize = 50;

/// A session as the Management API lists it. Every field but the id may be missing: Auth0 documents all of them as
/// optional (`SessionResponseContent` of its OpenAPI document).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedSession {
    /// The session id: `event.session.id` in an Action, and the id in a revocation.
    pub id: String,
    /// The user whose session it is, when the entry says so.
    pub user_id: Option<String>,
    /// When the user first authenticated in it; `None` when absent or unreadable, as for all dates here.
    pub created_at: Option<Timestamp>,
    /// When the user last authenticated in it.
    pub authenticated_at: Option<Timestamp>,
    /// When the session was last used successfully.
    pub last_interacted_at: Option<Timestamp>,
    /// When the session ends unless it is used.
    pub idle_expires_at: Option<Timestamp>,
    /// When the session ends in any case.
    pub expires_at: Option<Timestamp>,
    /// The applications that completed a login on it; `None` when the entry does not say.
    pub clients: Option<Vec<String>>,
    /// Whether the entry has items in `clients` without a client id, which are left out.
    pub has_unreadable_clients: bool,
    /// Whether the entry says that somebody else acts as the user in it.
    pub has_actor: bool,
}

/// The sessions of one user, without entries of other users and without duplicates.
#[derive(Clone, Debug, Default)]
pub struct SessionList {
    sessions: IndexMap<String, Session>,
    /// Every application of any session, once.
    clients: IndexSet<String>,
    /// Every set of applications of any session, once. A user has many sessions but few such sets, and which limits count a
    /// set is computed once per set.
    client_sets: IndexSet<ClientSet>,
    most_clients: usize,
    dropped: usize,
    unusual_ids: usize,
    completeness: Completeness,
    unknown_user: bool,
    /// Whether it was read as several pages: its parts are of different moments.
    several_pages: bool,
    /// When it was requested, on our clock or on the tenant's, whichever shows less.
    asked_at: Option<Timestamp>,
    /// How far the tenant's clock is ahead of ours, by the tenant's answer.
    clock_ahead: SignedDuration,
}

/// How much of the user's sessions a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Completeness {
    /// All of them.
    #[default]
    Whole,
    /// As many as one check needed: the others do not change its answer.
    Enough,
    /// As many as this service reads.
    Capped,
}

/// Positions in [`SessionList::clients`], each once and in order; `None` when the entry does not name its applications.
pub(super) type ClientSet = Option<Vec<usize>>;

/// A session of a [`SessionList`].
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub created_at: Option<Timestamp>,
    /// The earlier of `idle_expires_at` and `expires_at`.
    pub ends_at: Option<Timestamp>,
    /// When it ends in any case.
    pub expires_at: Option<Timestamp>,
    /// The first readable of `last_interacted_at`, `authenticated_at`, `created_at`.
    pub last_used_at: Option<Timestamp>,
    /// The position of its applications in [`SessionList::client_sets`].
    pub clients: usize,
    /// Whether its id has the form of Auth0's ids. A session with another id counts, and is never revoked.
    pub is_revocable: bool,
    /// Whether the list says that somebody else acts as the user in it.
    pub has_actor: bool,
}

/// A session in the form in which it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView<'a> {
    /// The session id.
    pub id: &'a str,
    /// When the session was created; `None` when the list does not say, as for all fields below.
    pub created_at: Option<Timestamp>,
    /// When the session was last used.
    pub last_used_at: Option<Timestamp>,
    /// When the session ends.
    pub ends_at: Option<Timestamp>,
    /// The applications that completed a login on it.
    pub clients: Option<Vec<&'a str>>,
}

impl SessionList {
    /// Takes the entries of a list in their order. An entry of another user than `user_id` is dropped and counted. Entries
    /// with the same id are merged: the first one's dates stay, the applications are joined, and they are unknown when one
    /// of the entries does not name them.
    pub fn new(user_id: &str, entries: impl IntoIterator<Item = ListedSession>) -> Self {
        let mut list = Self::default();
        list.extend(user_id, entries);
        list
    }

    /// Takes further entries of the list, as [`new`](Self::new) does. The work and the memory are linear in the entries: the
    /// applications of a session that is listed again are joined in one set, and the set goes into the table at the end.
    pub fn extend(&mut self, user_id: &str, entries: impl IntoIterator<Item = ListedSession>) {
        let mut joined: HashMap<usize, ClientSet> = HashMap::new();
        for entry in entries {
            if entry.user_id.as_deref().is_some_and(|owner| owner != user_id) {
                self.dropped += 1;
                continue;
            }
            let clients = entry
                .clients
                .map(|names| names.into_iter().map(|name| self.clients.insert_full(name).0).collect::<Vec<_>>());
            match self.sessions.entry(entry.id) {
                Entry::Vacant(vacant) => {
                    let is_revocable = is_usual_id(vacant.key());
                    self.unusual_ids += usize::from(!is_revocable);
                    vacant.insert(Session {
                        is_revocable,
                        has_actor: entry.has_actor,
                        created_at: entry.created_at,
                        expires_at: entry.expires_at,
                        ends_at: [entry.idle_expires_at, entry.expires_at].into_iter().flatten().min(),
                        last_used_at: entry.last_interacted_at.or(entry.authenticated_at).or(entry.created_at),
                        clients: intern(&mut self.client_sets, &mut self.most_clients, clients),
                    });
                }
                Entry::Occupied(mut occupied) => {
                    occupied.get_mut().has_actor |= entry.has_actor;
                    let first = || self.client_sets[occupied.get().clients].clone();
                    let all = joined.entry(occupied.index()).or_insert_with(first);
                    match (all.as_mut(), clients) {
                        (Some(all), Some(more)) => all.extend(more),
                        _ => *all = None,
                    }
                }
            }
        }
        for (position, clients) in joined {
            self.sessions[position].clients = intern(&mut self.client_sets, &mut self.most_clients, clients);
        }
    }

    /// The list of a user whom the tenant does not know.
    pub fn of_unknown_user() -> Self {
        Self { unknown_user: true, ..Self::default() }
    }

    /// Whether the tenant does not know the user.
    pub fn is_of_unknown_user(&self) -> bool {
        self.unknown_user
    }

    /// How much of the user's sessions the list has.
    pub fn completeness(&self) -> Completeness {
        self.completeness
    }

    /// Marks the list as one that was not read to the end.
    pub fn set_completeness(&mut self, completeness: Completeness) {
        self.completeness = completeness;
    }

    /// Marks the list as one that was read as several pages.
    pub fn set_several_pages(&mut self) {
        self.several_pages = true;
    }

    /// Sets when the list was requested on our clock, and how far the tenant's clock is ahead of it.
    pub fn set_time(&mut self, asked_at: Timestamp, clock_ahead: SignedDuration) {
        self.clock_ahead = clock_ahead;
        self.asked_at = Some(asked_at.min(self.tenant_time(asked_at)));
    }

    /// The time on the clock of the tenant, which dates the sessions, when ours shows `ours`.
    pub fn tenant_time(&self, ours: Timestamp) -> Timestamp {
        ours.saturating_add(self.clock_ahead).unwrap_or(ours)
    }

    /// Whether the list shows all sessions of the user at one moment, and is short enough to be remembered.
    pub fn is_of_one_moment(&self) -> bool {
        self.completeness == Completeness::Whole
            && !self.several_pages
            && !self.unknown_user
            && self.len() <= MAX_REMEMBERED
    }

    /// What is remembered of the list: every session but those that had ended for good before, with the time when it
    /// began and its applications, `None` when the entry does not name them.
    pub fn lasting(&self) -> impl Iterator<Item = (&str, Option<Timestamp>, Option<impl Iterator<Item = &str>>)> {
        let ended_before = self.asked_at.and_then(|at| at.checked_sub(CERTAIN_END).ok()).unwrap_or(Timestamp::MIN);
        let lasts = move |session: &Session| session.expires_at.is_none_or(|at| at >= ended_before);
        let sessions = self.iter().filter(move |(_, session)| lasts(session));
        sessions.map(move |(id, session)| (id, session.created_at, self.clients_of(session)))
    }

    /// The number of sessions whose id does not have the form of Auth0's ids.
    pub fn unusual_ids(&self) -> usize {
        self.unusual_ids
    }

    /// The largest number of applications that one session names.
    pub fn most_clients(&self) -> usize {
        self.most_clients
    }

    /// The number of sessions, expired ones included.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether the list has no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The number of entries that were dropped because they belong to another user.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// The ids of all sessions, expired ones included.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.sessions.keys().map(String::as_str)
    }

    /// Whether the list shows the application on the session. An entry that does not name its applications shows none.
    pub fn shows(&self, id: &str, client_id: &str) -> bool {
        let listed = self.sessions.get(id).and_then(|session| self.client_sets[session.clients].as_ref());
        let client = self.clients.get_index_of(client_id);
        listed.zip(client).is_some_and(|(clients, client)| clients.binary_search(&client).is_ok())
    }

    /// Every session, in the form in which it is shown to people.
    pub fn views(&self) -> impl Iterator<Item = SessionView<'_>> {
        self.sessions.iter().map(|(id, session)| SessionView {
            id,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            ends_at: session.ends_at,
            clients: self.clients_of(session).map(Iterator::collect),
        })
    }

    pub(super) fn get(&self, id: &str) -> Option<&Session> {
        self.sessions.get(id)
    }

    /// The session with its id as the list holds it.
    pub(super) fn entry(&self, id: &str) -> Option<(&str, &Session)> {
        self.sessions.get_key_value(id).map(|(id, session)| (id.as_str(), session))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Session)> {
        self.sessions.iter().map(|(id, session)| (id.as_str(), session))
    }

    /// The applications of a session; `None` when its entry does not name them.
    pub(super) fn clients_of(&self, session: &Session) -> Option<impl Iterator<Item = &str>> {
        let clients = self.client_sets[session.clients].as_ref()?;
        Some(clients.iter().map(|client| self.clients[*client].as_str()))
    }

    /// Every application of any session.
    pub(super) fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(String::as_str)
    }

    /// The table that [`Session::clients`] is a position in.
    pub(super) fn client_sets(&self) -> impl Iterator<Item = &ClientSet> {
        self.client_sets.iter()
    }
}

/// Whether the id has 1–128 of RFC 3986's unreserved characters and is no dot segment.
fn is_usual_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        && id != "."
        && id != ".."
}

/// The position of the set in the table. The positions in the set may have any order.
fn intern(client_sets: &mut IndexSet<ClientSet>, most_clients: &mut usize, mut clients: ClientSet) -> usize {
    if let Some(clients) = &mut clients {
        clients.sort_unstable();
        clients.dedup();
        *most_clients = (*most_clients).max(clients.len());
    }
    client_sets.insert_full(clients).0
}
