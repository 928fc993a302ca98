//! A lock for each user: the checks of one user that want to commit take it in turn, so that inside a replica none of them loses
//! the exchange to another.
//!
//! Written by hand because it takes forty lines over tokio's fair mutex: a lock exists only while a check holds it or waits for
//! it, and a check that gives up waiting leaves nothing behind.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::key::{KeyHash, TableHasher, UserKey};

/// The locks that are held or waited for.
#[derive(Default)]
pub(super) struct UserLocks {
    locks: Mutex<Locks>,
}

type Locks = HashMap<KeyHash, Arc<tokio::sync::Mutex<()>>, BuildHasherDefault<TableHasher>>;

/// A held lock. It is released when dropped; the fields are dropped in this order.
pub(super) struct UserLock<'a> {
    _guard: OwnedMutexGuard<()>,
    _usage: Usage<'a>,
}

/// A check that holds a lock or waits for it. The last one removes the lock.
struct Usage<'a> {
    user_locks: &'a UserLocks,
    user: KeyHash,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl UserLocks {
    /// Waits for the user's lock, first come first served.
    pub(super) async fn lock(&self, user: &UserKey) -> UserLock<'_> {
        let user = user.hash();
        let lock = Arc::clone(self.locks().entry(user).or_default());
        let usage = Usage { user_locks: self, user, lock };
        UserLock { _guard: Arc::clone(&usage.lock).lock_owned().await, _usage: usage }
    }

    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Usage<'_> {
    fn drop(&mut self) {
        let mut locks = self.user_locks.locks();
        // The map and this check: another check that comes takes its reference under the mutex that is held here.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn user_waits_only_for_their_own_lock_and_no_lock_stays() {
        let user_locks = UserLocks::default();
        let (ann, bob) = (UserKey::new("t", "ann"), UserKey::new("t", "bob"));
        let first = user_locks.lock(&ann).await;
        let mut second = Box::pin(user_locks.lock(&ann));
        assert!(second.as_mut().now_or_never().is_none(), "the first holds it");
        assert!(user_locks.lock(&bob).now_or_never().is_some(), "another user's lock");
        assert_eq!(user_locks.locks().len(), 1);

        drop(first);
        let second = second.await;
        assert!(user_locks.lock(&ann).now_or_never().is_none(), "the second holds it, and one gave up waiting");
        drop(second);
        assert!(user_locks.locks().is_empty());
    }
}
