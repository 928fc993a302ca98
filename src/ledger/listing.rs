//! The last list of a user's sessions, as the user's record keeps it: in one allocation, in about 30 bytes a session.
//!
//! It has no texts but the client ids: a session is a [`SessionCode`]. Order and counting need no more (decision 1.13).

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::KeyHasher;
use super::number::{push_number, unzigzag, zigzag};
use super::times::later;

/// The first byte: another layout is read as no listing.
const VERSION: u8 = 1;

/// The most bytes of a listing: fifty sessions with a hundred applications each take less. A longer list is not kept.
const MAX_BYTES: usize = 16 << 10;

/// A user's last list.
///
/// ```text
/// version    1 byte
/// mark       8 bytes, little endian
/// since      milliseconds, zigzag
/// kept for   seconds
/// clients    how many, then length and bytes of each
/// sessions   how many, then of each: code; 1 if it has a beginning + 2 × (0 if its clients are unknown, else 1 + how many);
///            the beginning, in milliseconds before `since`, zigzag; the position of each client
/// ```
///
/// Numbers have seven bits a byte, lowest first. Redis has it in base 64.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing(Arc<[u8]>);

/// Stands for a session in a listing: 128 bits of a keyed hash of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionCode([u8; 16]);

/// What a listing says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents<'a> {
    /// Identifies this listing of the user: random, new whenever what is listed changes.
    pub mark: u64,
    /// The store's time before the list was requested; of several lists the earliest.
    pub since: Timestamp,
    /// How long after that the listing is kept.
    pub kept_for: Duration,
    /// In the order of their codes.
    pub sessions: Vec<ListedEntry<'a>>,
}

/// A session of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedEntry<'a> {
    pub code: SessionCode,
    /// When it began, in milliseconds. `None` sorts first, as in a decision.
    pub created_ms: Option<i64>,
    /// Its applications, in order; `None` when the list does not say.
    pub clients: Option<Vec<&'a str>>,
}

impl SessionCode {
    /// The code of a session as the store writes its id. A store that replicas share writes keyed hashes, whose bits are the code.
    pub fn of(pseudonym: &str) -> Self {
        /// For ids that the store writes as they are: they do not leave this process.
        static HASHER: LazyLock<KeyHasher> = LazyLock::new(KeyHasher::default);
        let as_bits = (pseudonym.len() == 32).then(|| u128::from_str_radix(pseudonym, 16).ok()).flatten();
        let bits = as_bits.filter(|_| pseudonym.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        Self(bits.map_or_else(|| HASHER.hash(&pseudonym).to_bytes(), u128::to_be_bytes))
    }
}

impl<'a> Contents<'a> {
    /// The session with this code.
    pub fn get(&self, code: SessionCode) -> Option<&ListedEntry<'a>> {
        let position = self.sessions.binary_search_by_key(&code, |session| session.code).ok()?;
        Some(&self.sessions[position])
    }

    /// Whether the application is listed on the session.
    pub fn shows(&self, code: SessionCode, client_id: &str) -> bool {
        let clients = self.get(code).and_then(|session| session.clients.as_ref());
        clients.is_some_and(|clients| clients.binary_search(&client_id).is_ok())
    }

    /// Joins another list of the same time: what either shows is shown.
    pub fn join(&mut self, other: Contents<'a>) {
        self.since = self.since.min(other.since);
        self.kept_for = self.kept_for.max(other.kept_for);
        for session in other.sessions {
            match self.sessions.binary_search_by_key(&session.code, |session| session.code) {
                Err(position) => self.sessions.insert(position, session),
                Ok(position) => {
                    let known = &mut self.sessions[position];
                    known.created_ms = known.created_ms.min(session.created_ms);
                    known.clients = known.clients.take().zip(session.clients).map(|(mut clients, more)| {
                        clients.extend(more);
                        clients.sort_unstable();
                        clients.dedup();
                        clients
                    });
                }
            }
        }
    }

    /// The same in few bytes; `None` when they are too many.
    pub fn pack(&self) -> Option<Listing> {
        let mut clients: Vec<&str> =
            self.sessions.iter().flat_map(|session| session.clients.iter().flatten()).copied().collect();
        clients.sort_unstable();
        clients.dedup();
        let mut to = Vec::with_capacity(24 + 40 * clients.len() + 28 * self.sessions.len());
        to.push(VERSION);
        to.extend_from_slice(&self.mark.to_le_bytes());
        let since_ms = self.since.as_millisecond();
        push_number(&mut to, zigzag(since_ms));
        push_number(&mut to, self.kept_for.as_secs());
        push_number(&mut to, clients.len() as u64);
        for client in &clients {
            push_number(&mut to, client.len() as u64);
            to.extend_from_slice(client.as_bytes());
        }
        push_number(&mut to, self.sessions.len() as u64);
        for session in &self.sessions {
            to.extend_from_slice(&session.code.0);
            let count = session.clients.as_ref().map_or(0, |clients| 1 + clients.len() as u64);
            push_number(&mut to, 2 * count + u64::from(session.created_ms.is_some()));
            session.created_ms.iter().for_each(|at| push_number(&mut to, zigzag(since_ms.wrapping_sub(*at))));
            for client in session.clients.iter().flatten() {
                push_number(&mut to, clients.binary_search(client).unwrap_or_default() as u64);
            }
        }
        (to.len() <= MAX_BYTES).then(|| Listing(to.into()))
    }
}

impl Listing {
    /// The listing with these bytes; `None` when they are not of one, or of another version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        read(bytes)?;
        Some(Self(bytes.into()))
    }

    /// The listing with bytes that this process wrote.
    pub(super) fn from_own_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Identifies the listing.
    pub(super) fn mark(&self) -> u64 {
        self.0.get(1..9).and_then(|mark| mark.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    /// What it says.
    pub(super) fn contents(&self) -> Contents<'_> {
        // Its bytes were written or read by this module, so the second never happens.
        read(&self.0).unwrap_or_else(|| Contents {
            mark: 0,
            since: Timestamp::MIN,
            kept_for: Duration::ZERO,
            sessions: Vec::new(),
        })
    }

    /// The time of its request, and the end of its time.
    pub(super) fn span(&self) -> (Timestamp, Timestamp) {
        let head = Reader(&self.0).head();
        head.map_or((Timestamp::MIN, Timestamp::MIN), |(_, since, kept_for)| (since, later(since, kept_for)))
    }

    /// The same with its time moved to another clock.
    pub(super) fn moved_by(&self, offset: SignedDuration) -> Option<Self> {
        let mut contents = self.contents();
        contents.since = contents.since.checked_add(offset).ok()?;
        contents.pack()
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.contents(), f)
    }
}

impl Serialize for Listing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

/// Reads a listing. One of another version, or that cannot be read, is none: it costs a list.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Listing>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let bytes = value.as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    Ok(bytes.and_then(|bytes| Listing::from_bytes(&bytes)))
}

/// Reads what [`Contents::pack`] wrote, or what somebody else put in its place.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// A number of things that take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= self.0.len() / least)
    }

    fn head(&mut self) -> Option<(u64, Timestamp, Duration)> {
        if self.take(1)? != [VERSION] {
            return None;
        }
        let mark = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let since = Timestamp::from_millisecond(unzigzag(self.number()?)).ok()?;
        Some((mark, since, Duration::from_secs(self.number()?)))
    }
}

fn read(bytes: &[u8]) -> Option<Contents<'_>> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let mut from = Reader(bytes);
    let (mark, since, kept_for) = from.head()?;
    let clients: Vec<&str> = (0..from.count(1)?)
        .map(|_| {
            let length = from.count(1)?;
            std::str::from_utf8(from.take(length)?).ok()
        })
        .collect::<Option<_>>()?;
    let count = from.count(17)?;
    let mut sessions: Vec<ListedEntry<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        let code = SessionCode(from.take(16)?.try_into().ok()?);
        let flags = from.number()?;
        let created_ms = match flags & 1 {
            1 => Some(since.as_millisecond().wrapping_sub(unzigzag(from.number()?))),
            _ => None,
        };
        let listed = match usize::try_from(flags / 2).ok()?.checked_sub(1) {
            None => None,
            Some(count) if count > from.0.len() => return None,
            Some(count) => {
                let client = |_| clients.get(usize::try_from(from.number()?).ok()?).copied();
                Some((0..count).map(client).collect::<Option<Vec<_>>>()?)
            }
        };
        let in_order = sessions.last().is_none_or(|last| last.code < code)
            && listed.as_ref().is_none_or(|clients| clients.is_sorted_by(|a, b| a < b));
        if !in_order {
            return None;
        }
        sessions.push(ListedEntry { code, created_ms, clients: listed });
    }
    from.0.is_empty().then_some(Contents { mark, since, kept_for, sessions })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The code, the beginning and the positions of the clients.
    type SessionParts = (u128, Option<i64>, Option<Vec<usize>>);

    fn contents<'a>(mark: u64, since_ms: i64, clients: &'a [String], sessions: &[SessionParts]) -> Contents<'a> {
        let entry = |(code, created_ms, listed): &SessionParts| ListedEntry {
            code: SessionCode(code.to_be_bytes()),
            created_ms: *created_ms,
            clients: listed.as_ref().map(|listed| {
                let mut listed: Vec<&str> =
                    listed.iter().filter_map(|at| clients.get(at % clients.len().max(1))).map(String::as_str).collect();
                listed.sort_unstable();
                listed.dedup();
                listed
            }),
        };
        let mut sessions: Vec<_> = sessions.iter().map(entry).collect();
        sessions.sort_by_key(|session| session.code);
        sessions.dedup_by_key(|session| session.code);
        let since = Timestamp::from_millisecond(since_ms).unwrap();
        Contents { mark, since, kept_for: Duration::from_secs(3_660), sessions }
    }

    type Parts = (u64, i64, Vec<String>, Vec<SessionParts>);

    fn parts() -> impl Strategy<Value = Parts> {
        let times = -1_000_000_000_000..4_000_000_000_000i64;
        let listed = proptest::option::of(proptest::collection::vec(any::<usize>(), 0..4));
        let created =
            prop_oneof![3 => proptest::option::of(times.clone()), 1 => Just(Some(i64::MIN)), 1 => Just(Some(i64::MAX))];
        let sessions = proptest::collection::vec((any::<u128>(), created, listed), 0..8);
        (any::<u64>(), times, proptest::collection::vec(".{0,20}", 0..4), sessions)
    }

    prop_compose! {
        /// Any listing.
        pub(in super::super) fn listing()(parts in parts()) -> Listing {
            let (mark, since, clients, sessions) = &parts;
            contents(*mark, *since, clients, sessions).pack().unwrap()
        }
    }

    proptest! {
        #[test]
        fn contents_survive_packing(parts in parts()) {
            let (mark, since, clients, sessions) = &parts;
            let contents = contents(*mark, *since, clients, sessions);
            let listing = contents.pack().unwrap();
            prop_assert_eq!(listing.contents(), contents.clone());
            prop_assert_eq!(listing.mark(), contents.mark);
            prop_assert_eq!(Listing::from_bytes(listing.as_bytes()), Some(listing.clone()));
            let moved = listing.moved_by(SignedDuration::from_secs(5)).unwrap();
            prop_assert_eq!(moved.contents().sessions, contents.sessions);
        }

        #[test]
        fn any_bytes_are_a_listing_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), from in listing(), at: usize) {
            let mut changed = from.as_bytes().to_vec();
            let at = at % changed.len();
            changed[at] ^= bytes.first().copied().unwrap_or(1);
            for bytes in [&bytes, &changed] {
                if let Some(listing) = Listing::from_bytes(bytes) {
                    listing.contents().pack();
                }
            }
        }

        #[test]
        fn joined_listing_shows_what_either_shows(one in parts(), other in parts()) {
            let [one, other] = [&one, &other].map(|(mark, since, clients, sessions)| {
                // Few codes, so that some are in both.
                let sessions: Vec<_> = sessions.iter().map(|(code, at, listed)| (code % 5, *at, listed.clone())).collect();
                contents(*mark, *since, clients, &sessions)
            });
            let mut joined = one.clone();
            joined.join(other.clone());
            for listed in one.sessions.iter().chain(&other.sessions) {
                let found = joined.get(listed.code).unwrap();
                prop_assert!(found.created_ms <= listed.created_ms);
                match (&found.clients, &listed.clients) {
                    (None, _) => {}
                    (Some(_), None) => prop_assert!(false, "unknown stays unknown"),
                    (Some(found), Some(listed)) => prop_assert!(listed.iter().all(|client| found.contains(client))),
                }
            }
            prop_assert_eq!(joined.since, one.since.min(other.since));
            prop_assert!(joined.sessions.is_sorted_by(|a, b| a.code < b.code));
        }
    }

    #[test]
    fn code_is_the_bits_of_a_hash_and_the_hash_of_anything_else() {
        let pseudonym = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(SessionCode::of(pseudonym).0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let others = ["", "s1", &pseudonym.to_uppercase(), "+00102030405060708090a0b0c0d0e0f"];
        let codes: std::collections::HashSet<_> = others.iter().map(|id| SessionCode::of(id)).collect();
        assert_eq!(codes.len(), others.len());
        assert_eq!(SessionCode::of("s1"), SessionCode::of("s1"));
    }
}
