//! One page of a user's sessions, read leniently and in one pass.
//!
//! Auth0 documents every member of a session as optional, some as of several types, and the object as open. So a value of an
//! unexpected shape costs at most its own entry; only a page that is not an object with a list in `sessions` is not an answer.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Error;
use crate::policy::parse_rfc3339;
use crate::policy::{Failure, ListedSession};

/// One page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The entries that could be read.
    pub sessions: Vec<ListedSession>,
    /// How many entries the page had, readable or not.
    pub entries: usize,
    /// Where the next page starts, when the answer names a place.
    pub next: Option<String>,
}

impl Page {
    /// Reads the body of a successful answer. A body that is not JSON, not an object, or whose `sessions` is neither a list,
    /// null nor absent is [`Failure::UpstreamError`].
    pub(super) fn read(body: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(body).map_err(|error| {
            // The message of serde_json would repeat a part of the body.
            let (what, line, column) = (error.classify(), error.line(), error.column());
            Error::new(Failure::UpstreamError, format!("not a list of sessions ({what:?} error at {line}:{column})"))
        })
    }
}

impl<'de> Deserialize<'de> for Page {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Sessions,
            Next,
            #[serde(other)]
            Other,
        }
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Page;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Page, A::Error> {
                let mut page = Page::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Sessions => match map.next_value()? {
                            Loose(Sessions::Absent) => (page.sessions, page.entries) = (Vec::new(), 0),
                            Loose(Sessions::List { sessions, entries }) => {
                                (page.sessions, page.entries) = (sessions, entries);
                            }
                            Loose(Sessions::Wrong) => return Err(A::Error::custom("sessions is not a list")),
                        },
                        Key::Next => page.next = map.next_value::<Loose<Scalar<'_>>>()?.0.into_text(),
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                page.next = page.next.filter(|cursor| !cursor.is_empty());
                Ok(page)
            }
        }
        from.deserialize_map(Members)
    }
}

/// What is kept of a JSON value whose shape is not known beforehand. A shape that an implementation does not name is read
/// past and gives the default.
trait Keep<'de>: Default {
    fn null() -> Self {
        Self::default()
    }

    fn text(_: Cow<'de, str>) -> Self {
        Self::default()
    }

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// Reads a value of any shape into a [`Keep`].
struct Loose<T>(T);

impl<'de, T: Keep<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyShape(PhantomData)).map(Self)
    }
}

struct AnyShape<T>(PhantomData<T>);

impl<'de, T: Keep<'de>> Visitor<'de> for AnyShape<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::null())
    }

    fn visit_bool<E>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T, E> {
        Ok(T::text(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::object(object)
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
        while let Some(Loose(Entry(session))) = list.next_element()? {
            entries += 1;
            sessions.extend(session);
        }
        Ok(Self::List { sessions, entries })
    }
}

/// One entry of the list: nothing when it is not an object, has no usable id, or an owner that is not a string.
#[derive(Default)]
struct Entry(Option<ListedSession>);

impl<'de> Keep<'de> for Entry {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            Id,
            UserId,
            CreatedAt,
            AuthenticatedAt,
            LastInteractedAt,
            IdleExpiresAt,
            ExpiresAt,
            Clients,
            #[serde(other)]
            Other,
        }
        let (mut session, mut foreign) = (ListedSession::default(), false);
        while let Some(key) = object.next_key()? {
            if let Key::Clients = key {
                session.clients = object.next_value::<Loose<Clients>>()?.0.0;
                continue;
            }
            if let Key::Other = key {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let Loose(value) = object.next_value::<Loose<Scalar<'_>>>()?;
            match key {
                Key::Id => session.id = value.into_text().unwrap_or_default(),
                Key::UserId => {
                    foreign = matches!(value, Scalar::Other);
                    session.user_id = value.into_text();
                }
                Key::CreatedAt => session.created_at = value.into_date(),
                Key::AuthenticatedAt => session.authenticated_at = value.into_date(),
                Key::LastInteractedAt => session.last_interacted_at = value.into_date(),
                Key::IdleExpiresAt => session.idle_expires_at = value.into_date(),
                Key::ExpiresAt => session.expires_at = value.into_date(),
                Key::Clients | Key::Other => {}
            }
        }
        Ok(Self((is_session_id(&session.id) && !foreign).then_some(session)))
    }
}

/// The applications of a session: nothing when the value is not a list, and without the items that name none.
#[derive(Default)]
struct Clients(Option<Vec<String>>);

impl<'de> Keep<'de> for Clients {
    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut clients = Vec::new();
        while let Some(Loose(Client(id))) = list.next_element()? {
            clients.extend(id);
        }
        Ok(Self(Some(clients)))
    }
}

#[derive(Default)]
struct Client(Option<String>);

impl<'de> Keep<'de> for Client {
    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Key {
            ClientId,
            #[serde(other)]
            Other,
        }
        let mut client = Self::default();
        while let Some(key) = object.next_key()? {
            match key {
                Key::ClientId => client.0 = object.next_value::<Loose<Scalar<'_>>>()?.0.into_text(),
                Key::Other => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(client)
    }
}

/// 1–128 of the characters that stand for themselves in a path, and not a step in one.
fn is_session_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        && id != "."
        && id != ".."
}

#[cfg(test)]
mod tests;
