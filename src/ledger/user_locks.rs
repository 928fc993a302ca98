//! Turns: the checks of one user that want to commit queue here, so that inside a replica none of them loses a race.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use super::User;

type Queue = Arc<tokio::sync::Mutex<()>>;

/// A queue for every user who has a check under way, and none for anybody else.
#[derive(Default)]
pub(super) struct UserLocks {
    queues: Mutex<HashMap<User, Queue>>,
}

/// Somebody's turn; it ends when dropped. The fields are dropped in this order.
pub(super) struct UserLock<'a> {
    _turn: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

/// A place in a queue, also while waiting; the last one to leave takes the queue away.
struct Place<'a> {
    user_locks: &'a UserLocks,
    user: &'a User,
    queue: Queue,
}

impl UserLocks {
    /// Waits for the user's turn, first come first served. A caller that gives up waiting leaves no trace.
    pub(super) async fn take<'a>(&'a self, user: &'a User) -> UserLock<'a> {
        let queue = Arc::clone(self.lock().entry(user.clone()).or_default());
        let place = Place { user_locks: self, user, queue };
        UserLock { _turn: Arc::clone(&place.queue).lock_owned().await, _place: place }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<User, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.user_locks.lock();
        // The map and this place: whoever joins does so under the lock that is held here.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_user_waits_for_the_users_own_turn_only_and_no_queue_stays_behind() {
        let user_locks = UserLocks::default();
        let (ann, bob) = (User::new("t", "ann"), User::new("t", "bob"));
        let first = user_locks.take(&ann).await;
        let mut second = Box::pin(user_locks.take(&ann));
        assert!(second.as_mut().now_or_never().is_none(), "somebody else's turn");
        assert!(user_locks.take(&bob).now_or_never().is_some(), "another user's queue");
        assert_eq!(user_locks.lock().len(), 1);

        drop(first);
        let second = second.await;
        assert!(user_locks.take(&ann).now_or_never().is_none(), "still a turn, and one that gave up");
        drop(second);
        assert!(user_locks.lock().is_empty());
    }
}
