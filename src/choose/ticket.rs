//! Tickets: what a browser carries from a blocked login to the page on which its user chooses sessions.
//!
//! A ticket is made and read by this service alone. It is encrypted and authenticated (AES-256-GCM), so the browser learns
//! nothing from it and cannot change it. It opens nothing but the choice for one login of one user.
//!
//! ```text
//! ticket   base64url( key id, 4 bytes ‖ nonce, 12 bytes ‖ encrypted JSON ‖ tag, 16 bytes )
//! ```
//!
//! The nonce is random and is the ticket's id. A key makes two tickets with one nonce once in 2^96 / n² times n tickets: with a
//! hundred million tickets of one key once in 2^42 times.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::Rng as _;
use serde::{Deserialize, Serialize};

/// How long a ticket is valid, in seconds: long enough to look for a phone. Auth0 keeps a login that was redirected for longer.
pub const TICKET_SECONDS: u32 = 300;

/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The bytes of the id of a key.
const KEY_ID_BYTES: usize = 4;
/// The longest ticket: one with a user id of 1,024 characters of four bytes, which JSON may write in six.
const MAX_TICKET_CHARS: usize = 12 << 10;
/// The bytes of a code that is made of a ticket: as many as a UUID.
const CODE_BYTES: usize = 16;
/// What the tickets are for. A key that also serves something else cannot be tricked into making one.
const PURPOSE: &[u8] = b"session-checker choose ticket 1";

/// A blocked login of which the user may choose sessions to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The tenant's canonical domain.
    pub tenant: String,
    /// The host of the login page, to which the browser goes back.
    pub host: String,
    /// The user.
    pub user_id: String,
    /// The session that logs in.
    pub sid: String,
    /// The application.
    pub client_id: String,
    /// The policy that blocked the login, as `namespace/name`.
    pub policy: String,
    /// The override that chose its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<String>,
    /// Whether the user passed two factors.
    #[serde(default)]
    pub mfa: bool,
    /// The user's language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// When the ticket ends, in Unix seconds.
    pub expires_at: i64,
}

/// A ticket that was read, with the key that made it.
pub struct OpenTicket {
    /// What it says.
    pub ticket: Ticket,
    id: [u8; NONCE_LEN],
    key: Arc<TicketKey>,
}

/// Why a ticket is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TicketError {
    /// This service did not make it, or it was changed, or its key is no longer used.
    Invalid,
    /// It was valid.
    Expired(Box<Ticket>),
}

/// The keys of tickets: the first one makes them, all of them read.
#[derive(Clone, PartialEq)]
pub struct TicketKeys(Vec<Arc<TicketKey>>);

struct TicketKey {
    id: [u8; KEY_ID_BYTES],
    aead: LessSafeKey,
    codes: hmac::Key,
}

impl TicketKeys {
    /// A random key, for a single replica.
    pub fn random() -> Self {
        let mut key = [0; KEY_BYTES];
        rand::rng().fill_bytes(&mut key);
        Self(vec![Arc::new(TicketKey::new(&key))])
    }

    /// Reads a file of keys, one a line: 32 bytes in base64. Empty lines, and lines that begin with `#`, are ignored.
    ///
    /// # Errors
    /// The line that is no key, or that there is none.
    pub fn parse(_: &Path, text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(position, line)| {
            let key = BASE64_STANDARD.decode(line).ok().and_then(|key| <[u8; KEY_BYTES]>::try_from(key).ok());
            let key = key.ok_or_else(|| {
                let line = position + 1;
                format!(
                    "line {line} is no key: write 32 random bytes in base64, such as `openssl rand -base64 32` prints"
                )
            })?;
            Ok(Arc::new(TicketKey::new(&key)))
        });
        let keys: Vec<_> = keys.collect::<Result<_, String>>()?;
        if keys.is_empty() {
            Err("has no key: write one a line, 32 random bytes in base64".to_owned())
        } else {
            Ok(Self(keys))
        }
    }

    /// Makes the text of a ticket. `None` when it cannot be encrypted, which a ticket of this length never is.
    pub fn seal(&self, ticket: &Ticket) -> Option<String> {
        let key = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut sealed = serde_json::to_vec(ticket).ok()?;
        let aad = key.aad();
        key.aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let text = BASE64_URL_SAFE_NO_PAD.encode([&key.id[..], &nonce, &sealed].concat());
        (text.len() <= MAX_TICKET_CHARS).then_some(text)
    }

    /// Reads a ticket.
    ///
    /// # Errors
    /// Why it is not accepted at `now`.
    pub fn open(&self, text: &str, now: Timestamp) -> Result<OpenTicket, TicketError> {
        let invalid = || TicketError::Invalid;
        if text.len() > MAX_TICKET_CHARS {
            return Err(TicketError::Invalid);
        }
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TicketError::Invalid)?;
        let (key_id, rest) = bytes.split_first_chunk_mut::<KEY_ID_BYTES>().ok_or_else(invalid)?;
        let (id, sealed) = rest.split_first_chunk_mut::<NONCE_LEN>().ok_or_else(invalid)?;
        let key = self.0.iter().find(|key| key.id == *key_id).ok_or_else(invalid)?;
        let json =
            key.aead.open_in_place(Nonce::assume_unique_for_key(*id), key.aad(), sealed).map_err(|_| invalid())?;
        let ticket: Ticket = serde_json::from_slice(json).map_err(|_| TicketError::Invalid)?;
        if ticket.expires_at <= now.as_second() {
            return Err(TicketError::Expired(Box::new(ticket)));
        }
        Ok(OpenTicket { ticket, id: *id, key: Arc::clone(key) })
    }
}

impl TicketKey {
    /// Derives the keys for the two uses of one configured key.
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derive = |purpose: &[u8]| hmac::sign(&root, purpose);
        let aead = UnboundKey::new(&AES_256_GCM, derive(b"ticket").as_ref()).expect("HMAC-SHA-256 has 32 bytes");
        let id = derive(b"key id").as_ref()[..KEY_ID_BYTES].try_into().expect("it has more bytes");
        let codes = hmac::Key::new(hmac::HMAC_SHA256, derive(b"codes").as_ref());
        Self { id, aead: LessSafeKey::new(aead), codes }
    }

    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from([PURPOSE, &self.id].concat())
    }

    /// A code for the parts. Each part is preceded by its length, so that no two lists of parts have one text.
    fn code(&self, parts: &[&[u8]]) -> String {
        let mut context = hmac::Context::with_key(&self.codes);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        BASE64_URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..CODE_BYTES])
    }
}

impl OpenTicket {
    /// The id of the ticket.
    pub fn id(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.id)
    }

    /// The code that stands for a session on the page of this ticket.
    pub fn session_code(&self, sid: &str) -> String {
        self.key.code(&[b"session", &self.id, sid.as_bytes()])
    }

    /// The code that stands for a choice: the same for the same sessions.
    pub fn choice_code(&self, session_codes: &BTreeSet<String>) -> String {
        let parts: Vec<&[u8]> = session_codes.iter().map(String::as_bytes).collect();
        self.key.code(&[&[b"choice".as_slice(), &self.id], &parts[..]].concat())
    }

    /// The code that ties the ticket to a browser and to the state of its login.
    pub fn browser_code(&self, browser: &str, state: &str) -> String {
        self.key.code(&[b"browser", &self.id, browser.as_bytes(), state.as_bytes()])
    }
}

/// Whether two codes are equal. The time that it takes says nothing about where they differ.
pub fn is_same_code(one: &str, other: &str) -> bool {
    constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// A new random value for the cookie of a browser.
pub fn new_browser() -> String {
    let mut bytes = [0; CODE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl PartialEq for TicketKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl fmt::Debug for OpenTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenTicket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ticket() -> Ticket {
        Ticket {
            tenant: "acme.eu.auth0.com".to_owned(),
            host: "login.acme.com".to_owned(),
            user_id: "auth0|ada".to_owned(),
            sid: "s9".to_owned(),
            client_id: "c1".to_owned(),
            policy: "default/one".to_owned(),
            chosen_by: None,
            mfa: true,
            locale: Some("de".to_owned()),
            expires_at: 300,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn keys(text: &str) -> TicketKeys {
        TicketKeys::parse(Path::new("keys"), text).unwrap()
    }

    fn line(byte: u8) -> String {
        BASE64_STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn ticket_is_read_until_it_expires() {
        let keys = TicketKeys::random();
        let text = keys.seal(&ticket()).unwrap();
        assert!(!text.contains("ada") && text.len() < 500, "{text}");
        assert_eq!(keys.open(&text, at(299)).unwrap().ticket, ticket());
        assert_eq!(keys.open(&text, at(300)).unwrap_err(), TicketError::Expired(Box::new(ticket())));
        assert_eq!(TicketKeys::random().open(&text, at(0)).unwrap_err(), TicketError::Invalid, "another key");
    }

    #[test]
    fn longest_ticket_is_read() {
        let keys = TicketKeys::random();
        let longest = Ticket {
            user_id: "\u{10ffff}".repeat(1024),
            sid: "s".repeat(128),
            client_id: "é".repeat(128),
            chosen_by: Some("o".repeat(63)),
            ..ticket()
        };
        assert_eq!(keys.open(&keys.seal(&longest).unwrap(), at(0)).unwrap().ticket, longest);
    }

    #[test]
    fn first_key_makes_tickets_and_all_read() {
        let (old, both, new) = (keys(&line(1)), keys(&format!("# new\n{}\n\n{}\n", line(2), line(1))), keys(&line(2)));
        let (by_old, by_both) = (old.seal(&ticket()).unwrap(), both.seal(&ticket()).unwrap());
        assert!(both.open(&by_old, at(0)).is_ok() && new.open(&by_both, at(0)).is_ok());
        assert!(new.open(&by_old, at(0)).is_err() && old.open(&by_both, at(0)).is_err());
        assert_ne!(old, both);
    }

    #[test]
    fn file_without_a_usable_key_is_an_error() {
        let short = BASE64_STANDARD.encode([1; 31]);
        for text in ["", "\n# none\n", "secret", &short, &format!("{}\n{short}", line(1))] {
            let error = TicketKeys::parse(Path::new("keys"), text).unwrap_err();
            assert!(error.contains("32 random bytes") && !error.contains(&short), "{error}");
        }
    }

    #[test]
    fn codes_belong_to_one_ticket_browser_and_state() {
        let keys = TicketKeys::random();
        let open = || keys.open(&keys.seal(&ticket()).unwrap(), at(0)).unwrap();
        let (one, other) = (open(), open());
        assert_ne!(one.id(), other.id());
        assert_eq!(one.session_code("s1"), one.session_code("s1"));
        let browsers = [one.browser_code("b", "s"), one.browser_code("bs", ""), other.browser_code("b", "s")];
        let codes = [one.session_code("s1"), one.session_code("s2"), other.session_code("s1")];
        let all: std::collections::HashSet<_> = codes.iter().chain(&browsers).collect();
        assert_eq!(all.len(), 6);
        assert!(
            is_same_code(&codes[0], &one.session_code("s1"))
                && !is_same_code(&codes[0], "")
                && new_browser() != new_browser()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

        /// Every change of a ticket makes it invalid: a byte, its length, its order, or parts of two tickets.
        #[test]
        fn changed_ticket_is_invalid(
            change in 0..6u8, place in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), byte in 1..=255u8,
        ) {
            static KEYS: std::sync::LazyLock<(TicketKeys, [String; 2])> = std::sync::LazyLock::new(|| {
                let keys = TicketKeys::random();
                let texts = [keys.seal(&ticket()).unwrap(), keys.seal(&Ticket { user_id: "auth0|bob".into(), ..ticket() }).unwrap()];
                (keys, texts)
            });
            let (keys, texts) = &*KEYS;
            let [one, two] = [0, 1].map(|which| BASE64_URL_SAFE_NO_PAD.decode(&texts[which]).unwrap());
            let mut bytes = one.clone();
            let (place, other) = (place.index(one.len()), other.index(one.len()));
            match change {
                0 => bytes[place] ^= byte,
                1 => bytes.truncate(place),
                2 => bytes.insert(place, byte),
                3 => bytes.swap(place, other),
                4 => bytes.splice(place.., two[place..].iter().copied()).for_each(drop),
                _ => bytes.rotate_left(place),
            }
            prop_assume!(bytes != one && bytes != two);
            let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            prop_assert_eq!(keys.open(&text, at(0)).unwrap_err(), TicketError::Invalid);
        }
    }
}
