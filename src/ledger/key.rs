//! What the ledger's records and entries are about: a user of a tenant, and a session of the user in an application.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// A user of a tenant: records are about one. It is not printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserKey(Arc<str>);

/// The login that a check is about. Made once for each check; clones share its texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The user.
    pub user: UserKey,
    /// The session's id.
    pub sid: Arc<str>,
    /// The application's client id.
    pub client_id: Arc<str>,
}

impl UserKey {
    /// The user of a tenant, which is named by its canonical domain.
    pub fn new(tenant: &str, user_id: &str) -> Self {
        // A domain has no slash, so no two users have the same key.
        Self(format!("{tenant}/{user_id}").into())
    }

    /// The tenant and the user in one text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user's id at Auth0.
    pub fn user_id(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, user_id)| user_id)
    }
}

/// Makes the keys of what this process remembers: keyed hashes of 16 bytes. Memory then does not depend on the length of ids,
/// which reach 4 kB, and holds no id of a user.
///
/// The keys are random for each process and known to nobody, so nobody can choose two ids with one hash; by chance, 100,000 keys
/// have two with one hash once in 10^28 processes.
#[derive(Default)]
pub struct KeyHasher([RandomState; 2]);

/// A keyed hash that stands for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(u64, u64);

impl KeyHasher {
    /// The hash that stands for `key` in this process.
    pub fn hash(&self, key: &impl Hash) -> KeyHash {
        let [first, second] = &self.0;
        KeyHash(first.hash_one(key), second.hash_one(key))
    }
}

impl KeyHash {
    /// A number from the hash, to choose a shard by.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserKey")
    }
}

impl SessionKey {
    /// The session with this id of a user, in the application.
    pub fn new(user: UserKey, sid: &str, client_id: &str) -> Self {
        Self { user, sid: sid.into(), client_id: client_id.into() }
    }
}
