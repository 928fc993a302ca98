//! The parsers of a page of sessions: a quick one for a page of the usual form, and a lenient one for any other. Each reads the
//! page in one pass.
//!
//! Auth0 documents every member of a session as optional, some with several types, and the object as open. So a value of an
//! unexpected shape costs at most its own entry. A page is an error only when it is not an object with a list in `sessions`.

mod strict;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Error;
use crate::loose_json::{Keep, Loose};
use crate::policy::{Failure, ListedSession, SessionList, parse_rfc3339};

/// The most entries of a page that are kept: as many as a whole list may have.
pub(super) const MAX_PAGE_ENTRIES: usize = 2_000;

/// One page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The readable ones of the first [`MAX_PAGE_ENTRIES`] entries.
    pub sessions: Vec<ListedSession>,
    /// Whether `sessions` is there, and not null.
    pub has_sessions: bool,
    /// How many entries the page has, readable or not.
    pub entries: usize,
    /// The cursor of the next page.
    pub next: Option<String>,
}

impl Page {
    /// Reads the body of a successful answer. A body that is not JSON, not an object, or whose `sessions` is neither a list,
    /// null nor absent is [`Failure::UpstreamError`]. An entry that names `owner` as its user may be as one that names nobody.
    pub(super) fn read(body: &[u8], owner: Option<&str>) -> Result<Self, Error> {
        strict::page(body, owner).map_or_else(|| Self::read_leniently(body), Ok)
    }

    fn read_leniently(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|cause| {
            // The message of serde_json would repeat a part of the body.
            let (category, line, column) = (cause.classify(), cause.line(), cause.column());
            let detail = format!("the answer is not a list of sessions ({category:?} error at {line}:{column})");
            Error::new(Failure::UpstreamError, detail)
        })
    }
}

/// Reads a user's sessions from the body of Auth0's answer to `GET /users/{id}/sessions`, or from a list of such sessions.
///
/// # Errors
/// When the text is neither, or an entry has no id.
pub fn read_sessions(user_id: &str, body: &[u8]) -> Result<SessionList, Error> {
    let is_list = body.trim_ascii_start().starts_with(b"[");
    let object = is_list.then(|| [b"{\"sessions\":", body, b"}"].concat());
    let page = Page::read(object.as_deref().unwrap_or(body), Some(user_id))?;
    if page.sessions.len() < page.entries {
        let detail = format!("{} of {} sessions have no id", page.entries - page.sessions.len(), page.entries);
        return Err(Error::new(Failure::UpstreamError, detail));
    }
    Ok(SessionList::new(user_id, page.sessions))
}

/// Reads a page by both parsers: the quick one reads what the lenient one reads, or nothing. Returns whether it read the page.
#[cfg(any(test, fuzzing))]
pub(super) fn parsers_agree(body: &[u8]) -> bool {
    let Some(page) = strict::page(body, None) else { return false };
    assert_eq!(Some(page), Page::read_leniently(body).ok());
    true
}

/// A key of any object that is read.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum JsonKey {
    // Of the page.
    Sessions,
    Next,
    // Of a session.
    Id,
    UserId,
    CreatedAt,
    AuthenticatedAt,
    LastInteractedAt,
    IdleExpiresAt,
    ExpiresAt,
    Clients,
    Actor,
    // Of an actor.
    Sub,
    // Of a client.
    ClientId,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PageVisitor;
        impl<'de> Visitor<'de> for PageVisitor {
            type Value = Page;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page, A::Error> {
                let mut page = Page::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        JsonKey::Sessions => match map.next_value()? {
                            Loose(Sessions::Absent) => {
                                (page.sessions, page.entries, page.has_sessions) = (Vec::new(), 0, false);
                            }
                            Loose(Sessions::List { sessions, entries }) => {
                                (page.sessions, page.entries, page.has_sessions) = (sessions, entries, true);
                            }
                            Loose(Sessions::Wrong) => return Err(A::Error::custom("sessions is not a list")),
                        },
                        JsonKey::Next => page.next = map.next_value::<Loose<Scalar<'_>>>()?.0.into_text(),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                page.next = page.next.filter(|cursor| !cursor.is_empty());
                Ok(page)
            }
        }
        from.deserialize_map(PageVisitor)
    }
}

/// A string, null, or a value that is neither.
#[derive(Default)]
enum Scalar<'de> {
    Null,
    Text(Cow<'de, str>),
    #[default]
    Other,
}

impl<'de> Keep<'de> for Scalar<'de> {
    fn null() -> Self {
        Self::Null
    }

    fn text(text: Cow<'de, str>) -> Self {
        Self::Text(text)
    }
}

impl Scalar<'_> {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.into_owned()),
            Self::Null | Self::Other => None,
        }
    }

    fn into_date(self) -> Option<jiff::Timestamp> {
        match self {
            Self::Text(text) => parse_rfc3339(&text),
            Self::Null | Self::Other => None,
        }
    }
}

/// The value of `sessions`.
#[derive(Default)]
enum Sessions {
    Absent,
    List {
        sessions: Vec<ListedSession>,
        entries: usize,
    },
    #[default]
    Wrong,
}

impl<'de> Keep<'de> for Sessions {
    fn null() -> Self {
        Self::Absent
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let (mut sessions, mut entries) = (Vec::new(), 0);
        while let Some(Loose(session)) = list.next_element::<Loose<Option<ListedSession>>>()? {
            entries += 1;
            if entries <= MAX_PAGE_ENTRIES {
                sessions.extend(session);
            }
        }
        Ok(Self::List { sessions, entries })
    }
}

/// One entry of the list. `None` when it is not an object, has no id, or has an owner that is not a string.
impl<'de> Keep<'de> for Option<ListedSession> {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        fn scalar<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Scalar<'de>, A::Error> {
            Ok(object.next_value::<Loose<Scalar<'de>>>()?.0)
        }
        let (mut session, mut is_unusable) = (ListedSession::default(), false);
        while let Some(key) = object.next_key()? {
            match key {
                JsonKey::Id => session.id = scalar(&mut object)?.into_text().unwrap_or_default(),
                JsonKey::UserId => {
                    let owner = scalar(&mut object)?;
                    is_unusable = matches!(owner, Scalar::Other);
                    session.user_id = owner.into_text();
                }
                JsonKey::CreatedAt => session.created_at = scalar(&mut object)?.into_date(),
                JsonKey::AuthenticatedAt => session.authenticated_at = scalar(&mut object)?.into_date(),
                JsonKey::LastInteractedAt => session.last_interacted_at = scalar(&mut object)?.into_date(),
                JsonKey::IdleExpiresAt => session.idle_expires_at = scalar(&mut object)?.into_date(),
                JsonKey::ExpiresAt => session.expires_at = scalar(&mut object)?.into_date(),
                JsonKey::Actor => session.has_actor = object.next_value::<Loose<Actor>>()?.0.0,
                JsonKey::Clients => {
                    let clients = object.next_value::<Loose<Clients>>()?.0;
                    (session.clients, session.has_unreadable_clients) = (clients.ids, clients.are_incomplete);
                }
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok((!session.id.is_empty() && !is_unusable).then_some(session))
    }
}

/// The applications of a session.
#[derive(Default)]
struct Clients {
    /// `None` when the value is not a list.
    ids: Option<Vec<String>>,
    /// Whether items have no client id, and are left out.
    are_incomplete: bool,
}

impl<'de> Keep<'de> for Clients {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let (mut ids, mut are_incomplete) = (Vec::new(), false);
        while let Some(Loose(ClientId(id))) = list.next_element()? {
            are_incomplete |= id.is_none();
            ids.extend(id);
        }
        Ok(Self { ids: Some(ids), are_incomplete })
    }
}

/// Whether the value names an actor. An object without a name is none: a session that does not count must say why.
#[derive(Default)]
struct Actor(bool);

impl<'de> Keep<'de> for Actor {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut is_named = false;
        while let Some(key) = object.next_key()? {
            match key {
                JsonKey::Sub => {
                    let name = object.next_value::<Loose<Scalar<'_>>>()?.0.into_text();
                    is_named = name.is_some_and(|name| !name.is_empty());
                }
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Self(is_named))
    }
}

/// The client id of an item in `clients`.
#[derive(Default)]
struct ClientId(Option<String>);

impl<'de> Keep<'de> for ClientId {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut client = Self::default();
        while let Some(key) = object.next_key()? {
            match key {
                JsonKey::ClientId => client.0 = object.next_value::<Loose<Scalar<'_>>>()?.0.into_text(),
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests;
