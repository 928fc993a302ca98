//! What the ledger's records and entries are about: a user of a tenant, and a session of the user in an application.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use hashlink::LinkedHashMap;

/// A user of a tenant: records are about one. It is not printed.
#[derive(Clone)]
pub struct UserKey {
    text: Arc<str>,
    hash: KeyHash,
}

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
        /// Of this process: every table that is about users has the same hash of a user.
        static HASHER: LazyLock<KeyHasher> = LazyLock::new(KeyHasher::default);
        // A domain has no slash, so no two users have the same key.
        let text: Arc<str> = [tenant, user_id].join("/").into();
        Self { hash: HASHER.hash(&text), text }
    }

    /// The hash that stands for the user in this process.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// The tenant and the user in one text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The user's id at Auth0.
    pub fn user_id(&self) -> &str {
        self.text.split_once('/').map_or("", |(_, user_id)| user_id)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(u64, u64);

/// Hashes a [`KeyHash`] for a table: it is a random number already.
#[derive(Clone, Copy, Default)]
pub struct TableHasher(u64);

/// A table by the hashes of its keys, in the order of their last writes.
pub type HashedTable<V> = LinkedHashMap<KeyHash, V, BuildHasherDefault<TableHasher>>;

/// A table that is this much smaller than it was gives its memory back.
const SHRINK_FACTOR: usize = 4;
/// A table of this many places takes too little to be given back.
const MIN_SHRUNK: usize = 64;

/// Gives back the memory of a table that has become much smaller: after a burst of logins its places would stay for ever.
pub fn shrink<V>(table: &mut HashedTable<V>) {
    if table.capacity() > MIN_SHRUNK.max(SHRINK_FACTOR * table.len()) {
        table.shrink_to_fit();
    }
}

impl KeyHasher {
    /// The hash that stands for `key` in this process.
    pub fn hash(&self, key: &impl Hash) -> KeyHash {
        let [first, second] = &self.0;
        KeyHash(first.hash_one(key), second.hash_one(key))
    }
}

impl KeyHash {
    /// The hash of this key together with a number. Two numbers give two hashes.
    pub fn with(self, number: usize) -> Self {
        // Any odd factor keeps different numbers apart.
        let number = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(self.0 ^ number, self.1 ^ number.rotate_left(32))
    }

    /// The bytes of the hash.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.0) << 64 | u128::from(self.1)).to_be_bytes()
    }

    /// A number from the hash, to choose a shard by. A table uses the other half, so that the keys of a shard are spread over it.
    pub(super) fn number(self) -> usize {
        self.1 as usize
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0);
    }
}

impl Hasher for TableHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is used.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

impl PartialEq for UserKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UserKey {}

impl Hash for UserKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.hash.hash(hasher);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hash_of_a_user_and_a_number_is_one_of_both(user in ".{0,8}", other in ".{0,8}", number: usize, other_number: usize) {
            let (user, other) = (UserKey::new("t", &user), UserKey::new("t", &other));
            let is_same = user.hash().with(number) == other.hash().with(other_number);
            prop_assert_eq!(is_same, (&user, number) == (&other, other_number));
        }
    }

    #[test]
    fn table_gives_its_memory_back_after_a_burst() {
        let mut table = HashedTable::default();
        for user in 0..10_000 {
            table.insert(UserKey::new("t", &user.to_string()).hash(), [0u8; 100]);
        }
        assert!(table.capacity() >= 10_000);
        shrink(&mut table);
        assert!(table.capacity() >= 10_000, "nothing is given back while it is in use");
        table.retain(|_, value| value[0] == 1);
        shrink(&mut table);
        assert_eq!(table.capacity(), 0);
    }
}
